"""tanh, sigmoid, relu and softmax, their derivatives taken from their outputs.

    (1)  y = tanh(x)                 dy/dx = 1 - y^2
    (2)  y = 1 / (1 + e^-x)          dy/dx = y (1 - y)
    (3)  y = max(x, 0)               dy/dx = 1 where y > 0, else 0
    (4)  e = exp(x - max x)          only where the mask is True, else 0
    (5)  y = e / sum(e)              dy_j/dx_k = y_j ((j == k) - y_k)

(2) is computed as (1 + tanh(x / 2)) / 2, which is the same function, never overflows, and is
exact for complex x too (which the gradient checks need).  (4) and (5), softmax, are over the last axis; a row that is
masked out entirely gives zeros, not NaN.
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


class SoftmaxCache(NamedTuple):
    y: Array  # (..., S), rows that sum to one (or are zero where all is masked)


class SoftmaxGradients(NamedTuple):
    dx: Array  # (..., S)


def softmax_forward(x: Array, mask: Array | None = None, *, out: Array | None = None) -> tuple[Array, SoftmaxCache]:
    """y (..., S), cache from x (..., S).

    mask is boolean and broadcasts to the shape of x, True = takes part; out (..., S) is a buffer to be filled.
    NumPy's ValueError if mask or out do not fit, or S is 0.
    """
    if mask is not None:
        x = np.where(mask, x, -np.inf)
    peak = x.real.max(axis=-1, keepdims=True)  # any constant would do; the largest keeps exp from overflowing
    e = np.exp(x - np.where(np.isfinite(peak), peak, 0), out=out)  # (4)
    total = e.sum(axis=-1, keepdims=True)
    e /= np.where(total.real > 0, total, 1)  # (5)
    return e, SoftmaxCache(e)


def softmax_backward(dy: Array, cache: SoftmaxCache, *, out: Array | None = None) -> SoftmaxGradients:
    """dx_j = y_j (dy_j - sum_k dy_k y_k); zero wherever y is, so masked places receive nothing."""
    y = cache.y
    # in the forward pass this was (4), (5): every output depends on every input through the sum
    dx = np.multiply(y, dy - (dy * y).sum(axis=-1, keepdims=True), out=out)
    return SoftmaxGradients(dx)
