"""The decoder: recurrent cells, attention and the output, step by step (Luong et al. 2015).

    (1)  z[t] = y[t] Wx + b                       for all steps in one product, before the loop
    (2)  z[t] += [h[t-1]; fed[t-1]] Wh            fed = o, the context a, h[-1] at every step, or nothing
    (3)  h[t], c[t] = lstm_gates(z[t], c[t-1])    further layers: z = dropout(h below) Wx + b + h[t-1] Wh
    (4)  a[t] = attention(h[t], h_enc)            see attention/
    (5)  o[t] = tanh_dropout([a[t]; h[t]] W_combine)    or dropout(h[t]), see readout.py

The textbook computes the same for one sentence, in the loop over t of its `forward` and `backward`.  (1) to (3) are
those of the default cell; each kind says for itself what its step is, see cells.py.  Next: models/readout.py.

Rows are packed by target length (see ops/packing): step t computes only the sentences that still have a word to
predict, and of B sentences and N words to predict there are B + N states, of which the first B are the first states.
What a state leaves for others to read stands side by side in its row of one array, `top`:

    rows of top                          columns   a        h of the last layer   o
      `before`: the states of step t-1             (M)      (H)                   (H)     (2) reads h and what is fed
      `after`: the states of step t                                                       (3), (4), (5) write h, a, o

so that [a; h] of (5), and [h; o] of (2) with input feeding, are columns of it, and nothing is copied from step to
step.  M is `context_size`, which of several heads is H.  `now` are the rows of step t among those of the N words.
Backward walks the same loop from its end over `dtop`, an array of the same layout: whoever read some columns adds to
them what comes back.  The weights' gradients follow in one product each.

Where the previous state asks (Bahdanau, Cho & Bengio 2015), (4) comes first, a[t] = attention(h[t-1], h_enc), and the
context that (2) is fed is a[t] itself.  It stands in the row of the state that asked for it.

With recurrent dropout (2) reads r = h m in the place of h (see ops/recurrent_dropout.py), which has rows of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, array_module
from ..ops.branches import in_turn
from ..ops.decoder_step import DecoderLSTMCache
from ..ops.lstm_gates import LSTMGatesCache
from ..ops.packing import Packing, Step, packed, steps, steps_back
from ..ops.plain import PLAIN, Beside, DecoderStep, Kernels
from ..ops.recurrent_dropout import RecurrentMask, recurrent_mask
from .attention import Attention, attention_class
from .cells import Cell, Columns
from .config import NMTConfig, layer_name
from .encoder import State
from .readout import READOUTS, Readout

Attend = Callable[[Array, int, slice, Array], None]  # h (n, H), t, now, the context (n, M) to be filled
# what (2) reads of the step before: columns (B + N, .), the rows of Wh for them, and the columns of z that receive it
Reads = list[tuple[Array, Array, slice]]


class LayerRows(NamedTuple):
    """One layer's rows over all steps, packed; states have B rows more in front (see packing)."""

    x: Array  # (N, I) input from below
    z: Array  # (N, 4H, or more) pre-activations, then the gates
    h: Array  # (B + N, H)
    r: Array  # (B + N, H) what the next step reads of h, see ops/recurrent_dropout.py
    recurrent: RecurrentMask  # which makes r
    carried: list[Array]  # (B + N, H) each, what the cell carries beside h: c of an LSTM
    kept: Any  # (N, H) or None, what the cell keeps for its way back: tanh(c) of an LSTM
    mask: Array | None  # (N, I) dropout of x, layers above the first
    Wx: Array  # (I, 4H)
    b: Array  # (4H, or more)
    g: Array | None  # gains, of a cell that has them


class DecoderRows(NamedTuple):
    """What the steps read and write: all steps of training, or one of a search."""

    cell: Cell
    columns: Columns  # of z, see cells.py
    layers: list[LayerRows]
    top: Array  # (B + N, M + 2H) rows [a; h; o]
    a: slice  # the columns of a
    h: slice  # the columns of h
    asks_before: bool  # whether the state of the step before asks
    reads: list[Reads]  # of each layer
    readout: Readout
    readout_rows: Any


