"""The decoder: LSTM cells, attention and the attentional output, step by step (Luong et al. 2015).

    (1)  z[t] = y[t] Wx + b                       for all steps in one product, before the loop
    (2)  z[t] += [h[t-1]; fed[t-1]] Wh            fed = o, the context a, or nothing
    (3)  h[t], c[t] = lstm_gates(z[t], c[t-1])    further layers: z = dropout(h below) Wx + b + h[t-1] Wh
    (4)  a[t] = attention(h[t], h_enc)
    (5)  o[t] = dropout(tanh(p[t])),   p[t] = [a[t]; h[t]] W_combine

Rows are packed by target length (see ops/packing): step t computes only the sentences that still
have a word to predict.  Backward walks the same loop from its end and keeps, for every row, the
gradients that reach each product; the weights' gradients follow in one product each after the loop.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..arrays import Array, array_module
from ..ops.attention import (AttentionStepCache, attention_keys, attention_keys_backward, attention_query,
                             attention_query_backward, attention_step_backward, attention_step_forward)
from ..ops.dropout import dropout_mask
from ..ops.linear import transposed_product
from ..ops.lstm_gates import LSTMGatesCache, lstm_gates_backward, lstm_gates_forward
from ..ops.packing import Packing, pack, place, steps
from .config import NMTConfig, layer_name
from .encoder import State


class Memory(NamedTuple):
    """What the decoder attends to."""

    keys: Array  # (B, S, A)
    values: Array  # (B, S, M)
    mask: Array  # (B, S) True = a token


class LayerRows(NamedTuple):
    """One layer's rows over all steps, packed."""

    x: Array  # (N, I) input from below
    before: Array  # (N, R) what the step before handed on: [h; fed] for the first layer, h above
    gates: LSTMGatesCache  # (N, ...)
    mask: Array | None  # (N, I) dropout of x, layers above the first


class DecoderCache(NamedTuple):
    packing: Packing
    words: np.ndarray  # (N,) packing.rows, on the host: which of the T * B words each row predicts
    shape: tuple[int, int, int]  # (T, B, E) of the embedded target
    layers: list[LayerRows]
    attention: list[AttentionStepCache]  # of each step
    u: Array  # (N, M + H) rows [a; h]
    slope: Array  # (N, H) do/dp of (5): (1 - tanh^2) * dropout mask


def memorize(params, h_enc: Array, mask: Array) -> Memory:
    """Keys and values of h_enc (S, B, M) and the mask (S, B), sentence by sentence."""
    xp = array_module(h_enc)
    values = xp.ascontiguousarray(h_enc.transpose(1, 0, 2))
    keys = attention_keys(values, params.get("attention.W"), params.get("attention.v"))
    return Memory(keys, values, xp.ascontiguousarray(mask.T))


def decoder_forward(params, config: NMTConfig, embedded: Array, tgt_lengths: Array, h_enc: Array, mask: Array,
                    states: list[State], rng=None):
    """Packed attentional outputs o (N, H), cache; embedded (T, B, E) of the words before each target."""
    xp = array_module(embedded)
    T, B, E = embedded.shape
    on_host = pack(tgt_lengths, T)
    packing = place(on_host, xp)
    order, N = packing.order, packing.offsets[-1]
    memory = memorize(params, h_enc[:, order], mask[:, order])
    M, H = config.memory_size, config.hidden_size
    dtype = xp.result_type(embedded, h_enc, params["combine.W"])
    empty = lambda columns: xp.empty((N, columns), dtype)
    dropout = config.dropout if rng is not None else 0.0
    layers = [_layer_rows(params, config, l, packing, state, embedded, empty, dropout, rng)
              for l, state in enumerate(states)]
    u, o, tanh_p = empty(M + H), empty(H), empty(H)
    scale = dropout_mask((N, H), dropout, rng, tanh_p.real.dtype) if dropout else None
    W, v = params.get("attention.W"), params.get("attention.v")
    attention = []
    for now, following, n_next in steps(packing):
        n = now.stop - now.start
        h = _layers_forward(params, layers, now, following, n_next, top=u[now, M:])
        part = Memory(*(array[:n] for array in memory))
        context, cache = attention_step_forward(attention_query(h, W, v)[:, None], *part, v)  # (4)
        attention.append(cache)
        u[now, :M] = context[:, 0]
        xp.tanh(xp.matmul(u[now], params["combine.W"]), out=tanh_p[now])  # (5)
        o[now] = tanh_p[now] if scale is None else tanh_p[now] * scale[now]
        fed = {"output": o[now], "context": u[now, :M], "none": o[now, :0]}[config.feed]
        layers[0].before[following, H:] = fed[:n_next]
    slope = 1 - tanh_p * tanh_p
    if scale is not None:
        slope *= scale
    return o, DecoderCache(packing, on_host.rows, embedded.shape, layers, attention, u, slope)


