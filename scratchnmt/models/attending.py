"""What the decoder attends to, and how: global and local attention, within its loop and after it.

The source, keys and values sentence by sentence, is the *memory*.  A step sees all of it or, with local attention, a
window of it (see ops/local.py); the step of attention is the same.  h (n, Q, H) are the queries of the first n
sentences: Q = 1 in training, the beams of a search; a window whose place is predicted is each query's own.

Of each step the training loop keeps a row of each array of AttentionRows; a window itself is taken again on the way back,
as it is the largest thing there.
"""

from __future__ import annotations

from typing import NamedTuple

from ..arrays import Array, array_module
from ..ops.attention import (AttentionStepCache, attention_keys, attention_keys_backward, attention_query,
                             attention_query_backward, location_keys, location_keys_backward)
from ..ops.local import (PredictPlaceCache, add_through, centre, gaussian, gaussian_backward, inside, padded,
                         predict_place_backward, predict_place_forward, spread, through, times_gaussian, window_at,
                         windows_around)
from ..ops.packing import Packing, steps
from ..ops.plain import PLAIN, Kernels
from .config import GLOBAL, MONOTONIC, PREDICTIVE, NMTConfig


class Memory(NamedTuple):
    """What the decoder attends to; with local attention, P = S + 3D + 1 places for S (see ops/local.py)."""

    keys: Array  # (B, S, A)
    values: Array  # (B, S, M)
    mask: Array  # (B, S) True = a token
    lengths: Array | None  # (B,) tokens, real, where places are predicted

    def of(self, sentences: Array | slice) -> Memory:
        return Memory(*(None if array is None else array[sentences] for array in self))


def memorize(params, config: NMTConfig, h_enc: Array, mask: Array, kernels: Kernels = PLAIN) -> Memory:
    """Keys and values of h_enc (S, B, M) and the mask (S, B), sentence by sentence."""
    xp = array_module(h_enc)
    values, mask = xp.ascontiguousarray(h_enc.transpose(1, 0, 2)), xp.ascontiguousarray(mask.T)
    lengths = mask.sum(axis=1).astype(h_enc.real.dtype) if config.attention == PREDICTIVE else None
    if (places := params.get("attention.places")) is not None:
        keys = location_keys(places, values)
    else:
        keys = attention_keys(values, params.get("attention.W"), params.get("attention.v"), kernels.product.product)
    if config.attention != GLOBAL:
        keys, values, mask = (padded(array, config.window) for array in (keys, values, mask))
    return Memory(keys, values, mask, lengths)


class Seen(NamedTuple):
    """What queries saw."""

    step: AttentionStepCache
    predict: PredictPlaceCache | None  # of local-p, (n Q,) and (n Q, H)


def attend(params, config: NMTConfig, memory: Memory, h: Array, t: int, kernels: Kernels = PLAIN, **buffers):
    """Context (n, Q, M), Seen, for h (n, Q, H) of step t; buffers: those of `attention_step_forward`."""
    n, Q, H = h.shape
    W, v = params.get("attention.W"), params.get("attention.v")
    query, predict = attention_query(h, W, v), None
    if config.attention == PREDICTIVE:
        query = query.reshape(n * Q, 1, -1)
        q = kernels.product.product(h.reshape(n * Q, H), params["window.W"])
        _, predict = predict_place_forward(q, memory.lengths[:n].repeat(Q), params["window.v"])
    window = _window(config, memory, n, t, predict)
    keys, values, mask = (through(window, array) for array in memory[:3])
    if predict is not None:
        values = times_gaussian(values, gaussian(predict.p, config.window)[0])
    context, step = kernels.attention.attention_step_forward(query, keys, values, mask, v, **buffers)
    return context.reshape(n, Q, -1), Seen(step, predict)


