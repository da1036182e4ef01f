"""cupy.random: a Generator that has fewer methods than NumPy's (cupy/random/_generator_api.pyx).

Among those that it lacks: normal, permutation, permuted, shuffle, choice.  Its numbers are not NumPy's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .array import ndarray, new
from .cuda import MACHINE


class Generator:
    def __init__(self, seed: Any):
        seed = [] if seed is None else np.atleast_1d(seed).tolist()
        self._rng = np.random.default_rng([*seed, 12])
        self._card = MACHINE.card

    def _checked(self) -> np.random.Generator:
        if self._card != MACHINE.card:  # _bit_generator.pyx, _check_device
            raise RuntimeError("This Generator state is allocated in a different device")
        return self._rng

    def random(self, size: Any = None, dtype: Any = np.float64) -> ndarray:
        return new(self._checked().random(size, dtype))

    def uniform(self, low: float = 0.0, high: float = 1.0, size: Any = None, dtype: Any = np.float64) -> ndarray:
        return new(self._checked().uniform(low, high, size).astype(dtype))

    def integers(self, low: int, high: int | None = None, size: Any = None, dtype: Any = np.int64,
                 endpoint: bool = False) -> ndarray:
        return new(self._checked().integers(low, high, size, dtype, endpoint))

    def standard_normal(self, size: Any = None, dtype: Any = np.float64) -> ndarray:
        return new(self._checked().standard_normal(size, dtype))


def default_rng(seed: Any = None) -> Generator:
    return seed if isinstance(seed, Generator) else Generator(seed)
