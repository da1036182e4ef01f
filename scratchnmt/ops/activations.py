"""tanh, sigmoid and relu, their derivatives taken from their outputs.

    (1)  y = tanh(x)             dy/dx = 1 - y^2
    (2)  y = 1 / (1 + e^-x)      dy/dx = y (1 - y)
    (3)  y = max(x, 0)           dy/dx = 1 where y > 0, else 0

(2) is computed as (1 + tanh(x / 2)) / 2, which is the same function, never overflows, and is
exact for complex x too (which the gradient checks need).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..arrays import Array


class ActivationCache(NamedTuple):
    y: Array  # the output


class ActivationGradients(NamedTuple):
    dx: Array  # the shape of y


def tanh_forward(x: Array) -> tuple[Array, ActivationCache]:
    """y, cache of x of any shape, by (1)."""
    y = np.tanh(x)  # (1)
    return y, ActivationCache(y)


def tanh_backward(dy: Array, cache: ActivationCache) -> ActivationGradients:
    """dx from dy, both of the shape of x."""
    return ActivationGradients(dx=dy * (1 - cache.y * cache.y))  # (1)


def sigmoid_forward(x: Array) -> tuple[Array, ActivationCache]:
    """y, cache of x of any shape, by (2)."""
    y = 0.5 * (1 + np.tanh(0.5 * x))  # (2)
    return y, ActivationCache(y)


def sigmoid_backward(dy: Array, cache: ActivationCache) -> ActivationGradients:
    """dx from dy, both of the shape of x."""
    return ActivationGradients(dx=dy * cache.y * (1 - cache.y))  # (2)


def relu_forward(x: Array) -> tuple[Array, ActivationCache]:
    """y, cache of x of any shape, by (3)."""
    y = x * (x.real > 0)  # (3)
    return y, ActivationCache(y)


def relu_backward(dy: Array, cache: ActivationCache) -> ActivationGradients:
    """dx from dy, both of the shape of x."""
    return ActivationGradients(dx=dy * (cache.y.real > 0))  # (3)