class FirstState(NamedTuple):
    """What a pass begins with, in the order of its rows."""

    top: Array | None  # (B, M + 2H) rows [a; h; o]; None: of the first word, before which are no a and no o
    h: list[Array]  # of each layer, (B, H), but for the last one if `top` holds it
    carried: list[list[Array]]  # of each layer, (B, H) each, what its cell carries beside h
    fed: Array | None  # (B, H) what every step is fed, with feed "start"

    @classmethod
    def of_the_first_word(cls, config: NMTConfig, states: list[State]) -> FirstState:
        h, carried = [h for h, *_ in states], [others for _, *others in states]
        return cls(top=None, h=h, carried=carried, fed=h[0] if config.feed == "start" else None)

    @property
    def any_rows(self) -> Array:
        """An array that has its rows and its dtype."""
        return self.h[0] if self.top is None else self.top

    def select(self, rows: Array) -> FirstState:
        """Those rows of it."""
        return FirstState(top=None if self.top is None else self.top[rows], h=[h[rows] for h in self.h],
                          carried=[[array[rows] for array in arrays] for arrays in self.carried],
                          fed=None if self.fed is None else self.fed[rows])


class DecoderCache(NamedTuple):
    packing: Packing
    shape: tuple[int, int, int]  # (T, B, E) of the embedded target
    rows: DecoderRows
    attention: Attention
    attention_rows: Any
    kernels: Kernels


def decoder_forward(params: Mapping[str, Array], config: NMTConfig, embedded: Array, tgt_lengths: Array | Packing,
                    h_enc: Array, mask: Array, states: list[State], rng: Any = None,
                    kernels: Kernels = PLAIN) -> tuple[Array, DecoderCache]:
    """Packed outputs o (N, H), cache; embedded (T, B, E) of the words before each target."""
    xp = array_module(embedded)
    packing = packed(tgt_lengths, len(embedded), xp)
    order, dtype = packing.order, xp.result_type(embedded, h_enc, params["decoder.Wh"])
    take = kernels.rows.take
    attention = attention_class(config)(config, params, take(h_enc, (slice(None), order)), mask[:, order], kernels)
    first = FirstState.of_the_first_word(config, [tuple(take(array, order) for array in state) for state in states])
    x = take(embedded.reshape(-1, embedded.shape[-1]), packing.rows)
    rows = decoder_rows(params, config, packing, x, first, dtype, rng, kernels)
    attention_rows = attention.rows(packing.offsets[-1], dtype)
    attend = partial(attention.training_step, attention_rows)
    for t, step in enumerate(steps(packing)):
        step_forward(rows, t, step, attend, kernels)
    cache = DecoderCache(packing=packing, shape=embedded.shape, rows=rows, attention=attention,
                         attention_rows=attention_rows, kernels=kernels)
    return rows.readout.outputs(rows.top, packing, rows.readout_rows), cache


def decoder_rows(params: Mapping[str, Array], config: NMTConfig, packing: Packing, x: Array, first: FirstState,
                 dtype: Any, rng: Any = None, kernels: Kernels = PLAIN) -> DecoderRows:
    """The rows of a pass with everything in place that is known before its loop; x (N, E) packed words."""
    B, N = packing.sentences, packing.offsets[-1]
    dropout = config.dropout if rng is not None else 0.0
    readout = READOUTS[config.readout](config, params, kernels)
    M, H = config.context_size, config.hidden_size
    top = np.empty_like(x, dtype, shape=(B + N, M + H + readout.columns(config)))
    kernels.rows.put(top, slice(B), 0 if first.top is None else first.top)
    layers = [_layer_rows(params, config, l, packing, x, first, top, dropout, rng, kernels)
              for l in range(config.layers)]
    mask = kernels.dropout.dropout_mask((N, config.hidden_size), dropout, rng, top.real.dtype) if dropout else None
    columns = config.recurrent_cell.columns(H)
    reads = recurrent_inputs(config, columns, [layer.h for layer in layers], [layer.r for layer in layers], top, params)
    return DecoderRows(cell=config.recurrent_cell, columns=columns, layers=layers, top=top, a=slice(M),
                       h=slice(M, M + H), asks_before=config.asks_before, reads=reads, readout=readout,
                       readout_rows=readout.rows(top, packing, mask))


