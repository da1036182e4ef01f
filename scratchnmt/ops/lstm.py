"""An LSTM over a sequence under lengths, in one direction or both: the fast one.

    (1)  z[t] = x[t] Wx + b                 for all steps in one product, before the loop
    (2)  z[t] += h[t-1] Wh                  the only product inside the loop
    (3)  h[t], c[t] = lstm_gates(z[t], c[t-1])
    (4)  h_last, c_last = the states of each sentence's own last token

Direction 0 reads a sentence from its first token to its last, direction 1 from its own last token
(never from padding) to its first; both go through the loop together, as a leading axis.  Rows are
packed (see packing): step t computes only the sentences that are longer than t.  Backward keeps
the gradients of z and makes every weight gradient in one product after the loop.

x (T, B, I), lengths (B,), Wx (D, I, 4H), Wh (D, H, 4H), b (D, 4H), h0, c0 (D, B, H) or None for zeros,
y (T, B, DH) with zeros at padding, h_last, c_last (D, B, H); D is 1 or 2.
The cell is that of lstm_cell; the bidirectional reading is Schuster & Paliwal 1997.
"""

from __future__ import annotations

from typing import NamedTuple

from ..arrays import Array, array_module, check_shapes, to_device
from .linear import transposed_product
from .lstm_gates import LSTMGatesCache, lstm_gates_backward, lstm_gates_forward
from .packing import Packing, pack, place, steps, steps_back


class LSTMCache(NamedTuple):
    packing: Packing
    reading: Array  # (D, N) which row of (T * B, ...) each direction reads as its packed row
    shape: tuple[int, int, int]  # (T, B, I) of x
    x: Array  # (D, N, I) packed rows, each direction in its reading order
    h_prev: Array  # (D, N, H) the state that each row started from
    gates: LSTMGatesCache  # of all rows, (D, N, ...)
    Wx: Array  # (D, I, 4H)
    Wh: Array  # (D, H, 4H)


class LSTMGradients(NamedTuple):
    dx: Array  # (T, B, I), zeros at padding
    dWx: Array  # (D, I, 4H)
    dWh: Array  # (D, H, 4H)
    db: Array  # (D, 4H)
    dh0: Array  # (D, B, H)
    dc0: Array  # (D, B, H)


def lstm_forward(x: Array, lengths: Array, Wx: Array, Wh: Array, b: Array,
                 h0: Array | None = None, c0: Array | None = None):
    """(y, h_last, c_last), cache.  Lengths may come in any order; ValueError if a shape does not fit."""
    xp = array_module(x, Wx, Wh, b)
    lengths = to_device(lengths, "cpu")
    starts = {name: ("D B H", state) for name, state in (("h0", h0), ("c0", c0)) if state is not None}
    sizes = check_shapes("lstm", x=("T B I", x), lengths=("B", lengths), Wh=("D H 4H", Wh), Wx=("D I 4H", Wx),
                         b=("D 4H", b), **starts)
    T, B, D, H = (sizes[letter] for letter in "TBDH")
    packing = place(pack(lengths, T), xp)
    order, N = packing.order, packing.offsets[-1]
    dtype = xp.result_type(x, Wx, Wh, b, *(state for _, state in starts.values()))
    reading = xp.stack([packing.rows, packing.reversed_rows][:D])
    x_rows = x.reshape(T * B, -1)[reading]
    z = xp.matmul(x_rows, Wx).astype(dtype, copy=False)  # (1)
    z += b[:, None]
    h, c, tanh_c, h_prev, c_prev = (xp.empty((D, N, H), dtype) for _ in range(5))
    for prev, start in ((h_prev, h0), (c_prev, c0)):
        prev[:, :B] = 0 if start is None else start[:, order]
    for now, following, n_next in steps(packing):
        z[:, now] += xp.matmul(h_prev[:, now], Wh)  # (2)
        lstm_gates_forward(z[:, now], c_prev[:, now], h=h[:, now], c=c[:, now], tanh_c=tanh_c[:, now],
                           overwrite=True)  # (3)
        for prev, state in ((h_prev, h), (c_prev, c)):
            prev[:, following] = state[:, now][:, :n_next]
    y = xp.zeros((T * B, D, H), dtype)
    h_last, c_last = xp.empty((D, B, H), dtype), xp.empty((D, B, H), dtype)
    for d, rows in enumerate(reading):
        y[rows, d] = h[d]
    h_last[:, order], c_last[:, order] = h[:, packing.last], c[:, packing.last]  # (4)
    cache = LSTMCache(packing, reading, x.shape, x_rows, h_prev, LSTMGatesCache(z, c_prev, tanh_c), Wx, Wh)
    return (y.reshape(T, B, D * H), h_last, c_last), cache


def lstm_backward(dy: Array, dh_last: Array, dc_last: Array, cache: LSTMCache) -> LSTMGradients:
    """All gradients from dy (T, B, DH), dh_last and dc_last (D, B, H)."""
    packing, reading, (T, B, I), x_rows, h_prev, gates, Wx, Wh = cache
    xp = array_module(dy, Wx)
    D, N, H = h_prev.shape
    order = packing.order
    dy_rows = dy.reshape(T * B, D, H)
    dh = xp.stack([dy_rows[rows, d] for d, rows in enumerate(reading)])
    # in the forward pass this was (4): the last token's state is also an output
    dh[:, packing.last] += dh_last[:, order]
    dc = dc_last[:, order]  # of the sentences not yet begun (from the end) it is still dc_last
    dz = xp.empty(gates.gates.shape, dh.dtype)
    for now, before in steps_back(packing):
        n = now.stop - now.start
        part = LSTMGatesCache(*(array[:, now] for array in gates))
        # in the forward pass this was (3) h[t], c[t] = lstm_gates(z[t], c[t-1])
        _, dc[:, :n] = lstm_gates_backward(dh[:, now], dc[:, :n], part, dz=dz[:, now])
        # in the forward pass this was (2) z[t] += h[t-1] Wh
        dh_prev = transposed_product(dz[:, now], Wh)
        if before is not None:
            dh[:, before] += dh_prev
    dh0, dc0 = xp.empty_like(dh_prev), xp.empty_like(dc)
    dh0[:, order], dc0[:, order] = dh_prev, dc
    # in the forward pass this was (1) z[t] = x[t] Wx + b, and (2) once more: all steps at once
    dx_rows = xp.matmul(dz, Wx.transpose(0, 2, 1))
    dx = xp.zeros((T * B, I), dz.dtype)
    for d, rows in enumerate(reading):
        dx[rows] += dx_rows[d]
    return LSTMGradients(dx.reshape(T, B, I), dWx=xp.matmul(x_rows.transpose(0, 2, 1), dz),
                         dWh=xp.matmul(h_prev.transpose(0, 2, 1), dz), db=dz.sum(axis=1), dh0=dh0, dc0=dc0)
