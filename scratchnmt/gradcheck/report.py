"""What a check found: how far two gradients differ, a report that reads as a table, the error whose text it is.

The error of an element is relative, and its tolerance belongs to method and dtype.  It is relative to no less than
the *floor*, at which the tolerance is as large as the noise, which is what rounding can do to a right gradient:

- 16 eps, times the size of the terms that make up one element.  They are seen where they do not cancel: the
  largest y dy, for as many as there are outputs for each element of x, or x dx of the argument for which that is
  largest.  A gradient that cancels to zero, a softmax over one element or a saturated tanh, comes out as such
  noise.  The coarse eps of float32 is divided by x, where x is more than 1, since a derivative is per unit of x:
  else nothing were left of the gradient of x * x at 1000;
- of a real difference also what its steps leave in doubt (differences.py).

1e-12 of the largest rms beside it (in float64; more as eps is more) is the least floor.  There is no other one: a
gradient that is merely small is judged by its own size.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..arrays import Array

__all__ = ["GradcheckError", "Offender", "Report", "TensorReport", "layout", "raise_if_wrong"]

EPS = float(np.finfo(np.float64).eps)
WORST = 5  # elements shown per wrong gradient
NOISE = 16  # eps
DOUBTS = 4  # how many times its own doubt a real difference may be off
Floor = float | np.ndarray  # one for an array, or one for each element


@dataclass(frozen=True)
class Offender:
    """One element of a gradient: what backward says, what the numerical reference says."""

    name: str
    index: tuple[int, ...]
    label: str
    backward: float  # what backward says
    reference: float  # the numerical derivative
    error: float  # relative, to be compared with the report's rtol


@dataclass(frozen=True)
class TensorReport:
    """One gradient: how many elements (or probes, in a directional check) were checked and wrong."""

    name: str
    shape: tuple[int, ...]
    checked: int
    wrong: int
    max_error: float
    rms: float
    worst: tuple[Offender, ...] = ()
    method: str = ""  # of its reference, and its tolerance, where a check chooses them for each gradient
    rtol: float = 0.0
    kinks: int = 0  # elements of which the reference says nothing, since the function has a kink there

    @property
    def ok(self) -> bool:
        """Whether no element is wrong."""
        return self.wrong == 0


@dataclass(frozen=True)
class Report:
    """The result of a check; `str(report)` is the table, `report.text(color=True)` for a terminal."""

    method: str
    dtype: str
    device: str
    rtol: float
    seed: int
    tensors: tuple[TensorReport, ...]
    broken_promises: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()  # guesses at why a gradient is wrong
    notes: tuple[str, ...] = ()  # what else to know: kinks, promises broken that are allowed
    unchecked: tuple[str, ...] = ()  # other floats on which the outputs depend: None was returned, or a number

    @property
    def ok(self) -> bool:
        """Whether every gradient is right and every promise kept."""
        return not self.broken_promises and all(t.ok for t in self.tensors)

    @property
    def max_error(self) -> float:
        """The largest error of all gradients, relative as `rtol` is."""
        return max((t.max_error for t in self.tensors), default=0.0)

    @property
    def margin(self) -> float:
        """Tolerance over the largest error: above 1 passes, and its erosion shows before a failure."""
        return min(((t.rtol or self.rtol) / t.max_error for t in self.tensors if t.max_error), default=math.inf)

    @property
    def elements(self) -> int:
        """Elements of all gradients, checked or not."""
        return sum(math.prod(t.shape) for t in self.tensors)

    @property
    def wrong(self) -> tuple[str, ...]:
        """The names of the gradients that are wrong."""
        return tuple(t.name for t in self.tensors if not t.ok)

    @property
    def kinks(self) -> int:
        """Elements of all gradients that lie on a kink."""
        return sum(t.kinks for t in self.tensors)

    def to_dict(self) -> dict[str, Any]:
        """Every field, and ok, margin and kinks, in the types of JSON.

        JSON has no infinity: it becomes the text "Infinity" or "-Infinity", a NaN "NaN", all of which
        float() reads back.
        """
        plain: dict[str, Any] = _plain({**asdict(self), "ok": self.ok, "margin": self.margin, "kinks": self.kinks})
        return plain

    def text(self, color: bool = False) -> str:
        """The table, the worst elements, hints and notes; color: with ANSI colours."""
        return text(self, color)

    def __str__(self) -> str:
        return self.text()


def rounding(dtype: str) -> float:
    """How far two ways to compute the same may differ: 1e-12, or 64 eps of a coarser dtype."""
    return max(1e-12, 64 * float(np.finfo(dtype).eps)) if dtype != "float64" else 1e-12


def relative_errors(backward: np.ndarray, reference: np.ndarray, floor: Floor) -> np.ndarray:
    """|backward - reference| / (rms(reference) + |reference|), rms at least `floor`; NaN counts as inf."""
    difference = np.abs(backward - reference)
    scale = np.maximum(rms(reference), floor) + np.abs(reference)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(difference == 0, 0.0, difference / scale)
    return np.where(np.isnan(error), np.inf, error)


def rms(values: np.ndarray) -> float:
    """The root of the mean square, 0 for no values."""
    largest = float(np.abs(values).max()) if np.size(values) else 0.0
    if not largest or not np.isfinite(largest):
        return largest
    return largest * float(np.sqrt(np.mean(np.square(values / largest))))  # no underflow of the squares


def noise_floors(references: Mapping[str, np.ndarray], args: Mapping[str, Any], ys: Sequence[Array],
                 dys: Sequence[Array], *, rtol: float, dtype: str) -> dict[str, float]:
    """{argument: the floor of the errors of its gradient}, from the gradients and what the forward pass gives."""
    eps = max(float(np.finfo(dtype).eps), EPS)
    sizes = {name: rms(_host(args[name])) for name in references}
    least = 1e-12 * eps / EPS * max((rms(r) for r in references.values()), default=0.0)
    terms = [np.abs(_host(y) * _host(dy)) for y, dy in zip(ys, dys, strict=True)]
    total = sum(float(t.max(initial=0.0)) * t.size for t in terms)
    pull = max((sizes[name] * rms(r) for name, r in references.items()), default=0.0)
    floors = {}
    for name in references:
        noise = NOISE * max(EPS, eps / max(1.0, sizes[name])) * max(total / np.size(args[name]), pull)
        floors[name] = max(least, noise / rtol)
    return floors


def with_doubt(floor: Floor, doubt: np.ndarray, rtol: float) -> np.ndarray:
    """(n,) the floor of each element, given how far its reference may be off."""
    return np.maximum(floor, DOUBTS * doubt / rtol)


def differing(found: Mapping[Any, Any], expected: Mapping[Any, np.ndarray], floors: Mapping[Any, float],
              rtol: float) -> list[Any]:
    """The keys under which two sets of arrays differ by more than rtol."""
    return [k for k, e in expected.items() if not (relative_errors(_host(found[k]), e, floors[k]) <= rtol).all()]


def tensor_report(name: str, shape: tuple[int, ...], backward: np.ndarray, reference: np.ndarray, *,
                  rtol: float, floor: Floor, indices: np.ndarray | None = None,
                  labels: Sequence[str] | None = None, kinks: np.ndarray | None = None) -> TensorReport:
    """Compare the elements at the flat `indices` (all, if None) and keep the worst of them.

    kinks: True for those that are not held to the reference, since the function has a kink there.
    """
    indices = np.arange(reference.size) if indices is None else indices
    error = relative_errors(backward, reference, floor)
    if kinks is not None:
        error = np.where(kinks, 0.0, error)
    worst = []
    for k in np.argsort(-error, kind="stable")[:WORST]:
        index = tuple(int(i) for i in np.unravel_index(indices[k], shape))
        label = labels[index[-1]] if labels is not None and index else ""
        worst.append(Offender(name=name, index=index, label=label, backward=float(backward[k]),
                              reference=float(reference[k]), error=float(error[k])))
    return TensorReport(name=name, shape=tuple(shape), checked=error.size, wrong=int((error > rtol).sum()),
                        max_error=float(error.max()), rms=rms(reference), worst=tuple(worst),
                        kinks=0 if kinks is None else int(kinks.sum()))


def _host(array: Any) -> np.ndarray:
    return np.asarray(array.get() if hasattr(array, "get") else array).astype(float)


class GradcheckError(AssertionError):
    """A check failed; the text is the report, `report` the object (None if backward raised)."""

    def __init__(self, report: Report | str):
        super().__init__(str(report))
        self.report = report if isinstance(report, Report) else None


def raise_if_wrong(report: Report) -> Report:
    """The report itself, or GradcheckError."""
    __tracebackhide__ = True
    if not report.ok:
        raise GradcheckError(report)
    return report


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


_CODES = {"red": 31, "green": 32, "yellow": 33}


def text(report: Report, color: bool = False) -> str:
    """The whole report; color: verdicts in green and red, hints in yellow, by ANSI codes."""
    lines = [_headline(report, color), *_table(report, color), *_offenders(report), *_remarks(report, color)]
    return "\n".join(lines)


def layout(header: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int]) -> list[str]:
    """Lines of a table; columns in `left` are flush left, the others flush right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [
            cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return lines


def _headline(report: Report, color: bool) -> str:
    count = len(report.tensors)
    gradients = f"{count} gradient{'s' if count != 1 else ''}"
    margin = f", margin {report.margin:.3g}" if count else ""
    verdict = paint("gradient check ok", "green", color)
    found = gradients if count else "every promise is kept"
    if not report.ok:
        verdict, found = paint("gradient check FAILED", "red", color), "a promise is broken"
    if report.wrong:
        found = f"{len(report.wrong)} of {gradients} {'is' if count == 1 else 'are'} wrong"
    without = f", not checked: {', '.join(report.unchecked)}" if report.unchecked else ""
    return f"{verdict}: {found}{margin}{without}  ({_conditions(report)})"


def _conditions(report: Report) -> str:
    where = f"{report.dtype} on {report.device}"
    if report.device.startswith("cuda") and os.environ.get("CUPY_TF32", "0") not in ("", "0"):
        where += " with CUPY_TF32 set: products have 10 bits"
    return f"method={report.method}, {where}, rtol={report.rtol:.2g}, seed={report.seed}"


def _table(report: Report, color: bool) -> list[str]:
    if not report.tensors:
        return []
    counted = "probes" if "directional" in report.method else "checked"
    header = ["gradient", "shape", counted, "wrong", "max error", "rms", ""]
    rows = [[t.name, str(t.shape), str(t.checked), str(t.wrong), f"{t.max_error:.1e}", f"{t.rms:.2e}",
             "ok" if t.ok else "WRONG"] for t in report.tensors]
    if report.kinks:
        header.insert(4, "kinks")
        for row, tensor in zip(rows, report.tensors, strict=True):
            row.insert(4, str(tensor.kinks))
    first, *lines = layout(header, rows, left=(0, 1, len(header) - 1))
    return ["", first, *(_verdict(line, t.ok, color) for line, t in zip(lines, report.tensors, strict=True))]


def _verdict(line: str, ok: bool, color: bool) -> str:
    """The row with its last word, ok or WRONG, painted."""
    start, _, word = line.rpartition(" ")
    return f"{start} {paint(word, 'green' if ok else 'red', color)}"


def _offenders(report: Report) -> list[str]:
    lines: list[str] = []
    header = ("index", "where", "backward()", "reference", "ratio", "error")
    for tensor in report.tensors:
        if tensor.wrong and tensor.worst:
            bisected = "directional" in report.method
            wrong = [o for o in tensor.worst if bisected or not o.error <= (tensor.rtol or report.rtol)]
            title = f"one wrong element of {tensor.name}, found by bisection" if bisected else (
                f"worst elements of {tensor.name}")
            lines += ["", f"  {title}", *layout(header, _rows(wrong), left=(0, 1))]
    return lines


def _rows(offenders: Sequence[Offender]) -> list[tuple[str, ...]]:
    """A line for each, with more digits where two numbers that differ would print alike."""
    alike = any(f"{o.backward:.6e}" == f"{o.reference:.6e}" for o in offenders)
    digits = 15 if alike else 6
    return [(str(o.index), o.label, f"{o.backward:+.{digits}e}", f"{o.reference:+.{digits}e}", _ratio(o, digits),
             f"{o.error:.1e}") for o in offenders]


def _remarks(report: Report, color: bool) -> list[str]:
    lines = [f"  {paint('broken:', 'red', color)} {promise}" for promise in report.broken_promises]
    lines += [f"  {paint('hint:', 'yellow', color)} {hint}" for hint in report.hints]
    lines += [f"  note: {note}" for note in report.notes]
    return ["", *lines] if lines else []


def _ratio(offender: Offender, digits: int) -> str:
    if not offender.reference:
        return "-"
    ratio = offender.backward / offender.reference
    text = f"{ratio:.{digits}g}"
    return f"1{ratio - 1:+.1e}" if text == "1" and ratio != 1 else text


def paint(words: str, color: str, wanted: bool) -> str:
    """The words in red, green or yellow, if that is wanted."""
    return f"\x1b[{_CODES[color]}m{words}\x1b[0m" if wanted else words
