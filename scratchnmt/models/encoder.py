"""The encoder: a stack of LSTMs over the source, and the decoder's first states made from its last ones.

    (1)  y_l, h_last_l, c_last_l = lstm(dropout(y_{l-1}))           y_0 = the embedded source, without dropout
    (2)  h_enc = y_L                                                (S, B, M)
    (3)  h0_l = [h_last_l] Wh_init_l,   c0_l = [c_last_l] Wc_init_l   all directions side by side; no bias

The textbook computes the same for one sentence, in the lines from `h_fwd` to `h_enc`, and in those of `h_last` and
`c_last`.  Next: ops/attention.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..arrays import Array
from ..ops.dropout import DropoutCache
from ..ops.lstm import LSTMCache, lstm_backward, lstm_forward
from ..ops.packing import Packing
from ..ops.plain import PLAIN, Kernels
from .config import NMTConfig, layer_name

State = tuple[Array, Array]  # h, c of one layer, each (B, H)


class EncoderLayerCache(NamedTuple):
    lstm: LSTMCache
    dropout: DropoutCache | None  # of the layer's input; None where there is none
    h_last: Array  # (B, M) all directions side by side
    c_last: Array  # (B, M)


class EncoderCache(NamedTuple):
    layers: list[EncoderLayerCache]
    shape: tuple[int, int]  # D, G: directions and units of each
    kernels: Kernels


def encoder_forward(params: Mapping[str, Array], config: NMTConfig, embedded: Array, lengths: Array | Packing,
                    rng: Any = None, kernels: Kernels = PLAIN) -> tuple[tuple[Array, list[State]], EncoderCache]:
    """(h_enc, [(h0, c0) of each decoder layer]), cache; embedded (S, B, E), lengths (B,) or their Packing."""
    y, states, caches, product = embedded, [], [], kernels.product.product
    for l in range(config.layers):
        encoder, init, dropout = layer_name("encoder", l), layer_name("init", l), None
        if l and rng is not None and config.dropout:
            y, dropout = kernels.dropout.dropout_forward(y, config.dropout, rng=rng)
        (y, h_last, c_last), lstm = lstm_forward(
            y, lengths, params[f"{encoder}.Wx"], params[f"{encoder}.Wh"], params[f"{encoder}.b"],
            backwards=config.reverse_source, kernels=kernels)  # (1)
        caches.append(EncoderLayerCache(lstm, dropout, _side_by_side(h_last), _side_by_side(c_last)))
        states.append((product(caches[-1].h_last, params[f"{init}.Wh"]),
                       product(caches[-1].c_last, params[f"{init}.Wc"])))  # (3)
    return (y, states), EncoderCache(caches, (config.directions, config.encoder_size), kernels)


def encoder_backward(dh_enc: Array, dstates: list[State], cache: EncoderCache, params: Mapping[str, Array],
                     grads: Mapping[str, Array]) -> Array:
    """The gradient of the embedded source (S, B, E); the weights' gradients are written into `grads`."""
    dy, product = dh_enc, cache.kernels.product.product
    for l, layer in reversed(list(enumerate(cache.layers))):
        encoder, init, (dh0, dc0) = layer_name("encoder", l), layer_name("init", l), dstates[l]
        # in the forward pass this was (3) h0 = h_last Wh_init,  c0 = c_last Wc_init
        product(layer.h_last.T, dh0, out=grads[f"{init}.Wh"])
        dh_last = _apart(product(dh0, params[f"{init}.Wh"].T), *cache.shape)
        product(layer.c_last.T, dc0, out=grads[f"{init}.Wc"])
        dc_last = _apart(product(dc0, params[f"{init}.Wc"].T), *cache.shape)
        # in the forward pass this was (1) y, h_last, c_last = lstm(dropout(y below))
        gradients = lstm_backward(dy, dh_last, dc_last, layer.lstm)
        grads[f"{encoder}.Wx"][...] = gradients.dWx
        grads[f"{encoder}.Wh"][...] = gradients.dWh
        grads[f"{encoder}.b"][...] = gradients.db
        dy = gradients.dx
        if layer.dropout is not None:
            dy = cache.kernels.dropout.dropout_backward(dy, layer.dropout).dx
    return dy


def _side_by_side(last: Array) -> Array:
    """(D, B, G) -> (B, D G): the forward state, then the backward one."""
    D, B, G = last.shape
    return last.transpose(1, 0, 2).reshape(B, D * G)


def _apart(dlast: Array, D: int, G: int) -> Array:
    return dlast.reshape(-1, D, G).transpose(1, 0, 2)