def _layer_rows(params, config, l, packing, state, embedded, empty, dropout, rng) -> LayerRows:
    """The rows of layer l with everything in place that is known before the loop."""
    xp = array_module(embedded)
    H = config.hidden_size
    name = layer_name("decoder", l)
    B = len(packing.order)
    before, c_prev = empty(len(params[f"{name}.Wh"])), empty(H)
    before[:B, :H], before[:B, H:], c_prev[:B] = state[0][packing.order], 0, state[1][packing.order]
    mask = None
    if l == 0:
        x = embedded.reshape(-1, embedded.shape[-1])[packing.rows]
        z = xp.matmul(x, params[f"{name}.Wx"])  # (1)
        z += params[f"{name}.b"]
    else:
        x, z = empty(H), empty(4 * H)
        mask = dropout_mask(x.shape, dropout, rng, x.real.dtype) if dropout else None
    return LayerRows(x, before, LSTMGatesCache(z, c_prev, tanh_c=empty(H)), mask)


def _layers_forward(params, layers: list[LayerRows], now: slice, following: slice, n_next: int,
                    top: Array) -> Array:
    """(2), (3) of one step through all layers; the last one's h is written into `top` and returned."""
    xp = array_module(top)
    H = top.shape[1]
    h = None  # of the layer below
    for l, rows in enumerate(layers):
        name = layer_name("decoder", l)
        z = rows.gates.gates[now]
        if l:
            rows.x[now] = h if rows.mask is None else h * rows.mask[now]
            xp.matmul(rows.x[now], params[f"{name}.Wx"], out=z)
            z += params[f"{name}.b"]
        z += xp.matmul(rows.before[now], params[f"{name}.Wh"])  # (2)
        (h, c), _ = lstm_gates_forward(z, rows.gates.c_prev[now], h=top if l == len(layers) - 1 else None,
                                       tanh_c=rows.gates.tanh_c[now], overwrite=True)  # (3)
        rows.before[following, :H] = h[:n_next]
        rows.gates.c_prev[following] = c[:n_next]
    return h


def decoder_backward(do: Array, cache: DecoderCache, params, config: NMTConfig, grads):
    """dembedded (T, B, E), dh_enc (S, B, M), [(dh0, dc0) of each layer]; weights' gradients go into `grads`.

    do (N, H) is the gradient of the packed outputs.
    """
    xp = array_module(do)
    packing, layers, order = cache.packing, cache.layers, cache.packing.order
    N, H = do.shape
    M, B = config.memory_size, len(order)
    W, v = params.get("attention.W"), params.get("attention.v")
    do = do.copy()  # fed-back gradients are added to it
    dp_rows, du, dquery_rows = xp.empty_like(do), xp.empty_like(cache.u), xp.empty_like(do)
    dz_rows = [xp.empty_like(rows.gates.gates) for rows in layers]
    dbefore: list[Array] = [None] * len(layers)
    dc = [xp.zeros((B, H), do.dtype) for _ in layers]
    dscores = []
    dkeys = dv = None
    if v is not None:
        dkeys, dv = xp.zeros_like(cache.attention[0].keys), xp.zeros_like(v)
    for t, (now, _, n_next) in reversed(list(enumerate(steps(packing)))):
        if config.feed == "output" and n_next:
            do[now][:n_next] += dbefore[0][:, H:]
        # in the forward pass this was (5) o = dropout(tanh(p)),  p = u W_combine
        xp.multiply(do[now], cache.slope[now], out=dp_rows[now])
        du[now] = transposed_product(dp_rows[now], params["combine.W"])
        if config.feed == "context" and n_next:
            du[now][:n_next, :M] += dbefore[0][:, H:]
        # in the forward pass this was (4) a = attention(h, h_enc)
        step = attention_step_backward(du[now][:, None, :M], cache.attention[t])
        dquery_rows[now] = step.dquery[:, 0]
        dscores.append(step.dscore[:, 0])
        if v is not None:
            dkeys[: now.stop - now.start] += step.dkeys
            dv += step.dv
        dh = attention_query_backward(dquery_rows[now], W, v, H) + du[now][:, M:]
        _layers_backward(dh, layers, now, n_next, dbefore, dc, dz_rows, params)
    dscore_rows = xp.concatenate(dscores[::-1])
    dstates = []
    for l in range(len(layers)):
        dh0, dc0 = xp.empty_like(dc[l]), xp.empty_like(dc[l])
        dh0[order], dc0[order] = dbefore[l][:, :H], dc[l]
        dstates.append((dh0, dc0))
    dembedded = _weight_gradients(cache, params, dz_rows, dp_rows, grads)
    dh_enc = _memory_gradients(cache, params, dscore_rows, dquery_rows, du[:, :M], dkeys, dv, grads)
    return dembedded, dh_enc, dstates


