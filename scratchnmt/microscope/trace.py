"""One training step of a model, recorded, with every quantity by its name.

    trace = Trace(model, batch)
    trace.value("h_dec", 0)              # (T, H) of the first sentence
    trace.gradient("h_dec", 0)           # the same shape
    trace.paths("h_dec", 0)              # its summands: they add up to it
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from ..models.nmt import NMT
from ..ops import local
from ..parameters import Parameters
from .paths import name_of
from .quantities import quantities, sizes
from .quantity import Argument, Quantity, Side
from .record import Call, GradientPath, Hook, Recorder, Site, elements_of, id_of

_LOSS = GradientPath(Site("", "microscope", 0), "loss", "", "")


class Batch(NamedTuple):
    """Sentence pairs as a model takes them."""

    src: np.ndarray  # (S, B) ids, padded with 0
    src_lengths: np.ndarray  # (B,)
    tgt: np.ndarray  # (T + 1, B) from <s> to </s>


class Row(NamedTuple):
    """Where a row of a quantity stands: in which call's argument, and where in it."""

    call: int
    argument: str
    after: bool
    place: tuple[Any, ...]


class Summands(NamedTuple):
    """What one path adds to a gradient."""

    label: str
    path: GradientPath | None  # the last line of it, None: inside an operation
    array: np.ndarray


def row_norms(array: np.ndarray) -> Array:
    """The Euclidean norm of each row."""
    return np.sqrt((array**2).sum(axis=1))


def rounded(values: Iterable[float], digits: int = 7) -> list[float]:
    """Numbers for people."""
    return [float(f"{value:.{digits}g}") for value in values]


