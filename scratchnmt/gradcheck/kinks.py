"""Kinks: points where a function has one slope on its left and another on its right (relu, max, clip).

    L(h) = (f(0) - f(-h)) / h,    R(h) = (f(h) - f(0)) / h,    D(h) = R(h) - L(h)

For a smooth f, D(h) = h f'' + h^3 f''''/12 + ..., so that D(h) - 10 D(h/2) + 16 D(h/4) is of order h^5;
at a kink it is of the size of the jump of the slope.  Beside a kink a real difference means little, and
on a kink every slope from L to R is a derivative (a subgradient) that a backward pass may choose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import Array
from .convention import cast
from .inputs import to_host
from .numeric import EPS, REACH, Line, element_lines, magnitude, real_step

FRACTION = 1 / 128  # a kink in a difference's reach is seen with at least this part of what it does to it
MISSES = 32  # so many wrong elements without a kink, and the rest of the array is not looked at


def at_kinks(f: Callable, args: Mapping[str, Any], name: str, indices: np.ndarray, backward: np.ndarray,
             reference: np.ndarray, error: np.ndarray, *, dys: Sequence[Array], rtol: float,
             method: str) -> np.ndarray:
    """(n,) True where a kink explains what backward says of one of the elements args[name][indices], (n,).

    Looked at are those whose error is above rtol, the largest first.
    """
    found, misses = np.zeros(len(indices), bool), 0
    suspects = [k for k in np.argsort(-error, kind="stable") if error[k] > rtol and np.isfinite(backward[k])]
    along, flat = element_lines(f, args, name, dys=dys), to_host(args[name]).reshape(-1)
    size = magnitude(f, cast(args, "float64"), dys) if suspects else 0.0
    for k in suspects:
        step = real_step(flat[indices[k]])
        reach = REACH if method == "richardson" else step
        found[k] = explains(along(indices[k]), backward[k], reference[k], size=size, step=step, reach=reach)
        misses += not found[k]
        if misses == MISSES:
            break
    return found


def explains(f: Line, value: float, reference: float, *, size: float, step: float, reach: float) -> bool:
    """Is there a kink within reach of 0, and is `value` between the slopes on both sides of 0?

    size: of the terms that f sums up, which sets its rounding error.
    """
    (left, right), (left_half, right_half) = (_slopes(f, h) for h in (step, step / 2))
    bend = min(abs(left - left_half), abs(right - right_half))  # of the side that has no kink: h f'' / 4
    slack = 4 * bend + 16 * EPS * size / step
    if not min(left, right) - slack <= value <= max(left, right) + slack:
        return False
    return has_kink(f, size=size, step=step, reach=reach, least=FRACTION * abs(value - reference))


def has_kink(f: Line, *, size: float, step: float, reach: float, least: float = 0.0) -> bool:
    """Does the slope of f jump, by more than `least` and than rounding makes it, within reach of 0?"""
    centre = 0.0
    while reach > step:  # into the half that holds it
        centre, reach = _sharpest(f, centre, reach / 2), reach / 2
    noise = 128 * EPS * size / step
    return _jump(lambda t: f(centre + t), step) > max(least, noise)


def _slopes(f: Line, h: float) -> tuple[float, float]:
    middle = f(0.0)
    return (middle - f(-h)) / h, (f(h) - middle) / h


def _jump(f: Line, h: float) -> float:
    """The jump of the slope within h of 0 (a part of it, the nearer the larger); 0 + O(h^5) for a smooth f."""
    at = [right - left for left, right in (_slopes(f, h / 2**k) for k in range(4))]
    return max(abs(at[k] - 10 * at[k + 1] + 16 * at[k + 2]) for k in (0, 1)) / 7  # one has zeros, not both


def _sharpest(f: Line, centre: float, half: float) -> float:
    """The middle of that one of three overlapping intervals, `half` to each side, which holds a kink."""
    values = np.array([f(centre + 0.5 * half * k) for k in range(-4, 5)])
    wide = [values[k + 2] - 2 * values[k] + values[k - 2] for k in (2, 4, 6)]
    narrow = [values[k + 1] - 2 * values[k] + values[k - 1] for k in (2, 4, 6)]
    score = np.abs(np.array(wide) - 4 * np.array(narrow))  # where f is smooth, of order half^4
    return centre + half * (int(np.argmax(score)) - 1)
