"""The same step with something wrong in it: a bug of the museum, or a path of the gradient that is cut.

What changes is put beside the right step: the loss, the norms of what is inside, the gradient of every weight.  So one
sees which bugs the loss would tell, and which only a gradient check does.
"""

from __future__ import annotations

import copy
import difflib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..models.nmt import NMT
from ..museum import BUGS, Bug, examine, patched
from ..museum.patch import line_number, part
from .paths import PATHS, weight_without_layer
from .record import Call, Hook
from .trace import Trace, rounded, row_norms

_FOLDERS = ("ops/", "models/")  # what a training step is made of
_SAME = 1e-9  # a relative difference below is rounding
_SEEN = 1e-6  # of a gradient: what is less shows nowhere
CUTS = {
    "feeding": ("input feeding", "what the next step hands back to the output, or the context, that it was fed"),
    "next": ("dc through time", "what the next step hands back to the cell, by its forget gate"),
    "recurrence": ("dh through time", "what the next step hands back to the state, by Wh"),
    "query": ("attention's query", "what attention hands back to the state that asked"),
    "keys": ("attention's keys", "what attention hands back to the source words as keys"),
    "values": ("attention's values", "what attention hands back to the source words as values"),
    "first": ("the first state", "what the decoder hands back to the encoder's last states"),
}


def cuts(trace: Trace) -> Iterator[dict[str, Any]]:
    """The step without each of CUTS that the model has."""
    for id, (name, meaning) in CUTS.items():
        done: list[Call] = []
        other = Trace(trace.model, trace.batch, trace.seed, paths=False, hook=_cutting(id, done))
        if done:
            yield {"name": id, "title": f"Cut {name}", "origin": "", "story": f"Without {meaning}.", "diff": [],
                   "file": f"scratchnmt/{done[0].site.file}", "line": done[0].site.line, "verdict": "", "caught": True,
                   **changes(trace, other)}


def _cutting(id: str, done: list[Call]) -> Hook:
    """Takes back what the calls of a path have added; `done` is filled with them."""
    before: dict[int, np.ndarray] = {}

    def hook(call: Call, after: bool) -> None:
        found = _cut_part(call, id) if call.phase == "backward" else None
        if found is None:
            return
        if after:
            found[...] = before.pop(call.number, 0)
            done.append(call)
        elif call.arguments.get("add") or call.op == "attention_step_backward":
            before[call.number] = found.copy()

    return hook


def _cut_part(call: Call, id: str) -> Any:
    """The array that a call writes on this path, or None."""
    path = PATHS.get((call.site.function, call.op, weight_without_layer(call.weight)), ("", ""))[0]
    name = {"attention_step_backward": "dquery", "lstm_gates_backward": "dc_prev"}.get(call.op, "out")
    array: Any = call.arguments.get(name, call.arguments.get("result"))
    if path == "recurrence" and id in ("recurrence", "feeding") and call.site.function == "_layers_backward":
        # in the decoder the product with Wh goes back to h, to what was fed, or to both side by side
        H = call.arguments["a"].shape[-1] // 4
        columns = array[:, H:] if id == "feeding" else array[:, :H]
        if call.first_row:  # the rows of Wh for what was fed, alone
            columns = array if id == "feeding" else array[:, :0]
        return columns if columns.size else None
    return array if path == id else None


def bugs(trace: Trace) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """The step with each bug of the museum that shows in it, and the names of those that do not, with the reason."""
    shown, hidden = [], []
    for bug in BUGS:
        reason = "it is not in what a training step computes"
        if bug.file.startswith(_FOLDERS):
            entry = with_bug(trace, bug)
            if entry["loss_difference"] or entry["weights"]:
                shown.append(entry)
                continue
            reason = "this step does not run these lines, or they change nothing in it"
        hidden.append({"name": bug.name, "title": bug.title, "reason": reason})
    return shown, hidden


def with_bug(trace: Trace, bug: Bug) -> dict[str, Any]:
    """What a bug changes in the step."""
    entry: dict[str, Any] = {
        "name": bug.name, "title": bug.title, "origin": bug.origin, "story": bug.story.replace("`", ""),
        "file": f"scratchnmt/{bug.file}", "line": line_number(bug), "diff": diff(bug)}
    with patched(bug) as package, warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            found = changes(trace, Trace(_same_model(trace.model, package), trace.batch, trace.seed, paths=False))
        except Exception as error:  # whatever a bug does
            found = {"loss": None, "loss_difference": None, "weights": [], "norms": {}, "error": f"{error}"}
            entry["story"] += f"  In this step it ends with {type(error).__name__}."
    if found["loss_difference"] or found["weights"]:
        verdict = examine(bug)
        entry |= {"verdict": verdict.text, "caught": not verdict.ok}
    return entry | found


def diff(bug: Bug) -> list[list[str]]:
    """The right lines and the wrong ones: ["-", ...], ["+", ...]."""
    right, wrong = bug.right.split("\n"), bug.wrong.split("\n") if bug.wrong else []
    lines = difflib.ndiff(right, wrong)
    return [[line[0], line[2:]] for line in lines if line[0] != "?"]


def _same_model(model: NMT, package: Any) -> NMT:
    """The model made of the code of a copy of the package."""
    nmt = part(package, "models.nmt").NMT
    other: NMT = nmt.__new__(nmt)
    other.__dict__.update(copy.copy(model).__dict__, kernels=part(package, "ops.plain").PLAIN,
                          config=part(package, "models.config").NMTConfig.from_dict(model.config.to_dict()))
    return other


def changes(right: Trace, wrong: Trace) -> dict[str, Any]:
    """Loss, gradients of weights and norms of a wrong step beside those of the right one."""
    assert right.grads is not None and wrong.grads is not None
    weights = []
    for name, gradient in right.grads.items():
        norm, other = float(np.linalg.norm(gradient)), float(np.linalg.norm(wrong.grads[name]))
        difference = float(np.linalg.norm(wrong.grads[name] - gradient)) / (norm or 1)
        if not difference <= _SEEN:
            weights.append([name, difference, norm, other])
    loss, before = float(np.real(wrong.loss)), float(np.real(right.loss))
    same = abs(loss - before) <= _SAME * abs(before)
    return {"loss": loss, "loss_difference": 0.0 if same else loss - before, "weights": weights,
            "norms": dict(_norms(right, wrong))}


def _norms(right: Trace, wrong: Trace) -> Iterator[tuple[str, list[list[float]]]]:
    """Of every gradient that is another one, row by row."""
    for quantity in right.table.values():
        if not quantity.gradient or quantity.of or quantity.column_axis != "units" or (
                quantity.id.startswith("row_")):
            continue
        try:
            arrays = [wrong.gradient(quantity.id, b) for b in range(len(right.src_lengths))]
        except (KeyError, IndexError, ValueError, AttributeError, StopIteration):
            continue  # the bug has taken away the call that it is found by
        rights = [right.gradient(quantity.id, b) for b in range(len(arrays))]
        if any(a.shape != b.shape or not np.allclose(a, b, rtol=_SAME, atol=0) for a, b in zip(arrays, rights,
                                                                                             strict=True)):
            yield quantity.id, [rounded(row_norms(array), 6) for array in arrays]