class Trace:
    """A recorded step; float64 (or complex, with `hook`, for derivatives).

    seed: of the masks of dropout; None: none.  backward=False: the forward pass alone.
    """

    def __init__(self, model: NMT, batch: Batch, seed: int | None = None, *, hook: Hook | None = None,
                 paths: bool = True, backward: bool = True, outputs: bool = False):
        self.model, self.batch, self.seed = model, batch, seed
        self.table = {quantity.id: quantity for quantity in quantities(model.config, seed is not None)}
        self.src_lengths = np.asarray(batch.src_lengths)
        self.tgt_lengths = (batch.tgt[1:] != 0).sum(axis=0)
        self.orders = {side: np.argsort(-lengths, kind="stable")
                       for side, lengths in (("s", self.src_lengths), ("t", self.tgt_lengths))}
        self.recorder = Recorder(model, self._wanted(), hook=hook, paths=paths, outputs=outputs)
        rng = None if seed is None else np.random.default_rng(seed)
        self.loss, self.cache = self.recorder.forward(*batch, rng=rng)
        self._forward = len(self.recorder.calls), dict(self.recorder.ledgers)
        self._rows: dict[tuple[str, str], dict[tuple[int, int], Row]] = {}
        self.grads: Parameters | None = None  # of the weights, from where the last pass back began
        if backward:
            self.backward()

    def backward(self, word: tuple[int, int] | None = None) -> None:
        """Go back again: from the whole loss, or from that of target word t of sentence b alone."""
        calls, ledgers = self._forward
        del self.calls[calls:]
        self.recorder.ledgers = dict(ledgers)
        cache = self.cache
        if word is not None and cache.output is not None:
            dx = np.zeros_like(cache.output.dx)
            row = self._words_in_order().index(word)
            dx[row] = cache.output.dx[row]
            cache = cache._replace(output=cache.output._replace(dx=dx))
            self.recorder.ledgers[id(dx)] = {_LOSS: dx.reshape(-1).copy()}
            self.recorder.memory[id(dx)] = dx
        self.grads = self.recorder.backward(cache)

    def _wanted(self) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
        """What the recorder is to copy."""
        wanted: dict[str, tuple[set[str], set[str]]] = {"cross_entropy_in_place": (set(), {"losses"})}
        for side in (side for quantity in self.table.values() for side in (quantity.value, quantity.gradient) if side):
            if side.argument:
                wanted.setdefault(side.argument.op, (set(), set()))[side.argument.after].add(side.argument.name)
        return {op: (tuple(before), tuple(after)) for op, (before, after) in wanted.items()}

    def word_losses(self) -> np.ndarray:
        """The loss of each target word (T, B), zero where there is none."""
        losses = np.concatenate([call.after["losses"] for call in self.calls if "losses" in call.after])
        table = np.zeros((len(self.batch.tgt) - 1, len(self.tgt_lengths)), losses.dtype)
        for (b, t), loss in zip(self._words_in_order(), losses, strict=True):
            table[t, b] = loss
        return table

    def sentence_losses(self) -> Array:
        return self.word_losses().sum(axis=0)

    @property
    def calls(self) -> list[Call]:
        return self.recorder.calls

    def length(self, quantity: Quantity, b: int) -> int:
        """Rows that a quantity has of sentence b."""
        return int({"s": self.src_lengths[b], "t": self.tgt_lengths[b], "": 1}[quantity.axis])

    def value(self, id: str, b: int) -> np.ndarray:
        return self._array(self.table[id], "value", b)

    def gradient(self, id: str, b: int) -> np.ndarray:
        return self._array(self.table[id], "gradient", b)

    def paths(self, id: str, b: int) -> dict[str, Summands]:
        """The summands of a gradient, by the path on which they come."""
        quantity = self.table[id]
        rows, found = self.rows(id, "gradient"), dict[str, Summands]()
        shape = (self.length(quantity, b), quantity.columns)
        for r in range(shape[0]):
            call = self.calls[rows[b, r].call]
            for name, label, path, array in self._paths_at(quantity, call, rows[b, r]):
                part = array.reshape(-1)
                if part.any():
                    found.setdefault(name, Summands(label, path, np.zeros(shape, part.dtype))).array[r] += part
        return found

    def _paths_at(self, quantity: Quantity, call: Call, row: Row
                  ) -> Iterator[tuple[str, str, GradientPath | None, np.ndarray]]:
        """id, label, path and summand of a row."""
        for path, array in self._ledger(call, row).items():
            yield *name_of(path, quantity, list(self.directions)), path, array[row.place]
        inside = quantity.gradient.inside if quantity.gradient else None
        if inside:
            yield inside.path, inside.label, None, inside.summand(self, call)[row.place]

    def _ledger(self, call: Call, row: Row) -> Mapping[GradientPath, np.ndarray]:
        """The paths of an argument: as the call found it, or as it left it."""
        if not row.after:
            return call.paths.get(row.argument, {})
        array = call.arguments[row.argument]
        flat = self.recorder.ledgers.get(id_of(array), {})
        return {path: part[elements_of(array)] for path, part in flat.items()}

    @property
    def directions(self) -> tuple[str, ...]:
        return tuple(kind for kind in ("fwd", "bwd") if f"h_{kind}" in self.table)

    def _array(self, quantity: Quantity, side: str, b: int) -> np.ndarray:
        if quantity.of:
            whole = self._array(self.table[quantity.of], side, b)
            return whole[:, quantity.first : quantity.first + quantity.columns]
        this: Side = getattr(quantity, side)
        rows, shown = self.rows(quantity.id, side), {}
        lines = []
        for r in range(self.length(quantity, b)):
            row = rows[b, r]
            if row.call not in shown:
                call = self.calls[row.call]
                array = (call.after if row.after else call.before)[row.argument]
                if this.inside:
                    array = array + this.inside.summand(self, call)
                shown[row.call] = this.derived(self, call, array) if this.derived else array
            lines.append(shown[row.call][row.place].reshape(-1))
        array = np.array(lines)
        return array[:, : self.src_lengths[b]] if quantity.column_axis == "s" else array

    def rows(self, id: str, side: str) -> dict[tuple[int, int], Row]:
        """(sentence, row) -> where it stands."""
        if (id, side) not in self._rows:
            argument = getattr(self.table[id], side).argument
            self._rows[id, side] = dict(getattr(self, f"_{argument.layout}")(argument, side))
        return self._rows[id, side]

    def _calls_of(self, argument: Argument, side: str) -> list[Call]:
        # of the readout's gradient, the vocabulary is gone through in the forward pass
        for phase in ("backward", "forward") if side == "gradient" else ("forward",):
            calls = [call for call in self.calls if (call.phase, call.op) == (phase, argument.op)
                     and f"{call.site.file}:{call.site.function}" == argument.function
                     and argument.weight in ("", call.weight)]
            if calls:
                return calls
        return []

    def _steps(self, argument: Argument, side: str, lengths: np.ndarray) -> Iterator[tuple[int, int, Call]]:
        """(step, how many sentences it has, call) of one layer."""
        calls, T = self._calls_of(argument, side), int(lengths.max())
        for n, call in enumerate(calls):
            t, l = divmod(n, argument.layers)
            if call.phase == "backward":
                t, l = T - 1 - t, argument.layers - 1 - l
            if l == argument.layer:
                yield t, int((lengths > t).sum()), call

    def _decoder_step(self, argument: Argument, side: str) -> Iterator[tuple[tuple[int, int], Row]]:
        """n sentences at each step, the longest first: (n, .), (n, 1, .), or of several heads (n heads, 1, .)."""
        for t, n, call in self._steps(argument, side, self.tgt_lengths):
            for k in range(n):
                yield (self.orders["t"][k], t), Row(call.number, argument.name, argument.after,
                                                    (k * argument.heads + argument.head,))

    def _encoder_step(self, argument: Argument, side: str) -> Iterator[tuple[tuple[int, int], Row]]:
        """The same in each direction (D, n, .), of which the second goes from each sentence's last word."""
        S, backward = int(self.src_lengths.max()), side == "gradient"
        calls = self._calls_of(argument, side)
        L = len(calls) // S
        for n, call in enumerate(calls):
            l, step = divmod(n, S)
            if backward:
                l, step = L - 1 - l, S - 1 - step
            if l != argument.layer:
                continue
            for k in range(int((self.src_lengths > step).sum())):
                b = self.orders["s"][k]
                reads_back = self.directions[argument.direction] == "bwd"
                s = self.src_lengths[b] - 1 - step if reads_back else step
                yield (b, s), Row(call.number, argument.name, argument.after, (argument.direction, k))

    def _words(self, argument: Argument, side: str, lengths: np.ndarray, place: int
               ) -> Iterator[tuple[tuple[int, int], Row]]:
        """All of a batch at once (S, B, .), which is the call number `place`."""
        call = self._calls_of(argument, side)[place]
        for b, length in enumerate(lengths):
            for s in range(length):
                yield (b, s), Row(call.number, argument.name, argument.after, (s, b))

    def _source_words(self, argument: Argument, side: str) -> Iterator[tuple[tuple[int, int], Row]]:
        return self._words(argument, side, self.src_lengths, argument.layer)

    def _target_words(self, argument: Argument, side: str) -> Iterator[tuple[tuple[int, int], Row]]:
        return self._words(argument, side, self.tgt_lengths, 1)  # the source has been embedded before

    def _sentence(self, argument: Argument, side: str) -> Iterator[tuple[tuple[int, int], Row]]:
        """(B, .), a row for each sentence."""
        call = self._calls_of(argument, side)[0]
        for b in range(len(self.src_lengths)):
            yield (b, 0), Row(call.number, argument.name, argument.after, (b,))

    def _encoder_mask(self, argument: Argument, side: str) -> Iterator[tuple[tuple[int, int], Row]]:
        """(D, B, .) of each layer, the same for all words of a sentence."""
        call = self._calls_of(argument, side)[argument.layer]
        for b in range(len(self.src_lengths)):
            yield (b, 0), Row(call.number, argument.name, argument.after, (argument.direction, b))

    def _decoder_mask(self, argument: Argument, side: str) -> Iterator[tuple[tuple[int, int], Row]]:
        """(B, .) of each layer, drawn after those of the encoder."""
        call = self._calls_of(argument, side)[self.model.config.layers + argument.layer]
        for b in range(len(self.src_lengths)):
            yield (b, 0), Row(call.number, argument.name, argument.after, (b,))

    def _sorted_sentences(self, argument: Argument, side: str) -> Iterator[tuple[tuple[int, int], Row]]:
        """(B, S, .), the longest target first."""
        call = self._calls_of(argument, side)[0]
        for k, b in enumerate(self.orders["t"]):
            for s in range(self.src_lengths[b]):
                yield (b, s), Row(call.number, argument.name, argument.after, (k, s))

    def _sorted_rows(self, argument: Argument, side: str) -> Iterator[tuple[tuple[int, int], Row]]:
        """(B S, .), the same one behind the other."""
        S = len(self.batch.src)
        for place, row in self._sorted_sentences(argument, side):
            k, s = row.place
            yield place, row._replace(place=(k * S + s,))

    def _rows_by_direction(self, argument: Argument, side: str) -> Iterator[tuple[tuple[int, int], Row]]:
        """(S B, D, .)."""
        B = len(self.src_lengths)
        for (b, s), row in self._words(argument, side, self.src_lengths, argument.layer):
            yield (b, s), row._replace(place=(s * B + b,))

    def _packed_rows(self, argument: Argument, side: str) -> Iterator[tuple[tuple[int, int], Row]]:
        """(n, .) of the rows of all words, step by step, in one or more calls."""
        words, first = self._words_in_order(), 0
        for call in self._calls_of(argument, side)[argument.layer :: argument.layers]:
            array = call.arguments[argument.name]
            for k in range(len(array)):
                yield words[first + k], Row(call.number, argument.name, argument.after, (k,))
            first += len(array)

    def _words_in_order(self) -> list[tuple[int, int]]:
        """(sentence, step) of each packed row."""
        return [(int(self.orders["t"][k]), t) for t in range(int(self.tgt_lengths.max()))
                for k in range(int((self.tgt_lengths > t).sum()))]

    def over_the_source(self, call: Call, window: np.ndarray) -> Array:
        """(n, 1, S) of what local attention has of the words of its window (n, 1, 2 D + 1)."""
        attention: Any = self.cache.decoder.attention
        side = "value" if call.phase == "forward" else "gradient"
        t = next(t for (_, t), row in self.rows("weights" if side == "value" else "score", side).items()
                 if row.call == call.number)
        D, P = attention.D, attention.mask.shape[1]
        if self.model.config.attention == "local-m":
            first = np.full(window.shape[:2], local.window_at(t, 1, P, D)[1].start)
        else:
            p = [other for other in self.calls if other.op == "predict_place_forward"][t].arguments["result.0"]
            first = local.centre(p)[:, None]
            if side == "value":
                window = window * local.gaussian(p, D)[0][:, None]
        return local.inside(local.spread(window, first, P), D, axis=-1)


