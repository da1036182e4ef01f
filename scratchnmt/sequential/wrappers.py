"""Layers around a layer: the same at every step, and one that reads in both directions."""

from __future__ import annotations

from typing import Any, TypeVar

from ..arrays import array_module
from ..errors import InputError, look_up
from .layer import Layer, Shape
from .recurrent import LSTM, read, read_back

MERGES = dict.fromkeys(("concat", "sum"))
Kind = TypeVar("Kind", bound=Layer)


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