def _layers_backward(dh: Array, layers: list[LayerRows], now: slice, n_next: int, dbefore: list[Array],
                     dc: list[Array], dz_rows: list[Array], params) -> None:
    """(3), (2) of one step through all layers; dbefore and dc are carried to the step before."""
    n, H = dh.shape
    for l in reversed(range(len(layers))):
        name, rows = layer_name("decoder", l), layers[l]
        if n_next:  # the state was handed on to the next step
            dh[:n_next] += dbefore[l][:, :H]
        # in the forward pass this was (3) h, c = lstm_gates(z, c_prev)
        dz = dz_rows[l][now]
        part = LSTMGatesCache(*(array[now] for array in rows.gates))
        dc[l][:n] = lstm_gates_backward(dh, dc[l][:n], part, dz=dz).dc_prev
        # in the forward pass this was (2) z += [h_prev; fed_prev] Wh
        dbefore[l] = transposed_product(dz, params[f"{name}.Wh"])
        if l:
            dh = transposed_product(dz, params[f"{name}.Wx"])
            if rows.mask is not None:
                dh *= rows.mask[now]


def _weight_gradients(cache: DecoderCache, params, dz_rows: list[Array], dp_rows: Array, grads) -> Array:
    """Every product with a weight that could wait, over all rows at once; returns dembedded (T, B, E)."""
    xp = array_module(dp_rows)
    xp.matmul(cache.u.T, dp_rows, out=grads["combine.W"])
    for l, (rows, dz) in enumerate(zip(cache.layers, dz_rows)):
        name = layer_name("decoder", l)
        xp.matmul(rows.x.T, dz, out=grads[f"{name}.Wx"])
        xp.matmul(rows.before.T, dz, out=grads[f"{name}.Wh"])
        xp.sum(dz, axis=0, out=grads[f"{name}.b"])
    dembedded = xp.zeros((cache.shape[0] * cache.shape[1], cache.shape[2]), dp_rows.dtype)
    dembedded[cache.packing.rows] = xp.matmul(dz_rows[0], params["decoder.Wx"].T)  # (1)
    return dembedded.reshape(cache.shape)


def _memory_gradients(cache: DecoderCache, params, dscore_rows: Array, dquery_rows: Array,
                      dcontext_rows: Array, dkeys, dv, grads) -> Array:
    """dh_enc (S, B, M) from all steps at once: one batched product each for the values and the keys."""
    xp = array_module(dscore_rows)
    W, v = params.get("attention.W"), params.get("attention.v")
    M = dcontext_rows.shape[1]
    by_sentence = lambda rows: _by_sentence(rows, cache.packing)
    weights = by_sentence(xp.concatenate([step.weights[:, 0] for step in cache.attention]))  # (B, T, S)
    dvalues = xp.matmul(weights.transpose(0, 2, 1), by_sentence(dcontext_rows))
    h_rows = cache.u[:, M:]
    if v is None:
        dkeys = xp.matmul(by_sentence(dscore_rows).transpose(0, 2, 1), by_sentence(h_rows))
    values_part, dW = attention_keys_backward(dkeys, cache.attention[0].values, W, v)
    if v is not None:
        dW = xp.concatenate([h_rows.T @ dquery_rows, dW])
        grads["attention.v"][...] = dv
    if W is not None:
        grads["attention.W"][...] = dW
    dvalues += values_part
    B, S, _ = dvalues.shape
    dh_enc = xp.empty((S, B, M), dvalues.dtype)
    dh_enc[:, cache.packing.order] = dvalues.transpose(1, 0, 2)
    return dh_enc


def _by_sentence(rows: Array, packing: Packing) -> Array:
    """Packed rows (N, X) -> (B, T', X) in sorted order, zeros where a sentence has ended."""
    xp = array_module(rows)
    T, B = len(packing.counts), len(packing.order)
    array = xp.zeros((B, T, rows.shape[1]), rows.dtype)
    for t, (now, _, _) in enumerate(steps(packing)):
        array[: packing.counts[t], t] = rows[now]
    return array
