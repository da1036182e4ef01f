"""The page: everything that the views need, as JSON, in one HTML file.

Arrays are float32 in base64; norms, shares, sums and checks are computed here, in float64, and stored as results.  Of
weights the page has the norms, and of some units the rows and columns that their formulas read.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Array
from ..gradcheck.report import rms
from .formulas import references
from .numeric import Cell, can_be_moved, derivatives
from .operations import kept_arrays, operations
from .paths import line_of_textbook
from .quantities import sizes
from .quantity import Quantity, Side
from .record import Call, Site, elements_of, id_of
from .sources import equation_at, function_at, line_that_makes
from .trace import Trace, rounded, row_norms

FOLDER = Path(__file__).parent
ARRAYS = 2_300_000  # bytes that the arrays of a page may take, before base64
UNITS = 2  # of each LSTM, whose weights are in the page
WHOLE = 2_000  # logits of which the page has all
WORDS = 4  # the most probable words of each step, of which the page has the logits
CHECKED = 200
TOLERANCE = 1e-11  # of a derivative inside the step, relative to the array's rms


def encoded(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode("ascii")


def norms(array: np.ndarray) -> list[float]:
    return rounded(row_norms(array))


class Page:
    """The data of one step; words: the texts of source and target of each sentence, vocabulary: of target ids."""

    def __init__(self, trace: Trace, words: Sequence[tuple[list[str], list[str]]], vocabulary: Sequence[str],
                 title: str, made: str = "", translated: bool = False, itemsize: int = 4,
                 named: Sequence[Cell] = ()):
        self.trace, self.words, self.vocabulary, self.title, self.made = trace, words, vocabulary, title, made
        self.translated, self.itemsize, self.named = translated, itemsize, named
        self.sources: dict[str, dict[str, Any]] = {}
        self.sentences = range(len(words))

    def data(self, checks: int = CHECKED, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What app.js reads; see the comments there."""
        trace, config = self.trace, self.trace.model.config
        quantities = [self._quantity(quantity) for quantity in trace.table.values()]
        data = {
            "version": 1, "title": self.title, "made": self.made,
            "facts": [[name, value] for name, value in config.to_dict().items()],
            "sizes": {**sizes(config), "V": config.tgt_vocab_size, "D": config.directions},
            "loss": float(np.real(trace.loss)), "sentences": [self._sentence(b) for b in self.sentences],
            "quantities": quantities, "units": self.units, "weights": self._weights(),
            "checks": self._checks(checks), "check_tolerance": TOLERANCE, "factors": self._factors(),
            "calls": operations(self.trace, self._source, self.itemsize), "bugs": [], "cuts": [],
            "hidden_bugs": [], "serve": None, "compare": None,
            **(changes or {})}
        self._by_word(data)
        data["sources"] = self.sources
        return data

    # sentences

    def _sentence(self, b: int) -> dict[str, Any]:
        losses = self.trace.word_losses()[: self.trace.tgt_lengths[b], b]
        src, tgt = self.words[b]
        logits = self.trace.value("logits", b)
        log_p = logits - logits.max(axis=1, keepdims=True)
        log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
        return {"src": src, "tgt": tgt, "losses": rounded(losses), "loss": float(losses.sum()),
                "chosen": "translated" if self.translated else "given",
                "alternatives": [[[self.vocabulary[id], float(f"{np.exp(row[id]):.4g}")]
                                  for id in np.argsort(-row)[:WORDS].tolist()] for row in log_p]}

    # quantities

    def _quantity(self, quantity: Quantity) -> dict[str, Any]:
        columns = quantity.columns or int(self.trace.src_lengths.max())
        kept = self._kept(quantity)
        entry: dict[str, Any] = {
            "id": quantity.id, "title": quantity.title, "group": quantity.group, "kind": quantity.kind or None,
            "axis": quantity.axis, "letters": list(quantity.letters), "columns": columns,
            "column_axis": quantity.column_axis, "units": kept, "start": quantity.start or None,
            "chosen": self._chosen(quantity), "reversed": quantity.reversed, "of": quantity.of or None,
            "first": quantity.first, "value": None, "gradient": None, "read": []}
        if quantity.column_axis == "words":
            entry["labels"] = [self.vocabulary[id] for id in kept or range(columns)]
        for name in ("value", "gradient"):
            if side := getattr(quantity, name):
                entry[name] = self._side(quantity, side, name, kept)
        if quantity.value and quantity.value.argument:
            entry["read"] = self._readers(quantity)
        return entry

    def _side(self, quantity: Quantity, side: Side, name: str, kept: list[int] | None) -> dict[str, Any]:
        arrays = [self._array(quantity.id, name, b) for b in self.sentences]
        entry: dict[str, Any] = {"norms": [norms(array) for array in arrays], "formula": side.formula,
                                 "equation": "", "equation_of": "", "made": None, "called": None}
        if self._is_computed(quantity, side):
            entry["arrays"] = None
        elif not quantity.of:
            entry["arrays"] = [encoded(array if kept is None else array[:, kept]) for array in arrays]
        elif side.argument is None:
            side = getattr(self.trace.table[quantity.of], name)
        if side.argument and not side.paths:  # a gradient with paths has been made by the lines of all of them
            entry |= self._made(quantity.of or quantity.id, name, side)
        if name == "value":
            entry |= self._memory(quantity, arrays)
        if side.paths and not quantity.of:
            entry |= self._paths(quantity, side, arrays, kept)
        return entry

    def _array(self, id: str, name: str, b: int) -> np.ndarray:
        return self.trace.value(id, b) if name == "value" else self.trace.gradient(id, b)

    def _kept(self, quantity: Quantity) -> list[int] | None:
        """Which columns the page has; None: all."""
        if quantity.column_axis == "words":
            words = sum(self.trace.length(quantity, b) for b in self.sentences) * quantity.columns
            return None if words <= WHOLE else self._words_kept
        if self._share == 1 or quantity.column_axis == "s" or quantity.of:
            return None
        count = max(UNITS, int(self._share * self.trace.model.config.hidden_size))
        kept = self._columns_of(quantity, lambda kind: self._largest(kind, count))
        return sorted({*kept, *(cell.unit for cell in self.named if cell.id == quantity.id)})

    @cached_property
    def _words_kept(self) -> list[int]:
        """The words that a step finds most probable, and those that came."""
        ids = {int(id) for b in self.sentences for id in self.trace.batch.tgt[1 : self.trace.tgt_lengths[b] + 1, b]}
        for b in self.sentences:
            for row in self.trace.value("logits", b):
                ids.update(np.argsort(-row)[:WORDS].tolist())
        return sorted(ids)

    @cached_property
    def _share(self) -> float:
        """How much of the arrays fits into the page."""
        return min(1, ARRAYS / sum(map(self._size, self.trace.table.values())))

    def _size(self, quantity: Quantity) -> int:
        """Bytes of a quantity's arrays, those of its paths included."""
        if quantity.of or quantity.column_axis != "units":
            return 0
        rows = sum(self.trace.length(quantity, b) for b in self.sentences)
        sides = [side for side in (quantity.value, quantity.gradient) if side and not self._is_computed(quantity, side)]
        paths = [formula for side in sides for formula in side.paths.values() if self._is_kept(quantity, side, formula)]
        return 4 * int(rows) * quantity.columns * (len(sides) + len(paths))

    def _columns_of(self, quantity: Quantity, units: Callable[[str], Sequence[int]]) -> list[int]:
        """The columns that belong to units of the LSTMs, fwd, bwd and dec: those of all blocks of pre-activations."""
        config = self.trace.model.config
        if quantity.columns == config.memory_size and not quantity.kind:  # all directions side by side
            return [unit + d * config.encoder_size for d, kind in enumerate(self.trace.directions)
                    for unit in units(kind)]
        kind = quantity.kind or ("dec" if quantity.columns == config.hidden_size else "")
        if not kind:
            return list(range(min(len(units("dec")), quantity.columns)))
        block = config.hidden_size if kind == "dec" else config.encoder_size
        return [unit + first for first in range(0, quantity.columns, block) for unit in units(kind)]

    def _largest(self, kind: str, count: int) -> list[int]:
        """Units of an LSTM by |h dh|, the part of the loss that they hold, to first order."""
        last = self.trace.model.config.layers - 1 or ""
        size: Any = sum((np.abs(self.trace.value(f"h_{kind}{last}", b) * self.trace.gradient(f"h_{kind}{last}", b))
                         ).sum(axis=0) for b in self.sentences)
        return [int(unit) for unit in np.argsort(-size, kind="stable")[:count]]

    @cached_property
    def units(self) -> dict[str, list[int]]:
        """Those whose weights are in the page."""
        units = {kind: self._largest(kind, UNITS) for kind in (*self.trace.directions, "dec")}
        for cell in self.named:
            quantity = self.trace.table[cell.id]
            if quantity.kind:
                block = self.trace.model.config.hidden_size if quantity.kind == "dec" else (
                    self.trace.model.config.encoder_size)
                units[quantity.kind] = list(dict.fromkeys([*units[quantity.kind], cell.unit % block]))
        return units

    # code

    def _source(self, site: Site) -> dict[str, Any]:
        function = function_at(site)
        key = f"{function.file}:{function.name}"
        self.sources.setdefault(key, {"file": f"scratchnmt/{function.file}", "name": function.name,
                                      "first": function.first, "lines": function.lines})
        return {"source": key, "line": site.line}

    def _made(self, id: str, name: str, side: Side) -> dict[str, Any]:
        """The line that made it, the line that called it, and the equation."""
        argument = side.argument
        assert argument is not None
        row = next(iter(self.trace.rows(id, name).values()))
        call = self.trace.calls[row.call]
        if not argument.after:
            maker = self._last_writer(call, row.argument, row.place)
            if maker is None:
                return {}
            call, written = maker
        else:
            written = argument.name
        inner = line_that_makes(call.inner, written.partition(".")[0])
        general = call.inner.file in ("ops/product.py", "ops/rows.py")  # whose equations say nothing of the model
        equation = equation_at(call.site) or equation_at(*((call.site,) if general else (inner,)), above=True)
        found: dict[str, Any] = {"made": self._source(inner), "called": self._source(call.site)}
        if equation:
            found |= {"equation": equation.text, "equation_of": f"scratchnmt/{equation.file}"}
        return found

    def _last_writer(self, reader: Call, name: str, place: tuple[Any, ...]) -> tuple[Call, str] | None:
        array = reader.arguments.get(name)
        if not isinstance(array, np.ndarray):
            return None
        owner, first = id_of(array), elements_of(array)[place].reshape(-1)[0]
        for call in reversed(self.trace.calls[: reader.number]):
            for write in call.writes:
                if write.owner == owner and (write.elements == first).any():
                    return call, write.name
        return None

    def _readers(self, quantity: Quantity) -> list[dict[str, Any]]:
        """The lines that read it on the way back."""
        side = quantity.value
        assert side is not None and side.argument is not None
        rows = self.trace.rows(quantity.id, "value")
        row = rows[0, (self.trace.length(quantity, 0) - 1) // 2]
        array = self.trace.calls[row.call].arguments.get(row.argument)
        if not isinstance(array, np.ndarray) or side.derived:
            return []
        owner, elements = id_of(array), elements_of(array)[row.place].reshape(-1)
        lines: dict[Site, dict[str, Any]] = {}
        for call in self.trace.calls:
            if call.phase == "backward" and call.site not in lines:
                written = {write.name for write in call.writes}
                if any(id_of(other) == owner and np.isin(elements, elements_of(other)).any()
                       for name, other in call.arrays() if name not in written):
                    lines[call.site] = {**self._source(call.site), "what": call.op}
        return list(lines.values())

    def _memory(self, quantity: Quantity, arrays: Sequence[np.ndarray]) -> dict[str, Any]:
        """Bytes of the first sentence in the cache, if it is kept there as it is."""
        whole = self.trace.table[quantity.of] if quantity.of else quantity
        argument = whole.value.argument if whole.value else None
        if argument is None:
            return {"bytes": 0, "kept": False}
        row = next(iter(self.trace.rows(whole.id, "value").values()))
        call = self.trace.calls[row.call]
        array = call.arguments.get(row.argument)
        then = (call.after if row.after else call.before)[row.argument]
        kept = (isinstance(array, np.ndarray) and id_of(array) in self._cached
                and np.array_equal(array[row.place], then[row.place]))
        return {"bytes": int(arrays[0].size * self.itemsize) if kept else 0, "kept": bool(kept)}

    @cached_property
    def _cached(self) -> set[int]:
        """The arrays that the forward pass keeps for the backward pass."""
        return kept_arrays(self.trace)

    # gradients

    def _paths(self, quantity: Quantity, side: Side, arrays: Sequence[np.ndarray], kept: list[int] | None
               ) -> dict[str, Any]:
        found = [self.trace.paths(quantity.id, b) for b in self.sentences]
        entries, residual = [], 0.0
        for b, array in enumerate(arrays):
            total = sum((summands.array for summands in found[b].values()), np.zeros_like(array))
            residual = max(residual, float(np.abs(total - array).max()) / (rms(array) or 1))
        for id in side.paths:
            several = [paths[id] for paths in found if id in paths]
            if not several:
                continue
            summands = [paths[id].array if id in paths else np.zeros_like(array)
                        for paths, array in zip(found, arrays, strict=True)]
            entry = {"id": id, "label": several[0].label, "formula": side.paths[id],
                     "textbook": line_of_textbook(self.trace.model.config, quantity.id, id),
                     "norms": [norms(array) for array in summands],
                     "shares": [rounded((part * whole).sum(axis=1) / np.maximum((whole**2).sum(axis=1), 1e-300))
                                for part, whole in zip(summands, arrays, strict=True)],
                     "arrays": [encoded(array if kept is None else array[:, kept]) for array in summands]
                     if self._is_kept(quantity, side, side.paths[id]) else None,
                     "steps": self._steps(quantity, id)}
            path = several[0].path
            site = path.site if path else self._inside(quantity)
            if site.file:
                entry |= self._source(site)
            entries.append(entry)
        return {"paths": entries, "residual": residual}

    def _is_computed(self, quantity: Quantity, side: Side) -> bool:
        """Whether the page has no arrays, since its formula gives them: a gate of its pre-activation, a row of x."""
        if quantity.id.startswith("row_"):  # of its gradient the norms will do: x has the rest
            return side is quantity.gradient or bool(side.formula)
        return side is quantity.value and quantity.id.startswith("gates")

    def _is_kept(self, quantity: Quantity, side: Side, formula: str) -> bool:
        """Whether the page has the arrays of a path with this formula, and not its norms alone."""
        return len(side.paths) > 1 and not self._follows(formula) and not quantity.id.startswith("row_")

    def _follows(self, formula: str) -> bool:
        """Whether the page can evaluate it from its own arrays, without any weight."""
        weights = {name.partition("[")[0] for name in self.trace.model.params}
        return bool(formula) and not any(reference.name.partition("[")[0] in weights
                                         for reference in references(formula))

    def _inside(self, quantity: Quantity) -> Site:
        """The line inside an operation that adds a summand."""
        assert quantity.gradient is not None and quantity.gradient.argument is not None
        op, name = quantity.gradient.argument.op, "dc" if quantity.gradient.argument.name == "dc" else "dW"
        return line_that_makes(next(call for call in self.trace.calls if call.op == op).inner, name)

    def _steps(self, quantity: Quantity, path: str) -> list[str] | None:
        """What each target step adds to a source word's gradient, as norms (rows, T); None where it is not known."""
        if path not in ("values", "keys") or self.trace.model.config.score not in ("dot", "general"):
            return None
        config, steps = self.trace.model.config, []
        G, d = config.encoder_size, self.trace.directions.index(quantity.kind) if quantity.kind else None
        columns = slice(None) if d is None else slice(d * G, (d + 1) * G)
        for b in self.sentences:
            if config.attention == "multi-head":
                vectors = self._by_heads(path, b)[..., columns]
                steps.append(encoded(np.sqrt((vectors**2).sum(axis=2))))
                continue
            if path == "values":
                factor, vectors = self.trace.value("weights", b), self.trace.gradient("a", b)
            else:
                factor, vectors = self.trace.gradient("score", b), self._queries(b)
                if config.score == "general":
                    vectors = vectors @ self.trace.model.params["attention.W"].T
            size = row_norms(vectors[:, columns])
            steps.append(encoded(np.abs(factor.T) * size))
        return steps

    def _by_heads(self, path: str, b: int) -> Array:
        """What the heads of each target step add to each source word (S, T, M)."""
        trace, config = self.trace, self.trace.model.config
        W, of_head = trace.model.params["attention.Wv" if path == "values" else "attention.Wk"], []
        for i in range(config.heads):
            if path == "values":
                factor, vectors = trace.value(f"weights_{i}", b), trace.gradient(f"a_{i}", b)
            else:
                factor = trace.gradient(f"score_{i}", b) * sizes(config)["d"] ** -0.5
                vectors = trace.value(f"query_{i}", b)
            of_head.append(factor.T[..., None] * vectors)
        return np.concatenate(of_head, axis=2) @ W.T

    def _queries(self, b: int) -> np.ndarray:
        """The states that asked, step by step (T, H)."""
        last = self.trace.model.config.layers - 1 or ""
        states = self.trace.value(f"h_dec{last}", b)
        if self.trace.model.config.asks_before:
            states = np.concatenate([self.trace.value(f"h_init{last}", b), states[:-1]])
        return states

    def _factors(self) -> list[dict[str, Any]]:
        """How much of a gradient a step back hands on, by each way."""
        factors = []
        for kind in (*self.trace.directions, "dec"):
            last = self.trace.model.config.layers - 1 or ""
            for id, path, name in (("c", "next", "forget gate"), ("h", "recurrence", "recurrent weights")):
                quantity = self.trace.table[f"{id}_{kind}{last}"]
                values = [self._handed_on(quantity, path, b) for b in self.sentences]
                factors.append({"name": f"d{quantity.id} by the {name}", "q": quantity.id, "values": values,
                                "sentence": f"what reaches d{quantity.id} from the step after it, over the norm there"})
        return factors

    def _handed_on(self, quantity: Quantity, path: str, b: int) -> list[float]:
        whole = row_norms(self.trace.gradient(quantity.id, b))
        part = self.trace.paths(quantity.id, b).get(path)
        handed = row_norms(part.array) if part else np.zeros(len(whole))
        after = np.roll(whole, 1 if quantity.reversed else -1)
        return rounded(np.divide(handed, after, out=np.zeros(len(whole)), where=after > 0))

    def _by_word(self, data: dict[str, Any]) -> None:
        """The norms of every gradient where the loss is that of one target word: into the entries of `data`."""
        trace = self.trace
        ids = [quantity.id for quantity in trace.table.values() if quantity.gradient and quantity.gradient.argument
               and quantity.column_axis == "units" and not quantity.id.startswith("row_") and trace.calls[next(iter(
                   trace.rows(quantity.id, "gradient").values())).call].phase == "backward"]
        found: dict[str, list[np.ndarray]] = {id: [] for id in ids}
        trace.recorder.keeps_paths = False
        for b in self.sentences:
            rows: dict[str, list[np.ndarray]] = {id: [] for id in ids}
            for t in range(trace.tgt_lengths[b]):
                trace.backward(word=(b, t))
                for id in ids:
                    rows[id].append(row_norms(trace.gradient(id, b)))
            for id in ids:
                found[id].append(np.array(rows[id]))
        trace.recorder.keeps_paths = True
        trace.backward()
        for entry in data["quantities"]:
            if entry["id"] in found:
                entry["gradient"]["by_word"] = {"arrays": [encoded(array) for array in found[entry["id"]]]}

    # weights, checks, calls

    def _weights(self) -> dict[str, Any]:
        """Norms of all weights; rows and columns that the formulas of `units` read."""
        params, grads = self.trace.model.params, self.trace.grads
        assert grads is not None
        entries: dict[str, dict[str, Any]] = {}
        for name, array in params.items():
            parts = {f"{name}[{d}]": d for d in range(len(array))} if name.startswith("encoder.") else {name: ...}
            for part, index in parts.items():
                entries[part] = {"shape": list(array[index].shape), "norm": float(np.linalg.norm(array[index])),
                                 "gradient_norm": float(np.linalg.norm(grads[name][index])), "rows": {}, "columns": {}}
                if array[index].ndim == 1:
                    entries[part]["values"] = encoded(array[index])
        for name, axis, place in sorted(self._places_of_weights()):
            entry, (whole, _, direction) = entries[name], name.partition("[")
            array = params[whole][int(direction[:-1])] if direction else params[whole]
            if array.ndim == 2 and 0 <= place < array.shape[axis]:
                entry["columns" if axis else "rows"][str(place)] = encoded(array[:, place] if axis else array[place])
        return entries

    def _places_of_weights(self) -> set[tuple[str, int, int]]:
        """(weight, axis, place) of every row and column that a formula of one of the chosen units reads."""
        found, known = set(), sizes(self.trace.model.config)
        for quantity in self.trace.table.values():
            formulas = [text for side in (quantity.value, quantity.gradient) if side
                        for text in (side.formula, *side.paths.values()) if text]
            if quantity.column_axis == "s":
                continue
            units = self._chosen(quantity)
            for reference in (reference for text in formulas for reference in references(text)):
                for axis, index in enumerate(reference.indices):
                    if index[0] == (1, "j"):
                        found |= {(reference.name, axis, unit + sum(sign * known[symbol] for sign, symbol in index[1:]))
                                  for unit in units if all(symbol in known for _, symbol in index[1:])}
        weights = {name.partition("[")[0] for name in self.trace.model.params}
        return {place for place in found if place[0].partition("[")[0] in weights}

    def _chosen(self, quantity: Quantity) -> list[int]:
        if quantity.of and quantity.kind:
            return self.units[quantity.kind]
        if quantity.of:  # of a head: those of its columns
            whole = self._chosen(self.trace.table[quantity.of])
            return [unit - quantity.first for unit in whole if 0 <= unit - quantity.first < quantity.columns]
        if quantity.column_axis == "words":
            return self._words_kept
        return [] if quantity.columns > self.trace.model.config.memory_size else self._columns_of(
            quantity, self.units.__getitem__)

    def _checks(self, count: int) -> list[dict[str, Any]]:
        """Gradients of drawn and of named cells beside their complex-step derivatives."""
        trace, rng, cells = self.trace, np.random.default_rng(0), list(self.named)
        ids = [id for id in trace.table if can_be_moved(trace, id)]
        while len(cells) < count + len(self.named) and ids:
            id, b = ids[int(rng.integers(len(ids)))], int(rng.integers(len(self.words)))
            columns = self._kept(trace.table[id]) or range(trace.table[id].columns)
            cells.append(Cell(id, b, int(rng.integers(trace.length(trace.table[id], b))),
                              int(columns[int(rng.integers(len(columns)))])))
        # where summands cancel, as in a softmax that is sure, what is left has the rounding of the largest of them
        rounding = 4 * np.finfo(float).eps * max(float(np.abs(trace.gradient(id, b)).max())
                                                 for id in ids for b in self.sentences)
        entries = []
        for cell, numeric in zip(cells, derivatives(trace.model, trace.batch, cells, trace.seed), strict=True):
            gradient = trace.gradient(cell.id, cell.b)
            analytic = float(gradient[cell.row, cell.unit])
            difference = abs(analytic - numeric)
            entries.append({"q": cell.id, "b": cell.b, "row": cell.row, "unit": cell.unit, "analytic": analytic,
                            "numeric": numeric, "error": difference / (rms(gradient) or 1),
                            "ok": difference <= TOLERANCE * rms(gradient) + rounding})
        return entries


def html(data: Mapping[str, Any]) -> str:
    """The page, in one file."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=_plain)
    for mark in "<", "\u2028", "\u2029":  # no sentence may end the script
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    parts = {"/*CSS*/": (FOLDER / "app.css").read_text(encoding="utf-8"), "/*DATA*/": text,
             "/*JS*/": (FOLDER / "app.js").read_text(encoding="utf-8")}
    page = (FOLDER / "page.html").read_text(encoding="utf-8")
    for mark, part in parts.items():
        before, _, behind = page.partition(mark)
        page = before + part + behind
    return page


def _plain(value: Any) -> Any:
    """NumPy's numbers as JSON."""
    return value.item() if isinstance(value, np.generic) else asdict(value)
