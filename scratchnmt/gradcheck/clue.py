"""What a hint is made from: a wrong gradient, and what else there is to compare it with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np

from .measure import relative_errors


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
        """Are they equal but for rounding, each element by its own error as in the check?"""
        if found.shape != expected.shape:
            return False
        return bool((relative_errors(found, expected, 0.0) <= 10 * self.tolerance).all())

    def is_rather(self, guess: np.ndarray) -> bool:
        """Is what backward returned this guess, and is the reference something else?

        A guess that the reference fulfils as well (the transpose of a symmetric matrix) explains nothing.
        guess: in the argument's shape, or (n,) as the checked elements.
        """
        found, right = self.whole() if guess.shape == self.shape else (self.backward, self.reference)
        return self.close(found, guess) and not self.close(right, guess)


Hint = Callable[[Clue], str | None]
