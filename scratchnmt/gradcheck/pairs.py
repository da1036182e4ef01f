"""Gradients that come in other forms, as pairs that `check_gradients` takes.

    check_loss(fn, params, *args)      fn(params, *args) -> (loss, gradients)
    check_layer(layer, x)              y = layer.forward(x);  dx = layer.backward(dy)
    check_jvp(f, jvp, inputs)          jvp(inputs, directions), forward mode; check_hessian_vector is that of a gradient
    gradcheck(function, inputs)        torch.autograd.Function, jax, Chainer: functions that bring their own gradient

A layer is copied for every call, with the weights of that call in place of its own, wherever they lie.  Its weights
and their gradients are found after one run: params and grads, W and dW, weight.data and weight.grad, and so on, also in
layers of layers.

Along t, f(x + t v) has the derivative jvp(x, v) at 0; so the check of one scalar argument t checks it, once for each
random direction v.  A product with a Hessian is forward mode of the gradient.

torch and jax are imported only if the function, or its arguments, are theirs.  Both run in float64, where the arguments
lie; their references are real differences, since few of their functions take complex numbers as analytic.
"""

from __future__ import annotations

import copy
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from .api import check_gradients
from .convention import is_float_array, kind, outputs
from .op import by_position, is_container, leaves, rebuilt, same_bits
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


PROBES = 3


def check_jvp(f: Callable[..., Any], jvp: Callable[..., Any], inputs: Any, *, probes: int = PROBES, seed: int = 0,
              **options: Any) -> Report:
    """Check jvp(inputs, directions), the derivative of f(*inputs) along directions, of the structure of inputs.

    inputs: a list or tuple of arguments, or one argument, which f takes alone.  The report has a line for each of
    `probes` random directions.  options: those of `check_gradients`.
    """
    reports = [_along(f, jvp, inputs, np.random.default_rng([seed, k]), seed=seed, **options) for k in range(probes)]
    tensors = tuple(replace(report.tensors[0], name=f"along direction {k}") for k, report in enumerate(reports))
    return replace(reports[0], tensors=tensors)


def check_hessian_vector(grad: Callable[..., Any], hessian_vector: Callable[..., Any], inputs: Any,
                         **options: Any) -> Report:
    """Check hessian_vector(inputs, directions), the Hessian times directions, by the gradient grad(*inputs)."""
    return check_jvp(grad, hessian_vector, inputs, **options)


def assert_jvp(*args: Any, **options: Any) -> Report:
    """`check_jvp`, raising GradcheckError with the report if anything is wrong."""
    __tracebackhide__ = True
    return raise_if_wrong(check_jvp(*args, **options))


def assert_hessian_vector(*args: Any, **options: Any) -> Report:
    """`check_hessian_vector`, raising GradcheckError with the report if anything is wrong."""
    __tracebackhide__ = True
    return raise_if_wrong(check_hessian_vector(*args, **options))


def _along(f: Callable[..., Any], jvp: Callable[..., Any], inputs: Any, rng: np.random.Generator,
           **options: Any) -> Report:
    flat = leaves(inputs, "x")
    directions = {path: rng.standard_normal(x.shape) for path, x in flat.items() if is_float_array(x)}

    def forward(t: Any) -> tuple[Any, Any]:
        moved = rebuilt(inputs, "x", {path: x + t * directions[path] if path in directions else x
                                      for path, x in flat.items()})
        return tuple(_with_derivative(f(*moved) if type(inputs) in (list, tuple) else f(moved))), None

    def backward(*dys_and_cache: Any) -> Any:
        found = jvp(inputs, rebuilt(inputs, "x", {path: directions.get(path) for path in flat}))
        return np.array(sum((dy * g).sum() for dy, g in zip(dys_and_cache[:-1], _with_derivative(found), strict=True)))

    return check_gradients(forward, backward, {"t": np.zeros(())}, **options)


def _with_derivative(y: Any) -> list[Any]:
    """The outputs that have a derivative, also those in containers."""
    return [leaf for leaf in leaves(y, "y").values() if outputs(leaf)] if is_container(y) else list(outputs(y))


Pair = tuple[Callable[..., Any], Callable[..., Any], Any]


def pair_of_one(function: Any, inputs: Any) -> Pair:
    """(forward, backward, inputs) of NumPy arrays; TypeError if it has no gradient of its own."""
    values = leaves(inputs, "").values()
    if inputs is not None:
        if _is_of("torch", function) or any(_is_of("torch", value) for value in values):
            return _torch(function, inputs)
        if _is_of("jax", function) or any(_is_of("jax", value) for value in values):
            return _jax(function, inputs)
        if callable(getattr(function, "forward", None)) and callable(getattr(function, "backward", None)):
            return _chainer(function, inputs)
    raise TypeError(f"backward is {kind(inputs)}: expected a function; without it, gradcheck(function, inputs) is for "
                    "a torch.autograd.Function, a function of torch tensors, or a jax function")


def _is_of(framework: str, value: Any) -> bool:
    """Is it, or its class, of the framework?"""
    if framework not in sys.modules:
        return False
    if framework == "torch":
        torch = sys.modules["torch"]
        return isinstance(value, (torch.Tensor, torch.nn.Module)) or (
            isinstance(value, type) and issubclass(value, torch.autograd.Function))
    jax = sys.modules["jax"]
    return isinstance(value, (jax.Array, jax.custom_vjp)) or hasattr(value, "lower")  # a jitted function


