"""Dropout whose masks are a function of (seed, step, position): the twin of ops/dropout.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array, array_module
from ..ops import dropout as plain
from ..ops.dropout import DropoutCache, DropoutGradients
from .launch import Plan, launch, readable, real
from .philox import Mask, Masks

EQUATIONS = plain
TWINS = {"dropout_mask": plain.dropout_mask, "dropout_forward": plain.dropout_forward}


def dropout_mask(shape: tuple[int, ...], rate: float, rng: Masks | Any, dtype="float32") -> Array:
    """The next mask of `rng` as an array of 0 and 1 / (1 - rate), 0 <= rate < 1; a generator's by the plain op."""
    if not isinstance(rng, Masks):
        return plain.dropout_mask(shape, rate, rng, dtype)
    mask = array_module(rng.step).empty(shape, dtype)
    _launch("dropout_mask", mask.dtype, rng.next(rate), mask.size, mask.reshape(-1))
    return mask


def dropout_forward(x: Array, rate: float, *, rng: Masks | Any = None,
                    mask: Array | None = None) -> tuple[Array, DropoutCache]:
    """x with a share `rate` of its elements set to zero and the rest scaled up.

    With Masks for `rng` the cache holds what the mask is a function of, and no array; a mask, or a generator,
    is left to the plain op.
    """
    if not isinstance(rng, Masks) or mask is not None:
        return plain.dropout_forward(x, rate, rng=rng, mask=mask)
    drawn = rng.next(rate)
    return _masked(x, drawn), DropoutCache(drawn)


def dropout_backward(dy: Array, cache: DropoutCache) -> DropoutGradients:
    """dx from dy, by the same mask made once more."""
    if not isinstance(cache.mask, Mask):
        return plain.dropout_backward(dy, cache)
    return DropoutGradients(dx=_masked(dy, cache.mask))


def by_four(size: int, threads: int = 256) -> Plan:
    """A thread for every four elements."""
    return Plan((-(-size // (4 * threads)), 1, 1), (threads,))


def _masked(x: Array, mask: Mask) -> Array:
    xp = array_module(x, mask.step)
    y = xp.empty(x.shape, x.dtype)
    flat = readable(x.reshape(-1), x.dtype)
    _launch("dropout_forward", x.dtype, mask, x.size, flat, y.reshape(-1))
    return y


def _launch(name: str, dtype: np.dtype, mask: Mask, size: int, *arrays: Array) -> None:
    launch("dropout", name, dtype, by_four(size), *arrays, mask.step, np.uint64(mask.seed),
           np.uint32(mask.number), np.uint32(mask.threshold), real(dtype, mask.scale), np.int64(size))
