"""A layer-normalised LSTM over a sequence under lengths (Ba, Kiros & Hinton 2016): ops/lstm.py with other gates.

    (1)  z[t] = [x[t] Wx, 0, b]                    for all steps in one product, before the loop
    (2)  the middle of z[t] = h[t-1] Wh            the only product inside the loop
    (3)  h[t], c[t] = layer_norm_gates(z[t], c[t-1])
    (4)  h_last, c_last = the states of each sentence's own last token

Each row, a sentence at one step, is normalised over its own units, so that neither the other sentences of a batch nor
its padding matter.  Rows are packed, directions, padding and recurrent dropout as in ops/lstm.py.

x (T, B, I), lengths (B,), Wx (D, I, 4H), Wh (D, H, 4H), b (D, 5H) the biases of the four gates and of the cell's norm,
g (D, 9H) gains, h0, c0 (D, B, H) or None for zeros, m (D, B, H) or None, y (T, B, DH), h_last, c_last (D, B, H).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, array_module, check_shapes, device_of, to_device
from .layer_norm_gates import LayerNormGatesCache
from .lstm import ALL, padding_bias
from .packing import Packing, packed, steps, steps_back
from .plain import PLAIN, Kernels
from .recurrent_dropout import RecurrentMask


class LayerNormLSTMCache(NamedTuple):
    packing: Packing
    shape: tuple[int, int, int]  # (T, B, I) of x
    x: Array  # (D, N, I) packed rows, each direction in its reading order
    h: Array  # (D, B + N, H) the first states and those of all rows, see packing
    r: Array  # (D, B + N, H) the same as the next step reads them
    c: Array  # (D, B + N, H)
    z: Array  # (D, N, 12H)
    kept: Array  # (D, N, 3H + 3)
    recurrent: RecurrentMask
    Wx: Array  # (D, I, 4H)
    Wh: Array  # (D, H, 4H)
    g: Array  # (D, 1, 9H)
    kernels: Kernels
    row_order: tuple[Any, ...]  # for each direction, which rows of x it reads, in its order


class LayerNormLSTMGradients(NamedTuple):
    dx: Array  # (T, B, I), zeros at padding
    dWx: Array  # (D, I, 4H)
    dWh: Array  # (D, H, 4H)
    db: Array  # (D, 5H)
    dg: Array  # (D, 9H)
    dh0: Array  # (D, B, H)
    dc0: Array  # (D, B, H)


def layer_norm_lstm_forward(x: Array, lengths: Array | Packing, Wx: Array, Wh: Array, b: Array, g: Array,
                            h0: Array | None = None, c0: Array | None = None, *, m: Array | None = None,
                            backwards: bool = False, kernels: Kernels = PLAIN
                            ) -> tuple[tuple[Array, Array, Array], LayerNormLSTMCache]:
    """(y, h_last, c_last), cache; the arguments are those of `lstm_forward`, and the gains g."""
    xp = array_module(x, Wx, Wh, b, g)
    lengths = lengths if isinstance(lengths, Packing) else to_device(lengths, "cpu")
    starts = {name: ("D B H", state) for name, state in (("h0", h0), ("c0", c0)) if state is not None}
    mask = {} if m is None else {"m": ("D B H", m)}
    sizes = check_shapes("layer_norm_lstm", x=("T B I", x), lengths=("B", lengths), Wh=("D H 4H", Wh),
                         Wx=("D I 4H", Wx), b=("D 5H", b), g=("D 9H", g), **starts, **mask)
    T, B, D, H, I = (sizes[letter] for letter in "TBDHI")
    packing = packed(lengths, T, xp)
    order, N = packing.order, packing.offsets[-1]
    row_order = (packing.reversed_rows,) if backwards else (packing.rows, packing.reversed_rows)[:D]
    dtype = xp.result_type(x, Wx, Wh, b, g, *(state for _, state in starts.values()))
    product, take, put = kernels.product.product, kernels.rows.take, kernels.rows.put
    x_rows = xp.empty((D, N, I), x.dtype)
    for d, rows in enumerate(row_order):
        put(x_rows, d, take(x.reshape(T * B, I), rows))
    z = xp.empty((D, N, 12 * H), dtype)
    product(x_rows, Wx, out=z[..., : 4 * H])  # (1)
    put(z, (..., slice(8 * H, None)), b[:, None, : 4 * H])
    if packing.padding_mask is not None:
        bias = padding_bias(xp, device_of(z), H, z.real.dtype)
        kernels.rows.add(z[..., 8 * H :], kernels.rows.multiply(packing.padding_mask, bias))
    h, c = (xp.empty((D, B + N, H), dtype) for _ in range(2))
    kept = xp.empty((D, N, 3 * H + 3), dtype)
    for states, start in ((h, h0), (c, c0)):
        put(states, (ALL, slice(B)), 0 if start is None else take(start, (ALL, order)))
    recurrent = RecurrentMask(None if m is None else take(m, (ALL, order)), kernels)
    r, gains, b_c = recurrent.room(h), g[:, None], b[:, None, 4 * H :]
    for now, before, after in steps(packing):
        recurrent.forward(h[:, before], r[:, before])
        product(r[:, before], Wh, out=z[:, now, 4 * H : 8 * H])  # (2)
        kernels.layer_norm_gates.layer_norm_gates_forward(z[:, now], c[:, before], gains, b_c, h=h[:, after],
                                                          c=c[:, after], kept=kept[:, now], overwrite=True)  # (3)
    y = xp.zeros((T * B, D, H), dtype)
    h_last, c_last = xp.empty((D, B, H), dtype), xp.empty((D, B, H), dtype)
    for d, rows in enumerate(row_order):
        put(y, (rows, d), h[d, B:])
    put(h_last, (ALL, order), take(h, (ALL, packing.last)))  # (4)
    put(c_last, (ALL, order), take(c, (ALL, packing.last)))  # (4)
    cache = LayerNormLSTMCache(packing=packing, shape=x.shape, x=x_rows, h=h, r=r, c=c, z=z, kept=kept,
                               recurrent=recurrent, Wx=Wx, Wh=Wh, g=gains, kernels=kernels, row_order=row_order)
    return (y.reshape(T, B, D * H), h_last, c_last), cache


def layer_norm_lstm_backward(dy: Array, dh_last: Array, dc_last: Array,
                             cache: LayerNormLSTMCache) -> LayerNormLSTMGradients:
    """All gradients from dy (T, B, DH), dh_last and dc_last (D, B, H)."""
    packing, (T, B, I), kernels = cache.packing, cache.shape, cache.kernels
    h, c, z, kept, Wx, Wh = cache.h, cache.c, cache.z, cache.kept, cache.Wx, cache.Wh
    D, _, H = h.shape
    order, product, gates = packing.order, kernels.product.product, kernels.layer_norm_gates
    take, put, add_rows = kernels.rows.take, kernels.rows.put, kernels.rows.add_rows
    dy_rows = dy.reshape(T * B, D, H)
    dh = np.zeros_like(h, np.result_type(dy, h))
    for d, rows in enumerate(cache.row_order):
        put(dh, (d, slice(B, None)), take(dy_rows, (rows, d)))
    # in the forward pass this was (4): the last token's state is also an output
    add_rows(dh, (ALL, packing.last), take(dh_last, (ALL, order)))
    dc = np.empty_like(dc_last)
    put(dc, ..., take(dc_last, (ALL, order)))
    dz, dr = np.empty_like(z, dh.dtype), cache.recurrent.room(dh)
    of_input, of_state = dz[..., : 4 * H], dz[..., 4 * H : 8 * H]
    for now, before, after in steps_back(packing):
        n = now.stop - now.start
        part = LayerNormGatesCache(z[:, now], c[:, before], kept[:, now], cache.g)
        # in the forward pass this was (3) h[t], c[t] = layer_norm_gates(z[t], c[t-1])
        gates.layer_norm_gates_backward(dh[:, after], dc[:, :n], part, dz=dz[:, now], dc_prev=dc[:, :n])
        # in the forward pass this was (2) h[t-1] Wh
        kernels.product.transposed_product(of_state[:, now], Wh, out=dr[:, before], add=True)
        cache.recurrent.backward(dr[:, before], dh[:, before])
    dh0, dc0 = np.empty_like(dc), np.empty_like(dc)
    put(dh0, (ALL, order), dh[:, :B])
    put(dc0, (ALL, order), dc)
    # in the forward pass this was (1) z[t] = [x[t] Wx, 0, b], and (2) once more: all steps at once
    dx_rows = product(of_input, Wx.transpose(0, 2, 1))
    dx = np.zeros_like(dz, shape=(T * B, I))
    for d, rows in enumerate(cache.row_order):
        add_rows(dx, rows, dx_rows[d])
    gains = gates.layer_norm_gains(dh[:, B:], dz, z, kept)
    return LayerNormLSTMGradients(dx.reshape(T, B, I), dWx=product(cache.x.transpose(0, 2, 1), of_input),
                                  dWh=product(take(cache.r, (ALL, packing.previous)).transpose(0, 2, 1), of_state),
                                  db=gains.db, dg=gains.dg, dh0=dh0, dc0=dc0)
