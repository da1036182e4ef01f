"""One LSTM step, whole: the definition that the sequence and the fast loops are held to.

    (1)  z = x Wx + h_prev Wh + b           blocks i, f, g, o of H columns each
    (2)  h, c = lstm_gates(z, c_prev)

x (B, I), h_prev, c_prev, h, c (B, H), Wx (I, 4H), Wh (H, 4H), b (4H,).
Hochreiter & Schmidhuber 1997; gate order and single bias as in PyTorch's LSTMCell with its two biases added.
"""

from __future__ import annotations

from typing import NamedTuple

from ..arrays import Array, check_shapes
from .lstm_gates import LSTMGatesCache, lstm_gates_backward, lstm_gates_forward


class LSTMCellCache(NamedTuple):
    x: Array  # (B, I)
    h_prev: Array  # (B, H)
    Wx: Array  # (I, 4H)
    Wh: Array  # (H, 4H)
    gates: LSTMGatesCache


class LSTMCellGradients(NamedTuple):
    dx: Array  # (B, I)
    dh_prev: Array  # (B, H)
    dc_prev: Array  # (B, H)
    dWx: Array  # (I, 4H)
    dWh: Array  # (H, 4H)
    db: Array  # (4H,)


def lstm_cell_forward(x: Array, h_prev: Array, c_prev: Array, Wx: Array, Wh: Array, b: Array
                      ) -> tuple[tuple[Array, Array], LSTMCellCache]:
    """(h, c), cache.  Raises ValueError naming the argument whose shape does not fit."""
    check_shapes("lstm_cell", x=("B I", x), h_prev=("B H", h_prev), c_prev=("B H", c_prev),
                 Wx=("I 4H", Wx), Wh=("H 4H", Wh), b=("4H", b))
    z = x @ Wx + h_prev @ Wh + b  # (1)
    (h, c), gates = lstm_gates_forward(z, c_prev, overwrite=True)  # (2)
    return (h, c), LSTMCellCache(x, h_prev, Wx, Wh, gates)


def lstm_cell_backward(dh: Array, dc: Array, cache: LSTMCellCache) -> LSTMCellGradients:
    """All gradients from dh, dc (B, H)."""
    x, h_prev, Wx, Wh, gates = cache
    # in the forward pass this was (2) h, c = lstm_gates(z, c_prev)
    dz, dc_prev = lstm_gates_backward(dh, dc, gates)
    # in the forward pass this was (1) z = x Wx + h_prev Wh + b
    return LSTMCellGradients(dx=dz @ Wx.T, dh_prev=dz @ Wh.T, dc_prev=dc_prev,
                             dWx=x.T @ dz, dWh=h_prev.T @ dz, db=dz.sum(axis=0))
