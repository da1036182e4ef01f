"""Directional derivatives of a loss beside those that its gradients predict, and the way to a wrong element."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import array_module
from .measure import rms
from .numeric import STEP, Line, line, pair
from .report import Offender

EVERYWHERE = slice(None)


class Probe:
    """A loss at some parameters, its gradients, and random directions of +-1 in every element.

    The parameters lie here once as complex numbers, of which a derivative sets the imaginary parts
    that it needs, and clears them again: a large model is not copied for every forward pass.
    """

    def __init__(self, loss: Callable, values: Mapping[str, Any], gradients: Mapping[str, np.ndarray], seed: int):
        self.function = lambda **params: loss(params)
        self.values, self.seed = values, seed
        self.gradients = {name: g.reshape(-1) for name, g in gradients.items()}
        self.length = math.sqrt(sum(g.size for g in self.gradients.values()))  # of a direction in all tensors
        self.norms = {name: float(np.linalg.norm(g)) for name, g in self.gradients.items()}
        self._complex = {name: array_module(v).ascontiguousarray(v).astype("complex128").reshape(v.shape)
                         for name, v in values.items()}
        self._flat = {name: z.reshape(-1) for name, z in self._complex.items()}  # views
        self._signs: dict[tuple[str, int], np.ndarray] = {}

    def signs(self, name: str, k: int) -> np.ndarray:
        """The direction of probe k in one tensor, flattened."""
        if (name, k) not in self._signs:
            rng = np.random.default_rng([self.seed, k, list(self.values).index(name)])
            self._signs[name, k] = 2 * rng.integers(0, 2, self._flat[name].size, dtype=np.int8) - 1
        return self._signs[name, k]

    def derivative(self, names: Sequence[str], k: int, part: slice = EVERYWHERE) -> float:
        """Of the loss, by complex-step, along probe k in these tensors (in a part of their elements)."""
        parts = [(self._flat[name].imag[part], self.signs(name, k)[part]) for name in names]
        for imaginary, signs in parts:
            imaginary[...] = STEP * array_module(imaginary).asarray(signs)
        try:
            return pair(self.function, self._complex, [1.0]).imag / STEP
        finally:
            for imaginary, _ in parts:
                imaginary[...] = 0

    def predicted(self, names: Sequence[str], k: int, part: slice = EVERYWHERE) -> float:
        """The same by the gradients."""
        return sum(float((self.gradients[name][part] * self.signs(name, k)[part]).sum()) for name in names)

    def error(self, names: Sequence[str], predicted: float, derivative: float) -> float:
        """Relative to the norm of the gradient, one that is small beside the others judged by their size."""
        norm = math.sqrt(sum(self.norms[name] ** 2 for name in names))
        scale = max(norm, 0.01 * max(self.norms.values())) + abs(derivative)
        gap = abs(predicted - derivative)
        return (gap / scale if scale else 0.0) if math.isfinite(gap) else math.inf

    def locate(self, name: str, k: int) -> Offender:
        """Halve the direction, keeping the half with the larger gap, down to one element."""
        broken = np.flatnonzero(~np.isfinite(self.gradients[name]))
        start, stop = (int(broken[0]), int(broken[0]) + 1) if broken.size else (0, self.gradients[name].size)
        gap = None
        while stop - start > 1:
            gap = self._gap(name, k, start, stop) if gap is None else gap
            middle = (start + stop) // 2
            half = self._gap(name, k, start, middle)
            if abs(half) >= abs(gap - half):
                stop, gap = middle, half
            else:
                start, gap = middle, gap - half
        return self._offender(name, k, start)

    def line(self, k: int) -> Line:
        """t -> the loss at t from the parameters along probe k in all tensors; direction of length 1."""
        u = {name: array_module(v).asarray(self.signs(name, k).reshape(v.shape) / self.length)
             for name, v in self.values.items()}
        return line(self.function, self.values, u, dys=[1.0])

    def _gap(self, name: str, k: int, start: int, stop: int) -> float:
        part = slice(start, stop)
        return self.predicted([name], k, part) - self.derivative([name], k, part)

    def _offender(self, name: str, k: int, i: int) -> Offender:
        backward = float(self.gradients[name][i])
        reference = float(self.derivative([name], k, slice(i, i + 1)) * self.signs(name, k)[i])
        index = tuple(int(n) for n in np.unravel_index(i, self.values[name].shape))
        error = abs(backward - reference) / (rms(self.gradients[name]) + abs(reference) or 1.0)
        return Offender(name, index, "", backward, reference, error)
