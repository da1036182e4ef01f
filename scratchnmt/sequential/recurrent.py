"""An LSTM as a layer, under a mask as Keras means it: a step that is masked out changes nothing.

    (1)  tokens of each example, those of masked steps left out, move to the front         (B, T, I)
    (2)  y, h_last, c_last = lstm(tokens)                                                  see ops/lstm.py
    (3)  y[t] = the output at the last token up to t, zeros before the first

With two directions (3) gives zeros at every step that is masked out, as Keras' Bidirectional does.  It is a product
with a matrix `shown` of zeros and ones, whose transpose takes the gradient back.  Around a layer there may be another:
the same at every step, or one that reads in both directions.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..arrays import Array, array_module, to_device
from ..errors import InputError, look_up, whole_number
from ..models.initialization import glorot_uniform, lstm_bias, orthonormal
from ..ops.lstm import LSTMCache, lstm_backward, lstm_forward
from .layer import Layer, Shape, Weights, flag

MERGES = dict.fromkeys(("concat", "sum"))
Kind = TypeVar("Kind", bound=Layer)


class TokenOrder(NamedTuple):
    """Where the tokens of a mask are."""

    order: Array  # (B, T) steps of the tokens, then those that are masked out
    back: Array  # (B, T) the permutation that undoes it
    lengths: np.ndarray  # (B,) tokens, at least 1: of an example without any, one step is read and not used
    some: Array  # (B, 1) 1.0 where there is a token, else 0.0
    shown: Array  # (B, 1, T, T): 1.0 where the output of step t shows token k, else 0.0


class ReadCache(NamedTuple):
    token_order: TokenOrder | None
    lstm: LSTMCache


class ReadGradients(NamedTuple):
    dx: Array  # (B, T, I)
    dWx: Array
    dWh: Array
    db: Array
    dh0: Array  # (D, B, H)
    dc0: Array


def token_order(mask: Array, carry: bool, like: Array) -> TokenOrder:
    """From a mask (B, T), True where there is a token; arrays beside `like`.  carry: show the last token for long."""
    is_token = to_device(mask, "cpu")
    T, xp = is_token.shape[1], array_module(like)
    order, tokens = np.argsort(~is_token, axis=1, kind="stable"), is_token.sum(axis=1)
    token = np.where(is_token | carry, np.cumsum(is_token, axis=1) - 1, -1)
    place = lambda array: xp.asarray(array.astype(like.real.dtype))
    return TokenOrder(order=xp.asarray(order), back=xp.asarray(np.argsort(order, axis=1)),
                      lengths=np.maximum(tokens, 1), some=place(tokens > 0)[:, None],
                      shown=place(token[:, None, :, None] == np.arange(T)))


def read(x: Array, mask: Array | None, Wx: Array, Wh: Array, b: Array, h0: Array | None = None,
         c0: Array | None = None) -> tuple[tuple[Array, Array, Array], ReadCache]:
    """(y (B, T, D, H), h_last, c_last (D, B, H)), cache from x (B, T, I); weights and states as in ops/lstm.py."""
    xp, (B, T, _), (D, H) = array_module(x), x.shape, Wh.shape[:2]
    where = None if mask is None or bool(mask.all()) else token_order(mask, D == 1, x)
    tokens = x if where is None else xp.take_along_axis(x, where.order[:, :, None], axis=1)  # (1)
    lengths = np.full(B, T) if where is None else where.lengths
    (y, h_last, c_last), cache = lstm_forward(tokens.transpose(1, 0, 2), lengths, Wx, Wh, b, h0, c0)  # (2)
    y = y.transpose(1, 0, 2).reshape(B, T, D, H)
    if where is not None:
        y = (where.shown @ y.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)  # (3)
        h_last, c_last = _as_they_were(h_last, h0, where.some), _as_they_were(c_last, c0, where.some)
    return (y, h_last, c_last), ReadCache(where, cache)


def _as_they_were(last: Array, start: Array | None, some: Array) -> Array:
    """The last state, or the first one of an example without a token."""
    return last * some + (0 if start is None else start * (1 - some))


def read_back(dy: Array, dh: Array, dc: Array, cache: ReadCache) -> ReadGradients:
    """From dy (B, T, D, H), dh and dc (D, B, H)."""
    where, lstm = cache
    xp, (B, T, D, H) = array_module(dy), dy.shape
    dh_last, dc_last = dh, dc
    if where is not None:
        dh_last, dc_last = dh * where.some, dc * where.some
        # in the forward pass this was (3): a token is shown at several steps
        dy = (where.shown.transpose(0, 1, 3, 2) @ dy.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
    gradients = lstm_backward(dy.transpose(1, 0, 2, 3).reshape(T, B, D * H), dh_last, dc_last, lstm)
    dx, dh0, dc0 = gradients.dx.transpose(1, 0, 2), gradients.dh0, gradients.dc0
    if where is not None:
        dx = xp.take_along_axis(dx, where.back[:, :, None], axis=1)  # (1)
        dh0, dc0 = dh0 + dh * (1 - where.some), dc0 + dc * (1 - where.some)
    return ReadGradients(dx=dx, dWx=gradients.dWx, dWh=gradients.dWh, db=gradients.db, dh0=dh0, dc0=dc0)


class LSTM(Layer):
    """(B, T, I) -> (B, T, units) with return_sequences, else (B, units), the output at the last step.

    go_backwards reads the steps from the last to the first, and its sequence of outputs is in that order.  With
    return_state a call of the layer by itself returns [output, h, c]; initial_state=[h, c], each (B, units).
    The kernel starts as Glorot & Bengio 2010, the recurrent one orthogonal (Saxe et al. 2014), the forget gate's
    bias at 1 (Jozefowicz et al. 2015).
    """

    choices = ("units", "return_sequences", "return_state", "go_backwards")

    def __init__(self, units: int, activation: str = "tanh", recurrent_activation: str = "sigmoid",
                 use_bias: bool = True, *, return_sequences: bool = False, return_state: bool = False,
                 go_backwards: bool = False, **kind: Any):
        look_up("LSTM: activation", activation, {"tanh": None})
        look_up("LSTM: recurrent_activation", recurrent_activation, {"sigmoid": None})
        if not flag("LSTM: use_bias", use_bias):
            raise InputError("LSTM: use_bias is False, which there is not here")
        super().__init__(**kind)
        self.units = whole_number("LSTM: units", units)
        self.return_sequences = flag("LSTM: return_sequences", return_sequences)
        self.return_state = flag("LSTM: return_state", return_state)
        self.go_backwards = flag("LSTM: go_backwards", go_backwards)

    def built(self, shape: Shape) -> Shape:
        if len(shape) != 2 or (features := shape[-1]) is None:
            raise self.refuse(shape, "(batch, time, features); an LSTM in front of it needs return_sequences=True")
        self.shapes = {"Wx": (features, 4 * self.units), "Wh": (self.units, 4 * self.units), "b": (4 * self.units,)}
        return (shape[0], self.units) if self.return_sequences else (self.units,)

    def initial(self, weight, shape, rng):
        if weight == "b":
            return lstm_bias(shape)
        return glorot_uniform(shape, rng) if weight == "Wx" else orthonormal(shape, rng)

    def forward(self, x, weights, mask, rng):
        (y, h, c), cache = self.run(x, weights, mask)
        return (y if self.return_sequences else h), (mask if self.return_sequences else None), cache

    def backward(self, dy, weights, cache, grads):
        H = self.units
        T, B, _ = cache.lstm.shape
        zeros = array_module(dy).zeros((B, H), dy.dtype)
        if self.return_sequences:
            return self.run_back(dy, zeros, zeros, cache, grads)[0]
        return self.run_back(array_module(dy).zeros((B, T, H), dy.dtype), dy, zeros, cache, grads)[0]

    def keras_weights(self, weights):
        return {f"cell/{name}": array for name, array in super().keras_weights(weights).items()}

    def run(self, x: Array, weights: Weights, mask: Array | None, h0: Array | None = None, c0: Array | None = None):
        """(y (B, T, H), h, c), cache; states (B, H)."""
        if self.go_backwards:
            x, mask = x[:, ::-1], None if mask is None else mask[:, ::-1]
        (y, h, c), cache = read(x, mask, Wx=weights["Wx"][None], Wh=weights["Wh"][None], b=weights["b"][None],
                                h0=None if h0 is None else h0[None], c0=None if c0 is None else c0[None])
        return (y[:, :, 0], h[0], c[0]), cache

    def run_back(self, dy: Array, dh: Array, dc: Array, cache: ReadCache, grads) -> tuple[Array, Array, Array]:
        """dx, dh0, dc0; the weights' gradients are put into `grads`."""
        read_grads = read_back(dy[:, :, None], dh[None], dc[None], cache)
        grads["Wx"], grads["Wh"], grads["b"] = read_grads.dWx[0], read_grads.dWh[0], read_grads.db[0]
        return (read_grads.dx[:, ::-1] if self.go_backwards else read_grads.dx), read_grads.dh0[0], read_grads.dc0[0]

    def __call__(self, x, *, mask=None, initial_state=None, training=False, seed=0):
        if initial_state is not None and len(initial_state) != 2:
            raise InputError(f"layer {self!r}: initial_state has {len(initial_state)} arrays, expected [h, c]")
        (y, h, c), _ = self.run(x, self._weights(x, seed), mask, *(initial_state or ()))
        output = y if self.return_sequences else h
        return [output, h, c] if self.return_state else output


