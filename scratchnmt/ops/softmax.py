"""Softmax over the last axis, with an optional mask.

    (1)  e = exp(x - max x)      only where the mask is True, else 0
    (2)  y = e / sum(e)

A row that is masked out entirely gives zeros, not NaN.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..arrays import Array


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
    e = np.exp(x - np.where(np.isfinite(peak), peak, 0), out=out)  # (1)
    total = e.sum(axis=-1, keepdims=True)
    e /= np.where(total.real > 0, total, 1)  # (2)
    return e, SoftmaxCache(e)


def softmax_backward(dy: Array, cache: SoftmaxCache, *, out: Array | None = None) -> SoftmaxGradients:
    """dx_j = y_j (dy_j - sum_k dy_k y_k); zero wherever y is, so masked places receive nothing."""
    y = cache.y
    # in the forward pass this was (1), (2): every output depends on every input through the sum
    dx = np.multiply(y, dy - (dy * y).sum(axis=-1, keepdims=True), out=out)
    return SoftmaxGradients(dx)