def _layer_rows(params: Mapping[str, Array], config: NMTConfig, l: int, packing: Packing, x: Array, first: FirstState,
                top: Array, dropout: float, rng: Any, kernels: Kernels) -> LayerRows:
    M, H = config.context_size, config.hidden_size
    name, B, N = layer_name("decoder", l), packing.sentences, packing.offsets[-1]
    h = top[:, M : M + H] if l == config.layers - 1 else np.empty_like(top, shape=(B + N, H))
    put, add = kernels.rows.put, kernels.rows.add
    if l < len(first.h):
        put(h, slice(B), first.h[l])
    m = recurrent_mask((B, H), config.recurrent_dropout, rng, top.real.dtype, kernels)
    recurrent = RecurrentMask(None if m is None else kernels.rows.take(m, packing.order), kernels)
    carried = [np.empty_like(top, shape=(B + N, H)) for _ in first.carried[l]]
    for array, start in zip(carried, first.carried[l], strict=True):
        put(array, slice(B), start)
    cell, mask = config.recurrent_cell, None
    z = np.empty_like(top, shape=(N, cell.z_blocks * H))
    Wx, b = params[f"{name}.Wx"], params[f"{name}.b"]
    if l == 0:
        cell.inputs(x, Wx, b, z, kernels)  # (1)
        if first.fed is not None:
            fed = kernels.product.product(kernels.rows.contiguous(first.fed), params[f"{name}.Wh"][H:])  # (2)
            z_of_input = z[:, cell.columns(H).of_input]
            for step in steps(packing):
                add(z_of_input[step.now], fed[: step.now.stop - step.now.start])
    else:
        x = np.empty_like(top, shape=(N, H))
        if dropout:
            mask = kernels.dropout.dropout_mask(x.shape, dropout, rng, x.real.dtype)
    return LayerRows(x=x, z=z, h=h, r=recurrent.room(h), recurrent=recurrent, carried=carried,
                     kept=cell.kept(N, H, like=top), mask=mask, Wx=Wx, b=b, g=params.get(f"{name}.g"))


def recurrent_inputs(config: NMTConfig, columns: Columns, h: list[Array], r: list[Array], top: Array,
                     weights: Mapping[str, Array]) -> list[Reads]:
    """What (2) reads of the step before in each layer, with the weights for it; h, r (B + N, H) of each layer.

    Or the gradients of what is read, or of the weights.  The first layer reads what is fed, too.  Columns that stand
    side by side are one product.
    """
    M, H = config.context_size, config.hidden_size
    of_input, of_state = columns
    first, *others = (weights[f"{layer_name('decoder', l)}.Wh"] for l in range(len(h)))
    above: list[Reads] = [[(own, Wh, of_state)] for own, Wh in zip(r[1:], others, strict=True)]
    if config.feed == "output" and not above and of_input == of_state and r[0] is h[0]:
        return [[(top[:, M:], first, of_state)]]
    fed = {"output": [top[:, M + H :]], "context": [top[:, :M]], "start": [], "none": []}[config.feed]
    return [[(r[0], first[:H], of_state), *((read, first[H:], of_input) for read in fed)], *above]


def step_forward(rows: DecoderRows, t: int, step: Step, attend: Attend, kernels: Kernels) -> None:
    """(2) to (5) of one step, in training and in a search, which have each its way to attend."""
    if rows.asks_before:
        attend(rows.top[step.before, rows.h], t, step.now, rows.top[step.before, rows.a])  # (4)
    _layers_forward(rows, step, kernels)
    if not rows.asks_before:
        attend(rows.top[step.after, rows.h], t, step.now, rows.top[step.after, rows.a])  # (4)
    rows.readout.step(step, rows.readout_rows)  # (5)


def _layers_forward(rows: DecoderRows, step: Step, kernels: Kernels) -> None:
    """(2), (3) of one step through all layers."""
    product = kernels.product.product
    now, before, after = step
    for l, layer in enumerate(rows.layers):
        z = layer.z[now]
        if l:
            below = rows.layers[l - 1].h[after]
            if layer.mask is None:
                kernels.rows.put(layer.x, now, below)
            else:
                kernels.rows.multiply(below, layer.mask[now], out=layer.x[now])
            rows.cell.inputs(layer.x[now], layer.Wx, layer.b, z, kernels)
        layer.recurrent.forward(layer.h[before], layer.r[before])
        if (at_once := rows.cell.at_once(kernels)) is not None:
            _step_at_once(at_once, layer, rows.reads[l], step, kernels)
            continue
        for columns, W, into in rows.reads[l]:
            product(columns[before], W, out=z[:, into], add=True)  # (2)
        rows.cell.step(layer, step, kernels)  # (3)


