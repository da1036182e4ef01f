"""The decoder: LSTM cells, attention and the attentional output, step by step (Luong et al. 2015).

    (1)  z[t] = y[t] Wx + b                       for all steps in one product, before the loop
    (2)  z[t] += [h[t-1]; fed[t-1]] Wh            fed = o, the context a, h[0] at every step, or nothing
    (3)  h[t], c[t] = lstm_gates(z[t], c[t-1])    further layers: z = dropout(h below) Wx + b + h[t-1] Wh
    (4)  a[t] = attention(h[t], h_enc)            see attending.py
    (5)  o[t] = tanh_dropout([a[t]; h[t]] W_combine)    or dropout(h[t]), where the state itself is read

Without attention there is no (4), and a has no columns.  Where the previous state asks (Bahdanau, Cho & Bengio 2015),
(4) comes first, a[t] = attention(h[t-1], h_enc), and the context that (2) is fed is a[t] itself.
Rows are packed by target length (see ops/packing): step t computes only the sentences that still
have a word to predict.  a, h of the last layer and o stand side by side in one row of `top`, so that [a; h] of
(5) and, with input feeding, [h; o] of (2) are columns of it and nothing is copied from step to step.
Backward walks the same loop from its end over an array of the same layout, into which each product adds what it
hands back; the gradients of all rows are kept, and the weights' gradients follow in one product each after it.  A context
stands in the row of the state that asked for it, so that (2) finds what it is fed in one row, whoever asked.
"""

from __future__ import annotations

from typing import NamedTuple

from ..arrays import Array, array_module
from ..ops.lstm_gates import LSTMGatesCache
from ..ops.packing import Packing, Step, packed, steps, steps_back
from ..ops.plain import PLAIN, Kernels
from ..ops.tanh_dropout import TanhDropoutCache
from .attending import (AttentionRows, Memory, attend_backward, attend_forward, attention_gradient_rows, attention_rows,
                        memorize, memory_gradients)
from .config import NMTConfig, layer_name
from .encoder import State


class LayerRows(NamedTuple):
    """One layer's rows over all steps, packed; states have B rows more in front (see packing)."""

    x: Array  # (N, I) input from below
    z: Array  # (N, 4H) pre-activations, then the gates
    h: Array  # (B + N, H)
    c: Array  # (B + N, H)
    tanh_c: Array  # (N, H)
    mask: Array | None  # (N, I) dropout of x, layers above the first


class DecoderCache(NamedTuple):
    packing: Packing
    shape: tuple[int, int, int]  # (T, B, E) of the embedded target
    layers: list[LayerRows]
    memory: Memory
    top: Array  # (B + N, M + 2H) rows [a; h; o]
    attention: AttentionRows
    slope: Array | None  # (N, H) do/dp of (5), or do/dh; None: the state itself
    kernels: Kernels


def decoder_forward(params, config: NMTConfig, embedded: Array, tgt_lengths: Array | Packing, h_enc: Array,
                    mask: Array, states: list[State], rng=None, kernels: Kernels = PLAIN):
    """Packed attentional outputs o (N, H), cache; embedded (T, B, E) of the words before each target."""
    xp = array_module(embedded)
    packing = packed(tgt_lengths, len(embedded), xp)
    order, B, N = packing.order, packing.sentences, packing.offsets[-1]
    memory = memorize(params, config, h_enc[:, order], mask[:, order], kernels)
    M, H = config.context_size, config.hidden_size
    combines = config.readout == "output"
    dtype = xp.result_type(embedded, h_enc, params["decoder.Wh"])
    empty = lambda rows, columns: xp.empty((rows, columns), dtype)
    dropout = config.dropout if rng is not None else 0.0
    top = empty(B + N, M + (2 * H if combines else H))
    top[:B] = 0
    layers = [_layer_rows(params, config, l, packing, state, embedded, top, empty, dropout, rng, kernels)
              for l, state in enumerate(states)]
    mask_o = kernels.dropout.dropout_mask((N, H), dropout, rng, top.real.dtype) if dropout else None
    slope, p = empty(N, H) if combines else mask_o, empty(B, H)
    rows = attention_rows(params, config, memory, N, dtype)
    handed_on = _handed_on(config, layers[0].h, top)

    def attend(t, now, asking):
        attend_forward(params, config, memory, rows, now, t, top[asking, M : M + H], top[asking, :M], kernels)

    for t, step in enumerate(steps(packing)):
        now, before, after = step
        if config.asks_before:
            attend(t, now, before)  # (4)
        _layers_forward(params, layers, step, handed_on, kernels)
        if config.asks_after:
            attend(t, now, after)  # (4)
        if combines:
            p_now = p[: now.stop - now.start]
            for k, (columns, part) in enumerate(_combined(config, top, before, after)):
                kernels.product.product(columns, params["combine.W"][part], out=p_now, add=k > 0)  # (5)
            kernels.tanh_dropout.tanh_dropout_forward(p_now, None if mask_o is None else mask_o[now],
                                                      o=top[after, M + H :], slope=slope[now])  # (5)
    cache = DecoderCache(packing, embedded.shape, layers, memory, top, rows, slope, kernels)
    if combines:
        return top[B:, M + H :], cache
    return top[B:, M:] if slope is None else top[B:, M:] * slope, cache  # (5)


