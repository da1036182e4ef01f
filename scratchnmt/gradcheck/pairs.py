"""Code of other forms, as pairs of functions that `check_gradients` takes.

    check_loss(fn, params, *args)      fn(params, *args) -> (loss, gradients)
    check_jvp(f, jvp, inputs)          jvp(inputs, directions), forward mode; check_hessian_vector is that of a gradient
    gradcheck(function, inputs)        torch.autograd.Function, torch.nn.Module, jax.custom_vjp, Chainer's Function

Along t, f(x + t v) has the derivative jvp(x, v) at 0; so the check of one scalar argument t checks it, once for each
random direction v.  A product with a Hessian is forward mode of the gradient.

torch and jax are imported only if the function, or its arguments, are theirs.  Both run in float64, where the arguments
lie; their references are real differences, since few of their functions take complex numbers as analytic.
"""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .api import check_gradients
from .convention import by_position, is_array, is_float_array, is_number, kind, outputs
from .reference import NotAnalyticError
from .report import Report, raise_if_wrong
from .trees import is_container, leaves, matched, rebuilt, scaled

Pair = tuple[Callable[..., Any], Callable[..., Any], Any]


def check_loss(fn: Callable[..., Any], params: Any, *args: Any, **options: Any) -> Report:
    """Check fn(params, *args) -> (loss, gradients).

    params: an array, or arrays and numbers in a dict, list or tuple, whose gradients have the same structure; each has
    one, or is left out by `wrt`.  Of fn(x, w, t) -> (loss, dx, dw), (loss, (dx, dw)) or (loss, {"dx": ..., "dw": ...})
    every argument is checked that has a gradient.  Beside the gradients of params in a container fn may return
    other results, an accuracy or a state, which are noted.  options: those of `check_gradients`.
    ValueError: fn returns something else, or no gradient for some parameter.
    """
    given, who = by_position(fn, (params, *args)), getattr(fn, "__name__", kind(fn))
    others: list[Any] = []

    def forward(**values: Any) -> tuple[Any, Any]:
        result = fn(*values.values())
        if not isinstance(result, (tuple, list)) or len(result) < 2 or np.size(result[0]) != 1:
            raise ValueError(f"{who} returns {kind(result)}: expected (loss, gradients), the loss a number")
        gradients, others[:] = _by_argument(who, given, list(result[1:]))
        if options.get("wrt") is None:
            _check_others(who, given, gradients, others)
            _check_complete(who, given, gradients)
        return result[0], gradients

    def backward(dloss: Any, gradients: Any) -> Any:
        return {name: scaled(gradients.get(name), np.sum(dloss)) for name in given}

    report = check_gradients(forward, backward, given, **options)
    if options.get("wrt") is None and is_container(params):
        _check_states(who, given, report)
    return replace(report, notes=(*report.notes, *(f"no gradient: {_described(other)}, which {who} returns as well"
                                                   for other in others)))


def _by_argument(who: str, given: Mapping[str, Any], gradients: list[Any]) -> tuple[dict[str, Any], list[Any]]:
    """({argument: its gradient}, what else is there): of params alone, by the arguments' names, or in their order."""
    (first, params), [one, *more] = next(iter(given.items())), gradients
    if not more and (is_container(params) or not is_container(one)):
        return {first: one if is_container(one) or not isinstance(params, (list, tuple)) else [one]}, []
    if not more and isinstance(one, Mapping):
        named = {name: key for name in given for key in (name, f"d{name}") if key in one}
        if len(named) < len(one):
            raise ValueError(f"{who} returns gradients {', '.join(map(str, one))} for the arguments "
                             f"{', '.join(given)}: expected the same names, or those with a d before")
        return {name: one[key] for name, key in named.items()}, []
    if isinstance(params, (list, tuple)) and not is_container(one):
        count = len(params)
        rest = {name: value for name, value in given.items() if name != first}
        found, others = _in_order(rest, gradients[count:])
        return {first: gradients[:count], **found}, others
    return _in_order(given, gradients if more else list(one))


