"""An LSTM: one step, `lstm_cell`, and a sequence under lengths, in one direction or both, the fast way.

    (1)  z[t] = x[t] Wx + b                 for all steps in one product, before the loop
    (2)  z[t] += h[t-1] Wh                  the only product inside the loop
    (3)  h[t], c[t] = lstm_gates(z[t], c[t-1])
    (4)  h_last, c_last = the states of each sentence's own last token

Direction 0 reads a sentence from its first token to its last, direction 1 from its own last token
(never from padding) to its first; both go through the loop together, as a leading axis.  Rows are
packed (see packing): step t computes only the sentences that are longer than t.  Backward keeps
the gradients of z and makes every weight gradient in one product after the loop.

A backend may have the loop over (2) and (3) as kernels of its own, `lstm_steps` in plain.py; then it is theirs.

With recurrent dropout, (2) and the gradient of Wh read r = h m in the place of h, see recurrent_dropout.

Where padding is computed too, its gates are closed by (1): i = o = 0 and f = 1 exactly, so that c passes
through it unchanged, forward and backward, and everything else about it is zero, the gradient of z included.

x (T, B, I), lengths (B,), Wx (D, I, 4H), Wh (D, H, 4H), b (D, 4H), h0, c0 (D, B, H) or None for zeros,
y (T, B, DH) with zeros at padding, h_last, c_last (D, B, H); m (D, B, H) or None; D is 1 or 2.
A step is that of Hochreiter & Schmidhuber 1997, with gate order and single bias as in PyTorch's LSTMCell with its two
biases added; the bidirectional reading is Schuster & Paliwal 1997.

The textbook computes the same for one sentence, in the loops over `lstm_cell` that fill `h_fwd` and `h_bwd`, and in
those over `lstm_cell_backward`.  Next: models/cells.py.
"""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, array_module, check_shapes, device_of, to_device
from .branches import branch, directions
from .lstm_gates import LSTMGatesCache, lstm_gates_backward, lstm_gates_forward
from .packing import Packing, packed, steps, steps_back
from .plain import PLAIN, Kernels
from .recurrent_dropout import RecurrentMask

ALL = slice(None)
CLOSING = 1e4  # added to pre-activations, which are far smaller: then sigmoid is 0 or 1 to the last digit


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
    """(h, c), cache of one step: the definition that the sequence and the fast loops are held to.

    x (B, I), h_prev, c_prev, h, c (B, H), Wx (I, 4H), Wh (H, 4H), b (4H,).  Raises ValueError naming the argument whose
    shape does not fit.
    """
    check_shapes("lstm_cell", x=("B I", x), h_prev=("B H", h_prev), c_prev=("B H", c_prev),
                 Wx=("I 4H", Wx), Wh=("H 4H", Wh), b=("4H", b))
    z = x @ Wx + h_prev @ Wh + b  # (1), (2)
    (h, c), gates = lstm_gates_forward(z, c_prev, overwrite=True)  # (3)
    return (h, c), LSTMCellCache(x=x, h_prev=h_prev, Wx=Wx, Wh=Wh, gates=gates)


def lstm_cell_backward(dh: Array, dc: Array, cache: LSTMCellCache) -> LSTMCellGradients:
    """All gradients from dh, dc (B, H)."""
    # in the forward pass this was (3) h, c = lstm_gates(z, c_prev)
    dz, dc_prev = lstm_gates_backward(dh, dc, cache.gates)
    # in the forward pass this was (1), (2) z = x Wx + h_prev Wh + b
    return LSTMCellGradients(dx=dz @ cache.Wx.T, dh_prev=dz @ cache.Wh.T, dc_prev=dc_prev,
                             dWx=cache.x.T @ dz, dWh=cache.h_prev.T @ dz, db=dz.sum(axis=0))


class LSTMCache(NamedTuple):
    packing: Packing
    shape: tuple[int, int, int]  # (T, B, I) of x
    x: Array  # (D, N, I) packed rows, each direction in its reading order
    h: Array  # (D, B + N, H) the first states and those of all rows, see packing
    r: Array  # (D, B + N, H) the same as the next step reads them: times m, if there is one
    c: Array  # (D, B + N, H)
    gates: Array  # (D, N, 4H)
    tanh_c: Array  # (D, N, H)
    recurrent: RecurrentMask
    Wx: Array  # (D, I, 4H)
    Wh: Array  # (D, H, 4H)
    kernels: Kernels
    row_order: tuple[Any, ...]  # for each direction, which rows of x it reads, in its order

    def of(self, d: slice) -> LSTMCache:
        """The same with what the steps of some directions read of theirs alone."""
        return self._replace(gates=self.gates[d], c=self.c[d], tanh_c=self.tanh_c[d], Wh=self.Wh[d],
                             recurrent=self.recurrent.of(d))


