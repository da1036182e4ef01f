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
step.  `now` are the rows of step t among those of the N words.  Backward walks the same loop from its end over `dtop`,
an array of the same layout: whoever read some columns adds to them what comes back.  The weights' gradients follow in
one product each.

Where the previous state asks (Bahdanau, Cho & Bengio 2015), (4) comes first, a[t] = attention(h[t-1], h_enc), and the
context that (2) is fed is a[t] itself.  It stands in the row of the state that asked for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, array_module
from ..ops.packing import Packing, Step, packed, steps, steps_back
from ..ops.plain import PLAIN, Kernels
from .attention import Attention, attention_class
from .cells import BLOCKS, Cell
from .config import NMTConfig, layer_name
from .encoder import State
from .readout import READOUTS, Readout

Attend = Callable[[Array, int, slice, Array], None]  # h (n, H), t, now, the context (n, M) to be filled
# what (2) reads of the step before: columns (B + N, .), the rows of Wh for them, and the columns of z that receive it
Reads = list[tuple[Array, Array, slice]]


class LayerRows(NamedTuple):
    """One layer's rows over all steps, packed; states have B rows more in front (see packing)."""

    x: Array  # (N, I) input from below
    z: Array  # (N, 4H) pre-activations, then the gates
    h: Array  # (B + N, H)
    carried: list[Array]  # (B + N, H) each, what the cell carries beside h: c of an LSTM
    kept: Any  # (N, H) or None, what the cell keeps for its way back: tanh(c) of an LSTM
    mask: Array | None  # (N, I) dropout of x, layers above the first
    Wx: Array  # (I, 4H)
    b: Array  # (4H,)


class DecoderRows(NamedTuple):
    """What the steps read and write: all steps of training, or one of a search."""

    cell: Cell
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
    attention = attention_class(config)(config, params, h_enc[:, order], mask[:, order], kernels)
    first = FirstState.of_the_first_word(config, [tuple(array[order] for array in state) for state in states])
    x = embedded.reshape(-1, embedded.shape[-1])[packing.rows]
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
    xp, B, N = array_module(x), packing.sentences, packing.offsets[-1]
    dropout = config.dropout if rng is not None else 0.0
    readout = READOUTS[config.readout](config, params, kernels)
    M, H = config.context_size, config.hidden_size
    top = xp.empty((B + N, M + H + readout.columns(config)), dtype)
    top[:B] = 0 if first.top is None else first.top
    layers = [_layer_rows(params, config, l, packing, x, first, top, dropout, rng, kernels)
              for l in range(config.layers)]
    mask = kernels.dropout.dropout_mask((N, config.hidden_size), dropout, rng, top.real.dtype) if dropout else None
    return DecoderRows(cell=config.recurrent_cell, layers=layers, top=top, a=slice(M), h=slice(M, M + H),
                       asks_before=config.asks_before,
                       reads=recurrent_inputs(config, [layer.h for layer in layers], top, params), readout=readout,
                       readout_rows=readout.rows(top, packing, mask))


def _layer_rows(params: Mapping[str, Array], config: NMTConfig, l: int, packing: Packing, x: Array, first: FirstState,
                top: Array, dropout: float, rng: Any, kernels: Kernels) -> LayerRows:
    M, H = config.context_size, config.hidden_size
    name, xp, dtype = layer_name("decoder", l), array_module(x), top.dtype
    B, N = packing.sentences, packing.offsets[-1]
    h = top[:, M : M + H] if l == config.layers - 1 else xp.empty((B + N, H), dtype)
    if l < len(first.h):
        h[:B] = first.h[l]
    carried = [xp.empty((B + N, H), dtype) for _ in first.carried[l]]
    for array, start in zip(carried, first.carried[l], strict=True):
        array[:B] = start
    cell, z, mask = config.recurrent_cell, xp.empty((N, BLOCKS * H), dtype), None
    Wx, b = params[f"{name}.Wx"], params[f"{name}.b"]
    if l == 0:
        cell.inputs(x, Wx, b, z, kernels)  # (1)
        if first.fed is not None:
            fed = kernels.product.product(xp.ascontiguousarray(first.fed), params[f"{name}.Wh"][H:])  # (2)
            for step in steps(packing):
                z[step.now, cell.columns(H).of_input] += fed[: step.now.stop - step.now.start]
    else:
        x = xp.empty((N, H), dtype)
        if dropout:
            mask = kernels.dropout.dropout_mask(x.shape, dropout, rng, x.real.dtype)
    return LayerRows(x=x, z=z, h=h, carried=carried, kept=cell.kept(N, H, dtype, xp), mask=mask, Wx=Wx, b=b)