def _step_at_once(at_once: DecoderStep, layer: LayerRows, reads: Reads, step: Step, kernels: Kernels) -> None:
    """(2), (3) of one layer of LSTMs, of whose products the last one ends in the gates."""
    now, before, after = step
    *others, (x, W, _) = reads
    z, (c,) = layer.z[now], layer.carried
    for columns, W_of_it, into in others:
        kernels.product.product(columns[before], W_of_it, out=z[:, into], add=True)  # (2)
    at_once.decoder_lstm_forward(z, x[before], W, c[before], h=layer.h[after], c=c[after], tanh_c=layer.kept[now],
                                 overwrite=True)  # (2), (3)


class DecoderGradientRows(NamedTuple):
    """The gradients of DecoderRows."""

    top: Array  # (B + N, M + 2H)
    h: list[Array]  # of each layer, (B + N, H); that of the last one is a part of `top`
    r: list[Array]  # of each layer, (B + N, H)
    carried: list[list[Array]]  # of each layer, (B, H) each: of the step that has come last
    z: list[Array]  # of each layer, as z
    reads: list[Reads]


def decoder_backward(do: Array, cache: DecoderCache, params: Mapping[str, Array], config: NMTConfig,
                     grads: Mapping[str, Array], beside: Beside = in_turn) -> tuple[Array, Array, list[State]]:
    """dembedded (T, B, E), dh_enc (S, B, M), [those of each layer's first states]; weights' gradients go into `grads`.

    do (N, H) is the gradient of the packed outputs.  dembedded and the gradients of most weights are left to `beside`
    (see ops/branches.py).
    """
    packing, kernels = cache.packing, cache.kernels
    rows, attention, attention_rows = cache.rows, cache.attention, cache.attention_rows
    B, a, h = packing.sentences, rows.a, rows.h
    dtop = np.zeros_like(rows.top, do.dtype)
    dh = [np.zeros_like(layer.h, do.dtype) for layer in rows.layers[:-1]] + [dtop[:, h]]
    dr = [layer.recurrent.room(array) for layer, array in zip(rows.layers, dh, strict=True)]
    drows = DecoderGradientRows(
        top=dtop, h=dh, r=dr,
        carried=[[np.zeros_like(array[:B], do.dtype) for array in layer.carried] for layer in rows.layers],
        z=[np.empty_like(layer.z, do.dtype) for layer in rows.layers],
        reads=recurrent_inputs(config, rows.columns, dh, dr, dtop, params))
    attention_drows = attention.gradient_rows(attention_rows, do.dtype)
    # in the forward pass this was the vocabulary, which read the outputs
    readout_drows = rows.readout.start_backward(do, dtop, packing, rows.readout_rows)
    attend_backward = partial(attention.step_backward, attention_rows, attention_drows)
    for t, step in zip(reversed(range(len(packing.counts))), steps_back(packing), strict=True):
        rows.readout.step_backward(step, rows.readout_rows, readout_drows)  # (5)
        if not rows.asks_before:
            attend_backward(rows.top[step.after, h], t, step.now, dtop[step.after, a], dtop[step.after, h])  # (4)
        _layers_backward(rows, drows, step, kernels)  # (3), (2)
        if rows.asks_before:
            attend_backward(rows.top[step.before, h], t, step.now, dtop[step.before, a], dtop[step.before, h])  # (4)
    if config.feed == "start":
        kernels.rows.add(drows.h[0][:B], _start_gradients(cache, params, drows.z[0], grads))
    T, B, E = cache.shape
    dembedded = np.zeros_like(dtop, shape=(T, B, E))
    beside(_weight_gradients, cache, config, drows, readout_drows, grads, dembedded)
    asked = packing.previous if rows.asks_before else slice(B, None)
    dh_enc = attention.backward(attention_rows, attention_drows, kernels.rows.take(rows.top[:, h], asked),
                                kernels.rows.take(dtop[:, a], asked), packing, grads)
    return dembedded, _unsorted(dh_enc, packing, kernels, axis=1), [
        tuple(_unsorted(array, packing, kernels) for array in (dh[:B], *dcarried))
        for dh, dcarried in zip(drows.h, drows.carried, strict=True)]


