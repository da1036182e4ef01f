"""Directional derivatives of a loss beside those that its gradients predict, and the way to a wrong element."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import array_module
from .differences import Line
from .measure import rms
from .numeric import STEP, inner_complex, line
from .report import Offender

EVERYWHERE = slice(None)
NOISE = 1e-13  # of the largest gradient's norm: what rounding leaves of a derivative that cancels to zero


def draw_direction(size: int, seed: Sequence[int]) -> np.ndarray:
    """(size,) in float32, each element between 0.5 and 1.5 in size, of either sign.

    None is weighted down by more than 3, and two errors of one size do not cancel, as they do half of the
    time where all are +-1.
    """
    uniform = 2 * np.random.default_rng(seed).random(size, dtype=np.float32) - 1
    return uniform + np.copysign(np.float32(0.5), uniform)


def halve(gap: Callable[[int, int], float], start: int, stop: int) -> int:
    """The element to which the halves of start:stop with the larger gap(start, stop) lead; gaps add up."""
    whole = gap(start, stop) if stop - start > 1 else 0.0
    while stop - start > 1:
        middle = (start + stop) // 2
        half = gap(start, middle)
        if abs(half) >= abs(whole - half):
            stop, whole = middle, half
        else:
            start, whole = middle, whole - half
    return start


class Probe:
    """A loss at some parameters, its gradients, and random directions.

    The parameters lie here once as complex numbers, of which a derivative sets the imaginary parts
    that it needs, and clears them again: a large model is not copied for every forward pass.
    """

    def __init__(self, loss: Callable, values: Mapping[str, Any], gradients: Mapping[str, np.ndarray], *,
                 rtol: float, seed: int):
        self.function = lambda **params: loss(params)
        self.values, self.seed = values, seed
        self.gradients = {name: g.reshape(-1) for name, g in gradients.items()}
        self.length = math.sqrt(sum(g.size for g in self.gradients.values()))  # of a direction in all tensors
        self.norms = {name: rms(g) * math.sqrt(g.size) for name, g in self.gradients.items()}
        self.floor = NOISE / rtol * max(self.norms.values())  # where the tolerance is as large as the noise
        self._complex = {name: array_module(v).ascontiguousarray(v).astype("complex128").reshape(v.shape)
                         for name, v in values.items()}
        self._flat = {name: z.reshape(-1) for name, z in self._complex.items()}  # views
        self._directions: dict[tuple[str, int], np.ndarray] = {}

    def direction(self, name: str, k: int) -> np.ndarray:
        """The direction of probe k in one tensor, flattened."""
        if (name, k) not in self._directions:
            seed = [self.seed, k, list(self.values).index(name)]
            self._directions[name, k] = draw_direction(self._flat[name].size, seed)
        return self._directions[name, k]

    def derivative(self, names: Sequence[str], k: int, part: slice = EVERYWHERE) -> float:
        """Of the loss, by complex-step, along probe k in these tensors (in a part of their elements)."""
        parts = [(self._flat[name].imag[part], self.direction(name, k)[part]) for name in names]
        for imaginary, u in parts:
            imaginary[...] = STEP * array_module(imaginary).asarray(u)
        try:
            return inner_complex(self.function, self._complex, [1.0]).imag / STEP
        finally:
            for imaginary, _ in parts:
                imaginary[...] = 0

    def predicted(self, names: Sequence[str], k: int, part: slice = EVERYWHERE) -> float:
        """The same by the gradients."""
        return sum(float((self.gradients[name][part] * self.direction(name, k)[part]).sum()) for name in names)

    def error(self, names: Sequence[str], predicted: float, derivative: float) -> float:
        """Relative to the norm of the gradient, or to what makes the tolerance as large as the noise."""
        norm = math.hypot(*(self.norms[name] for name in names))
        scale = max(norm, self.floor) + abs(derivative)
        gap = abs(predicted - derivative)
        return (gap / scale if scale else 0.0) if math.isfinite(gap) else math.inf

    def locate(self, name: str, k: int) -> Offender:
        """Halve the direction, keeping the half with the larger gap, down to one element."""
        broken = np.flatnonzero(~np.isfinite(self.gradients[name]))
        start, stop = (int(broken[0]), int(broken[0]) + 1) if broken.size else (0, self.gradients[name].size)
        return self._offender(name, k, halve(lambda *part: self._gap(name, k, *part), start, stop))

    def line(self, k: int) -> Line:
        """t -> the loss at t from the parameters along probe k in all tensors, which has about length 1."""
        u = {name: array_module(v).asarray(self.direction(name, k).reshape(v.shape).astype(float) / self.length)
             for name, v in self.values.items()}
        return line(self.function, self.values, u, dys=[1.0])

    def _gap(self, name: str, k: int, start: int, stop: int) -> float:
        part = slice(start, stop)
        return self.predicted([name], k, part) - self.derivative([name], k, part)

    def _offender(self, name: str, k: int, i: int) -> Offender:
        backward = float(self.gradients[name][i])
        reference = self.derivative([name], k, slice(i, i + 1)) / float(self.direction(name, k)[i])
        index = tuple(int(n) for n in np.unravel_index(i, self.values[name].shape))
        error = abs(backward - reference) / (rms(self.gradients[name]) + abs(reference) or 1.0)
        return Offender(name=name, index=index, label="", backward=backward, reference=reference, error=error)
