"""Linear map.

    (1)  y = x W + b

x (..., I), W (I, O), b (O,), y (..., O).
"""

from __future__ import annotations

from typing import NamedTuple

from ..arrays import Array
from ..errors import ArgumentError


class LinearCache(NamedTuple):
    x: Array  # (..., I)
    W: Array  # (I, O)


class LinearGradients(NamedTuple):
    dx: Array  # (..., I)
    dW: Array  # (I, O)
    db: Array  # (O,)


def linear_forward(x: Array, W: Array, b: Array | None = None) -> tuple[Array, LinearCache]:
    """y = x W + b, (..., O).  Raises ValueError if the last axis of x is not the first of W."""
    if x.shape[-1] != W.shape[0]:
        raise ArgumentError(f"linear: x has shape {x.shape}, expected (..., I) = (..., {W.shape[0]}), "
                         f"where I = {W.shape[0]} comes from W {W.shape}")
    y = x @ W  # (1)
    if b is not None:
        y += b
    return y, LinearCache(x, W)


def linear_backward(dy: Array, cache: LinearCache) -> LinearGradients:
    """Gradients of x, W and b from dy (..., O); every leading axis is summed into dW and db."""
    x, W = cache
    rows_x = x.reshape(-1, x.shape[-1])
    rows_dy = dy.reshape(-1, dy.shape[-1])
    # in the forward pass this was (1) y = x W + b
    return LinearGradients(dx=dy @ W.T, dW=rows_x.T @ rows_dy, db=rows_dy.sum(axis=0))
