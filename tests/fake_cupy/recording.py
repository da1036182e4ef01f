"""Recording on a stream: what is called is not done but noted, and done each time the graph is launched.

The stand-in does it while it notes it, since it needs the shapes of what comes out, and takes it all back when the
recording ends.  What arrays hold that were made while it recorded is spoilt after every launch: CuPy's pool
may have given their memory to others.

Of streams that an event has let into the recording, a graph keeps what comes after what, and no more.  So its launches
take other streams in turns as late and as early as that allows.  And memory is lost as soon as it may be: once the host
has dropped an array, the next call on the stream that had asked for its memory finds it spoilt.
"""

from __future__ import annotations

import gc
import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, NamedTuple

import numpy as np

from .cuda import MACHINE, get_current_stream


class Call(NamedTuple):
    """On a stream; it comes after all that are there before it, and after those of other streams in `after`."""

    function: Callable
    args: tuple
    kwargs: dict
    result: Any
    after: frozenset[int]  # numbers of calls
    lost: list[np.ndarray]  # memory that is others' by then

    def run(self) -> None:
        spoil(self.lost)
        again = self.function(*self.args, **self.kwargs)
        # what cannot be written to is another look at memory that is played elsewhere (broadcast_to)
        if hasattr(self.result, "_array") and self.result._array.flags.writeable:
            self.result._array[...] = again._array


class Recording:
    def __init__(self, stream: int) -> None:
        self.calls: list[Call] = []
        self.latest: dict[int, set[int]] = {stream: set()}  # of each stream that records, what its next call follows
        self.streams: dict[int, list[int]] = defaultdict(list)  # the calls of each
        self.made: list[np.ndarray] = []  # memory, also of what kernels were told the address of
        self.asked: dict[int, int] = {}  # id of memory -> the stream that was current when it was asked for
        self.looks: dict[int, int] = defaultdict(int)  # id of memory -> how many arrays of the host's look at it
        self.lost: dict[int, list[np.ndarray]] = defaultdict(list)  # of each stream, since its latest call
        self.before = [(array, array.copy()) for array in _memory()]

    def note(self, function: Callable, args: tuple, kwargs: dict, result: Any) -> None:
        """On a stream that does not record CUDA would do it now, and the graph would not have it."""
        stream = get_current_stream().ptr
        if stream in self.latest:
            self.calls.append(Call(function, looked_at(args), looked_at(kwargs), looked_at(result),
                                   frozenset(self.latest[stream]), self.lost.pop(stream, [])))
            self.latest[stream] = {len(self.calls) - 1}
            self.streams[stream].append(len(self.calls) - 1)

    def make(self, memory: np.ndarray) -> None:
        """Memory is asked for."""
        self.made.append(memory)
        self.asked[id(memory)] = get_current_stream().ptr

    def watch(self, array: Any) -> None:
        """Notice when the host drops an array."""
        memory = owner_of(array._array)
        if id(memory) in self.asked:
            self.looks[id(memory)] += 1
            weakref.finalize(array, self._drop, memory).atexit = False

    def _drop(self, memory: np.ndarray) -> None:
        self.looks[id(memory)] -= 1
        if not self.looks[id(memory)]:
            self.lost[self.asked[id(memory)]].append(memory)

    def unjoined(self) -> bool:
        """Whether some call is not before the next one on the stream that began to record."""
        first, *others = self.latest.values()
        known, found = set(), [*first]
        while found:
            number = found.pop()
            if number not in known:
                known.add(number)
                found += self.calls[number].after
        return any(latest - known for latest in others)

    def take_back(self) -> None:
        """Arrays hold again what they held before."""
        for array, values in self.before:
            array[...] = values
        self.before = []
        spoil(self.made)

    def play(self, late: bool) -> None:
        """All calls; those of other streams than the first as late, or as early, as they can be."""
        for call in self._order(late):
            call.run()
        spoil(self.made)

    def _order(self, late: bool) -> Iterator[Call]:
        waiting = [deque(self.streams[stream]) for stream in self.latest]
        done: set[int] = set()
        while any(waiting):
            number = next(calls for calls in (waiting if late else waiting[::-1])
                          if calls and self.calls[calls[0]].after <= done).popleft()
            done.add(number)
            yield self.calls[number]


def recorded(function: Callable) -> Callable:
    """The function, which is noted while a stream records."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if MACHINE.inside:  # a function of the stand-in that another one calls
            return function(*args, **kwargs)
        MACHINE.inside = True
        try:
            result = function(*args, **kwargs)
        finally:
            MACHINE.inside = False
        if not _only_a_view(function.__name__, args, result):
            MACHINE.work += 1
            if MACHINE.recording is not None:
                MACHINE.recording.note(function, args, kwargs, result)
        return result

    return call


def spoil(memory: list[np.ndarray]) -> None:
    for array in memory:
        array[...] = np.nan if array.dtype.kind in "fc" else 1 if array.dtype.kind == "b" else 2**30


def looked_at(value: Any) -> Any:
    """The same to compute with, of which the host's arrays can go."""
    from .array import again, ndarray

    if type(value) is ndarray:
        return again(value)
    if type(value) in (tuple, list):
        return type(value)(map(looked_at, value))
    return {name: looked_at(part) for name, part in value.items()} if type(value) is dict else value


def owner_of(array: np.ndarray) -> np.ndarray:
    """The array whose memory it looks at."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _only_a_view(name: str, args: tuple, result: Any) -> bool:
    """Whether nothing was launched: another look at an array, or memory without a value."""
    if result is not None and args and result is args[0] and name in ("astype", "asarray", "ascontiguousarray"):
        return True
    if name in ("empty", "empty_like", "result_type", "may_share_memory", "shape", "size"):
        return True
    views = ("reshape", "ravel", "__getitem__", "swapaxes", "broadcast_to")
    return name in views and np.may_share_memory(result._array, getattr(args[0], "_array", np.empty(0)))


def _memory() -> list[np.ndarray]:
    """All memory of the cards: the arrays that own it."""
    from .array import ndarray

    owners = {}
    for item in gc.get_objects():
        if type(item) is ndarray:
            owner = owner_of(item._array)
            owners[id(owner)] = owner
    return [owner for owner in owners.values() if owner.flags.writeable]
