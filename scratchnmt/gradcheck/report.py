"""What a check found: a report that reads as a table, and the error whose text is the report."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["GradcheckError", "Offender", "Report", "TensorReport", "layout", "raise_if_wrong"]


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
