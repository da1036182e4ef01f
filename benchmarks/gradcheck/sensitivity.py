"""The smallest relative error in one median element of an LSTM's dWh that a checker notices."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from scratchnmt.selfcheck import CASES

from .checkers import Checker
from .op import Op, op_of
from .tables import Printer

SIZES = {"T": 6, "B": 3, "I": 8, "H": 16}
SMALLEST, LARGEST = -15.0, 3.0  # powers of ten, between which the error is sought
PRECISION = 0.04  # of the power: 10 per cent
SEEDS = range(3)  # arguments, element and directions are drawn anew


def measured(checkers: Sequence[Checker], options: argparse.Namespace, printer: Printer) -> None:
    printer.title(f"One element of the LSTM's dWh ({SIZES['H']}, {4 * SIZES['H']}) wrong by a factor 1 + e, "
                  f"T {SIZES['T']}, B {SIZES['B']}, I {SIZES['I']}; the element is of median size")
    rows = []
    for checker in checkers:
        errors = [smallest_error(checker, seed) for seed in SEEDS]
        rows.append([checker.name, *map(in_words, (float(np.median(errors)), min(errors), max(errors)))])
    printer.table(["", f"smallest e noticed, median of {len(SEEDS)} draws", "smallest", "largest"], rows)


def in_words(error: float) -> str:
    return f"{error:.0e}" if math.isfinite(error) else f"not even {10**LARGEST:.0e}"


def smallest_error(checker: Checker, seed: int, sizes: dict[str, int] = SIZES) -> float:
    """By bisection on a scale of powers; infinite if not even the largest error is noticed."""
    op = op_of(next(case for case in CASES if case.name == "lstm"), seed, **sizes)
    index = median_element(op, "Wh", seed)
    low, high = SMALLEST, LARGEST
    if not checker.check(with_error(op, "Wh", index, 10**high), seed):
        return math.inf
    while high - low > PRECISION:
        middle = (low + high) / 2
        noticed = checker.check(with_error(op, "Wh", index, 10**middle), seed)
        low, high = (low, middle) if noticed else (middle, high)
    return 10**high


def median_element(op: Op, name: str, seed: int) -> tuple[int, ...]:
    """The index of the gradient's element of median size, for random dy."""
    gradient = op.recomputed(op.inputs(), op.draw_dys(seed))[op.names.index(name)]
    middle = np.argsort(np.abs(gradient), axis=None)[gradient.size // 2]
    return tuple(int(i) for i in np.unravel_index(middle, gradient.shape))


def with_error(op: Op, name: str, index: tuple[int, ...], error: float) -> Op:
    """The op with one element of one gradient multiplied by 1 + error."""
    return op._replace(backward=_scaled(op.backward, f"d{name}", index, 1 + error))


def _scaled(backward: Callable, name: str, index: tuple[int, ...], factor: float) -> Callable:
    def wrong(*dys_and_cache: Any) -> Any:
        gradients = backward(*dys_and_cache)
        changed = getattr(gradients, name).copy()
        changed[index] *= factor
        return gradients._replace(**{name: changed})
    return wrong
