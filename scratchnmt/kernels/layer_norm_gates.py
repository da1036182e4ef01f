"""The pointwise part of a layer-normalised LSTM step in one launch each way: the twin of ops/layer_norm_gates.py."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, array_module, check_shapes
from ..errors import ArgumentError
from ..ops import layer_norm_gates as plain
from ..ops.layer_norm_gates import LayerNormGatesCache, LayerNormGatesGradients
from .launch import buffer, launch, per_row, readable, real

EQUATIONS = plain
TWINS = {"layer_norm_gates_forward": plain.layer_norm_gates_forward,
         "layer_norm_gates_backward": plain.layer_norm_gates_backward}
layer_norm_gains = plain.layer_norm_gains  # once after the loop: array code


def layer_norm_gates_forward(z: Array, c_prev: Array, g: Array, b_c: Array, *, h: Array | None = None,
                             c: Array | None = None, kept: Array | None = None, overwrite: bool = False
                             ) -> tuple[tuple[Array, Array], LayerNormGatesCache]:
    """(h, c), cache from z (..., 12H), c_prev (..., H), of at most three axes; g and b_c may be one row for all.

    h, c and kept may be given as buffers to be filled; with overwrite=True u, v and the gates take the place of z.
    ValueError if a shape does not fit.
    """
    xp, shape = array_module(z, c_prev, g, b_c), c_prev.shape
    N, H = _rows_and_units(c_prev=c_prev, z=z)
    dtype = xp.result_type(z, c_prev, g, b_c)
    out = buffer("layer_norm_gates: z", z if overwrite else None, z, z.shape, dtype)
    h, c = (buffer(f"layer_norm_gates: {name}", given, z, shape, dtype) for name, given in (("h", h), ("c", c)))
    kept = buffer("layer_norm_gates: kept", kept, z, (*shape[:-1], 3 * H + 3), dtype)
    launch("layer_norm_gates", "layer_norm_gates_forward", dtype, per_row(shape[:-1], H, most=512),
           readable(z, dtype), readable(c_prev, dtype), _of_rows("g", g, shape, 9, dtype),
           _of_rows("b_c", b_c, shape, 1, dtype), out, h, c, kept, real(dtype, plain.EPS), np.int32(N), np.int32(H))
    return (h, c), LayerNormGatesCache(z=out, c_prev=c_prev, kept=kept, g=g)


def layer_norm_gates_backward(dh: Array, dc: Array, cache: LayerNormGatesCache, *, dz: Array | None = None,
                              dc_prev: Array | None = None) -> LayerNormGatesGradients:
    """Gradients of z and c_prev from dh, dc (..., H); dz and dc_prev, which may be dc itself, may be buffers."""
    z, c_prev, kept, g = cache
    shape = c_prev.shape
    N, H = _rows_and_units(c_prev=c_prev, dh=dh, dc=dc)
    dtype = array_module(dh, dc, z).result_type(dh, dc, z)
    dz = buffer("layer_norm_gates: dz", dz, z, z.shape, dtype)
    dc_prev = buffer("layer_norm_gates: dc_prev", dc_prev, z, shape, dtype)
    launch("layer_norm_gates", "layer_norm_gates_backward", dtype, per_row(shape[:-1], H, most=512),
           *(readable(array, dtype) for array in (dh, dc, z, c_prev, kept)), _of_rows("g", g, shape, 9, dtype),
           dz, dc_prev, np.int32(N), np.int32(H))
    return LayerNormGatesGradients(dz, dc_prev)


def _rows_and_units(c_prev: Array, **others: Array) -> tuple[int, int]:
    """N and H, once every shape fits that of c_prev (..., H)."""
    if not 1 <= c_prev.ndim <= 3:
        raise ArgumentError(f"layer_norm_gates: c_prev has shape {c_prev.shape}, expected (H), (B, H) or (D, B, H)")
    leading = ["D", "B"][3 - c_prev.ndim :]
    specs = {name: (" ".join([*leading, "12H" if name == "z" else "H"]), array) for name, array in others.items()}
    sizes = check_shapes("layer_norm_gates", c_prev=(" ".join([*leading, "H"]), c_prev), **specs)
    return sizes.get("B", 1), sizes["H"]


def _of_rows(name: str, x: Array, shape: tuple[int, ...], blocks: int, dtype: np.dtype) -> Array:
    """x as rows of `blocks` H columns, one for each of c_prev's: one row in memory may stand for many."""
    expected = (*shape[:-1], blocks * shape[-1])
    leading = (1,) * (len(expected) - x.ndim) + x.shape[:-1]
    if x.shape[-1:] != expected[-1:] or any(n not in (1, rows) for n, rows in zip(leading, shape, strict=False)):
        raise ArgumentError(f"layer_norm_gates: {name} has shape {x.shape}, expected {expected}, or fewer rows for all")
    return array_module(x).broadcast_to(readable(x, dtype), expected)
