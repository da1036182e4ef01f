"""Layers without a loop over time, and the functions that a layer ends with: operations of scratchnmt.ops."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ..arrays import Array, array_module, to_device
from ..errors import InputError, look_up, whole_number
from ..models.initialization import glorot_uniform
from ..ops.activations import (
    relu_backward,
    relu_forward,
    sigmoid_backward,
    sigmoid_forward,
    softmax_backward,
    softmax_forward,
    tanh_backward,
    tanh_forward,
)
from ..ops.dropout import dropout_backward, dropout_forward
from ..ops.embedding import embedding_backward, embedding_forward
from ..ops.linear import linear_backward, linear_forward
from .layer import Layer, Shape, flag, number, shape_text

ACTIVATIONS: dict[str, tuple[Callable, Callable] | None] = {
    "linear": None,
    "tanh": (tanh_forward, tanh_backward),
    "sigmoid": (sigmoid_forward, sigmoid_backward),
    "relu": (relu_forward, relu_backward),
    "softmax": (softmax_forward, softmax_backward),
}


def activate(name: str, x: Array) -> tuple[Array, Any]:
    """y, cache."""
    pair = ACTIVATIONS[name]
    return (x, None) if pair is None else pair[0](x)


def activate_back(name: str, dy: Array, cache: Any) -> Array:
    """dx."""
    pair = ACTIVATIONS[name]
    return dy if pair is None else pair[1](dy, cache).dx


def warn_of_softmax(layer: Layer, activation: str, features: int | None) -> None:
    """A softmax over one number is 1 whatever the number is, and so has no gradient."""
    if activation == "softmax" and features == 1:
        warnings.warn(f"layer {layer!r}: a softmax over a single output is always 1, so that nothing before it learns; "
                      "for yes or no choose activation 'sigmoid'", stacklevel=2)


class Input(Layer):
    """What comes in, for Sequential([Input(shape=(50, 27)), ...]); its numbers pass through."""

    input_shape: Shape

    def __init__(self, shape: Shape, *, name: str | None = None):
        if shape is None:
            raise InputError("Input: shape is None, expected what comes in, without the batch, such as (50, 27)")
        super().__init__(name=name, input_shape=shape)

    def config(self) -> dict[str, Any]:
        return {"kind": self.full_kind, "name": self.name, "shape": self.input_shape}

    def built(self, shape: Shape) -> Shape:
        fits = len(shape) == len(self.input_shape) and all(None in pair or pair[0] == pair[1]
                                                           for pair in zip(shape, self.input_shape, strict=False))
        if not fits:
            raise self.refuse(shape, shape_text(self.input_shape))
        return shape

    def forward(self, x, weights, mask, rng):
        return x, mask, None

    def backward(self, dy, weights, cache, grads):
        return dy


class Dense(Layer):
    """activation(x W + b), the same for every place of the axes before the last: (..., I) -> (..., units)."""

    choices = ("units", "activation", "use_bias")

    def __init__(self, units: int, activation: str | None = None, use_bias: bool = True, **kind: Any):
        super().__init__(**kind)
        self.units = whole_number("Dense: units", units)
        self.activation, self.use_bias = activation or "linear", flag("Dense: use_bias", use_bias)
        look_up("activation", self.activation, ACTIVATIONS)

    def built(self, shape: Shape) -> Shape:
        if not shape or (features := shape[-1]) is None:
            raise self.refuse(shape, "a last axis of known size")
        warn_of_softmax(self, self.activation, self.units)
        self.shapes = {"W": (features, self.units), **({"b": (self.units,)} if self.use_bias else {})}
        return (*shape[:-1], self.units)

    def initial(self, weight, shape, rng):
        return glorot_uniform(shape, rng) if weight == "W" else np.zeros(shape)

    def forward(self, x, weights, mask, rng):
        y, linear = linear_forward(x.reshape(-1, x.shape[-1]), weights["W"], weights.get("b"))
        y, activation = activate(self.activation, y)
        return y.reshape(*x.shape[:-1], self.units), mask, (linear, activation, x.shape)

    def backward(self, dy, weights, cache, grads):
        linear, activation, shape = cache
        dx, grads["W"], db = linear_backward(
            activate_back(self.activation, dy.reshape(-1, self.units), activation), linear)
        if self.use_bias:
            grads["b"] = db
        return dx.reshape(shape)


class Activation(Layer):
    """One of linear, tanh, sigmoid, relu, softmax (over the last axis)."""

    choices = ("activation",)

    def __init__(self, activation: str, **kind: Any):
        super().__init__(**kind)
        look_up("activation", activation, ACTIVATIONS)
        self.activation = activation

    def built(self, shape: Shape) -> Shape:
        warn_of_softmax(self, self.activation, shape[-1] if shape else None)
        return shape

    def forward(self, x, weights, mask, rng):
        y, cache = activate(self.activation, x)
        return y, mask, cache

    def backward(self, dy, weights, cache, grads):
        return activate_back(self.activation, dy, cache)


class Dropout(Layer):
    """In training, a share `rate` of the numbers is zero and the rest scaled up (Srivastava et al. 2014)."""

    choices = ("rate",)

    def __init__(self, rate: float, **kind: Any):
        super().__init__(**kind)
        self.rate = number("Dropout: rate", rate, lambda rate: 0 <= rate < 1, "a number of at least 0 and below 1")

    def forward(self, x, weights, mask, rng):
        if rng is None or not self.rate:
            return x, mask, None
        y, cache = dropout_forward(x, self.rate, rng=rng)
        return y, mask, cache

    def backward(self, dy, weights, cache, grads):
        return dy if cache is None else dropout_backward(dy, cache).dx


class Embedding(Layer):
    """A vector for each id, (B, T) -> (B, T, output_dim); with mask_zero, 0 is padding, which later layers skip."""

    choices = ("input_dim", "output_dim", "mask_zero")

    def __init__(self, input_dim: int, output_dim: int, *, mask_zero: bool = False, **kind: Any):
        super().__init__(**kind)
        self.input_dim = whole_number("Embedding: input_dim", input_dim)
        self.output_dim = whole_number("Embedding: output_dim", output_dim)
        self.mask_zero = flag("Embedding: mask_zero", mask_zero)

    def built(self, shape: Shape) -> Shape:
        self.shapes = {"W": (self.input_dim, self.output_dim)}
        return (*shape, self.output_dim)

    def initial(self, weight, shape, rng):
        return rng.uniform(-0.05, 0.05, shape)

    def check_input(self, x):
        self._ids(x)

    def _ids(self, x: np.ndarray) -> np.ndarray:
        ids = x
        if ids.dtype.kind not in "iu":
            whole = ids.astype("int64")
            if not (whole == ids).all():
                raise InputError(f"layer {self!r} got numbers of {ids.dtype}, expected whole ones: ids")
            ids = whole
        if ids.size and not 0 <= ids.min() <= ids.max() < self.input_dim:
            raise InputError(f"layer {self!r} got ids from {ids.min()} to {ids.max()}, expected 0 to "
                             f"input_dim - 1 = {self.input_dim - 1}")
        return ids

    def forward(self, x, weights, mask, rng):
        ids = self._ids(np.asarray(to_device(x, "cpu")))
        y, cache = embedding_forward(ids, weights["W"])
        return y, (array_module(y).asarray(ids != 0) if self.mask_zero else None), cache

    def backward(self, dy, weights, cache, grads):
        grads["W"] = embedding_backward(dy, cache).dW
        return None


class RepeatVector(Layer):
    """The same vector at each of n steps: (B, I) -> (B, n, I)."""

    choices = ("n",)

    def __init__(self, n: int, **kind: Any):
        super().__init__(**kind)
        self.n = whole_number("RepeatVector: n", n)

    def built(self, shape: Shape) -> Shape:
        if len(shape) != 1:
            raise self.refuse(shape, "(batch, features), a vector for each example")
        return (self.n, *shape)

    def forward(self, x, weights, mask, rng):
        return array_module(x).broadcast_to(x[:, None], (len(x), self.n, x.shape[1])).copy(), None, None

    def backward(self, dy, weights, cache, grads):
        return dy.sum(axis=1)  # in the forward pass every step read the same vector


class Masking(Layer):
    """Steps whose features are all `mask_value` are padding: they become zeros, and later layers skip them."""

    choices = ("mask_value",)

    def __init__(self, mask_value: float = 0.0, **kind: Any):
        super().__init__(**kind)
        self.mask_value = number("Masking: mask_value", mask_value)

    def built(self, shape: Shape) -> Shape:
        if len(shape) != 2:
            raise self.refuse(shape, "(batch, time, features)")
        return shape

    def forward(self, x, weights, mask, rng):
        is_token = (x.real != self.mask_value).any(axis=-1)
        return x * is_token[:, :, None], is_token, is_token

    def backward(self, dy, weights, cache: Array, grads):
        return dy * cache[:, :, None]