class LSTMGradients(NamedTuple):
    dx: Array  # (T, B, I), zeros at padding
    dWx: Array  # (D, I, 4H)
    dWh: Array  # (D, H, 4H)
    db: Array  # (D, 4H)
    dh0: Array  # (D, B, H)
    dc0: Array  # (D, B, H)


def lstm_forward(x: Array, lengths: Array | Packing, Wx: Array, Wh: Array, b: Array,
                 h0: Array | None = None, c0: Array | None = None, *, m: Array | None = None, backwards: bool = False,
                 kernels: Kernels = PLAIN) -> tuple[tuple[Array, Array, Array], LSTMCache]:
    """(y, h_last, c_last), cache.  Lengths may come in any order, or as a Packing that is on x's device.

    m: the mask of recurrent dropout.  backwards: the only direction is that of direction 1.  ValueError if a shape does
    not fit.
    """
    xp = array_module(x, Wx, Wh, b)
    lengths = lengths if isinstance(lengths, Packing) else to_device(lengths, "cpu")
    starts = {name: ("D B H", state) for name, state in (("h0", h0), ("c0", c0)) if state is not None}
    mask = {} if m is None else {"m": ("D B H", m)}
    sizes = check_shapes("lstm", x=("T B I", x), lengths=("B", lengths), Wh=("D H 4H", Wh), Wx=("D I 4H", Wx),
                         b=("D 4H", b), **starts, **mask)
    T, B, D, H, I = (sizes[letter] for letter in "TBDHI")
    packing = packed(lengths, T, xp)
    order, N = packing.order, packing.offsets[-1]
    row_order = (packing.reversed_rows,) if backwards else (packing.rows, packing.reversed_rows)[:D]
    dtype = xp.result_type(x, Wx, Wh, b, *(state for _, state in starts.values()))
    product, take, put, add = kernels.product.product, kernels.rows.take, kernels.rows.put, kernels.rows.add
    x_rows = xp.empty((D, N, I), x.dtype)
    for d, rows in enumerate(row_order):
        put(x_rows, d, take(x.reshape(T * B, I), rows))
    z = product(x_rows, Wx, out=xp.empty((D, N, 4 * H), dtype))  # (1)
    add(z, b[:, None])
    if packing.padding_mask is not None:
        bias = padding_bias(xp, device_of(z), H, z.real.dtype)
        add(z, kernels.rows.multiply(packing.padding_mask, bias))
    h, c = (xp.empty((D, B + N, H), dtype) for _ in range(2))
    tanh_c = xp.empty((D, N, H), dtype)
    for states, start in ((h, h0), (c, c0)):
        put(states, (ALL, slice(B)), 0 if start is None else take(start, (ALL, order)))
    recurrent = RecurrentMask(None if m is None else take(m, (ALL, order)), kernels)
    r = recurrent.room(h)
    if kernels.lstm_steps is not None:  # the backend has this loop
        kernels.lstm_steps.lstm_steps_forward(z, Wh, h, r, c, tanh_c, recurrent, packing)
    else:
        for now, before, after in steps(packing):
            recurrent.forward(h[:, before], r[:, before])
            product(r[:, before], Wh, out=z[:, now], add=True)  # (2)
            kernels.lstm_gates.lstm_gates_forward(z[:, now], c[:, before], h=h[:, after], c=c[:, after],
                                                  tanh_c=tanh_c[:, now], overwrite=True)  # (3)
    y = xp.zeros((T * B, D, H), dtype)
    h_last, c_last = xp.empty((D, B, H), dtype), xp.empty((D, B, H), dtype)
    for d, rows in enumerate(row_order):
        put(y, (rows, d), h[d, B:])
    put(h_last, (ALL, order), take(h, (ALL, packing.last)))  # (4)
    put(c_last, (ALL, order), take(c, (ALL, packing.last)))  # (4)
    cache = LSTMCache(packing=packing, shape=x.shape, x=x_rows, h=h, r=r, c=c, gates=z, tanh_c=tanh_c,
                      recurrent=recurrent, Wx=Wx, Wh=Wh, kernels=kernels, row_order=row_order)
    return (y.reshape(T, B, D * H), h_last, c_last), cache