def recurrent_inputs(config: NMTConfig, h: list[Array], top: Array, weights: Mapping[str, Array]) -> list[Reads]:
    """What (2) reads of the step before in each layer, with the weights for it; h (B + N, H) of each layer.

    Or the gradients of what is read, or of the weights.  The first layer reads what is fed, too.  Columns that stand
    side by side are one product.
    """
    M, H = config.context_size, config.hidden_size
    of_input, of_state = config.recurrent_cell.columns(H)
    first, *others = (weights[f"{layer_name('decoder', l)}.Wh"] for l in range(len(h)))
    above: list[Reads] = [[(own, Wh, of_state)] for own, Wh in zip(h[1:], others, strict=True)]
    if config.feed == "output" and not above and of_input == of_state:
        return [[(top[:, M:], first, of_state)]]
    fed = {"output": [top[:, M + H :]], "context": [top[:, :M]], "start": [], "none": []}[config.feed]
    return [[(h[0], first[:H], of_state), *((columns, first[H:], of_input) for columns in fed)], *above]


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
            mask = 1 if layer.mask is None else layer.mask[now]
            np.multiply(rows.layers[l - 1].h[after], mask, out=layer.x[now])
            rows.cell.inputs(layer.x[now], layer.Wx, layer.b, z, kernels)
        for columns, W, into in rows.reads[l]:
            product(columns[before], W, out=z[:, into], add=True)  # (2)
        rows.cell.step(layer, step, kernels)  # (3)


class DecoderGradientRows(NamedTuple):
    """The gradients of DecoderRows."""

    top: Array  # (B + N, M + 2H)
    h: list[Array]  # of each layer, (B + N, H); that of the last one is a part of `top`
    carried: list[list[Array]]  # of each layer, (B, H) each: of the step that has come last
    z: list[Array]  # of each layer, (N, 4H)
    reads: list[Reads]


def decoder_backward(do: Array, cache: DecoderCache, params: Mapping[str, Array], config: NMTConfig,
                     grads: Mapping[str, Array]) -> tuple[Array, Array, list[State]]:
    """dembedded (T, B, E), dh_enc (S, B, M), [those of each layer's first states]; weights' gradients go into `grads`.

    do (N, H) is the gradient of the packed outputs.
    """
    xp, packing, kernels = array_module(do), cache.packing, cache.kernels
    rows, attention, attention_rows = cache.rows, cache.attention, cache.attention_rows
    B, a, h = packing.sentences, rows.a, rows.h
    dtop = xp.zeros(rows.top.shape, do.dtype)
    dh = [xp.zeros(layer.h.shape, do.dtype) for layer in rows.layers[:-1]] + [dtop[:, h]]
    drows = DecoderGradientRows(
        top=dtop, h=dh,
        carried=[[xp.zeros((B, do.shape[1]), do.dtype) for _ in layer.carried] for layer in rows.layers],
        z=[xp.empty(layer.z.shape, do.dtype) for layer in rows.layers],
        reads=recurrent_inputs(config, dh, dtop, params))
    attention_drows = attention.gradient_rows(attention_rows, do.dtype)
    # in the forward pass this was the vocabulary, which read the outputs
    readout_drows = rows.readout.start_backward(do, dtop, packing, rows.readout_rows)

    def attend_backward(t: int, now: slice, asking: slice) -> None:
        attention.step_backward(t, now, attention_rows, attention_drows, rows.top[asking, h], dtop[asking, a],
                                dtop[asking, h])

    for t, step in zip(reversed(range(len(packing.counts))), steps_back(packing), strict=True):
        rows.readout.step_backward(step, rows.readout_rows, readout_drows)  # (5)
        if not rows.asks_before:
            attend_backward(t, step.now, step.after)  # (4)
        _layers_backward(rows, drows, step, kernels)  # (3), (2)
        if rows.asks_before:
            attend_backward(t, step.now, step.before)  # (4)
    if config.feed == "start":
        drows.h[0][:B] += _start_gradients(cache, params, drows.z[0], grads)
    rows.readout.weight_gradients(rows.top, packing, readout_drows, grads)
    dembedded = _weight_gradients(cache, config, drows, grads)
    asked = packing.previous if rows.asks_before else slice(B, None)
    dh_enc = attention.backward(attention_rows, attention_drows, rows.top[asked, h], dtop[asked, a], packing, grads)
    return dembedded, _unsorted(dh_enc, packing, axis=1), [
        tuple(_unsorted(array, packing) for array in (dh[:B], *dcarried))
        for dh, dcarried in zip(drows.h, drows.carried, strict=True)]


