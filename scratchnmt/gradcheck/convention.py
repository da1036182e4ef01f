"""Looking over what was given: arrays of finite floats, and a sentence where it is something else."""

from __future__ import annotations

import copy
import inspect
import os
import random
import re
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import numpy as np

from ..arrays import Array, array_module
from .report import GradcheckError


def is_array(value: Any) -> bool:
    """NumPy's or CuPy's; other frameworks' tensors, in a cache for example, are looked past."""
    kind_of_numbers = getattr(getattr(value, "dtype", None), "kind", None)  # of the module numpy no text
    return isinstance(kind_of_numbers, str) and not isinstance(value, np.generic)


def is_float_array(value: Any) -> bool:
    return is_array(value) and value.dtype.kind == "f"


def is_number(value: Any) -> bool:
    """A Python float, or a NumPy one."""
    return isinstance(value, (float, np.floating))


def moved(value: Any) -> Any:
    """Another value of the same kind, to see whether anything depends on it."""
    if is_number(value):
        return type(value)(1.01 * value + 0.01)
    size = float(np.abs(to_host(value)).max(initial=0.0)) + 1.0
    other = size * np.random.default_rng(0).standard_normal(value.shape)
    return array_module(value).asarray(other.astype(value.dtype))


def to_host(array: Any) -> np.ndarray:
    return np.asarray(array.get() if hasattr(array, "get") else array)


def by_position(function: Callable[..., Any], inputs: Any) -> dict[str, Any]:
    """The inputs under the names of the function's parameters; those that it does not name are arg0, arg1, ..."""
    values = list(inputs) if type(inputs) in (tuple, list) else [inputs]
    try:
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        names = [p.name for p in inspect.signature(function).parameters.values() if p.kind in kinds]
    except (TypeError, ValueError):
        names = []
    names += [f"arg{i}" for i in range(len(names), len(values))]
    return dict(zip(names, values, strict=False))


def check_numbers(rtol: float | None, seed: int) -> None:
    """ValueError unless a tolerance that is given is above 0, and the seed a whole number from 0 on."""
    if rtol is not None and not rtol > 0:
        raise ValueError(f"rtol is {rtol}, expected a number above 0")
    if not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed is {seed!r}, expected a whole number from 0 on")


def check_callable(what: str, value: Any) -> None:
    """TypeError unless it is a function."""
    if not callable(value):
        raise TypeError(f"{what} is {kind(value)}: expected a function")


def check_array(what: str, value: Any) -> None:
    """ValueError unless it is a non-empty array of finite floats."""
    if not is_float_array(value):
        raise ValueError(f"{what} is {kind(value)}: only arrays of floats have a gradient")
    if value.size == 0:
        raise ValueError(f"{what} is empty, shape {value.shape}: there is nothing to check")
    check_finite(what, value)


def check_finite(what: str, value: Any) -> None:
    """ValueError with the place of the first infinity or NaN."""
    finite = np.isfinite(to_host(value))
    if not finite.all():
        raise ValueError(f"{what} holds a value that is not finite at {first(~finite)}")


def first(where: np.ndarray) -> tuple[int, ...]:
    """The index of the first True."""
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(where)), where.shape))


def kind(value: Any) -> str:
    """What a value is, in words: "an array of int64", "a tuple of 3", "None"."""
    if value is None:
        return "None"
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return f"a tuple of {len(value)}"
    name = f"array of {value.dtype}" if is_array(value) else type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


class ConventionError(ValueError):
    """What a function returned does not fit the arguments."""


def describe(args: Mapping[str, Any], names: Sequence[str]) -> tuple[str, str]:
    """(the coarsest dtype, the device) of the differentiated arguments."""
    dtype = max((args[name].dtype for name in names), key=lambda d: np.finfo(d).eps).name
    return dtype, "cpu" if array_module(args[names[0]]) is np else "cuda"


