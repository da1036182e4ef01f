"""tanh and dropout in one launch each way: the twin of ops/tanh_dropout.py."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, array_module, check_shapes
from ..ops import tanh_dropout as plain
from ..ops.tanh_dropout import TanhDropoutCache, TanhDropoutGradients
from .launch import buffer, launch, per_unit, readable

EQUATIONS = plain
TWINS = {"tanh_dropout_forward": plain.tanh_dropout_forward, "tanh_dropout_backward": plain.tanh_dropout_backward}


def tanh_dropout_forward(p: Array, mask: Array | None = None, *, o: Array | None = None,
                         slope: Array | None = None) -> tuple[Array, TanhDropoutCache]:
    """o, cache from p (N, H) and the mask (N, H); o and slope may be given as buffers to be filled."""
    masks = {} if mask is None else {"mask": ("N H", mask)}
    H = check_shapes("tanh_dropout", p=("N H", p), **masks)["H"]
    o, slope = (buffer(f"tanh_dropout: {name}", given, p, p.shape, p.dtype)
                for name, given in (("o", o), ("slope", slope)))
    p = readable(p, p.dtype)
    launch("tanh_dropout", "tanh_dropout_forward", p.dtype, per_unit(p.shape), p,
           p if mask is None else readable(mask, p.dtype), o, slope, np.int32(H), np.int32(mask is not None))
    return o, TanhDropoutCache(slope)


def tanh_dropout_backward(do: Array, cache: TanhDropoutCache, *, dp: Array | None = None) -> TanhDropoutGradients:
    """dp from do (N, H); dp may be a buffer to be filled."""
    H = check_shapes("tanh_dropout", do=("N H", do), slope=("N H", cache.slope))["H"]
    dtype = array_module(do, cache.slope).result_type(do, cache.slope)
    dp = buffer("tanh_dropout: dp", dp, do, do.shape, dtype)
    launch("tanh_dropout", "tanh_dropout_backward", dtype, per_unit(do.shape), readable(do, dtype),
           readable(cache.slope, dtype), dp, np.int32(H))
    return TanhDropoutGradients(dp)