def _layers_backward(rows: DecoderRows, drows: DecoderGradientRows, step: Step, kernels: Kernels) -> None:
    """(3), (2) of one step through all layers; what reaches the step before is added to its rows of `drows`."""
    now, before, after = step
    transposed_product = kernels.product.transposed_product
    for l in reversed(range(len(rows.layers))):
        layer, dz = rows.layers[l], drows.z[l][now]
        of_input = rows.cell.columns(layer.h.shape[1]).of_input
        # in the forward pass this was (3) h, c = lstm_gates(z, c_prev)
        rows.cell.step_backward(layer, step, dz, drows.h[l], drows.carried[l], kernels)
        # in the forward pass this was (2) z += [h_prev; fed_prev] Wh
        for dcolumns, W, into in drows.reads[l]:
            transposed_product(dz[:, into], W, out=dcolumns[before], add=True)
        if layer.mask is not None:
            drows.h[l - 1][after] += transposed_product(dz[:, of_input], layer.Wx) * layer.mask[now]
        elif l:
            transposed_product(dz[:, of_input], layer.Wx, out=drows.h[l - 1][after], add=True)


def _weight_gradients(cache: DecoderCache, config: NMTConfig, drows: DecoderGradientRows,
                      grads: Mapping[str, Array]) -> Array:
    """Every product with a weight of the layers, which could wait, over all rows; returns dembedded (T, B, E)."""
    xp, product, packing, rows = array_module(drows.top), cache.kernels.product.product, cache.packing, cache.rows
    reads = recurrent_inputs(config, [layer.h for layer in rows.layers], rows.top, grads)
    of_input = rows.cell.columns(config.hidden_size).of_input
    for l, (layer, dz) in enumerate(zip(rows.layers, drows.z, strict=True)):
        name = layer_name("decoder", l)
        product(layer.x.T, dz[:, of_input], out=grads[f"{name}.Wx"])
        for columns, dW, into in reads[l]:
            product(columns[packing.previous].T, dz[:, into], out=dW)
        xp.sum(dz, axis=0, out=grads[f"{name}.b"])
    T, B, E = cache.shape
    dembedded = xp.zeros((T * B, E), drows.top.dtype)
    dembedded[packing.rows] = product(drows.z[0][:, of_input], rows.layers[0].Wx.T)  # (1)
    return dembedded.reshape(T, B, E)


def _start_gradients(cache: DecoderCache, params: Mapping[str, Array], dz: Array, grads: Mapping[str, Array]) -> Array:
    """What the state that is fed at every step receives beside its part as a state, (B, H)."""
    xp, product, B = array_module(dz), cache.kernels.product, cache.packing.sentences
    h0 = xp.ascontiguousarray(cache.rows.layers[0].h[:B])
    H = h0.shape[1]
    dz = dz[:, cache.rows.cell.columns(H).of_input]
    dfed = xp.zeros((B, dz.shape[1]), dz.dtype)
    for step in steps(cache.packing):
        dfed[: step.now.stop - step.now.start] += dz[step.now]
    # in the forward pass this was (2) z[t] += h[-1] Wh, once for each sentence
    product.product(h0.T, dfed, out=grads["decoder.Wh"][H:])
    return product.transposed_product(dfed, params["decoder.Wh"][H:])


def _unsorted(array: Array, packing: Packing, axis: int = 0) -> Array:
    """What stands in sorted order, in the order of the batch."""
    found = array_module(array).empty(array.shape, array.dtype)
    found[(slice(None),) * axis + (packing.order,)] = array
    return found
