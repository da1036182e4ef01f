"""The pointwise part of an LSTM step in one launch each way: the twin of ops/lstm_gates.py."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, array_module, check_shapes
from ..errors import ArgumentError
from ..ops import lstm_gates as plain
from ..ops.lstm_gates import LSTMGatesCache, LSTMGatesGradients
from .launch import buffer, launch, per_unit, readable

EQUATIONS = plain  # the module whose docstring numbers them
TWINS = {"lstm_gates_forward": plain.lstm_gates_forward,  # kernel -> the plain function that it computes
         "lstm_gates_backward": plain.lstm_gates_backward}


def lstm_gates_forward(z: Array, c_prev: Array, *, h: Array | None = None, c: Array | None = None,
                       tanh_c: Array | None = None, overwrite: bool = False):
    """(h, c), cache from the pre-activations z (..., 4H), c_prev (..., H), of at most three axes.

    h, c and tanh_c may be given as buffers to be filled; with overwrite=True the activations of
    the gates take the place of z.  ValueError if a shape does not fit.
    """
    xp = array_module(z, c_prev)
    H = _units(c_prev=c_prev, z=z)
    dtype = xp.result_type(z, c_prev)
    gates = buffer("lstm_gates: z", z if overwrite else None, z, z.shape, dtype)
    h, c, tanh_c = (buffer(f"lstm_gates: {name}", given, z, c_prev.shape, dtype)
                    for name, given in (("h", h), ("c", c), ("tanh_c", tanh_c)))
    launch("lstm_gates", "lstm_gates_forward", dtype, per_unit(c_prev.shape),
           readable(z, dtype), readable(c_prev, dtype), gates, h, c, tanh_c, np.int32(H))
    return (h, c), LSTMGatesCache(gates, c_prev, tanh_c)


def lstm_gates_backward(dh: Array, dc: Array, cache: LSTMGatesCache, *,
                        dz: Array | None = None, dc_prev: Array | None = None) -> LSTMGatesGradients:
    """Gradients of z and c_prev from dh, dc (..., H); dz and dc_prev, which may be dc itself, may be buffers."""
    gates, c_prev, tanh_c = cache
    xp = array_module(dh, dc, gates)
    H = _units(c_prev=c_prev, dh=dh, dc=dc)
    dtype = xp.result_type(dh, dc, gates)
    dz = buffer("lstm_gates: dz", dz, gates, gates.shape, dtype)
    dc_prev = buffer("lstm_gates: dc_prev", dc_prev, gates, c_prev.shape, dtype)
    inputs = (readable(array, dtype) for array in (dh, dc, gates, c_prev, tanh_c))
    launch("lstm_gates", "lstm_gates_backward", dtype, per_unit(c_prev.shape), *inputs, dz, dc_prev, np.int32(H))
    return LSTMGatesGradients(dz, dc_prev)


def _units(c_prev: Array, **others: Array) -> int:
    """H, once every shape fits that of c_prev (..., H)."""
    if not 1 <= c_prev.ndim <= 3:
        raise ArgumentError(f"lstm_gates: c_prev has shape {c_prev.shape}, expected (H), (B, H) or (D, B, H)")
    leading = ["D", "B"][3 - c_prev.ndim :]
    specs = {name: (" ".join([*leading, "4H" if name == "z" else "H"]), array) for name, array in others.items()}
    return check_shapes("lstm_gates", c_prev=(" ".join([*leading, "H"]), c_prev), **specs)["H"]
