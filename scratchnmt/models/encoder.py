"""The encoder: a stack of LSTMs over the source, and the decoder's first states made from its last ones.

    (1)  y_l, h_last_l, c_last_l = lstm(dropout(y_{l-1}))           y_0 = the embedded source, without dropout
    (2)  h_enc = y_L                                                (S, B, M)
    (3)  h0_l = [h_last_l] Wh_init_l,   c0_l = [c_last_l] Wc_init_l   all directions side by side; no bias
"""

from __future__ import annotations

from typing import NamedTuple

from ..arrays import Array
from ..ops.dropout import DropoutCache
from ..ops.lstm import LSTMCache, lstm_backward, lstm_forward
from ..ops.packing import Packing
from ..ops.plain import PLAIN, Kernels
from .config import NMTConfig, layer_name

State = tuple[Array, Array]  # h, c of one layer, each (B, H)


class EncoderCache(NamedTuple):
    lstms: list[LSTMCache]
    dropouts: list[DropoutCache | None]  # of the input of layer l; None where there is none
    last: list[State]  # h_last, c_last of each layer, all directions side by side, (B, M)
    shape: tuple[int, int]  # D, G: directions and units of each
    kernels: Kernels


def encoder_forward(params, config: NMTConfig, embedded: Array, lengths: Array | Packing, rng=None,
                    kernels: Kernels = PLAIN):
    """(h_enc, [(h0, c0) of each decoder layer]), cache; embedded (S, B, E), lengths (B,) or their Packing."""
    cache = EncoderCache([], [], [], (config.directions, config.encoder_size), kernels)
    y, states = embedded, []
    for l in range(config.layers):
        dropout = None
        if l and rng is not None and config.dropout:
            y, dropout = kernels.dropout.dropout_forward(y, config.dropout, rng=rng)
        weights = (params[f"{layer_name('encoder', l)}.{w}"] for w in ("Wx", "Wh", "b"))
        (y, *last), lstm = lstm_forward(y, lengths, *weights, backwards=config.reverse_source, kernels=kernels)  # (1)
        last = tuple(map(_side_by_side, last))
        init = layer_name("init", l)
        states.append(tuple(kernels.product.product(state, params[f"{init}.{weight}"])  # (3)
                            for weight, state in zip(("Wh", "Wc"), last)))
        for caches, item in zip(cache, (lstm, dropout, last)):
            caches.append(item)
    return (y, states), cache


def encoder_backward(dh_enc: Array, dstates: list[State], cache: EncoderCache, params, grads) -> Array:
    """The gradient of the embedded source (S, B, E); the weights' gradients are written into `grads`."""
    dy, product = dh_enc, cache.kernels.product.product
    for l in reversed(range(len(cache.lstms))):
        init, encoder = layer_name("init", l), layer_name("encoder", l)
        dlast = []
        for weight, dstate, state in zip(("Wh", "Wc"), dstates[l], cache.last[l]):
            # in the forward pass this was (3) state0 = state_last W_init
            product(state.T, dstate, out=grads[f"{init}.{weight}"])
            dlast.append(_apart(product(dstate, params[f"{init}.{weight}"].T), *cache.shape))
        gradients = lstm_backward(dy, *dlast, cache.lstms[l])  # (1)
        for weight in ("Wx", "Wh", "b"):
            grads[f"{encoder}.{weight}"][...] = getattr(gradients, "d" + weight)
        dy = gradients.dx
        if cache.dropouts[l] is not None:
            dy = cache.kernels.dropout.dropout_backward(dy, cache.dropouts[l]).dx
    return dy


def _side_by_side(last: Array) -> Array:
    """(D, B, G) -> (B, D G): the forward state, then the backward one."""
    D, B, G = last.shape
    return last.transpose(1, 0, 2).reshape(B, D * G)


def _apart(dlast: Array, D: int, G: int) -> Array:
    return dlast.reshape(-1, D, G).transpose(1, 0, 2)
