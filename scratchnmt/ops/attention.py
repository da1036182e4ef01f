"""Luong's global attention (Luong, Pham & Manning 2015, section 3.1).

    (1)  score[s] = h . h_enc[s]                          "dot"       needs M = H
         score[s] = h . (h_enc[s] W)                      "general"   W (M, H)
         score[s] = v . tanh([h; h_enc[s]] W)             "concat"    W (H + M, A), v (A,)
         score[s] = h . places[s]                         "location"  places (L, H), no more tokens than L
    (2)  weights = softmax(score)                         over the source tokens, padding left out
    (3)  context = sum_s weights[s] h_enc[s]

h (B, H), h_enc (S, B, M), mask (S, B) True = a token, context (B, M), weights (B, S).

What depends on the source alone, the *keys*, is computed once per sentence; the step that a decoder
repeats starts from there.  With several queries per sentence, Q (the beams of a search; 1 in training):
query (B, Q, A), keys (B, S, A), values (B, S, M), mask (B, S), context (B, Q, M), weights (B, Q, S).

The textbook computes the same for one sentence, in the lines of `keys[s]`, `score`, `weights[t]` and `a[t]`; its score
is general.  Next: models/decoder.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..arrays import Array, array_module, check_shapes
from .activations import SoftmaxCache, softmax_backward, softmax_forward
from .product import product

Product = Callable[[Array, Array], Array]  # that of the kernels in use


class AttentionStepCache(NamedTuple):
    query: Array  # (B, Q, A)
    keys: Array  # (B, S, A)
    values: Array  # (B, S, M)
    weights: Array  # (B, Q, S)
    v: Array | None  # (A,) of the concat score


class AttentionStepGradients(NamedTuple):
    dquery: Array  # (B, Q, A)
    dscore: Array  # (B, Q, S) from which, with dcontext, the rest can be made after the loop
    dkeys: Array | None  # (B, S, A) concat only
    dv: Array | None  # (A,) concat only


def attention_step_forward(query: Array, keys: Array, values: Array, mask: Array, v: Array | None = None, *,
                           context: Array | None = None, weights: Array | None = None
                           ) -> tuple[Array, AttentionStepCache]:
    """context, cache; the score is concat if v is given, else the inner product with the keys.

    context and weights may be given as buffers to be filled.
    """
    score = query @ keys.transpose(0, 2, 1) if v is None else np.tanh(query[:, :, None] + keys[:, None]) @ v  # (1)
    weights, _ = softmax_forward(score, mask[:, None], out=weights)  # (2)
    context = np.matmul(weights, values, out=context)  # (3)
    return context, AttentionStepCache(query=query, keys=keys, values=values, weights=weights, v=v)


def attention_step_backward(dcontext: Array, cache: AttentionStepCache, *, dquery: Array | None = None,
                            dscore: Array | None = None) -> AttentionStepGradients:
    """The part that cannot wait: the query's gradient, and the scores'; dcontext (B, Q, M).

    keys and values receive dkeys = dscore.T query (dot, general) and dvalues = weights.T dcontext,
    which a loop over time leaves to one product at its end.  dquery may be a buffer to be *added* to, since a
    query has other readers; dscore one to be filled.
    """
    query, keys, values, v = cache.query, cache.keys, cache.values, cache.v
    # in the forward pass this was (3) context = weights values
    dweights = dcontext @ values.transpose(0, 2, 1)
    # in the forward pass this was (2) weights = softmax(score)
    dscore = softmax_backward(dweights, SoftmaxCache(cache.weights), out=dscore).dx
    # in the forward pass this was (1)
    dkeys = dv = None
    if v is None:
        step_dquery = dscore @ keys
    else:
        tanh = np.tanh(query[:, :, None] + keys[:, None])  # (B, Q, S, A): cheaper to compute again than to keep
        dv = np.tensordot(dscore, tanh, axes=3)
        dsum = dscore[..., None] * v * (1 - tanh * tanh)
        step_dquery, dkeys = dsum.sum(axis=2), dsum.sum(axis=1)
    if dquery is None:
        dquery = step_dquery
    else:
        dquery += step_dquery
    return AttentionStepGradients(dquery, dscore, dkeys, dv)


class AttentionCache(NamedTuple):
    h: Array  # (B, H)
    W: Array | None
    places: Array | None
    step: AttentionStepCache

    @property
    def weights(self) -> Array:  # (B, S), rows sum to one
        return self.step.weights[:, 0]


class AttentionGradients(NamedTuple):
    dh: Array  # (B, H)
    dh_enc: Array  # (S, B, M)
    dW: Array | None
    dv: Array | None
    dplaces: Array | None


def attention_forward(h: Array, h_enc: Array, mask: Array, W: Array | None = None, v: Array | None = None,
                      places: Array | None = None) -> tuple[Array, AttentionCache]:
    """context (B, M), cache, for one query per sentence: the textbook step.

    Neither W nor v: dot; W alone: general; both: concat; places: location.  cache.weights is the attention map.
    """
    shapes = {"h": ("B H", h), "h_enc": ("S B M", h_enc), "mask": ("S B", mask)}
    if v is not None:
        shapes.update(v=("A", v), W=("H+M A", W))
    elif W is not None:
        shapes.update(W=("M H", W))
    elif places is not None:
        shapes.update(places=("L H", places))
    else:
        shapes.update(h_enc=("S B H", h_enc))
    check_shapes("attention", **shapes)
    values = array_module(h_enc).ascontiguousarray(h_enc.transpose(1, 0, 2))
    query = attention_query(h, W, v)
    keys = attention_keys(values, W, v) if places is None else location_keys(places, values)
    context, step = attention_step_forward(query[:, None], keys, values, mask.T, v)
    return context[:, 0], AttentionCache(h, W, places, step)


def attention_backward(dcontext: Array, cache: AttentionCache) -> AttentionGradients:
    """All gradients from dcontext (B, M)."""
    h, W, places, step = cache
    dquery, dscore, dkeys, dv = attention_step_backward(dcontext[:, None], step)
    if dkeys is None:
        dkeys = dscore.transpose(0, 2, 1) @ step.query
    dquery = dquery[:, 0]
    dh = attention_query_backward(dquery, W, step.v, h.shape[-1])
    dvalues, dW_keys, dplaces = 0, None, None
    if places is None:
        dvalues, dW_keys = attention_keys_backward(dkeys, step.values, W, step.v)
    else:
        dplaces = location_keys_backward(dkeys, places)
    dvalues = dvalues + step.weights.transpose(0, 2, 1) @ dcontext[:, None]
    dh_enc = dvalues.transpose(1, 0, 2)
    dW = dW_keys if step.v is None else np.concatenate([h.T @ dquery, dW_keys])
    return AttentionGradients(dh=dh, dh_enc=dh_enc, dW=dW, dv=dv, dplaces=dplaces)


def attention_query(h: Array, W: Array | None, v: Array | None) -> Array:
    """What is compared with the keys, (..., A): h itself, or for concat h times the upper rows of W."""
    return h if v is None or W is None else h @ W[: h.shape[-1]]


def attention_query_backward(dquery: Array, W: Array | None, v: Array | None, H: int) -> Array:
    """dh (N, H) from dquery (N, A); W's upper rows, if it is concat, receive h.T dquery, which can wait."""
    return dquery if v is None or W is None else dquery @ W[:H].T