def _window(config: NMTConfig, memory: Memory, n: int, t: int, predict: PredictPlaceCache | None):
    """Where in the memory the first n sentences look: see ops/local.py, `through`."""
    P = memory.mask.shape[1]
    if config.attention == GLOBAL:
        return slice(n), slice(P)
    if config.attention == MONOTONIC:
        return window_at(t, n, P, config.window)
    return windows_around(predict.p, P, config.window, len(predict.share) // n)


def attention_map(config: NMTConfig, memory: Memory, t: int, seen: Seen) -> Array:
    """(n, Q, S): how much of each source token is in the contexts of step t."""
    weights = seen.step.weights
    if config.attention == GLOBAL:
        return weights
    xp, D, P = array_module(weights), config.window, memory.mask.shape[1]
    if config.attention == MONOTONIC:
        first = xp.full(weights.shape[:2], window_at(t, 1, P, D)[1].start)
    else:
        first, weights = centre(seen.predict.p)[:, None], weights * gaussian(seen.predict.p, D)[0][:, None]
    return inside(spread(weights, first, P), D, axis=-1).reshape(len(memory.mask), -1, P - 3 * D - 1)


class AttentionRows(NamedTuple):
    """What the loop over time keeps of the attention, packed."""

    query: Array | None  # (N, A) of the concat score; others ask with h itself
    weights: Array  # (N, S), or (N, 2D + 1) of the windows
    tanh: Array | None  # (N, H) of local-p
    share: Array | None  # (N,) of local-p


class AttentionGradientRows(NamedTuple):
    """What the loop back leaves to be summed, packed, but for the concat score, whose sums cannot wait."""

    dscore: Array  # (N, S), or (N, 2D + 1)
    dquery: Array | None  # (N, A) of the concat score
    dkeys: Array | None  # (B, S, A) of the concat score
    dv: Array | None  # (A,)
    dq: Array | None  # (N, H) of local-p
    du: Array | None  # (N,) of local-p


def attention_rows(params, config: NMTConfig, memory: Memory, N: int, dtype) -> AttentionRows:
    empty = lambda *shape: array_module(memory.values).empty((N, *shape), dtype)
    H, predicts = config.hidden_size, config.attention == PREDICTIVE
    columns = memory.mask.shape[1] if config.attention == GLOBAL else 2 * config.window + 1
    return AttentionRows(empty(H) if "attention.v" in params else None, empty(columns if config.attends else 0),
                         empty(H) if predicts else None, empty() if predicts else None)


def attention_gradient_rows(params, memory: Memory, rows: AttentionRows, dtype) -> AttentionGradientRows:
    made = lambda make, like: None if like is None else make(like.shape, dtype)
    xp = array_module(rows.weights)
    concat = rows.query is not None
    return AttentionGradientRows(made(xp.empty, rows.weights), made(xp.zeros, rows.query),
                                 made(xp.zeros, memory.keys if concat else None), made(xp.zeros, params.get("attention.v")),
                                 made(xp.empty, rows.tanh), made(xp.empty, rows.share))


def attend_forward(params, config: NMTConfig, memory: Memory, rows: AttentionRows, now: slice, t: int, h: Array,
                   context: Array, kernels: Kernels) -> None:
    """One step of the loop: h (n, H) asks, context (n, M) is filled, and the rows `now` are kept."""
    _, seen = attend(params, config, memory, h[:, None], t, kernels, context=context[:, None],
                     weights=rows.weights[now][:, None])
    if rows.query is not None:
        rows.query[now] = seen.step.query[:, 0]
    if seen.predict is not None:
        rows.tanh[now], rows.share[now] = seen.predict.tanh, seen.predict.share


def attend_backward(params, config: NMTConfig, memory: Memory, rows: AttentionRows, found: AttentionGradientRows,
                    now: slice, t: int, h: Array, dcontext: Array, dh: Array, kernels: Kernels) -> None:
    """The part of dcontext (n, M) that cannot wait: added to dh (n, H); the rest into the rows `now` of `found`."""
    W, v, (n, H) = params.get("attention.W"), params.get("attention.v"), h.shape
    predict = None
    if rows.share is not None:
        predict = PredictPlaceCache(rows.tanh[now], rows.share[now], memory.lengths[:n], params["window.v"])
    window = _window(config, memory, n, t, predict)
    keys, values = through(window, memory.keys), through(window, memory.values)
    if predict is not None:
        g, slope = gaussian(predict.p, config.window)
        values = times_gaussian(values, g)
    query, dquery = (h, dh) if v is None else (rows.query[now], found.dquery[now])
    # in the forward pass this was context = attention(h, h_enc)
    step = AttentionStepCache(query[:, None], keys, values, rows.weights[now][:, None], v)
    grads = kernels.attention.attention_step_backward(dcontext[:, None], step, dquery=dquery[:, None],
                                                      dscore=found.dscore[now][:, None])
    if v is not None:
        add_through(window, found.dkeys, grads.dkeys)
        found.dv[...] += grads.dv
        dh += attention_query_backward(dquery, W, v, H)
    if predict is not None:
        # in the forward pass this was p = length sigmoid(v . tanh(h W)), and g around it
        dp = gaussian_backward(dcontext, rows.weights[now], values, slope)
        found.dq[now], found.du[now] = predict_place_backward(dp, predict)
        kernels.product.transposed_product(found.dq[now], params["window.W"], out=dh, add=True)


def memory_gradients(params, config: NMTConfig, memory: Memory, rows: AttentionRows, found: AttentionGradientRows,
                     h: Array, dcontext: Array, packing: Packing, grads, kernels: Kernels) -> Array:
    """dh_enc (S, B, M) from all steps at once: one batched product each for the values and the keys.

    h (N, H) that asked, dcontext (N, M); the gradients of the attention's own weights go into `grads`.
    """
    xp, product = array_module(dcontext), kernels.product.product
    W, v = params.get("attention.W"), params.get("attention.v")
    weights, dscore = _over_the_source(config, memory, rows, (rows.weights, found.dscore), packing)
    dvalues = product(weights.transpose(0, 2, 1), by_sentence(dcontext, packing))
    dkeys = found.dkeys
    if v is None:
        dkeys = product(dscore.transpose(0, 2, 1), by_sentence(h, packing))
    values = memory.values
    if config.attention != GLOBAL:
        values, dvalues, dkeys = (inside(array, config.window) for array in (values, dvalues, dkeys))
    if (places := params.get("attention.places")) is not None:
        grads["attention.places"][...] = location_keys_backward(dkeys, places)
        values_part, dW = 0, None
    else:
        values_part, dW = attention_keys_backward(dkeys, values, W, v, product)
    if v is not None:
        dW = xp.concatenate([product(h.T, found.dquery), dW])
        grads["attention.v"][...] = found.dv
    if W is not None:
        grads["attention.W"][...] = dW
    if found.dq is not None:
        product(h.T, found.dq, out=grads["window.W"])
        grads["window.v"][...] = found.du @ rows.tanh
    dvalues = dvalues + values_part
    B, S, M = dvalues.shape
    dh_enc = xp.empty((S, B, M), dvalues.dtype)
    dh_enc[:, packing.order] = dvalues.transpose(1, 0, 2)
    return dh_enc


def _over_the_source(config: NMTConfig, memory: Memory, rows: AttentionRows, found: tuple[Array, Array],
                     packing: Packing) -> tuple[Array, Array]:
    """Weights and dscore of all steps, (B, T, S); of windows, each in its place of the padded source."""
    if config.attention == GLOBAL:
        return tuple(by_sentence(array, packing) for array in found)
    xp, P, D = array_module(rows.weights), memory.mask.shape[1], config.window
    B, T = packing.sentences, len(packing.counts)
    weights, dscore = (by_sentence(array, packing) for array in found)
    if config.attention == MONOTONIC:
        first = xp.minimum(xp.arange(B * T) % T, P - 2 * D - 1)
    else:
        p = (memory.lengths[:, None] * by_sentence(rows.share[:, None], packing)[..., 0]).reshape(B * T)
        first = centre(p)
        weights = weights * gaussian(p, D)[0].reshape(B, T, -1)
    return spread(weights, first, P), spread(dscore, first, P)


def by_sentence(rows: Array, packing: Packing) -> Array:
    """Packed rows (N, X) -> (B, T, X) in sorted order, zeros where a sentence has ended."""
    T, B = len(packing.counts), packing.sentences
    if packing.counts[-1] == B:  # every step has all sentences
        return rows.reshape(T, B, -1).transpose(1, 0, 2)
    array = array_module(rows).zeros((B, T, rows.shape[1]), rows.dtype)
    for t, step in enumerate(steps(packing)):
        array[: packing.counts[t], t] = rows[step.now]
    return array
