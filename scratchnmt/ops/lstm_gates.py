"""The pointwise part of an LSTM step (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000).

    (1)  i, f, g, o = blocks of z           the four pre-activations, H columns each
    (2)  i, f, o = sigmoid(i, f, o),  g = tanh(g)
    (3)  c = f * c_prev + i * g
    (4)  h = o * tanh(c)

z (..., 4H), c_prev, c, h (..., H).  What stands around it, z = x Wx + h_prev Wh + b, is left to the
caller (lstm_cell for one step, lstm for a sequence), which can then do it for many steps at once.

The textbook computes the same for one word, in `lstm_cell` from the line `i, f, g, o = np.split(z, 4)` on, and in
`lstm_cell_backward` up to `dz`.  Next: ops/lstm.py.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ..arrays import Array, device_module, device_of


class LSTMGatesCache(NamedTuple):
    gates: Array  # (..., 4H) i, f, g, o after their activations
    c_prev: Array  # (..., H)
    tanh_c: Array  # (..., H)


class LSTMGatesGradients(NamedTuple):
    dz: Array  # (..., 4H)
    dc_prev: Array  # (..., H)


def lstm_gates_forward(z: Array, c_prev: Array, *, h: Array | None = None, c: Array | None = None,
                       tanh_c: Array | None = None, overwrite: bool = False
                       ) -> tuple[tuple[Array, Array], LSTMGatesCache]:
    """(h, c), cache from the pre-activations z.

    h, c and tanh_c may be given as buffers to be filled; with overwrite=True the activations of
    the gates take the place of z.
    """
    H = c_prev.shape[-1]
    gates = z if overwrite else z.copy()
    # (2) sigmoid(a) = tanh(a / 2) / 2 + 1 / 2, so that one tanh serves all four blocks
    device = "cpu" if isinstance(z, np.ndarray) else device_of(z)
    scale, shift = _sigmoid_through_tanh(device, H, gates.real.dtype)
    gates *= scale
    np.tanh(gates, out=gates)
    gates *= scale
    gates += shift
    i, f, g, o = (gates[..., k * H : (k + 1) * H] for k in range(4))  # (1)
    c = np.multiply(f, c_prev, out=c)  # (3)
    c += i * g
    tanh_c = np.tanh(c, out=tanh_c)  # (4)
    h = np.multiply(o, tanh_c, out=h)
    return (h, c), LSTMGatesCache(gates, c_prev, tanh_c)


def lstm_gates_backward(dh: Array, dc: Array, cache: LSTMGatesCache, *,
                        dz: Array | None = None, dc_prev: Array | None = None) -> LSTMGatesGradients:
    """Gradients of z and c_prev from dh, dc (..., H), those of the outputs.

    dz and dc_prev may be buffers to be filled; dc_prev may be dc itself.
    """
    gates, c_prev, tanh_c = cache
    H = c_prev.shape[-1]
    i, f, g, o = (gates[..., k * H : (k + 1) * H] for k in range(4))  # (1)
    if dz is None:
        dz = np.empty_like(gates, dtype=np.result_type(dh, dc, gates))
    di, df, dg, do = (dz[..., k * H : (k + 1) * H] for k in range(4))
    # in the forward pass this was (4) h = o * tanh(c)
    dc_all = tanh_c * tanh_c
    np.subtract(1, dc_all, out=dc_all)
    dc_all *= o
    dc_all *= dh
    dc_all += dc
    dc = dc_all  # what came in, and what came through h
    # (2) times what reaches each gate: sigmoid' = y (1 - y), tanh' = 1 - y^2
    np.subtract(1, gates, out=dz)
    dz *= gates
    np.multiply(g, g, out=dg)
    np.subtract(1, dg, out=dg)
    do *= dh
    do *= tanh_c
    # in the forward pass this was (3) c = f * c_prev + i * g
    di *= dc
    di *= g
    df *= dc
    df *= c_prev
    dg *= dc
    dg *= i
    return LSTMGatesGradients(dz, dc_prev=np.multiply(dc, f, out=dc_prev))


@lru_cache
def _sigmoid_through_tanh(device: str, H: int, dtype: np.dtype) -> tuple[Array, Array]:
    """Factors 1/2 and summands 1/2 for the columns of i, f and o; 1 and 0 for those of g; kept on each device."""
    scale, shift = np.full(4 * H, 0.5, dtype), np.full(4 * H, 0.5, dtype)
    scale[2 * H : 3 * H], shift[2 * H : 3 * H] = 1, 0
    asarray = device_module(device).asarray
    return asarray(scale), asarray(shift)