def cast(args: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """The arguments with every float array copied as `dtype`; everything else is left alone."""
    return {name: value.astype(dtype) if is_float_array(value) else value for name, value in args.items()}


def copied(args: Mapping[Any, Any]) -> dict[Any, Any]:
    """The arguments with every array copied, out of reach of an op that writes into them."""
    return {name: value.copy() if is_array(value) else value for name, value in args.items()}


def noncontiguous(array: Array) -> Array:
    """A copy whose elements lie two apart in memory."""
    if array.ndim == 0:
        return array
    wide = array_module(array).empty((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    view = wide[..., ::2]
    view[...] = array
    return view


def fortran(array: Array) -> Array:
    """A copy whose first index runs fastest in memory, as in the transpose of an array."""
    return array_module(array).asfortranarray(array) if array.ndim > 1 else array


def call(forward: Callable[..., Any], args: Mapping[str, Any]) -> Any:
    """forward(**args); a random generator among the arguments starts from the same state each time."""
    return forward(
        **{k: copy.deepcopy(v) if isinstance(v, np.random.Generator) else v for k, v in args.items()}
    )


@contextmanager
def global_seed(function: Any = None) -> Iterator[None]:
    """The generators of numpy.random and random, and those that the function finds outside of itself, start from the
    same state, and go on afterwards as if unused."""
    states = np.random.get_state(), random.getstate()
    own = [(generator.bit_generator, generator.bit_generator.state) for generator in _generators(function)]
    np.random.seed(0)
    random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(states[0])
        random.setstate(states[1])
        for bits, state in own:
            bits.state = state


def _generators(function: Any, seen: tuple[int, ...] = ()) -> list[np.random.Generator]:
    """NumPy's generators in the module of a function, in what it closes over, and in the functions that it finds."""
    function = getattr(function, "__func__", function)
    if not isinstance(function, FunctionType) or id(function) in seen:
        return []
    try:
        known = inspect.getclosurevars(function)
    except ValueError:  # it closes over a name that is not bound yet
        return []
    found = [*known.globals.values(), *known.nonlocals.values()]
    return [value for value in found if isinstance(value, np.random.Generator)] + [
        generator for value in found for generator in _generators(value, (*seen, id(function)))]


def run_forward(forward: Callable[..., Any], args: Mapping[str, Any]) -> tuple[Any, Any]:
    """(outputs, cache), of such a pair or of (y1, y2, ..., cache); ValueError if forward returns something else."""
    result = call(forward, args)
    if isinstance(result, tuple) and len(result) > 2 and not hasattr(result, "_fields"):
        result = result[:-1], result[-1]
    if not isinstance(result, tuple) or len(result) != 2:
        missing = ": is a return missing?" if result is None else (
            "; a function without a cache is wrapped, lambda x: (forward(x), x)")
        raise ValueError(f"forward must return (y, cache), got {kind(result)}{missing}")
    if not outputs(result[0]):
        instead = ": return a tuple, or a NamedTuple, of outputs" if isinstance(result[0], Mapping) else ""
        raise ValueError(f"forward has no output of floats, so nothing to differentiate: y is {kind(result[0])}"
                         + instead)
    return result


def run_backward(backward: Callable[..., Any], dys: Sequence[Array], cache: Any, name: str = "backward") -> Any:
    """backward(*dys, cache); what it raises becomes a GradcheckError that names it."""
    try:
        return backward(*dys, cache)
    except GradcheckError:
        raise
    except ConventionError as error:
        raise ValueError(str(error)) from None
    except Exception as error:
        said = f"{type(error).__name__}: {_without_colour(error)}{_where(error)}"
        raise GradcheckError(f"{name} raised {said}") from error


def _without_colour(error: BaseException) -> str:
    """What it says, without the codes by which some, Numba's for example, colour it."""
    return re.sub(r"\x1b\[[\d;]*m", "", str(error))


def _where(error: BaseException) -> str:
    """The line of the op that raised, behind the frames of this package."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if not frame.filename.startswith(os.path.dirname(__file__))]
    return f" ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})" if frames else ""


def outputs(y: Any) -> tuple[Any, ...]:
    """The outputs that have a gradient: those of a float or complex type, in order."""
    ys = y if isinstance(y, (tuple, list)) else (y,)
    return tuple(v for v in ys if (v if hasattr(v, "dtype") else np.asarray(v)).dtype.kind in "fc")


def output_names(y: Any) -> list[str]:
    """Names of `outputs(y)`: the fields of a NamedTuple, else y, or y[0], y[1], ..."""
    if not isinstance(y, (tuple, list)):
        return ["y"]
    names = getattr(y, "_fields", None) or [f"y[{i}]" for i in range(len(y))]
    return [name for name, v in zip(names, y, strict=False) if outputs(v)]


def every_dy(backward: Callable[..., Any], y: Any, dys: Sequence[Any], more: int) -> list[Any]:
    """The dys, with zeros for outputs that have none if backward has a place for each; more: its other arguments."""
    ys = y if isinstance(y, (tuple, list)) else (y,)
    if len(ys) == len(dys) or required(backward) != len(ys) + more:
        return list(dys)
    rest = iter(dys)
    return [next(rest) if outputs((value,)) else np.zeros(np.shape(value)) for value in ys]


def required(function: Callable[..., Any]) -> int:
    """How many arguments it cannot do without; 0 of what does not tell."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 0
    return sum(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def draw_dys(ys: Sequence[Array], seed: int) -> list[Array]:
    """One random gradient per output, normal, of the output's shape, dtype and array module."""
    rng = np.random.default_rng([seed, 2])  # not the stream that the caller may have drawn x from
    drawn = []
    for y in ys:
        dtype = getattr(y, "dtype", np.dtype(float))
        dy = np.asarray(rng.standard_normal(np.shape(y)), dtype)
        drawn.append(array_module(y).asarray(dy))
    return drawn


def given_dys(y: Any, dys: Any) -> list[Array]:
    """The caller's dys as a list, one for every output that has a gradient; ValueError if they do not fit."""
    ys, names = outputs(y), output_names(y)
    given: list[Array] = list(dys) if isinstance(dys, (tuple, list)) else [dys]
    dys = given
    if len(dys) != len(ys):
        raise ValueError(f"{len(dys)} dys were given, but the forward pass has {len(ys)} "
                         f"output{'s' if len(ys) > 1 else ''} with a gradient: {', '.join(names)}")
    if [np.shape(v) for v in ys] != [np.shape(v) for v in dys]:
        raise ValueError(
            f"dys have shapes {[np.shape(v) for v in dys]}, the outputs {[np.shape(v) for v in ys]}"
        )
    for k, dy in enumerate(dys):
        check_finite(f"dys[{k}]", dy)
    return given


def differentiable(args: Mapping[str, Any], wrt: Sequence[str] | None = None) -> list[str]:
    """The arguments to differentiate: `wrt`, or every array of floats; each is looked over."""
    if not isinstance(args, Mapping):
        raise TypeError(f"args is {kind(args)}: expected a dict of forward's arguments by name")
    for name, value in args.items():
        if is_array(value) and value.dtype.kind == "c":
            raise ValueError(f"argument {name} is an array of {value.dtype}: the check is for real arguments, "
                             "since complex-step uses the imaginary part itself")
    if wrt is None:
        names = [name for name, value in args.items() if is_float_array(value)]
        if not names:
            raise ValueError(f"no argument is an array of floats: {', '.join(args) or 'none at all'}{_foreign(args)}")
    else:
        names = [wrt] if isinstance(wrt, str) else list(wrt)
        if not names:
            raise ValueError(f"wrt is empty: choose from {', '.join(args)}, or leave it out")
    for name in names:
        if name not in args:
            raise ValueError(f"wrt names {name!r}, which is no argument: {', '.join(args)}")
        check_array(f"argument {name}", args[name])
    return names


def _foreign(args: Mapping[str, Any]) -> str:
    """Advice on tensors of other frameworks."""
    tensors = [name for name, value in args.items() if hasattr(value, "dtype") and not is_array(value)]
    if not tensors:
        return ""
    value = args[tensors[0]]
    return (f"; {tensors[0]} is {kind(value)} of {type(value).__module__}: pass NumPy arrays to a pair of functions, "
            "or give the framework's function alone, gradcheck(function, inputs)")


def named_gradients(result: Any, args: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """backward's result as {argument: gradient} for `names`, matched by name."""
    if is_array(result) or isinstance(result, (float, np.floating)):
        if len(names) != 1:
            raise ValueError(f"backward returns one array for {len(names)} arguments ({', '.join(names)}): "
                             "return a NamedTuple or a dict, or choose one argument by wrt")
        return {names[0]: result}
    gradients = by_argument(result, args)
    missing = [name for name in names if name not in gradients]
    if missing:
        raise ValueError(f"backward returns no gradient for {', '.join(missing)}: "
                         f"only {', '.join(_mapping(result)) or 'none'}; what has no gradient is left out by wrt="
                         f"{[name for name in names if name in gradients]}")
    for name in names:
        value = gradients[name]
        if value is None or not (is_array(value) or isinstance(value, (int, float, np.number))):
            raise ValueError(f"backward returns {kind(value)} as the gradient of {name}, expected an array")
    return {name: gradients[name] for name in names}


def by_argument(result: Any, args: Mapping[str, Any]) -> dict[str, Any]:
    """A NamedTuple or dict of gradients as {argument: what backward returned for it}."""
    returned = _mapping(result)
    keys: dict[str, str] = {}  # argument -> the name in `returned`
    for key in returned:
        name = _argument(key, args, returned if isinstance(result, Mapping) else ())
        if name is None:
            raise ConventionError(f"backward returns {key!r}, which matches no argument: {', '.join(args)}")
        if name in keys:
            raise ConventionError(f"backward returns both {keys[name]!r} and {key!r} for the argument {name}")
        keys[name] = key
    return {name: returned[key] for name, key in keys.items()}


def unchecked(result: Any, args: Mapping[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    """A sentence for every gradient that backward returns for an argument that cannot be differentiated."""
    if is_array(result) or np.isscalar(result):
        return ()
    return tuple(f"d{name} is not checked: {name} is {kind(args[name])}, only arrays of floats are"
                 for name, value in by_argument(result, args).items()
                 if value is not None and name not in names and not is_float_array(args[name]))


def _argument(key: str, args: Mapping[str, Any], bare: Collection[str]) -> str | None:
    """Whose gradient the key names: by 'd' + argument or, where its dict is `bare`, by the argument itself.

    Among arguments t and dt, "dt" is the gradient of t where "ddt" stands beside it.
    """
    prefixed = key[1:] if key.startswith("d") and key[1:] in args else None
    if key in bare and key in args and (prefixed is None or f"d{key}" not in bare):
        return key
    return prefixed


def _mapping(result: Any) -> Mapping[str, Any]:
    if hasattr(result, "_asdict"):
        fields: Mapping[str, Any] = result._asdict()
        return fields
    if isinstance(result, Mapping):
        return result
    raise ConventionError(f"backward must return a NamedTuple, a dict or an array, got {kind(result)}: "
                     "gradients are matched by name, 'd' + argument")
