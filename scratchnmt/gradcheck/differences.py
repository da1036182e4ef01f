"""Real differences along a line, whose step settles where the function is resolved, and what they leave in doubt.

With the slopes D(h) = (f(h) - f(-h)) / 2h and the bend B(h) = (f(h) + f(-h)) / 2 - f(0): where a step resolves f,
D(h) - D(h/2) and B(h) - 4 B(h/2) are small beside D and B.  Where f has another scale than was thought, where it
is rounded, or has a kink within the step, one of them is not, and the next, shorter step is tried.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np

EPS = float(np.finfo(np.float64).eps)
Line = Callable[[float], np.ndarray]
"""t -> the terms of <f, dys>, (n,), one for each output: what does not move cancels before it is summed."""

WIDEST = {"central": EPS ** (1 / 3), "richardson": 2.0**-11}  # relative to max(1, |x|)
ENOUGH = {"central": 1e-7, "richardson": 5e-9}  # doubt, relative to the derivative, that ends the search
LEVELS = {"central": 2, "richardson": 3}
RESOLVED = 1e-3  # a doubt, relative to slope and bend, that only a step which resolves f leaves
SHRINK, ROUNDS = 8.0, 14


class Difference(NamedTuple):
    """A derivative, and how far it may be off: by what is between its own steps, and by rounding."""

    value: float
    doubt: float  # absolute; inf where f is not finite
    step: float = 0.0


def settled(f: Line, at: float, method: str) -> Difference:
    """The derivative of f at 0, by the widest step that resolves it; `at`: the size of what is moved.

    Where none does, at a kink or for a constant that is rounded, by the widest at which f is finite.
    """
    with np.errstate(all="ignore"):
        middle, step, best, least = f(0.0), widest_step(at, method), None, math.inf
        noise = rounding(f, middle, max(1.0, at))
        for k in range(ROUNDS):
            found, ratio = _difference(f, middle, step, method, noise)
            if k and ratio <= RESOLVED:  # a short step may be without doubt by chance
                found = found._replace(doubt=max(found.doubt, spread(f, step)))
            if ratio <= ENOUGH[method]:
                return found
            if (least < 0.05 and 4 * least < ratio) or step < 64 * EPS * at:  # only rounding grows from here
                break
            if math.isfinite(found.value) and (best is None or ratio < min(least / SHRINK, RESOLVED)):
                best, least = found, ratio
            step /= SHRINK
    return best or Difference(math.nan, math.inf)


def widest_step(at: float, method: str = "central") -> float:
    """A power of two, so that x + step is exact."""
    return 2.0 ** round(math.log2(WIDEST[method] * max(1.0, at)))


def slope(f: Line, step: float) -> float:
    """The central difference at 0."""
    return float((f(step) - f(-step)).sum()) / (2 * step)


def spread(f: Line, step: float) -> float:
    """How far the slopes by nearly the same step differ: what rounding inside of f does to them."""
    with np.errstate(all="ignore"):
        slopes = [slope(f, step * k) for k in (1.0, 0.97, 0.93, 0.89)]
    return max(slopes) - min(slopes)


def extrapolated(slopes: list[float]) -> tuple[float, float]:
    """Richardson's extrapolation to 0 of central differences at step, step/2, ...: (value, estimate of error)"""
    column, before = slopes, slopes[-1]
    for k in range(1, len(slopes)):  # each pass removes the error's term in step**(2k)
        before = column[-1]
        column = [fine + (fine - coarse) / (4**k - 1) for coarse, fine in pairwise(column)]
    return column[-1], abs(column[-1] - before)


def _difference(f: Line, middle: np.ndarray, step: float, method: str,
                noise: float) -> tuple[Difference, float]:
    """(the derivative, its doubt relative to the slope and the bend)"""
    steps = [step / 2**k for k in range(LEVELS[method])]
    ends = [(f(h), f(-h)) for h in steps]
    slopes = [float((ahead - behind).sum()) / (2 * h) for h, (ahead, behind) in zip(steps, ends, strict=True)]
    bends = [float(((ahead - middle) + (behind - middle)).sum()) / 2 for ahead, behind in ends]
    if not np.isfinite([*slopes, *bends]).all():
        return Difference(math.nan, math.inf), math.inf
    value, doubt = extrapolated(slopes) if method == "richardson" else (slopes[0], abs(slopes[0] - slopes[1]))
    doubt += max(abs(a - 4 * b) / h for a, b, h in zip(bends, bends[1:], steps, strict=False)) + noise / steps[-1]
    size = abs(value) + abs(bends[0]) / step
    return Difference(value, doubt, step), doubt / size if size else math.inf if doubt else 0.0


def rounding(f: Line, middle: np.ndarray, far: float) -> float:
    """How far the sum of a difference of terms may be rounded: 4 eps of those that a step as far as this moves.

    A short one need not move them, where f is saturated.
    """
    moved = (f(far) != middle) | (f(-far) != middle)
    return 4 * EPS * float(np.abs(middle)[moved].sum())
