"""How far two gradients differ, and what of that rounding may do.

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

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import Array
from .convention import to_host
from .report import Offender, TensorReport

EPS = float(np.finfo(np.float64).eps)
WORST = 5  # elements shown per wrong gradient
NOISE = 16  # eps
DOUBTS = 4  # how many times the doubt that a difference itself has it may be off
Floor = float | np.ndarray  # one for an array, or one for each element


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
    return to_host(array).astype(float)