class Sentence:
    """The numbers of one sentence, for formulas (see formulas.py)."""

    def __init__(self, trace: Trace, b: int):
        self.trace, self.b = trace, b
        self.constants = {**sizes(trace.model.config), "S": int(trace.src_lengths[b]), "T": int(trace.tgt_lengths[b])}
        self._arrays: dict[str, np.ndarray] = {}

    def get(self, name: str, indices: tuple[int, ...]) -> float:
        if name in self.trace.model.params or "[" in name:
            return float(self._weight(name)[indices])
        array, (row, column) = self.array(name), indices
        if 0 <= row < len(array):
            return float(array[row, column])
        return float(self._outside(name, row, column))

    def size(self, name: str, axis: int) -> int:
        weight = name in self.trace.model.params or "[" in name
        return int((self._weight(name) if weight else self.array(name)).shape[axis])

    def array(self, name: str) -> np.ndarray:
        """All rows of a quantity, or of its gradient if a d stands before it."""
        if name not in self._arrays:
            table = self.trace.table
            self._arrays[name] = (self.trace.value(name, self.b) if name in table else
                                  self.trace.gradient(name.removeprefix("d"), self.b))
        return self._arrays[name]

    def _weight(self, name: str) -> Array:
        whole, _, direction = name.partition("[")
        array = self.trace.model.params[whole]
        return array[int(direction[:-1])] if direction else array

    def _outside(self, name: str, row: int, column: int) -> float:
        """A row before the first word is the first state, if there is one; all others are zero."""
        table = self.trace.table
        quantity = table.get(name) or table[name.removeprefix("d")]
        if row != -1 or not quantity.start:
            return 0.0
        return float(self.array(quantity.start if name in table else f"d{quantity.start}")[0, column])
