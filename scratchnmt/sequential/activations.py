"""The functions that a layer ends with, by Keras' names; each is an operation of scratchnmt.ops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..arrays import Array
from ..ops.activations import (
    relu_backward,
    relu_forward,
    sigmoid_backward,
    sigmoid_forward,
    tanh_backward,
    tanh_forward,
)
from ..ops.softmax import softmax_backward, softmax_forward

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
