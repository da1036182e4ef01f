"""Functions of torch, jax and Chainer, which bring their own gradient, as pairs of functions of NumPy arrays.

    gradcheck(function, inputs)        torch.autograd.Function, torch.nn.Module, jax.custom_vjp, Chainer's Function

torch and jax are imported only if the function, or its arguments, are theirs.  Both run in float64, where the arguments
lie; their references are real differences, since few of their functions take complex numbers as analytic.
"""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .convention import is_array, kind
from .op import by_position, is_container, leaves, rebuilt
from .reference import NotAnalyticError

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
                    "a torch.autograd.Function, a module or function of torch, or a jax function")


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

    named, apply = _torch_call(function, inputs)
    tensors = {path for path, value in _flat(named).items() if isinstance(value, torch.Tensor)}
    device = next((v.device for v in _flat(named).values() if isinstance(v, torch.Tensor)), torch.device("cpu"))
    seeds = [device] if device.type == "cuda" else []

    def to_torch(path: str, value: Any) -> Any:
        if path not in tensors and not isinstance(value, np.ndarray):
            return value
        return torch.tensor(value, device=device, requires_grad=value.dtype.kind == "f")

    def forward(**args: Any) -> tuple[Any, Any]:
        if any(is_array(value) and value.dtype.kind == "c" for value in _flat(args).values()):
            raise NotAnalyticError("a function of torch is run on real numbers")
        flat = {path: to_torch(path, value) for path, value in _flat(args).items()}
        own = {path: value.clone() if path in tensors else value for path, value in flat.items()}  # it may be written to
        given = {name: rebuilt(tree, name, own) for name, tree in args.items()}
        with torch.enable_grad(), torch.random.fork_rng(devices=seeds):
            torch.manual_seed(0)
            result = _in_double(lambda: apply(given))
        ys = result if isinstance(result, (tuple, list)) else (result,)
        wanted = tuple(y for y in ys if isinstance(y, torch.Tensor) and y.is_floating_point())
        if not any(y.requires_grad for y in wanted):
            raise ValueError(f"{_name(function)} returns {kind(result)}: expected a tensor of floats that depends on "
                             "the inputs (is it detached?), or a tuple with one")
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


def _torch_call(function: Any, inputs: Any) -> tuple[dict[str, Any], Callable[[dict[str, Any]], Any]]:
    """(the arguments by name, a call with such): of a module its parameters are arguments, too."""
    import torch

    by_name = isinstance(inputs, Mapping)
    if isinstance(function, torch.nn.Module):
        module = copy.deepcopy(function).double()
        weights = {name: p for name, p in module.named_parameters() if p.requires_grad}
        named = dict(inputs) if by_name else by_position(function.forward, inputs)

        def called(given: dict[str, Any]) -> Any:
            own = {name: given[name] for name in weights} | {name: b.clone() for name, b in module.named_buffers()}
            own_inputs = {name: value for name, value in given.items() if name not in weights}
            args, kwargs = ((), own_inputs) if by_name else (tuple(own_inputs.values()), {})
            return torch.func.functional_call(module, own, args, kwargs)
        return {**named, **weights}, called
    if not isinstance(function, type):
        named = dict(inputs) if by_name else by_position(function, inputs)
        return named, lambda given: function(**given) if by_name else function(*given.values())
    named = dict(inputs) if by_name else by_position(lambda *_: None, inputs)
    names = [*inspect.signature(getattr(function, "forward")).parameters]  # noqa: B009  behind ctx, forward names the inputs
    names = names[1:] if len(names) == len(named) + 1 else names
    if not by_name and len(names) == len(named):
        named = dict(zip(names, named.values(), strict=True))
    return named, lambda given: getattr(function, "apply")(*given.values())  # noqa: B009


def _in_double(call: Callable[[], Any]) -> Any:
    """Its value; ValueError where it mixes float32 with the float64 of the check."""
    try:
        return call()
    except RuntimeError as error:
        if "ouble" in str(error) and "loat" in str(error).replace("ouble", ""):
            raise ValueError(f"{error}: the check runs in float64, but something inside is of float32; give a module "
                             "itself, gradcheck(module, inputs), or make the rest double(), too") from error
        raise


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


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
    if isinstance(function, type):
        raise TypeError(f"{function.__name__} is a class: make an object of it, for gradcheck(object, inputs) or "
                        "check_layer(object, *inputs), or give its two functions")
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
