"""Losses that come with their gradients, and layer objects: as pairs that `check_gradients` takes.

    check_loss(fn, params, *args)      fn(params, *args) -> (loss, gradients)
    check_layer(layer, x)              y = layer.forward(x);  dx = layer.backward(dy)

A layer is copied for every call, with the weights of that call in place of its own, wherever they lie.  Its weights
and their gradients are found after one run: params and grads, W and dW, weight.data and weight.grad, and so on, also in
layers of layers.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from .api import check_gradients
from .convention import is_float_array, kind, outputs
from .pytree import is_container, same_bits
from .report import Report, raise_if_wrong

_LISTS = {"params": "grads", "parameters": "gradients", "weights": "gradients", "trainable_weights": "gradients",
          "_params": "_grads"}


def check_loss(fn: Callable[..., Any], params: Any, *args: Any, **options: Any) -> Report:
    """Check fn(params, *args) -> (loss, gradients), whose gradients have the structure of params.

    params: an array, or arrays in a dict, list or tuple; (loss, gradient of the first, of the second, ...) will do as
    well.  options: those of `check_gradients`.
    """
    def forward(params: Any) -> tuple[Any, Any]:
        result = fn(params, *args)
        if not isinstance(result, (tuple, list)) or len(result) < 2:
            raise ValueError(f"a loss with its gradients was expected, (loss, gradients), got {kind(result)}")
        loss, *gradients = result
        if is_container(params) and not isinstance(params, Mapping) and not is_container(gradients[0]):
            return loss, gradients[:len(params)]
        return loss, gradients[0]

    def backward(dloss: Any, gradients: Any) -> Any:
        return {"params": _scaled(gradients, dloss)}

    return check_gradients(forward, backward, {"params": params}, **options)


def check_layer(layer: Any, x: Any, *more: Any, update: float | None = None, **options: Any) -> Report:
    """Check an object with forward(x), or called with x, and backward(dy), which returns dx or nothing.

    update: the learning rate, for a layer that moves its weights inside backward by -update times their gradient.
    more: further arguments of forward.  options: those of `check_gradients`.
    ValueError: the layer has no backward, or a weight's gradient is not found.
    """
    if not callable(getattr(layer, "backward", None)):
        raise ValueError(f"{kind(layer)} has no method backward: a layer has forward(x), or is called, and "
                         "backward(dy)")
    held = Layer(layer, x, more, update)
    if update is not None:
        options = {"rtol": 1e-8, **options}  # a difference of weights has lost digits
    report = check_gradients(held.forward, held.backward, {"x": x, **held.weights}, **options)
    return replace(report, unchecked=(*report.unchecked, *(f"{kind(layer)}'s {path}" for path in held.overlooked(x))))


def assert_loss(*args: Any, **options: Any) -> Report:
    """`check_loss`, raising GradcheckError with the report if anything is wrong."""
    __tracebackhide__ = True
    return raise_if_wrong(check_loss(*args, **options))


def assert_layer(*args: Any, **options: Any) -> Report:
    """`check_layer`, raising GradcheckError with the report if anything is wrong."""
    __tracebackhide__ = True
    return raise_if_wrong(check_layer(*args, **options))


class Layer:
    """A layer object whose weights are arguments."""

    def __init__(self, layer: Any, x: Any, more: tuple[Any, ...], update: float | None):
        self._layer, self._more, self._update = layer, more, update
        tried = copy.deepcopy(layer)
        dx = self._backward(tried, [np.ones(np.shape(y)) for y in outputs(_run(tried, x, more))])
        self._returns_dx = dx is not None
        self._gradients = _moved_weights(layer, tried) if update is not None else _gradients_of(layer, tried)
        self.weights: dict[str, Any] = {path: dict(_arrays(layer))[path] for path in self._gradients}

    def forward(self, x: Any, **weights: Any) -> tuple[Any, Any]:
        arrays = dict(_arrays(self._layer))
        memo: dict[int, Any] = {id(arrays[path]): value for path, value in weights.items()}
        for path in self._gradients.values():
            if path in arrays and path not in weights:
                memo[id(arrays[path])] = np.zeros(arrays[path].shape, next(iter(weights.values())).dtype)
        if self._update is not None:  # they are moved where they are
            memo = {key: np.array(value) for key, value in memo.items()}
        copied = copy.deepcopy(self._layer, memo)
        return _run(copied, x, self._more), (copied, {path: np.array(value) for path, value in weights.items()})

    def backward(self, *dys_and_cache: Any) -> dict[str, Any]:
        *dys, cache = dys_and_cache
        layer, before = copy.deepcopy(cache)
        dx = self._backward(layer, [np.array(dy) for dy in dys])
        found = dict(_arrays(layer)) | {f"{name}()[{i}]": g for name in ("grads", "gradients")
                                        for i, g in enumerate(_called(layer, name))}
        gradients = {path: found[own] for path, own in self._gradients.items()} if self._update is None else {
            path: (before[path] - found[path]) / self._update for path in self._gradients}
        if self._returns_dx:
            gradients["x"] = dx[0] if isinstance(dx, tuple) else dx
        return {f"d{path}" if f"d{path}" not in gradients else path: np.array(g) for path, g in gradients.items()}

    def overlooked(self, x: Any) -> list[str]:
        """Arrays of floats on which the outputs depend, and whose gradient was not found."""
        known = {id(value) for path, value in _arrays(self._layer)
                 if path in self.weights or path in self._gradients.values()}
        before = self._outputs(x, {})
        if not same_bits(before, self._outputs(x, {})):
            return []
        others = {id(value): (path, value) for path, value in _arrays(self._layer) if id(value) not in known}
        return [path for key, (path, value) in others.items()
                if not same_bits(before, self._outputs(x, {key: 1.01 * value + 0.01}))]

    def _outputs(self, x: Any, memo: dict[int, Any]) -> list[Any]:
        with np.errstate(all="ignore"):
            return list(outputs(_run(copy.deepcopy(self._layer, memo), copy.deepcopy(x), self._more)))

    def _backward(self, layer: Any, dys: list[Any]) -> Any:
        wants = [p for p in inspect.signature(layer.backward).parameters.values()
                 if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
        more = [self._update] if len(wants) > len(dys) and self._update is not None else []
        return layer.backward(*dys, *more)


def _run(layer: Any, x: Any, more: tuple[Any, ...]) -> Any:
    return (layer.forward if hasattr(layer, "forward") else layer)(x, *more)


def _called(layer: Any, name: str) -> list[Any]:
    method = getattr(layer, name, None)
    return list(method()) if callable(method) else []


def _arrays(tree: Any, path: str = "", above: tuple[int, ...] = ()) -> Iterator[tuple[str, np.ndarray]]:
    """(path, array of floats) of everything inside an object: W, params.W, layers.0.weight.data"""
    if is_float_array(tree):
        yield path, tree
        return
    if id(tree) in above or isinstance(tree, (str, bytes, type)) or callable(tree) and not hasattr(tree, "backward"):
        return
    items = tree.items() if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, (list, tuple)) else (
        vars(tree).items() if hasattr(tree, "__dict__") else ())
    for key, value in items:
        yield from _arrays(value, f"{path}.{key}" if path else str(key), (*above, id(tree)))


def _gradients_of(layer: Any, after: Any) -> dict[str, str]:
    """{path of a weight: path of its gradient}, of those that have one after a run; each array once."""
    own, ran, found = dict(_arrays(layer)), dict(_arrays(after)), {}
    seen: dict[int, str] = {}
    for path, weight in own.items():
        for gradient in _names(path):
            if gradient in ran and ran[gradient].shape == weight.shape and gradient != path and id(weight) not in seen:
                seen[id(weight)] = path
                found[path] = gradient
    for weights, gradients in (("params", "grads"), ("parameters", "gradients")):
        for i, (weight, g) in enumerate(zip(_called(layer, weights), _called(after, gradients), strict=False)):
            for path in [path for path, array in own.items() if array is weight][:1]:
                if np.shape(g) == weight.shape and id(weight) not in seen:
                    seen[id(weight)], found[path] = path, f"{gradients}()[{i}]"
    return found


def _names(path: str) -> Iterator[str]:
    """Where the gradient of the weight at this path may be."""
    parts = path.split(".")
    for i, part in enumerate(parts):
        if part in _LISTS:
            for last in (parts[i + 1:], [*parts[i + 1:-1], f"d{parts[-1]}"]):
                yield ".".join([*parts[:i], _LISTS[part], *last])
    *before, name = parts
    if name in ("data", "value"):
        yield ".".join([*before, "grad"])
    elif not re.fullmatch(r"d?grad\w*", name):
        for other in (f"d{name}", f"grad_{name}", f"{name}_grad", f"d_{name}", f"g{name}", f"{name}_gradient"):
            yield ".".join([*before, other])


def _moved_weights(layer: Any, after: Any) -> dict[str, str]:
    """The arrays that a run has changed, in place or not, and that are not what it keeps for itself."""
    ran, seen, found = dict(_arrays(after)), set(), {}
    for path, value in _arrays(layer):
        if path in ran and ran[path].shape == value.shape and (ran[path] != value).any() and id(value) not in seen:
            seen.add(id(value))
            found[path] = path
    return found


def _scaled(tree: Any, factor: Any) -> Any:
    if isinstance(tree, Mapping):
        return {key: _scaled(value, factor) for key, value in tree.items()}
    if hasattr(tree, "_fields"):
        return type(tree)(*(_scaled(value, factor) for value in tree))
    if isinstance(tree, (list, tuple)):
        return type(tree)(_scaled(value, factor) for value in tree)
    return None if tree is None else tree * factor
