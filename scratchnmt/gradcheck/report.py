"""What a check found: a report that reads as a table, and the error whose text is the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

WORST = 5  # elements shown per wrong gradient


@dataclass(frozen=True)
class Offender:
    """One element of a gradient: what backward says, what the numerical reference says."""

    name: str
    index: tuple[int, ...]
    label: str
    backward: float
    reference: float
    error: float


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

    @property
    def ok(self) -> bool:
        return self.wrong == 0


@dataclass(frozen=True)
class Report:
    """The result of a check; `str(report)` is the table."""

    method: str
    dtype: str
    device: str
    rtol: float
    seed: int
    tensors: tuple[TensorReport, ...]
    broken_promises: tuple[str, ...] = ()
    hints: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        return not self.broken_promises and all(t.ok for t in self.tensors)

    @property
    def max_error(self) -> float:
        return max((t.max_error for t in self.tensors), default=0.0)

    @property
    def margin(self) -> float:
        """Tolerance over the largest error: above 1 passes, and its erosion shows before a failure."""
        return self.rtol / self.max_error if self.max_error else math.inf

    @property
    def elements(self) -> int:
        return sum(math.prod(t.shape) for t in self.tensors)

    @property
    def wrong(self) -> tuple[str, ...]:
        """The names of the gradients that are wrong."""
        return tuple(t.name for t in self.tensors if not t.ok)

    def to_dict(self) -> dict:
        return {**asdict(self), "ok": self.ok, "margin": self.margin}

    def __str__(self) -> str:
        return "\n".join([self._headline(), *self._table(), *self._offenders(), *self._notes()])

    def _headline(self) -> str:
        what = (
            f"(method={self.method}, {self.dtype} on {self.device}, rtol={self.rtol:.2g}, seed={self.seed})"
        )
        if self.ok:
            return f"gradient check ok: {len(self.tensors)} gradients, margin {self.margin:.3g}  {what}"
        wrong = (
            f"{len(self.wrong)} of {len(self.tensors)} gradients are wrong"
            if self.wrong
            else "a promise is broken"
        )
        return f"gradient check FAILED: {wrong}  {what}"

    def _table(self) -> list[str]:
        if not self.tensors:
            return []
        counted = "probes" if "directional" in self.method else "checked"
        rows = [(t.name, str(t.shape), str(t.checked), str(t.wrong), f"{t.max_error:.1e}", f"{t.rms:.2e}",
                 "ok" if t.ok else "WRONG") for t in self.tensors]
        return [
            "",
            *layout(("gradient", "shape", counted, "wrong", "max error", "rms", ""), rows, left=(0, 1, 6)),
        ]

    def _offenders(self) -> list[str]:
        lines: list[str] = []
        for tensor in self.tensors:
            if tensor.ok or not tensor.worst:
                continue
            rows = [
                (
                    str(o.index),
                    o.label,
                    f"{o.backward:+.6e}",
                    f"{o.reference:+.6e}",
                    _ratio(o),
                    f"{o.error:.1e}",
                )
                for o in tensor.worst
            ]
            header = ("index", "where", "backward()", "reference", "ratio", "error")
            lines += ["", f"  worst elements of {tensor.name}", *layout(header, rows, left=(0, 1))]
        return lines

    def _notes(self) -> list[str]:
        lines = [f"  broken: {promise}" for promise in self.broken_promises] + [
            f"  hint: {h}" for h in self.hints
        ]
        return ["", *lines] if lines else []


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


def relative_errors(backward: np.ndarray, reference: np.ndarray, floor: float) -> np.ndarray:
    """|backward - reference| / (rms(reference) + |reference|), rms at least `floor`; NaN counts as inf."""
    difference = np.abs(backward - reference)
    scale = max(rms(reference), floor) + np.abs(reference)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(difference == 0, 0.0, difference / scale)
    return np.where(np.isnan(error), np.inf, error)


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if np.size(values) else 0.0


def tensor_report(name: str, shape: tuple[int, ...], backward: np.ndarray, reference: np.ndarray, *,
                  rtol: float, floor: float, indices: np.ndarray | None = None,
                  labels: Sequence[str] | None = None) -> TensorReport:
    """Compare the elements at the flat `indices` (all, if None) and keep the worst of them."""
    indices = np.arange(reference.size) if indices is None else indices
    error = relative_errors(backward, reference, floor)
    worst = []
    for k in np.argsort(-error, kind="stable")[:WORST]:
        index = tuple(int(i) for i in np.unravel_index(indices[k], shape))
        label = labels[index[-1]] if labels is not None and index else ""
        worst.append(Offender(name, index, label, float(backward[k]), float(reference[k]), float(error[k])))
    return TensorReport(name, tuple(shape), error.size, int((error > rtol).sum()), float(error.max()),
                        rms(reference), tuple(worst))


def layout(header: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int]) -> list[str]:
    """Lines of a table; columns in `left` are flush left, the others flush right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [
            cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))
        ]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return lines


def _ratio(offender: Offender) -> str:
    return f"{offender.backward / offender.reference:.6g}" if offender.reference else "-"
