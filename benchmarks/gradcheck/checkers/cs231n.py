"""The sampled check that Stanford's CS231n teaches, written from its description.

Ten random elements of every array, central differences with h = 1e-5, the error |a - n| / (|a| + |n|);
its notes take a gradient for wrong above 1e-2.
"""

from __future__ import annotations

import numpy as np

from ..op import Op, weighted_sum
from . import Checker

STEP, ELEMENTS, WRONG = 1e-5, 10, 1e-2


def sampled(op: Op, seed: int) -> bool:
    rng = np.random.default_rng(seed)
    inputs = op.inputs()
    dys = op.draw_dys(seed)
    for x, gradient in zip(inputs, op.recomputed(inputs, dys), strict=True):
        for _ in range(ELEMENTS):
            index = tuple(int(rng.integers(size)) for size in x.shape)
            numerical = central_difference(lambda: weighted_sum(op.run(*inputs)[0], dys), x, index)
            if not relative_error(float(gradient[index]), numerical) <= WRONG:
                return True
    return False


def central_difference(loss, x: np.ndarray, index: tuple[int, ...]) -> float:
    """d loss / d x[index], by moving that element in place."""
    value = x[index]
    x[index] = value + STEP
    above = loss()
    x[index] = value - STEP
    below = loss()
    x[index] = value
    return float(above - below) / (2 * STEP)


def relative_error(a: float, n: float) -> float:
    """0 where both are exactly zero, which the formula leaves open."""
    return abs(a - n) / (abs(a) + abs(n)) if a != n else 0.0


CHECKERS = (Checker("CS231n, 10 samples", sampled),)
