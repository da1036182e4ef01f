"""Losses and metrics by Keras' names.  p: what the network says, y: what is wanted.

    (1)  categorical_crossentropy         - sum_k y[k] log q[k],  q = p / sum(p)            y one-hot, (..., K)
    (2)  sparse_categorical_crossentropy  the same with y the place of the one              y (...) of whole numbers
    (3)  binary_crossentropy              - mean_k (y log p + (1 - y) log(1 - p))           y like p
    (4)  mean_squared_error               mean_k (p - y)^2                                  y like p

Each gives a number for every example, or every step of it, (...) from p (..., K); what is trained is their mean.
Logarithms are those of numbers that are kept above TINY: (1) and (2) above the smallest float32, since a wanted
word whose probability is below 1e-7 must still be learnt, which stops where Keras cuts; (3) as Keras, at 1e-7.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, array_module
from ..errors import InputError
from .layer import finite

TINY, BINARY = 1.2e-38, 1e-7


class Loss(NamedTuple):
    """forward(p, y) -> numbers (...), cache; backward(numbers' gradient (...), cache) -> dp (..., K)."""

    forward: Callable[[Array, Array], tuple[Array, Any]]
    backward: Callable[[Array, Any], Array]
    sparse: bool  # y has one axis fewer than p


class CrossentropyCache(NamedTuple):
    q: Array  # (..., K)
    y: Array
    total: Array  # (..., 1) the sum of p


def categorical_crossentropy_forward(p: Array, y: Array):
    """(1) of p (..., K) and y (..., K): losses (...), cache."""
    total = p.sum(axis=-1, keepdims=True)
    q = p / total
    return -(y * array_module(p).log(_above(q, TINY))).sum(axis=-1), CrossentropyCache(q, y, total)  # (1)


def categorical_crossentropy_backward(dloss: Array, cache: CrossentropyCache) -> Array:
    """dp (..., K) from dloss (...)."""
    q, y, total = cache
    # in the forward pass this was (1): d(-log q[k]) / dp[j] = (1 - [j = k] / q[k]) / total
    dq = -dloss[..., None] * y / _above(q, TINY) * (q.real > TINY)
    return (dq - (dq * q).sum(axis=-1, keepdims=True)) / total


def sparse_categorical_crossentropy_forward(p: Array, y: Array):
    """(2) of p (..., K) and y (...) of whole numbers: losses (...), cache."""
    y = _one_hot(y, p)
    return categorical_crossentropy_forward(p, y)  # (2)


sparse_categorical_crossentropy_backward = categorical_crossentropy_backward


def binary_crossentropy_forward(p: Array, y: Array):
    """(3) of p (..., K) and y (..., K): losses (...), cache."""
    xp = array_module(p)
    inside = _above(1 - _above(1 - p, BINARY), BINARY)
    return -(y * xp.log(inside) + (1 - y) * xp.log(1 - inside)).mean(axis=-1), (p, inside, y)  # (3)


def binary_crossentropy_backward(dloss: Array, cache) -> Array:
    """dp (..., K) from dloss (...)."""
    p, inside, y = cache
    # in the forward pass this was (3), constant where p was cut
    kept = (p.real > BINARY) & (p.real < 1 - BINARY)
    return dloss[..., None] * kept * ((1 - y) / (1 - inside) - y / inside) / p.shape[-1]


def mean_squared_error_forward(p: Array, y: Array):
    """(4) of p (..., K) and y (..., K): losses (...), cache."""
    return ((p - y) ** 2).mean(axis=-1), (p, y)  # (4)


def mean_squared_error_backward(dloss: Array, cache) -> Array:
    """dp (..., K) from dloss (...)."""
    p, y = cache
    return dloss[..., None] * 2 * (p - y) / p.shape[-1]  # (4)


def _above(x: Array, least: float) -> Array:
    return np.where(x.real < least, least, x)  # this way round: what is no number stays none


def _one_hot(y: Array, p: Array) -> Array:
    xp, K = array_module(p), p.shape[-1]
    return (y[..., None] == xp.arange(K)).astype(p.real.dtype)


def accuracy_named(loss: str, K: int) -> str:
    """Which of its kinds "accuracy" means for a loss and K numbers a step: Keras tells by the shapes, and so do we."""
    if K == 1:
        return "binary_accuracy"
    return "sparse_categorical_accuracy" if LOSSES[loss].sparse else "categorical_accuracy"


def accuracy(loss: str, p: Array, y: Array) -> Array:
    """1.0 where p is right, else 0.0 (...)."""
    kind = accuracy_named(loss, p.shape[-1])
    if kind == "binary_accuracy":  # a target that is neither 0 nor 1 is never met
        return (p[..., 0] > 0.5) == y.reshape(p.shape[:-1])
    return p.argmax(axis=-1) == (y if kind == "sparse_categorical_accuracy" else y.argmax(axis=-1))


LOSSES = {
    "categorical_crossentropy": Loss(categorical_crossentropy_forward, categorical_crossentropy_backward, False),
    "sparse_categorical_crossentropy": Loss(sparse_categorical_crossentropy_forward,
                                            sparse_categorical_crossentropy_backward, True),
    "binary_crossentropy": Loss(binary_crossentropy_forward, binary_crossentropy_backward, False),
    "mean_squared_error": Loss(mean_squared_error_forward, mean_squared_error_backward, False),
}
LOSSES["mse"] = LOSSES["mean_squared_error"]
METRICS = dict.fromkeys(("accuracy", "acc"))  # the same by two names, and logged by the one that was given


def labels(y: np.ndarray, sparse: bool) -> np.ndarray:
    """The class of each target: of class numbers y (...) themselves, else of y (..., K), where K = 1 is yes or no."""
    if sparse:
        return y.astype("int64")
    return np.rint(y[..., 0]).astype("int64") if y.shape[-1] == 1 else y.argmax(axis=-1)


def doubts(name: str, activation: str | None, K: int) -> list[str]:
    """Why a network that ends with this activation and K numbers may never learn with loss `name`, in sentences."""
    if "crossentropy" not in name:
        return []
    sentences = []
    if K == 1 and name != "binary_crossentropy":
        sentences.append(f"{name} of a single output is always 0, so that nothing is learnt: for yes or no choose "
                         "binary_crossentropy")
    if activation not in ("softmax", "sigmoid"):
        sentences.append(f"{name} wants probabilities, but the network does not end with "
                         f"{'sigmoid' if name == 'binary_crossentropy' else 'softmax'}")
    return sentences


def check_targets(name: str, y: np.ndarray, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Targets as loss `name` wants them for outputs of this shape and dtype; InputError if they do not fit."""
    loss, K = LOSSES[name], shape[-1]
    if loss.sparse:
        if y.shape == shape and K > 1:
            raise InputError(f"{name} wants class numbers of shape {shape[:-1]}, but y has shape {y.shape}: for "
                             "one-hot targets choose categorical_crossentropy")
        y = y.reshape(shape[:-1]) if y.shape == (*shape[:-1], 1) else y
    elif K == 1 and y.shape == shape[:-1]:
        y = y[..., None]
    if y.shape != (shape[:-1] if loss.sparse else shape):
        numbers = y.shape == shape[:-1] and name == "categorical_crossentropy"
        raise InputError(f"y has shape {y.shape}, but the network returns {shape}, for which {name} wants "
                         f"{shape[:-1] if loss.sparse else shape}" + (": for class numbers choose "
                         "sparse_categorical_crossentropy" if numbers else ""))
    if loss.sparse:
        if y.dtype.kind == "f" and (y != np.floor(y)).any():
            raise InputError(f"{name}: y holds {y[y != np.floor(y)][0]}, expected whole numbers: the classes")
        if y.size and not 0 <= y.min() <= y.max() < K:
            raise InputError(f"{name}: labels run from {y.min()} to {y.max()}, expected 0 to {K - 1}, the network's "
                             f"{K} classes")
        return y
    taken = finite("y", y, dtype)
    if "crossentropy" in name and y.size and not 0 <= y.min() <= y.max() <= 1:
        warnings.warn(f"{name}: y runs from {y.min()} to {y.max()}, but is learnt as probabilities, from 0 to 1",
                      stacklevel=2)
    return taken
