"""A decoder's products in one launch each with what is pointwise beside them: the twin of ops/decoder_step.py."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, array_module, check_shapes
from ..ops import decoder_step as plain
from ..ops.decoder_step import CombineCache, CombineGradients, DecoderLSTMCache, DecoderLSTMGradients
from ..ops.lstm_gates import LSTMGatesCache
from .launch import buffer, launch, readable
from .lstm_step import UNITS, step_forward, tiles

EQUATIONS = plain
TWINS = {"decoder_lstm_backward": plain.decoder_lstm_backward, "combine_forward": plain.combine_forward,
         "combine_backward": plain.combine_backward}


def decoder_lstm_forward(z: Array, x: Array, W: Array, c_prev: Array, *, h: Array | None = None,
                         c: Array | None = None, tanh_c: Array | None = None, overwrite: bool = False
                         ) -> tuple[tuple[Array, Array], DecoderLSTMCache]:
    """(h, c), cache, by the kernel of lstm_step.cu; ValueError if a shape or a buffer does not fit."""
    check_shapes("decoder_lstm", x=("N K", x), c_prev=("N H", c_prev), W=("K 4H", W), z=("N 4H", z))
    dtype = array_module(z, x, W, c_prev).result_type(z, x, W, c_prev)
    gates = buffer("decoder_lstm: z", z if overwrite else z.astype(dtype, order="C"), z, z.shape, dtype)
    h, c, tanh_c = (buffer(f"decoder_lstm: {name}", given, z, c_prev.shape, dtype)
                    for name, given in (("h", h), ("c", c), ("tanh_c", tanh_c)))
    x, c_prev, masked = readable(x, dtype), readable(c_prev, dtype), np.int32(0)
    step_forward(gates, x, readable(W, dtype), h, c_prev, h, h, c, tanh_c, masked)
    return (h, c), DecoderLSTMCache(LSTMGatesCache(gates, c_prev, tanh_c), W)


def decoder_lstm_backward(dh: Array, dc: Array, cache: DecoderLSTMCache, *, dz: Array | None = None,
                          dx: Array | None = None) -> DecoderLSTMGradients:
    """Gradients of z, x and c_prev from dh (N, H) and dc (B, H); dz may be a buffer, dx is added to, if given."""
    (gates, c_prev, tanh_c), W = cache
    sizes = check_shapes("decoder_lstm", dh=("N H", dh), dc=("B H", dc), W=("K 4H", W), gates=("N 4H", gates))
    N, B, H, K = (sizes[letter] for letter in "NBHK")
    dtype = array_module(dh, dc, gates, W).result_type(dh, dc, gates, W)
    dz, given = buffer("decoder_lstm: dz", dz, gates, gates.shape, dtype), dx is not None
    dx = buffer("decoder_lstm: dx", dx, gates, (N, K), dtype)
    dc_prev = buffer("decoder_lstm: dc_prev", None, gates, dc.shape, dtype)
    inputs = (readable(array, dtype) for array in (dh, dc, gates, c_prev, tanh_c, W))
    launch("decoder_step", "decoder_lstm_backward", dtype, tiles(K, B), *inputs, dz, dx, dc_prev, np.int32(N),
           np.int32(B), np.int32(H), np.int32(K), np.int32(given))
    return DecoderLSTMGradients(dz, dx, dc_prev)


def combine_forward(x: Array, W: Array, mask: Array | None = None, *, p: Array | None = None, o: Array | None = None,
                    slope: Array | None = None) -> tuple[Array, CombineCache]:
    """o (N, H), cache from x (N, K), W (K, H); p (N, H): the sum of other products, if any; o, slope may be buffers."""
    optional = {name: ("N H", array) for name, array in (("mask", mask), ("p", p)) if array is not None}
    sizes = check_shapes("combine", x=("N K", x), W=("K H", W), **optional)
    N, H, K = (sizes[letter] for letter in "NHK")
    dtype = array_module(x, W).result_type(x, W)
    o, slope = (buffer(f"combine: {name}", given, x, (N, H), dtype) for name, given in (("o", o), ("slope", slope)))
    p_read, mask_read = (o if array is None else readable(array, dtype) for array in (p, mask))
    launch("decoder_step", "combine_forward", dtype, tiles(H, N, of=4 * UNITS), readable(x, dtype), readable(W, dtype),
           p_read, mask_read, o, slope, np.int32(N), np.int32(H), np.int32(K), np.int32(p is not None),
           np.int32(mask is not None))
    return o, CombineCache(slope, W)


def combine_backward(do: Array, cache: CombineCache, *, dp: Array | None = None,
                     dx: Array | None = None) -> CombineGradients:
    """dp, which may be a buffer to be filled, and dx, which is added to, if given, from do (N, H)."""
    slope, W = cache
    sizes = check_shapes("combine", W=("K H", W), do=("N H", do), slope=("N H", slope))
    N, H, K = (sizes[letter] for letter in "NHK")
    dtype = array_module(do, slope, W).result_type(do, slope, W)
    dp, given = buffer("combine: dp", dp, do, (N, H), dtype), dx is not None
    dx = buffer("combine: dx", dx, do, (N, K), dtype)
    inputs = (readable(array, dtype) for array in (do, slope, W))
    launch("decoder_step", "combine_backward", dtype, tiles(K, N), *inputs, dp, dx,
           np.int32(N), np.int32(H), np.int32(K), np.int32(given))
    return CombineGradients(dp, dx)
