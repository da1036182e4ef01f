"""The pointwise part of a layer-normalised LSTM step (Ba, Kiros & Hinton 2016, equations 20 to 22).

    (1)  N(v) = (v - mean v) / sqrt(mean (v - mean v)^2 + EPS)       over the units of one row
    (2)  u, v = N(x Wx), N(h_prev Wh)
    (3)  a = b + g_u u + g_v v                  the four pre-activations; b of padding closes its gates
    (4)  c from a and c_prev, as in lstm_gates
    (5)  n = N(c),  h = o tanh(g_c n + b_c)

z (..., 12H) holds x Wx, h_prev Wh and b side by side, 4H columns each; u, v and the gates take their places.
g (..., 9H) are the gains g_u, g_v, g_c, and b_c (..., H) is a bias; the paper's biases of (2) are part of b.
kept (..., 3H + 3) holds tanh(c), n, the tanh of (5) and the factors 1 / sqrt of the three norms.

What needs sums over rows, the gradients of g and of the biases, waits for the end of a loop: `layer_norm_gains`.
Next: ops/layer_norm_lstm.py.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..arrays import Array
from .lstm_gates import LSTMGatesCache, lstm_gates_backward, lstm_gates_forward

EPS = 1e-5


class LayerNormGatesCache(NamedTuple):
    z: Array  # (..., 12H) u, v and the gates
    c_prev: Array  # (..., H)
    kept: Array  # (..., 3H + 3)
    g: Array  # (..., 9H)


class LayerNormGatesGradients(NamedTuple):
    dz: Array  # (..., 12H)
    dc_prev: Array  # (..., H)


class LayerNormGains(NamedTuple):
    dg: Array  # (..., 9H)
    db: Array  # (..., 5H) of b and of b_c


class _Kept(NamedTuple):
    tanh_c: Array  # (..., H)
    n: Array  # (..., H)
    tanh_n: Array  # (..., H)
    scales: Array  # (..., 3)

    @classmethod
    def of(cls, kept: Array) -> _Kept:
        H = (kept.shape[-1] - 3) // 3
        return cls(kept[..., :H], kept[..., H : 2 * H], kept[..., 2 * H : 3 * H], kept[..., 3 * H :])


def layer_norm_gates_forward(z: Array, c_prev: Array, g: Array, b_c: Array, *, h: Array | None = None,
                             c: Array | None = None, kept: Array | None = None, overwrite: bool = False
                             ) -> tuple[tuple[Array, Array], LayerNormGatesCache]:
    """(h, c), cache from z (..., 12H), c_prev (..., H), g (..., 9H) and b_c (..., H).

    h, c and kept may be given as buffers; with overwrite=True u, v and the gates take the place of z.
    """
    H = c_prev.shape[-1]
    z = z if overwrite else z.copy()
    kept = np.empty_like(z, shape=(*z.shape[:-1], 3 * H + 3)) if kept is None else kept
    tanh_c, n, tanh_n, scales = _Kept.of(kept)
    u, v, a = z[..., : 4 * H], z[..., 4 * H : 8 * H], z[..., 8 * H :]
    g_u, g_v, g_c = g[..., : 4 * H], g[..., 4 * H : 8 * H], g[..., 8 * H :]
    # (1), (2) u, v = N(x Wx), N(h_prev Wh)
    for k, part in enumerate((u, v)):
        _normalize(part, part, scales[..., k : k + 1])
    a += g_u * u  # (3)
    a += g_v * v
    (h, c), _ = lstm_gates_forward(a, c_prev, h=h, c=c, tanh_c=tanh_c, overwrite=True)  # (4)
    _normalize(c, n, scales[..., 2:])  # (5)
    np.multiply(g_c, n, out=tanh_n)
    tanh_n += b_c
    np.tanh(tanh_n, out=tanh_n)
    np.multiply(a[..., 3 * H :], tanh_n, out=h)  # (5), in the place of o tanh(c)
    return (h, c), LayerNormGatesCache(z=z, c_prev=c_prev, kept=kept, g=g)


def layer_norm_gates_backward(dh: Array, dc: Array, cache: LayerNormGatesCache, *, dz: Array | None = None,
                              dc_prev: Array | None = None) -> LayerNormGatesGradients:
    """Gradients of z and c_prev from dh, dc (..., H).  dz and dc_prev may be buffers; dc_prev may be dc itself."""
    z, c_prev, kept, g = cache
    H = c_prev.shape[-1]
    tanh_c, n, tanh_n, scales = _Kept.of(kept)
    dz = np.empty_like(z, dtype=np.result_type(dh, dc, z)) if dz is None else dz
    du, dv, da = dz[..., : 4 * H], dz[..., 4 * H : 8 * H], dz[..., 8 * H :]
    gates, o = z[..., 8 * H :], z[..., 11 * H :]
    # in the forward pass this was (5) n = N(c),  h = o tanh(g_c n + b_c)
    dc = dc + _normalize_backward(g[..., 8 * H :] * _slope(dh, o, tanh_n), n, scales[..., 2:])
    # in the forward pass this was (4) c from a and c_prev; h is that of (5), so the h of lstm_gates gets no gradient
    dc_prev = lstm_gates_backward(np.zeros_like(dc), dc, LSTMGatesCache(gates, c_prev, tanh_c), dz=da,
                                  dc_prev=dc_prev).dc_prev
    da[..., 3 * H :] = dh * tanh_n * o * (1 - o)
    # in the forward pass this was (3) a = b + g_u u + g_v v,  and (1), (2) u, v = N(x Wx), N(h_prev Wh)
    for k, d in enumerate((du, dv)):
        columns = slice(4 * k * H, 4 * (k + 1) * H)
        d[...] = _normalize_backward(g[..., columns] * da, z[..., columns], scales[..., k : k + 1])
    return LayerNormGatesGradients(dz, dc_prev)


def layer_norm_gains(dh: Array, dz: Array, z: Array, kept: Array) -> LayerNormGains:
    """The gradients of the gains and the biases: sums over all rows, which stand along the last axis but one.

    dh (..., N, H), dz and z (..., N, 12H), kept (..., N, 3H + 3), as the loop over steps has left them.
    """
    H = dh.shape[-1]
    _, n, tanh_n, _ = _Kept.of(kept)
    da, dn = dz[..., 8 * H :], _slope(dh, z[..., 11 * H :], tanh_n)
    # in the forward pass this was (3) a = b + g_u u + g_v v,  and (5) h = o tanh(g_c n + b_c)
    return LayerNormGains(dg=_sums(da * z[..., : 4 * H], da * z[..., 4 * H : 8 * H], dn * n), db=_sums(da, dn))


def _sums(*parts: Array) -> Array:
    """Over the rows of each, side by side."""
    return np.concatenate([part.sum(axis=-2) for part in parts], axis=-1)


def _slope(dh: Array, o: Array, tanh_n: Array) -> Array:
    """The gradient of g_c n + b_c in (5), from dh."""
    return dh * o * (1 - tanh_n * tanh_n)


def _normalize(v: Array, out: Array, scale: Array) -> None:
    """N(v) into `out`, which may be v, and its factor into `scale`, by (1)."""
    np.subtract(v, v.mean(axis=-1, keepdims=True), out=out)
    np.divide(1, np.sqrt((out * out).mean(axis=-1, keepdims=True) + EPS), out=scale)
    out *= scale


def _normalize_backward(dn: Array, n: Array, scale: Array) -> Array:
    """dv from dn.  Mean and factor depend on every v: so the parts of dn along 1 and along n are taken away."""
    # in the forward pass this was (1) n = (v - mean v) scale
    return scale * (dn - dn.mean(axis=-1, keepdims=True) - n * (dn * n).mean(axis=-1, keepdims=True))
