"""What a hint is made from: a wrong gradient, and what else there is to compare it with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np


class Clue(NamedTuple):
    """The n elements of a wrong gradient that were checked, and what may explain them."""

    name: str  # "dW"
    argument: str  # "W"
    shape: tuple[int, ...]
    backward: np.ndarray  # (n,)
    reference: np.ndarray  # (n,)
    value: np.ndarray  # (n,) the argument itself
    wrong: np.ndarray  # (n,) True where the two disagree
    tolerance: float  # of the check
    args: Mapping[str, Any]  # every argument of the op
    indices: np.ndarray | None = None  # (n,) into the flattened array; None: projections, which lie nowhere
    groups: tuple[str, ...] | None = None  # for each place of the last axis, "gate f"
    references: Mapping[str, np.ndarray] = {}  # argument -> its whole reference, of those checked in full

    @property
    def complete(self) -> bool:
        """Was every element checked?"""
        return self.indices is not None and self.backward.size == prod(self.shape)

    def whole(self) -> tuple[np.ndarray, np.ndarray]:
        """backward and reference in the argument's shape; only if complete."""
        return self.backward.reshape(self.shape), self.reference.reshape(self.shape)

    def close(self, found: np.ndarray, expected: np.ndarray) -> bool:
        """Are they equal but for rounding, in every element?"""
        if found.shape != expected.shape:
            return False
        size = max(_largest(expected), _largest(self.reference))
        return bool((np.abs(found - expected) <= 10 * self.tolerance * size).all())

    def is_rather(self, expected: np.ndarray) -> bool:
        """Did backward return this, in the argument's shape or as (n,), which is not the reference?"""
        found, right = self.whole() if expected.shape == self.shape else (self.backward, self.reference)
        return self.close(found, expected) and not self.close(right, expected)


Hint = Callable[[Clue], str | None]


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values).max()) if values.size else 0.0
