"""Two steps beside each other: the same sentences through another model, or through the same in float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import to_device
from ..errors import InputError
from ..models.nmt import NMT
from ..ops.plain import PLAIN
from .record import Call
from .sources import function_at
from .trace import Trace, rounded, row_norms


def in_float64(model: NMT) -> NMT:
    """The same on the CPU, by the plain operations."""
    other = model.with_params({name: to_device(array, "cpu").astype(np.float64)
                               for name, array in model.params.items()})
    other.kernels = PLAIN
    return other


def other_model(model: NMT, what: Any) -> tuple[str, NMT]:
    """A title and the model to compare with: "float32", "untrained", or an NMT of the same configuration.

    InputError if the configurations differ.
    """
    if what == "float32":
        return "the same in float32", model.with_params({name: array.astype(np.float32)
                                                         for name, array in model.params.items()})
    if what == "untrained":
        choices = model.config.to_dict()
        sizes = [choices.pop(name) for name in ("src_vocab_size", "tgt_vocab_size", "embed_size", "hidden_size")]
        return "the untrained model", NMT(*sizes, dtype="float64", **choices)
    if not isinstance(what, NMT):
        raise InputError(f"compare is {what!r}, expected a model, 'float32' or 'untrained'")
    if what.config != model.config:
        names = [name for name, value in model.config.to_dict().items() if what.config.to_dict()[name] != value]
        raise InputError(f"the model to compare with has another {', '.join(names)}: two steps are compared operation "
                         "by operation, which needs models of the same make")
    return "another model", in_float64(what)


def compared(trace: Trace, other: Trace, titles: tuple[str, str]) -> dict[str, Any]:
    """What the page shows of both: norms, and the largest difference of every row and of every line of code."""
    return {"title": titles[0], "other_title": titles[1], "loss": float(np.real(trace.loss)),
            "other_loss": float(np.real(other.loss)),
            "quantities": {id: entry for id in trace.table if (entry := _rows(trace, other, id))},
            "calls": _lines(trace, other)}


def _rows(trace: Trace, other: Trace, id: str) -> dict[str, Any]:
    quantity, entry = trace.table[id], dict[str, Any]()
    for side in ("value", "gradient"):
        if getattr(quantity, side) is None or quantity.of:
            continue
        pairs = [(getattr(trace, side)(id, b), getattr(other, side)(id, b)) for b in range(len(trace.src_lengths))]
        entry[side] = [rounded(np.abs(a - b).max(axis=1), 6) for a, b in pairs]
        entry[f"{side}_norms"] = [rounded(row_norms(a), 6) for a, _ in pairs]
        entry[f"other_{side}_norms"] = [rounded(row_norms(b), 6) for _, b in pairs]
    return entry


def _lines(trace: Trace, other: Trace) -> list[list[Any]]:
    """[operation, function, line, phase, largest difference over the largest number] of every line that calls one."""
    found: dict[tuple[str, str, int, str], float] = {}
    for a, b in zip(trace.calls, other.calls, strict=True):
        function = function_at(a.site)
        key = (a.op, f"{function.file}:{function.name}", a.site.line, a.phase)
        found[key] = max(found.get(key, 0.0), _difference(a, b))
    return [[*key, float(f"{difference:.4g}")] for key, difference in found.items()]


def _difference(a: Call, b: Call) -> float:
    """Of what two calls have written, relative to the largest number in it, of both."""
    worst = 0.0
    for name, array in a.outputs.items():
        size = max(float(np.abs(one).max()) for one in (array, b.outputs[name])) if array.size else 0.0
        if size:
            worst = max(worst, float(np.abs(array - b.outputs[name]).max()) / size)
    return worst