def _in_order(given: Mapping[str, Any], gradients: Sequence[Any]) -> tuple[dict[str, Any], list[Any]]:
    """Each gradient to the next argument of its shape, or of its kind of container; and those that fit none."""
    found: dict[str, Any] = {}
    others: list[Any] = []
    left = [(name, value) for name, value in given.items() if is_float_array(value) or is_number(value)
            or is_container(value)]
    for gradient in gradients:
        fitting = [k for k, (_, value) in enumerate(left) if gradient is None or (
            is_container(gradient) == is_container(value)
            and (is_container(value) or np.shape(gradient) == np.shape(value)))]
        if not fitting:
            others.append(gradient)
            continue
        found[left[fitting[0]][0]] = gradient
        left = left[fitting[0] + 1:]
    return found, others


def _check_others(who: str, given: Mapping[str, Any], gradients: Mapping[str, Any], others: Sequence[Any]) -> None:
    """ValueError where something that fits no argument may be a gradient of the wrong shape."""
    first, *rest = given
    for other in others:
        if not is_container(given[first]) or any(_like(other, given[name]) for name in rest if name not in gradients):
            raise ValueError(f"{who} returns {_described(other)} beside the loss, which is the gradient of none of "
                             f"{', '.join(given)}: expected (loss, gradients), the gradients in the arguments' order; "
                             f"what is no gradient is left out by wrt={list(gradients)}")


def _check_states(who: str, given: Mapping[str, Any], report: Report) -> None:
    """ValueError where only what was taken for the gradient of a later argument is wrong: it may be a state."""
    first, *rest = given
    states = [name for name in rest if f"d{name}" in report.wrong]
    if states and len(states) == len(report.wrong):
        raise ValueError(
            f"{who} returns an array of the shape of {', '.join(states)} that is not its gradient: if it is meant as "
            f"one, wrt={[first, *states]} shows where it is wrong; if not, as a state, wrt={[first]} leaves it out")


def _like(gradient: Any, value: Any) -> bool:
    """May one be the gradient of the other, transposed, or summed along an axis?"""
    if is_container(gradient) or not is_array(gradient) or not is_float_array(value):
        return False
    pairs = zip(reversed(gradient.shape), reversed(value.shape), strict=False)
    return bool(gradient.size == value.size or all(size in (1, whole) for size, whole in pairs))


def _described(value: Any) -> str:
    return kind(value) + (f" of shape {np.shape(value)}" if is_array(value) else "")


def _check_complete(who: str, given: Mapping[str, Any], gradients: Mapping[str, Any]) -> None:
    """ValueError unless every parameter has a gradient, or None."""
    first = next(iter(given))
    floats = [path for path, leaf in leaves(given[first], first).items() if is_float_array(leaf) or is_number(leaf)]
    found = {path for name, gradient in gradients.items() for path in matched(given[name], gradient, name)}
    if missing := [path for path in floats if path not in found]:
        left = [path for path in floats if path in found] or [name for name in gradients if name != first]
        raise ValueError(f"{who} returns no gradient for {', '.join(missing)}; what has none is left out by wrt={left}")


def assert_loss(*args: Any, **options: Any) -> Report:
    """`check_loss`, raising GradcheckError with the report if anything is wrong."""
    __tracebackhide__ = True
    return raise_if_wrong(check_loss(*args, **options))


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
    directions = {path: rng.standard_normal(np.shape(x)) for path, x in flat.items()
                  if is_float_array(x) or is_number(x)}

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
                    "a torch.autograd.Function, a module or function of torch, or a jax function; a function of theirs "
                    "that has no mark of it is told by its inputs, torch.tensor(x) or jnp.asarray(x)")


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
        with torch.enable_grad(), torch.random.fork_rng(devices=seeds):
            torch.manual_seed(0)
            own = {path: value.clone() if isinstance(value, torch.Tensor) else value  # it may be written to
                   for path, value in flat.items()}
            given = {name: rebuilt(tree, name, own) for name, tree in args.items()}
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
