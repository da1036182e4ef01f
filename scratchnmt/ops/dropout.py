"""Inverted dropout (Srivastava et al. 2014, scaled at training time).

    (1)  y = x * mask,     mask = 0 with probability `rate`, else 1 / (1 - rate)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, array_module
from ..errors import ArgumentError


class DropoutCache(NamedTuple):
    mask: Array  # the shape of x: 0 or 1 / (1 - rate)


class DropoutGradients(NamedTuple):
    dx: Array  # the shape of x


def dropout_mask(shape: tuple[int, ...], rate: float, rng: Any, dtype: Any = "float32") -> Array:
    """A mask of 0 and 1 / (1 - rate), drawn from `rng` (numpy's or cupy's Generator), 0 <= rate < 1."""
    if not 0 <= rate < 1:
        raise ArgumentError(f"dropout: rate is {rate}, expected 0 <= rate < 1")
    keep = rng.random(shape, dtype="float32") >= rate
    return keep.astype(dtype) * np.dtype(dtype).type(1 / (1 - rate))


def dropout_forward(x: Array, rate: float, *, rng: Any = None,
                    mask: Array | None = None) -> tuple[Array, DropoutCache]:
    """x with a share `rate` of its elements set to zero and the rest scaled up.

    The randomness is an argument: a generator, or a mask made by `dropout_mask`.
    """
    if (rng is None) == (mask is None):
        raise ArgumentError("dropout: expected either rng or mask")
    if mask is None:
        mask = dropout_mask(x.shape, rate, rng, x.real.dtype)
    array_module(x, mask)
    return x * mask, DropoutCache(mask)  # (1)


def dropout_backward(dy: Array, cache: DropoutCache) -> DropoutGradients:
    """dx from dy, both of the shape of x."""
    # in the forward pass this was (1) y = x * mask
    return DropoutGradients(dx=dy * cache.mask)
