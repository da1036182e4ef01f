"""The encoder: a stack of recurrent layers over the source, and the decoder's first states made from its last ones.

    (1)  y_l, h_last_l, c_last_l = lstm(dropout(y_{l-1}), m_l)      y_0 = the embedded source, without dropout
    (2)  h_enc = dropout(y_L)                                       (S, B, M), by a rate of its own
    (3)  h0_l = [h_last_l] Wh_init_l,   c0_l = [c_last_l] Wc_init_l   all directions side by side; no bias

The states are those of the cell, see cells.py: h and c of an LSTM.  m_l is the mask of ops/recurrent_dropout.py.
The textbook computes the same for one sentence, in the lines from `h_fwd` to `h_enc`, and in those of `h_last` and
`c_last`.  Next: ops/attention.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..arrays import Array
from ..ops.dropout import DropoutCache
from ..ops.packing import Packing
from ..ops.plain import PLAIN, Kernels
from ..ops.recurrent_dropout import recurrent_mask
from .cells import Cell
from .config import NMTConfig, layer_name

State = tuple[Array, ...]  # of one layer, each (B, H): h, then what its cell carries beside it


class EncoderLayerCache(NamedTuple):
    sequence: Any  # the cache of (1)
    dropout: DropoutCache | None  # of the layer's input; None where there is none
    last: list[Array]  # (B, M) of each state, all directions side by side


class EncoderCache(NamedTuple):
    cell: Cell
    layers: list[EncoderLayerCache]
    dropout: DropoutCache | None  # of h_enc; None where there is none
    shape: tuple[int, int]  # D, G: directions and units of each
    kernels: Kernels


def encoder_forward(params: Mapping[str, Array], config: NMTConfig, embedded: Array, lengths: Array | Packing,
                    rng: Any = None, kernels: Kernels = PLAIN) -> tuple[tuple[Array, list[State]], EncoderCache]:
    """(h_enc, [the first states of each decoder layer]), cache; embedded (S, B, E), lengths (B,) or their Packing."""
    y, states, caches, product = embedded, [], [], kernels.product.product
    cell, (D, G), B = config.recurrent_cell, (config.directions, config.encoder_size), embedded.shape[1]
    for l in range(config.layers):
        encoder, init, dropout = layer_name("encoder", l), layer_name("init", l), None
        if l and rng is not None and config.dropout:
            y, dropout = kernels.dropout.dropout_forward(y, config.dropout, rng=rng)
        m = recurrent_mask((D, B, G), config.recurrent_dropout, rng, y.real.dtype, kernels)
        weights = {name: params[f"{encoder}.{name}"] for name in _weights(cell)}
        (y, *last), sequence = cell.sequence(y, lengths, weights, m=m, backwards=config.reverse_source,
                                             kernels=kernels)  # (1)
        last = [_side_by_side(state, kernels) for state in last]
        caches.append(EncoderLayerCache(sequence, dropout, last))
        first: State = ()
        for name, state in zip(cell.states, last, strict=True):
            first += (product(state, params[f"{init}.W{name}"]),)  # (3)
        states.append(first)
    h_enc, dropout = y, None
    if rng is not None and config.encoder_dropout:
        h_enc, dropout = kernels.dropout.dropout_forward(y, config.encoder_dropout, rng=rng)  # (2)
    return (h_enc, states), EncoderCache(cell, caches, dropout, (D, G), kernels)


def encoder_backward(dh_enc: Array, dstates: list[State], cache: EncoderCache, params: Mapping[str, Array],
                     grads: Mapping[str, Array]) -> Array:
    """The gradient of the embedded source (S, B, E); the weights' gradients are written into `grads`."""
    dy, product, put = dh_enc, cache.kernels.product.product, cache.kernels.rows.put
    if cache.dropout is not None:
        # in the forward pass this was (2) h_enc = dropout(y)
        dy = cache.kernels.dropout.dropout_backward(dh_enc, cache.dropout).dx
    for l, layer in reversed(list(enumerate(cache.layers))):
        encoder, init, dlast = layer_name("encoder", l), layer_name("init", l), []
        for name, last, dstate in zip(cache.cell.states, layer.last, dstates[l], strict=True):
            # in the forward pass this was (3) h0 = h_last Wh_init,  c0 = c_last Wc_init
            product(last.T, dstate, out=grads[f"{init}.W{name}"])
            dlast.append(_apart(product(dstate, params[f"{init}.W{name}"].T), *cache.shape))
        # in the forward pass this was (1) y, h_last, c_last = lstm(dropout(y below))
        gradients = cache.cell.sequence_backward(dy, dlast, layer.sequence)
        for name in _weights(cache.cell):
            put(grads[f"{encoder}.{name}"], ..., getattr(gradients, f"d{name}"))
        dy = gradients.dx
        if layer.dropout is not None:
            dy = cache.kernels.dropout.dropout_backward(dy, layer.dropout).dx
    return dy


def _weights(cell: Cell) -> tuple[str, ...]:
    return ("Wx", "Wh", "b", "g") if cell.gain_blocks else ("Wx", "Wh", "b")


def _side_by_side(last: Array, kernels: Kernels) -> Array:
    """(D, B, G) -> (B, D G): the forward state, then the backward one."""
    D, B, G = last.shape
    return kernels.rows.contiguous(last.transpose(1, 0, 2)).reshape(B, D * G)


def _apart(dlast: Array, D: int, G: int) -> Array:
    return dlast.reshape(-1, D, G).transpose(1, 0, 2)
