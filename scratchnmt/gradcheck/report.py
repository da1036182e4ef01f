"""What a check found: a report that reads as a table, and the error whose text is the report."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from .text import layout, text

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
    notes: tuple[str, ...] = ()  # what else to know: kinks, what was not checked

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
        return self.rtol / self.max_error if self.max_error else math.inf

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

    def to_dict(self) -> dict:
        """Every field, and ok, margin and kinks, in the types of JSON.

        JSON has no infinity: it becomes the text "Infinity" or "-Infinity", a NaN "NaN", all of which
        float() reads back.
        """
        return _plain({**asdict(self), "ok": self.ok, "margin": self.margin, "kinks": self.kinks})

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