def taken(wrapper: Layer, layer: Kind) -> Kind:
    """The layer, which is no other's from now on."""
    if not isinstance(layer, Layer):
        raise InputError(f"{wrapper.kind} got a {type(layer).__name__}, expected a layer")
    if layer.owner is not None:
        raise InputError(f"layer {layer!r} is part of another layer or network already: make a second one")
    layer.owner = wrapper
    return layer


class TimeDistributed(Layer):
    """The layer at every step by itself: (B, T, ...) -> (B, T, ...)."""

    def __init__(self, layer: Layer, **kind: Any):
        super().__init__(**kind)
        self.layer = taken(self, layer)
        self.inner = (self.layer,)

    def config(self):
        return {**super().config(), "layer": self.layer.config()}

    def built(self, shape: Shape) -> Shape:
        if len(shape) < 2:
            raise self.refuse(shape, "(batch, time, ...): the layer before it must keep the time axis, as "
                                     "RepeatVector or return_sequences=True does")
        self.layer.name = self.layer.name or self.name
        out = self.layer.built(shape[1:])
        self.shapes = self.layer.shapes
        return (shape[0], *out)

    def initial(self, weight, shape, rng):
        return self.layer.initial(weight, shape, rng)

    def check_input(self, x):
        self.layer.check_input(x)

    def forward(self, x, weights, mask, rng):
        if mask is not None and mask.ndim > 2:
            raise InputError(f"layer {self!r} got a mask of shape {mask.shape}, expected one for each step, (B, T): it "
                             "reaches into the steps, whose layer would not see it")
        y, _, cache = self.layer.forward(x.reshape(-1, *x.shape[2:]), weights, None, rng)
        return y.reshape(*x.shape[:2], *y.shape[1:]), mask, (cache, x.shape)

    def backward(self, dy, weights, cache, grads):
        inner, shape = cache
        dx = self.layer.backward(dy.reshape(-1, *dy.shape[2:]), weights, inner, grads)
        return None if dx is None else dx.reshape(shape)

    def keras_weights(self, weights):
        return {f"layer/{name}": array for name, array in self.layer.keras_weights(weights).items()}

    def brought(self):
        return self.layer.brought()