def _layers_backward(rows: DecoderRows, drows: DecoderGradientRows, step: Step, kernels: Kernels) -> None:
    """(3), (2) of one step through all layers; what reaches the step before is added to its rows of `drows`."""
    now, before, after = step
    transposed_product, of_input = kernels.product.transposed_product, rows.columns.of_input
    for l in reversed(range(len(rows.layers))):
        layer, dz = rows.layers[l], drows.z[l][now]
        if (at_once := rows.cell.at_once(kernels)) is not None:
            _step_backward_at_once(at_once, layer, drows.reads[l], step, dz, drows.h[l], drows.carried[l], kernels)
        else:
            # in the forward pass this was (3) h, c = lstm_gates(z, c_prev)
            rows.cell.step_backward(layer, step, dz, drows.h[l], drows.carried[l], kernels)
            # in the forward pass this was (2) z += [h_prev; fed_prev] Wh
            for dcolumns, W, into in drows.reads[l]:
                transposed_product(dz[:, into], W, out=dcolumns[before], add=True)
        layer.recurrent.backward(drows.r[l][before], drows.h[l][before])
        if layer.mask is not None:
            dx = transposed_product(dz[:, of_input], layer.Wx)
            kernels.rows.add(drows.h[l - 1][after], kernels.rows.multiply(dx, layer.mask[now]))
        elif l:
            transposed_product(dz[:, of_input], layer.Wx, out=drows.h[l - 1][after], add=True)


def _step_backward_at_once(at_once: DecoderStep, layer: LayerRows, dreads: Reads, step: Step, dz: Array, dh: Array,
                           dcarried: list[Array], kernels: Kernels) -> None:
    """(3), (2) of one layer of LSTMs: one launch makes dz and reads it."""
    now, before, after = step
    *others, (dx, W, _) = dreads
    (c,) = layer.carried
    cache = DecoderLSTMCache(LSTMGatesCache(layer.z[now], c[before], layer.kept[now]), W)
    # in the forward pass this was (2), what ended in (3)
    dcarried[0] = at_once.decoder_lstm_backward(dh[after], dcarried[0], cache, dz=dz, dx=dx[before]).dc_prev
    for dcolumns, W_of_it, into in others:
        kernels.product.transposed_product(dz[:, into], W_of_it, out=dcolumns[before], add=True)


def _weight_gradients(cache: DecoderCache, config: NMTConfig, drows: DecoderGradientRows, readout_drows: Any,
                      grads: Mapping[str, Array], dembedded: Array) -> None:
    """Every product with a weight of readout and layers, which could wait, over all rows.

    dembedded (T, B, E), zero where there is padding, is filled.
    """
    product, packing, rows = cache.kernels.product.product, cache.packing, cache.rows
    rows.readout.weight_gradients(rows.top, packing, readout_drows, grads)
    take, put = cache.kernels.rows.take, cache.kernels.rows.put
    reads = recurrent_inputs(config, rows.columns, [layer.h for layer in rows.layers],
                             [layer.r for layer in rows.layers], rows.top, grads)
    of_input = rows.columns.of_input
    for l, (layer, dz) in enumerate(zip(rows.layers, drows.z, strict=True)):
        name = layer_name("decoder", l)
        product(layer.x.T, dz[:, of_input], out=grads[f"{name}.Wx"])
        for columns, dW, into in reads[l]:
            product(take(columns, packing.previous).T, dz[:, into], out=dW)
        rows.cell.bias_gradients(layer, dz, drows.h[l], grads[f"{name}.b"], grads.get(f"{name}.g"), cache.kernels)
    dwords = dembedded.reshape(-1, dembedded.shape[2])
    put(dwords, packing.rows, product(drows.z[0][:, of_input], rows.layers[0].Wx.T))  # (1)


def _start_gradients(cache: DecoderCache, params: Mapping[str, Array], dz: Array, grads: Mapping[str, Array]) -> Array:
    """What the state that is fed at every step receives beside its part as a state, (B, H)."""
    product, rows, B = cache.kernels.product, cache.kernels.rows, cache.packing.sentences
    h0 = rows.contiguous(cache.rows.layers[0].h[:B])
    H, dz = h0.shape[1], dz[:, cache.rows.columns.of_input]
    dfed = np.zeros_like(dz, shape=(B, dz.shape[1]))
    for step in steps(cache.packing):
        rows.add(dfed[: step.now.stop - step.now.start], dz[step.now])
    # in the forward pass this was (2) z[t] += h[-1] Wh, once for each sentence
    product.product(h0.T, dfed, out=grads["decoder.Wh"][H:])
    return product.transposed_product(dfed, params["decoder.Wh"][H:])


def _unsorted(array: Array, packing: Packing, kernels: Kernels, axis: int = 0) -> Array:
    """What stands in sorted order, in the order of the batch."""
    unsorted = np.empty_like(array, order="C")
    kernels.rows.put(unsorted, (slice(None),) * axis + (packing.order,), array)
    return unsorted
