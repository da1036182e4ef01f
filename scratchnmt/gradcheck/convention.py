"""How an op is called: which arguments are differentiated, how outputs and gradients get names.

    forward(**args) -> (y, cache), (tuple of ys, cache) or (NamedTuple of ys, cache)
    backward(*dys, cache) -> NamedTuple or dict with names 'd' + argument, or one bare array
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import Array, array_module
from .report import GradcheckError


def is_array(value: Any) -> bool:
    return hasattr(value, "dtype") and not isinstance(value, np.generic)


def is_float_array(value: Any) -> bool:
    return is_array(value) and value.dtype.kind == "f"


def to_host(array: Any) -> np.ndarray:
    return np.asarray(array.get() if hasattr(array, "get") else array)


def cast(args: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """The arguments with every float array copied as `dtype`; everything else is left alone."""
    return {name: value.astype(dtype) if is_float_array(value) else value for name, value in args.items()}


def call(forward: Callable, args: Mapping[str, Any]) -> Any:
    """forward(**args); a random generator among the arguments starts from the same state each time."""
    return forward(
        **{k: copy.deepcopy(v) if isinstance(v, np.random.Generator) else v for k, v in args.items()}
    )


def run_forward(forward: Callable, args: Mapping[str, Any]) -> tuple[Any, Any]:
    """(outputs, cache), with a sentence if forward does not return such a pair."""
    result = call(forward, args)
    if not isinstance(result, tuple) or len(result) != 2:
        raise ValueError(f"forward must return (y, cache), got {type(result).__name__}")
    return result


def run_backward(backward: Callable, dys: Sequence[Array], cache: Any) -> Any:
    """backward(*dys, cache); what it raises becomes a GradcheckError that names it."""
    try:
        return backward(*dys, cache)
    except Exception as error:
        raise GradcheckError(f"backward raised {type(error).__name__}: {error}") from error


def outputs(y: Any) -> tuple[Any, ...]:
    """The outputs that have a gradient: those of a float or complex type, in order."""
    ys = y if isinstance(y, (tuple, list)) else (y,)
    return tuple(v for v in ys if getattr(v, "dtype", np.asarray(v).dtype).kind in "fc")


def output_names(y: Any) -> list[str]:
    """Names of `outputs(y)`: the fields of a NamedTuple, else y, or y[0], y[1], ..."""
    if not isinstance(y, (tuple, list)):
        return ["y"]
    names = getattr(y, "_fields", None) or [f"y[{i}]" for i in range(len(y))]
    return [name for name, v in zip(names, y) if outputs(v)]


def draw_dys(ys: Sequence[Array], seed: int) -> list[Array]:
    """One random gradient per output, normal, of the output's shape, dtype and array module."""
    rng = np.random.default_rng(seed)
    drawn = []
    for y in ys:
        dtype = getattr(y, "dtype", np.dtype(float))
        dy = np.asarray(rng.standard_normal(np.shape(y)), dtype)
        drawn.append(array_module(y).asarray(dy))
    return drawn


def differentiable(args: Mapping[str, Any], wrt: Sequence[str] | None = None) -> list[str]:
    """The arguments to differentiate: `wrt`, or every array of floats; each is looked over."""
    if wrt is None:
        names = [name for name, value in args.items() if is_float_array(value)]
        if not names:
            raise ValueError(f"no argument is an array of floats: {', '.join(args) or 'none at all'}")
    else:
        names = [wrt] if isinstance(wrt, str) else list(wrt)
    for name in names:
        if name not in args:
            raise ValueError(f"wrt names {name!r}, which is no argument: {', '.join(args)}")
        check_array(f"argument {name}", args[name])
    return names


def check_array(what: str, value: Any) -> None:
    """ValueError unless it is a non-empty array of finite floats."""
    if not is_float_array(value):
        kind = f"an array of {value.dtype}" if is_array(value) else f"a {type(value).__name__}"
        raise ValueError(f"{what} is {kind}: only arrays of floats have a gradient")
    if value.size == 0:
        raise ValueError(f"{what} is empty, shape {value.shape}: there is nothing to check")
    finite = np.isfinite(to_host(value))
    if not finite.all():
        index = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(f"{what} holds a value that is not finite at {index}")


def named_gradients(result: Any, args: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """backward's result as {argument: gradient} for `names`, matched by name."""
    if hasattr(result, "_asdict"):
        found = result._asdict()
    elif isinstance(result, Mapping):
        found = dict(result)
    elif is_array(result) or isinstance(result, (float, np.floating)):
        if len(names) != 1:
            raise ValueError(f"backward returns one array for {len(names)} arguments ({', '.join(names)}): "
                             "return a NamedTuple or a dict, or choose one argument by wrt")
        return {names[0]: result}
    else:
        raise ValueError(
            f"backward must return a NamedTuple, a dict or an array, got {type(result).__name__}: "
            "gradients are matched by name, 'd' + argument"
        )
    gradients = {}
    for key, value in found.items():
        name = key if key in args and isinstance(result, Mapping) else key[1:]
        if name not in args or (name == key[1:] and not key.startswith("d")):
            raise ValueError(f"backward returns {key!r}, which matches no argument: {', '.join(args)}")
        gradients[name] = value
    missing = [name for name in names if gradients.get(name) is None]
    if missing:
        raise ValueError(
            f"backward returns no gradient for {', '.join(missing)}: only {', '.join(found) or 'none'}"
        )
    return {name: gradients[name] for name in names}