def lstm_backward(dy: Array, dh_last: Array, dc_last: Array, cache: LSTMCache) -> LSTMGradients:
    """All gradients from dy (T, B, DH), dh_last and dc_last (D, B, H)."""
    packing, (T, B, I), kernels = cache.packing, cache.shape, cache.kernels
    h, c, gates, tanh_c, Wx, Wh = cache.h, cache.c, cache.gates, cache.tanh_c, cache.Wx, cache.Wh
    D, N, H = tanh_c.shape
    order, product = packing.order, kernels.product.product
    take, put, add_rows = kernels.rows.take, kernels.rows.put, kernels.rows.add_rows
    dy_rows = dy.reshape(T * B, D, H)
    dh = np.zeros_like(h, np.result_type(dy, h))
    for d, rows in enumerate(cache.row_order):
        put(dh, (d, slice(B, None)), take(dy_rows, (rows, d)))
    # in the forward pass this was (4): the last token's state is also an output
    add_rows(dh, (ALL, packing.last), take(dh_last, (ALL, order)))
    dc = np.empty_like(dc_last)
    put(dc, ..., take(dc_last, (ALL, order)))  # of the sentences not yet begun (from the end) it is still dc_last
    dz = np.empty_like(gates, dh.dtype)
    if kernels.lstm_steps is not None:  # as forward
        kernels.lstm_steps.lstm_steps_backward(dh, dc, gates, c, tanh_c, Wh, cache.recurrent, packing, dz)
    else:
        dr = cache.recurrent.room(dh)
        # of two directions neither needs the other
        first, *others = [(dh[d], dr[d], dc[d], dz[d], cache.of(d)) for d in directions(D, kernels)]
        with branch(kernels) as beside:
            for other in others:
                beside(steps_backward, *other)
            steps_backward(*first)
    dh0, dc0 = np.empty_like(dc), np.empty_like(dc)
    put(dh0, (ALL, order), dh[:, :B])
    put(dc0, (ALL, order), dc)
    # in the forward pass this was (1) z[t] = x[t] Wx + b, and (2) once more: all steps at once
    dx_rows = product(dz, Wx.transpose(0, 2, 1))
    dx = np.zeros_like(dz, shape=(T * B, I))
    for d, rows in enumerate(cache.row_order):
        add_rows(dx, rows, dx_rows[d])
    return LSTMGradients(dx.reshape(T, B, I), dWx=product(cache.x.transpose(0, 2, 1), dz),
                         dWh=product(take(cache.r, (ALL, packing.previous)).transpose(0, 2, 1), dz),
                         db=kernels.rows.sum_rows(dz, axis=1), dh0=dh0, dc0=dc0)


def steps_backward(dh: Array, dr: Array, dc: Array, dz: Array, cache: LSTMCache) -> None:
    """(3), (2) of all steps, of the D directions that the cache has: fill dz (D, N, 4H), add to dh (D, B + N, H).

    dr (D, B + N, H) is the gradient of r; dc (D, B, H) becomes that of the first states.
    """
    gates, c, tanh_c, Wh, kernels = cache.gates, cache.c, cache.tanh_c, cache.Wh, cache.kernels
    for now, before, after in steps_back(cache.packing):
        n = now.stop - now.start
        part = LSTMGatesCache(gates[:, now], c[:, before], tanh_c[:, now])
        # in the forward pass this was (3) h[t], c[t] = lstm_gates(z[t], c[t-1])
        kernels.lstm_gates.lstm_gates_backward(dh[:, after], dc[:, :n], part, dz=dz[:, now], dc_prev=dc[:, :n])
        # in the forward pass this was (2) z[t] += h[t-1] Wh
        kernels.product.transposed_product(dz[:, now], Wh, out=dr[:, before], add=True)
        cache.recurrent.backward(dr[:, before], dh[:, before])


@lru_cache
def padding_bias(xp: ModuleType, device: str, H: int, dtype: np.dtype) -> Array:
    """What is added to the pre-activations of padding, (4H,); made once for each device and kept."""
    return xp.asarray(np.repeat(np.array([-CLOSING, CLOSING, 0, -CLOSING], dtype), H))