class Bidirectional(Layer):
    """An LSTM from the first token to the last beside one from the last to the first (Schuster & Paliwal 1997).

    merge_mode "concat": their outputs side by side, forward first; "sum": added.  Both go through time together.
    """

    choices = ("merge_mode",)

    def __init__(self, layer: LSTM, merge_mode: str = "concat", **kind: Any):
        super().__init__(**kind)
        look_up("Bidirectional: merge_mode", merge_mode, MERGES)
        if not isinstance(layer, LSTM):
            raise InputError(f"Bidirectional got a {type(layer).__name__}, expected an LSTM")
        if layer.go_backwards or layer.return_state:
            raise InputError("Bidirectional: its LSTM has go_backwards or return_state, expected neither")
        self.layer, self.merge_mode = taken(self, layer), merge_mode
        self.inner = (self.layer,)
        self.input_shape = self.input_shape or layer.input_shape

    def config(self):
        return {**super().config(), "layer": self.layer.config()}

    def built(self, shape: Shape) -> Shape:
        self.layer.name = self.layer.name or self.name
        *time, _ = self.layer.built(shape)
        H = self.layer.units
        self.shapes = {name: (2, *weight) for name, weight in self.layer.shapes.items()}
        return (*time, 2 * H if self.merge_mode == "concat" else H)

    def initial(self, weight, shape, rng):
        draw = lambda: self.layer.initial(weight, shape[1:], rng)
        first = draw()
        both = first[None].repeat(2, axis=0)
        both[1] = draw()
        return both

    def forward(self, x, weights, mask, rng):
        (y, h, _), cache = read(x, mask, Wx=weights["Wx"], Wh=weights["Wh"], b=weights["b"])
        sequences = self.layer.return_sequences
        both = y if sequences else h.transpose(1, 0, 2)  # (..., D, H)
        merged = both.reshape(*both.shape[:-2], -1) if self.merge_mode == "concat" else both.sum(axis=-2)
        return merged, (mask if sequences else None), (cache, both.shape)

    def backward(self, dy, weights, cache, grads):
        inner, shape = cache
        xp, (T, B, _), H = array_module(dy), inner.lstm.shape, self.layer.units
        dboth = dy.reshape(shape) if self.merge_mode == "concat" else xp.broadcast_to(dy[..., None, :], shape)
        zeros = xp.zeros((2, B, H), dy.dtype)
        if self.layer.return_sequences:
            dy, dh = dboth, zeros
        else:
            dy, dh = xp.zeros((B, T, 2, H), dy.dtype), dboth.transpose(1, 0, 2)
        read_grads = read_back(dy, dh, zeros, inner)
        grads["Wx"], grads["Wh"], grads["b"] = read_grads.dWx, read_grads.dWh, read_grads.db
        return read_grads.dx

    def keras_weights(self, weights):
        both = [self.layer.keras_weights({name: array[d] for name, array in weights.items()}) for d in range(2)]
        return {f"{direction}_layer/{name}": array for direction, one in zip(("forward", "backward"), both, strict=True)
                for name, array in one.items()}