def _handed_on(config: NMTConfig, h: Array, top: Array) -> list[tuple[Array, slice]]:
    """What the first layer receives of the step before, or its gradient: columns, and the rows of Wh for them.

    h (B + N, H) of the first layer.  Columns that stand side by side are one product.
    """
    M, H = config.context_size, config.hidden_size
    if config.feed == "output" and config.layers == 1:
        return [(top[:, M:], slice(None))]
    fed = {"output": [top[:, M + H :]], "context": [top[:, :M]], "start": [], "none": []}[config.feed]
    return [(h, slice(0, H)), *((columns, slice(H, None)) for columns in fed)]


def _combined(config: NMTConfig, top: Array, before, after) -> list[tuple[Array, slice]]:
    """What (5) reads, or its gradient: columns of one step or of all, and the rows of W_combine for them."""
    M, H = config.context_size, config.hidden_size
    if config.asks_before:
        return [(top[before, :M], slice(0, M)), (top[after, M : M + H], slice(M, None))]
    return [(top[after, : M + H], slice(None))]


def _layer_rows(params, config, l, packing, state, embedded, top, empty, dropout, rng, kernels) -> LayerRows:
    """The rows of layer l with everything in place that is known before the loop."""
    M, H = config.context_size, config.hidden_size
    name, xp = layer_name("decoder", l), array_module(embedded)
    B, N = packing.sentences, packing.offsets[-1]
    h = top[:, M : M + H] if l == config.layers - 1 else empty(B + N, H)
    c = empty(B + N, H)
    h[:B], c[:B] = state[0][packing.order], state[1][packing.order]
    x, z, mask = empty(N, H), empty(N, 4 * H), None
    if l == 0:
        x = embedded.reshape(-1, embedded.shape[-1])[packing.rows]
        kernels.product.product(x, params[f"{name}.Wx"], out=z)  # (1)
        z += params[f"{name}.b"]
        if config.feed == "start":
            fed = kernels.product.product(xp.ascontiguousarray(h[:B]), params[f"{name}.Wh"][H:])  # (2)
            for step in steps(packing):
                z[step.now] += fed[: step.now.stop - step.now.start]
    elif dropout:
        mask = kernels.dropout.dropout_mask(x.shape, dropout, rng, x.real.dtype)
    return LayerRows(x, z, h, c, empty(N, H), mask)


def _layers_forward(params, layers: list[LayerRows], step: Step, handed_on, kernels: Kernels) -> None:
    """(2), (3) of one step through all layers."""
    xp, product = array_module(layers[0].z), kernels.product.product
    now, before, after = step
    for l, rows in enumerate(layers):
        name = layer_name("decoder", l)
        z = rows.z[now]
        if l:
            below = layers[l - 1].h[after]
            xp.multiply(below, 1 if rows.mask is None else rows.mask[now], out=rows.x[now])
            product(rows.x[now], params[f"{name}.Wx"], out=z)
            z += params[f"{name}.b"]
        for array, part in [(rows.h, slice(None))] if l else handed_on:
            product(array[before], params[f"{name}.Wh"][part], out=z, add=True)  # (2)
        kernels.lstm_gates.lstm_gates_forward(z, rows.c[before], h=rows.h[after], c=rows.c[after],
                                              tanh_c=rows.tanh_c[now], overwrite=True)  # (3)