def attention_keys(values: Array, W: Array | None, v: Array | None, product: Product = product) -> Array:
    """(B, S, A) from the encoder's states sentence by sentence, values (B, S, M): once per sentence."""
    if W is None:
        return values
    B, S, M = values.shape
    return product(values.reshape(B * S, M), _key_rows(W, v, M)).reshape(B, S, -1)  # (1)


def attention_keys_backward(dkeys: Array, values: Array, W: Array | None, v: Array | None,
                            product: Product = product) -> tuple[Array, Array | None]:
    """dvalues (B, S, M) and the gradient of W's rows for the keys (None for dot)."""
    if W is None:
        return dkeys, None
    B, S, M = values.shape
    dkeys = dkeys.reshape(B * S, -1)
    dvalues = product(dkeys, _key_rows(W, v, M).T)
    return dvalues.reshape(B, S, M), product(values.reshape(B * S, M).T, dkeys)


def location_keys(places: Array, values: Array) -> Array:
    """(B, S, H): a learnt vector for each place, the same for every sentence; zeros behind the L places: padding."""
    xp, (B, S, _), (L, H) = array_module(values), values.shape, places.shape
    keys = places[:S]
    if S > L:
        keys = xp.zeros((S, H), places.dtype)
        keys[:L] = places
    return xp.broadcast_to(keys, (B, S, H))


def location_keys_backward(dkeys: Array, places: Array) -> Array:
    """dplaces (L, H); zero where no sentence of the batch reaches."""
    dplaces, known = array_module(dkeys).zeros(places.shape, dkeys.dtype), min(dkeys.shape[1], len(places))
    dplaces[:known] = dkeys[:, :known].sum(axis=0)
    return dplaces


def _key_rows(W: Array, v: Array | None, M: int) -> Array:
    return W if v is None else W[-M:]
