"""The encoder: a stack of LSTMs over the source, and the decoder's first states made from its last ones.

    (1)  y_l, h_last_l, c_last_l = lstm(dropout(y_{l-1}))           y_0 = the embedded source, without dropout
    (2)  h_enc = y_L                                                (S, B, M)
    (3)  h0_l = [h_last_l] Wh_init_l,   c0_l = [c_last_l] Wc_init_l   all directions side by side; no bias
"""

from __future__ import annotations

from typing import NamedTuple

from ..arrays import Array, array_module
from ..ops.dropout import DropoutCache, dropout_backward, dropout_forward
from ..ops.linear import LinearCache, linear_backward, linear_forward
from ..ops.lstm import LSTMCache, lstm_backward, lstm_forward
from .config import NMTConfig, layer_name

State = tuple[Array, Array]  # h, c of one layer, each (B, H)


class EncoderCache(NamedTuple):
    lstms: list[LSTMCache]
    dropouts: list[DropoutCache | None]  # of the input of layer l; None where there is none
    inits: list[tuple[LinearCache, LinearCache]]  # of (3), h and c
    shape: tuple[int, int]  # D, G: directions and units of each


def encoder_forward(params, config: NMTConfig, embedded: Array, lengths: Array, rng=None):
    """(h_enc, [(h0, c0) of each decoder layer]), cache; embedded (S, B, E), lengths (B,)."""
    cache = EncoderCache([], [], [], (config.directions, config.encoder_size))
    y, states = embedded, []
    for l in range(config.layers):
        dropout = None
        if l and rng is not None and config.dropout:
            y, dropout = dropout_forward(y, config.dropout, rng=rng)
        weights = (params[f"{layer_name('encoder', l)}.{w}"] for w in ("Wx", "Wh", "b"))
        (y, h_last, c_last), lstm = lstm_forward(y, lengths, *weights)  # (1)
        init = layer_name("init", l)
        h0, h_init = linear_forward(_side_by_side(h_last), params[f"{init}.Wh"])  # (3)
        c0, c_init = linear_forward(_side_by_side(c_last), params[f"{init}.Wc"])
        states.append((h0, c0))
        for caches, item in zip(cache, (lstm, dropout, (h_init, c_init))):
            caches.append(item)
    return (y, states), cache


def encoder_backward(dh_enc: Array, dstates: list[State], cache: EncoderCache, grads) -> Array:
    """The gradient of the embedded source (S, B, E); the weights' gradients are written into `grads`."""
    dy = dh_enc
    for l in reversed(range(len(cache.lstms))):
        init, encoder = layer_name("init", l), layer_name("encoder", l)
        dlast = []
        for weight, dstate, linear in zip(("Wh", "Wc"), dstates[l], cache.inits[l]):
            dx, grads[f"{init}.{weight}"][...], _ = linear_backward(dstate, linear)  # (3)
            dlast.append(_apart(dx, *cache.shape))
        gradients = lstm_backward(dy, *dlast, cache.lstms[l])  # (1)
        for weight in ("Wx", "Wh", "b"):
            grads[f"{encoder}.{weight}"][...] = getattr(gradients, "d" + weight)
        dy = gradients.dx
        if cache.dropouts[l] is not None:
            dy = dropout_backward(dy, cache.dropouts[l]).dx
    return dy


def _side_by_side(last: Array) -> Array:
    """(D, B, G) -> (B, D G): the forward state, then the backward one."""
    return array_module(last).concatenate(list(last), axis=-1)


def _apart(dlast: Array, D: int, G: int) -> Array:
    return dlast.reshape(-1, D, G).transpose(1, 0, 2)
