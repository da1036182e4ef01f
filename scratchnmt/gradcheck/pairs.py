"""Gradients that come in other forms, as pairs that `check_gradients` takes.

    check_loss(fn, params, *args)      fn(params, *args) -> (loss, gradients)
    check_jvp(f, jvp, inputs)          jvp(inputs, directions), forward mode; check_hessian_vector is that of a gradient

Along t, f(x + t v) has the derivative jvp(x, v) at 0; so the check of one scalar argument t checks it, once for each
random direction v.  A product with a Hessian is forward mode of the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .api import check_gradients
from .convention import is_array, is_float_array, is_number, kind, outputs
from .op import by_position, is_container, leaves, matched, rebuilt, scaled
from .report import Report, raise_if_wrong


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


