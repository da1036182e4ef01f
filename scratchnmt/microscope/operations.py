"""Every operation of a recorded step, in order, for the page's debugger: what it reads, writes, and what is in use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .record import Call, Site, Write, elements_of, id_of, owner_of
from .trace import Trace

FAR = 1 << 40  # the distance of a row that stands there at another time


def operations(trace: Trace, place: Callable[[Site], dict[str, Any]], itemsize: int) -> dict[str, Any]:
    """Every operation, with the rows of quantities that it reads and writes, and what is in memory then.

    Numbers stand for what occurs often: a call is [operation, site, backward?, reads, writes, bytes in use, weight
    that it multiplies by], a site [function, line, function of the operation, its line], and a row [quantity,
    gradient?, sentence, row], one behind the other; of a write a fifth number tells whether it was added.
    """
    index, live, quantities = _RowIndex(trace), _live(trace, itemsize), list(trace.table)
    ops: dict[str, int] = {}
    sites: dict[tuple[Any, ...], int] = {}
    entries = []
    for call in trace.calls:
        site, inner = place(call.site), place(call.inner)
        key = (site["source"], site["line"], inner["source"], inner["line"])
        fresh = {write.name for write in call.writes if not _holds_input(call, write)}
        reads = [number for name, array in call.arrays() if name not in fresh
                 for row in index.read(call, array)
                 for number in _numbers(row, quantities)]
        writes = [number for write in call.writes for row in index.written(call, write)
                  for number in (*_numbers(row, quantities), int(write.added))]
        entries.append([ops.setdefault(call.op, len(ops)), sites.setdefault(key, len(sites)),
                        int(call.phase == "backward"), reads, writes, live[call.number], call.weight])
    return {"ops": list(ops), "sites": [list(site) for site in sites], "list": entries}


def _holds_input(call: Call, write: Write) -> bool:
    """Whether an argument is read before it is written: z becomes the gates, logits their gradient."""
    return call.op in ("lstm_gates_forward", "cross_entropy_in_place") and write.name == "z" or write.name == "dc_prev"


def _live(trace: Trace, itemsize: int) -> list[int]:
    """Bytes of activations and of their gradients that are in use at each call, in the model's own dtype."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    sizes: dict[int, int] = {}
    weights = {id_of(array) for array in (*trace.model.params.values(),
                                                 *(trace.grads or {}).values())}
    kept = kept_arrays(trace)
    for call in trace.calls:
        for _, array in call.arrays():
            owner = owner_of(array)
            if id(owner) not in weights:
                first.setdefault(id(owner), call.number)
                last[id(owner)] = len(trace.calls) - 1 if id(owner) in kept else call.number
                sizes[id(owner)] = owner.size * itemsize
    change = np.zeros(len(trace.calls) + 1, int)
    for owner_id, size in sizes.items():
        change[first[owner_id]] += size
        change[last[owner_id] + 1] -= size
    return [int(size) for size in np.cumsum(change)[:-1]]


class _Entry(NamedTuple):
    call: int  # that has the row in one of its arguments
    after: bool  # whether it has made it, or found it
    row: list[Any]  # quantity, side, sentence, row


class _RowIndex:
    """Which row of which quantity a place in memory is: at another time it may be another one."""

    def __init__(self, trace: Trace):
        self.starts: dict[int, dict[int, list[_Entry]]] = {}
        for quantity in trace.table.values():
            for name in ("value", "gradient"):
                side = getattr(quantity, name)
                if side and side.argument and not (side.derived and name == "value"):
                    self._add(trace, quantity.id, name)

    def _add(self, trace: Trace, id: str, side: str) -> None:
        elements: dict[int, np.ndarray] = {}
        for (b, r), row in trace.rows(id, side).items():
            array = trace.calls[row.call].arguments.get(row.argument)
            if isinstance(array, np.ndarray):
                if row.call not in elements:
                    elements[row.call] = elements_of(array)
                start = int(elements[row.call][row.place].reshape(-1)[0])
                starts = self.starts.setdefault(id_of(array), {})
                starts.setdefault(start, []).append(_Entry(row.call, row.after, [id, side, int(b), int(r)]))

    def read(self, call: Call, array: np.ndarray) -> list[list[Any]]:
        """The rows in what a call reads: those that it finds, or that the last call before has made."""
        def distance(entry: _Entry) -> int:
            if entry.call == call.number and not entry.after:
                return 0
            return call.number - entry.call if entry.call < call.number and entry.after else FAR

        return self._rows(id_of(array), elements_of(array), distance)

    def written(self, call: Call, write: Write) -> list[list[Any]]:
        """The rows in what a call writes: those that it makes, or that the next call finds."""
        def distance(entry: _Entry) -> int:
            if entry.call == call.number and entry.after:
                return 0
            return entry.call - call.number if entry.call > call.number and not entry.after else FAR

        return self._rows(write.owner, write.elements, distance)

    def _rows(self, owner: int, elements: np.ndarray, distance: Callable[[_Entry], int]) -> list[list[Any]]:
        starts = self.starts.get(owner)
        if not starts:
            return []
        found = np.intersect1d(elements.reshape(-1), np.fromiter(starts, int))
        nearest = [min(starts[start], key=distance) for start in found.tolist()]
        return [entry.row for entry in nearest if distance(entry) < FAR]


def _numbers(row: list[Any], quantities: list[str]) -> list[int]:
    id, side, b, r = row
    return [quantities.index(id), int(side == "gradient"), b, r]


def kept_arrays(trace: Trace) -> set[int]:
    """The arrays (their ids) that the forward pass keeps for the backward pass."""
    return {id_of(array) for array in arrays_in(trace.cache, set())}


def arrays_in(value: Any, seen: set[int]) -> Iterator[np.ndarray]:
    """The arrays of numbers in nested records and objects of the package."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from arrays_in(part, seen)
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from arrays_in(part, seen)
    elif type(value).__module__.startswith("scratchnmt") and hasattr(value, "__dict__"):
        yield from arrays_in(vars(value), seen)