def decoder_backward(do: Array, cache: DecoderCache, params, config: NMTConfig, grads):
    """dembedded (T, B, E), dh_enc (S, B, M), [(dh0, dc0) of each layer]; weights' gradients go into `grads`.

    do (N, H) is the gradient of the packed outputs.
    """
    xp = array_module(do)
    packing, layers, order, kernels, memory = cache.packing, cache.layers, cache.packing.order, cache.kernels, cache.memory
    N, H = do.shape
    M, B = config.context_size, packing.sentences
    transposed_product = kernels.product.transposed_product
    dtop = xp.zeros(cache.top.shape, do.dtype)
    combines = config.readout == "output"
    # in the forward pass this was (5) and the vocabulary: o, or dropout(h)
    dtop[B:, M + H if combines else M :] = do if combines or cache.slope is None else do * cache.slope
    dh = [xp.zeros((B + N, H), do.dtype) for _ in layers[1:]] + [dtop[:, M : M + H]]
    dc = [xp.zeros((B, H), do.dtype) for _ in layers]
    dz = [xp.empty(rows.z.shape, do.dtype) for rows in layers]
    dp = xp.empty((N, H), do.dtype)
    found = attention_gradient_rows(params, memory, cache.attention, do.dtype)
    handed_on = _handed_on(config, dh[0], dtop)

    def attend_back(t, now, asking):
        attend_backward(params, config, memory, cache.attention, found, now, t, cache.top[asking, M : M + H],
                        dtop[asking, :M], dtop[asking, M : M + H], kernels)

    for t, step in zip(reversed(range(len(packing.counts))), steps_back(packing)):
        now, before, after = step
        if combines:
            # in the forward pass this was (5) o = tanh_dropout(p),  p = [a; h] W_combine
            kernels.tanh_dropout.tanh_dropout_backward(dtop[after, M + H :], TanhDropoutCache(cache.slope[now]),
                                                       dp=dp[now])
            for columns, part in _combined(config, dtop, before, after):
                transposed_product(dp[now], params["combine.W"][part], out=columns, add=True)
        if config.asks_after:
            attend_back(t, now, after)  # (4)
        _layers_backward(layers, step, handed_on, dh, dc, dz, params, kernels)
        if config.asks_before:
            attend_back(t, now, before)  # (4)
    if config.feed == "start":
        dh[0][:B] += _start_gradients(cache, params, dz[0], grads)
    dstates = []
    for dh_layer, dc_layer in zip(dh, dc):
        dh0, dc0 = xp.empty_like(dc_layer), xp.empty_like(dc_layer)
        dh0[order], dc0[order] = dh_layer[:B], dc_layer
        dstates.append((dh0, dc0))
    dembedded = _weight_gradients(cache, params, config, dz, dp, grads)
    if not config.attends:
        return dembedded, xp.zeros((*memory.mask.T.shape, memory.values.shape[2]), do.dtype), dstates
    asked = packing.previous if config.asks_before else slice(B, None)
    dh_enc = memory_gradients(params, config, memory, cache.attention, found, cache.top[asked, M : M + H],
                              dtop[asked, :M], packing, grads, kernels)
    return dembedded, dh_enc, dstates


def _layers_backward(layers: list[LayerRows], step: Step, handed_on, dh: list[Array], dc: list[Array],
                     dz: list[Array], params, kernels: Kernels) -> None:
    """(3), (2) of one step through all layers; what reaches the step before is added to its rows of dh."""
    now, before, after = step
    n, transposed_product = now.stop - now.start, kernels.product.transposed_product
    for l in reversed(range(len(layers))):
        name, rows, dz_now = layer_name("decoder", l), layers[l], dz[l][now]
        # in the forward pass this was (3) h, c = lstm_gates(z, c_prev)
        part = LSTMGatesCache(rows.z[now], rows.c[before], rows.tanh_c[now])
        kernels.lstm_gates.lstm_gates_backward(dh[l][after], dc[l][:n], part, dz=dz_now, dc_prev=dc[l][:n])
        # in the forward pass this was (2) z += [h_prev; fed_prev] Wh
        for array, part in [(dh[l], slice(None))] if l else handed_on:
            transposed_product(dz_now, params[f"{name}.Wh"][part], out=array[before], add=True)
        if l and rows.mask is None:
            transposed_product(dz_now, params[f"{name}.Wx"], out=dh[l - 1][after], add=True)
        elif l:
            dh[l - 1][after] += transposed_product(dz_now, params[f"{name}.Wx"]) * rows.mask[now]


def _weight_gradients(cache: DecoderCache, params, config: NMTConfig, dz: list[Array], dp: Array, grads) -> Array:
    """Every product with a weight that could wait, over all rows at once; returns dembedded (T, B, E)."""
    xp, product, packing = array_module(dp), cache.kernels.product.product, cache.packing
    if config.readout == "output":
        for columns, part in _combined(config, cache.top, packing.previous, slice(packing.sentences, None)):
            product(columns.T, dp, out=grads["combine.W"][part])
    for l, (rows, dz_layer) in enumerate(zip(cache.layers, dz)):
        name = layer_name("decoder", l)
        product(rows.x.T, dz_layer, out=grads[f"{name}.Wx"])
        for array, part in [(rows.h, slice(None))] if l else _handed_on(config, rows.h, cache.top):
            product(array[packing.previous].T, dz_layer, out=grads[f"{name}.Wh"][part])
        xp.sum(dz_layer, axis=0, out=grads[f"{name}.b"])
    dembedded = xp.zeros((cache.shape[0] * cache.shape[1], cache.shape[2]), dp.dtype)
    dembedded[packing.rows] = product(dz[0], params["decoder.Wx"].T)  # (1)
    return dembedded.reshape(cache.shape)


def _start_gradients(cache: DecoderCache, params, dz: Array, grads) -> Array:
    """What the state that is fed at every step receives beside its part as a state, (B, H)."""
    xp, product, B = array_module(dz), cache.kernels.product, cache.packing.sentences
    h0 = xp.ascontiguousarray(cache.layers[0].h[:B])
    H, dfed = h0.shape[1], xp.zeros((B, dz.shape[1]), dz.dtype)
    for step in steps(cache.packing):
        dfed[: step.now.stop - step.now.start] += dz[step.now]
    # in the forward pass this was (2) z[t] += h[0] Wh, once for each sentence
    product.product(h0.T, dfed, out=grads["decoder.Wh"][H:])
    return product.transposed_product(dfed, params["decoder.Wh"][H:])
