"""How far two gradients differ: one error per element, whose tolerance belongs to method and dtype."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..arrays import Array
from .inputs import to_host
from .report import Offender, TensorReport

WORST = 5  # elements shown per wrong gradient


def rounding(dtype: str) -> float:
    """How far two ways to compute the same may differ: 1e-12, or 64 eps of a coarser dtype."""
    return max(1e-12, 64 * float(np.finfo(dtype).eps)) if dtype != "float64" else 1e-12


def relative_errors(backward: np.ndarray, reference: np.ndarray, floor: float) -> np.ndarray:
    """|backward - reference| / (rms(reference) + |reference|), rms at least `floor`; NaN counts as inf."""
    difference = np.abs(backward - reference)
    scale = max(rms(reference), floor) + np.abs(reference)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(difference == 0, 0.0, difference / scale)
    return np.where(np.isnan(error), np.inf, error)


def rms(values: np.ndarray) -> float:
    """The root of the mean square, 0 for no values."""
    return float(np.sqrt(np.mean(np.square(values)))) if np.size(values) else 0.0


def noise_floor(references: Iterable[np.ndarray], dys: Sequence[Array]) -> float:
    """What is small beside the other gradients and dys is judged by their size, not by its own.

    A gradient that is zero by cancellation (a softmax over one element) comes out as rounding noise.
    """
    return 0.01 * max([*(rms(r) for r in references), *(rms(to_host(dy)) for dy in dys)])


def differing(found: dict, expected: dict[Any, np.ndarray], dys: Sequence[Array], rtol: float) -> list:
    """The keys under which two sets of arrays differ by more than rtol."""
    floor = noise_floor(expected.values(), dys)
    return [
        k for k, e in expected.items() if not (relative_errors(to_host(found[k]), e, floor) <= rtol).all()
    ]


def tensor_report(name: str, shape: tuple[int, ...], backward: np.ndarray, reference: np.ndarray, *,
                  rtol: float, floor: float, indices: np.ndarray | None = None,
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
        worst.append(Offender(name, index, label, float(backward[k]), float(reference[k]), float(error[k])))
    return TensorReport(name, tuple(shape), error.size, int((error > rtol).sum()), float(error.max()),
                        rms(reference), tuple(worst), 0 if kinks is None else int(kinks.sum()))