def _torch(function: Any, inputs: Any) -> Pair:
    import torch

    is_class = isinstance(function, type)
    apply = function.apply if is_class else function
    named = dict(inputs) if isinstance(inputs, Mapping) else by_position(
        (lambda *_: None) if is_class else function, inputs)
    if is_class and not isinstance(inputs, Mapping):  # behind ctx, forward names the inputs
        names = [*inspect.signature(function.forward).parameters]
        names = names[1:] if len(names) == len(named) + 1 else names
        named = dict(zip(names if len(names) == len(named) else named, named.values(), strict=True))
    device = next((v.device for v in _flat(named).values() if isinstance(v, torch.Tensor)), torch.device("cpu"))

    def to_torch(value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        return torch.tensor(value, device=device, requires_grad=value.dtype.kind == "f")

    def forward(**args: Any) -> tuple[Any, Any]:
        flat = {path: to_torch(value) for name, tree in args.items() for path, value in leaves(tree, name).items()}
        given = {name: rebuilt(tree, name, flat) for name, tree in args.items()}
        with torch.enable_grad():
            by_name = isinstance(inputs, Mapping) and not is_class
            result = apply(**given) if by_name else apply(*given.values())
        ys = result if isinstance(result, tuple) else (result,)
        wanted = tuple(y for y in ys if isinstance(y, torch.Tensor) and y.is_floating_point())
        return tuple(y.detach().cpu().numpy() for y in wanted), _Graph((args, flat, wanted))

    def backward(*dys_and_graph: Any) -> dict[str, Any]:
        *dys, graph = dys_and_graph
        args, flat, ys = graph.held
        xs = {path: value for path, value in flat.items() if isinstance(value, torch.Tensor) and value.requires_grad}
        pairs = [(y, torch.as_tensor(dy, device=y.device, dtype=y.dtype)) for y, dy in zip(ys, dys, strict=True)
                 if y.requires_grad]
        found = torch.autograd.grad([y for y, _ in pairs], list(xs.values()), [dy for _, dy in pairs],
                                    retain_graph=True, allow_unused=True)
        gradients = {path: np.zeros(tuple(x.shape)) if g is None else g.detach().cpu().numpy().copy()
                     for (path, x), g in zip(xs.items(), found, strict=True)}
        return {name: rebuilt(tree, name, {p: gradients.get(p) for p in leaves(tree, name)})
                for name, tree in args.items()}

    return forward, backward, _on_host(named, torch.Tensor)


def _jax(function: Any, inputs: Any) -> Pair:
    import jax  # type: ignore[import-not-found, unused-ignore]

    named = dict(inputs) if isinstance(inputs, Mapping) else by_position(getattr(function, "fun", function), inputs)

    def differentiable(args: Mapping[str, Any]) -> dict[str, Any]:
        return {path: value for path, value in _flat(args).items()
                if isinstance(value, np.ndarray) and value.dtype.kind == "f"}

    def forward(**args: Any) -> tuple[Any, Any]:
        with _x64(jax):
            def of_floats(floats: dict[str, Any]) -> Any:
                flat = {**_flat(args), **floats}
                return function(*(rebuilt(tree, name, flat) for name, tree in args.items()))
            result, pull = jax.vjp(of_floats, differentiable(args))
            ys = result if isinstance(result, tuple) else (result,)
            return tuple(np.array(y) for y in ys), _Graph((args, pull, isinstance(result, tuple)))

    def backward(*dys_and_graph: Any) -> dict[str, Any]:
        *dys, graph = dys_and_graph
        args, pull, several = graph.held
        with _x64(jax):
            (found,) = pull(tuple(dys) if several else dys[0])
        gradients = {path: np.array(g) for path, g in found.items()}
        return {name: rebuilt(tree, name, {p: gradients.get(p) for p in leaves(tree, name)})
                for name, tree in args.items()}

    return forward, backward, _on_host(named, jax.Array)


def _x64(jax: Any) -> Any:
    return jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64()


def _chainer(function: Any, inputs: Any) -> Pair:
    """forward(inputs) and backward(inputs, grad_outputs), both of tuples."""
    values = tuple(inputs) if type(inputs) in (tuple, list) else (inputs,)
    names = [f"x{i}" for i in range(len(values))]

    def forward(**args: Any) -> tuple[Any, Any]:
        given = tuple(args.values())
        return function.forward(given), given

    def backward(*dys_and_given: Any) -> dict[str, Any]:
        *dys, given = dys_and_given
        return {name: g for name, g in zip(names, function.backward(given, tuple(dys)), strict=True) if g is not None}

    return forward, backward, dict(zip(names, values, strict=True))


class _Graph:
    """What backward needs of a framework: it is no array of ours, and not copied."""

    def __init__(self, held: tuple[Any, ...]):
        self.held = held

    def __call__(self) -> tuple[Any, ...]:  # what can be called is not looked into for arrays
        return self.held

    def __deepcopy__(self, memo: Any) -> _Graph:
        return self


def _flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {path: value for name, some in tree.items() for path, value in leaves(some, name).items()}


def _on_host(named: Mapping[str, Any], tensor: type) -> dict[str, Any]:
    """The arguments as NumPy arrays, those of floats in float64."""
    def moved(value: Any) -> Any:
        if not isinstance(value, tensor):
            return value
        host = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
        return host.astype("float64") if host.dtype.kind == "f" else np.array(host)

    flat = {path: moved(value) for path, value in _flat(named).items()}
    return {name: rebuilt(tree, name, flat) if is_container(tree) else flat[name] for name, tree in named.items()}
