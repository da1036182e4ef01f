"""Numerical derivatives of <f(args), dys>: complex-step, central difference, Richardson.

    complex-step   Im f(x + ih) / h      exact to rounding: nothing is subtracted, so h can be 2^-100,
                                         and no kink is crossed, since the real part does not move.
    central        (f(x + h) - f(x - h)) / 2h             good to about 1e-9 of the gradient's size
    Richardson     central differences at h, h/2, h/4, extrapolated                  about 1e-11

The step of the last two is found by trying (differences.py), since it depends on the scale of f.

f(**args) returns the outputs alone (no cache): one array or number, or several.  W. Squire and
G. Trapp, "Using complex variables to estimate derivatives of real functions", SIAM Review 40(1), 1998.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ..arrays import Array, array_module
from .convention import call, cast, outputs
from .differences import Line, extrapolated, settled, slope
from .inputs import to_host

STEP = 2.0**-100  # a power of two: dividing by it is exact; the truncation error is about STEP**2
METHODS = ("complex", "central", "richardson")
ADVICE = ("write that step in code for complex numbers (docs/gradcheck.md, section 7, says how), "
          "or check with method='richardson'")


Indices: TypeAlias = Sequence[int] | np.ndarray  # into a flattened array


class NotAnalyticError(RuntimeError):
    """The forward pass cannot be differentiated by complex step: it does not carry an imaginary part."""


def complex_step(f: Callable, args: Mapping[str, Any], u: Mapping[str, Array], *, dys: Sequence[Array],
                 step: float = STEP) -> float:
    """d/dt <f(**(args + t u)), dys> at t = 0, to rounding error, by one complex forward pass."""
    z = cast(args, "complex128")
    for name, direction in u.items():
        z[name] = z[name] + 1j * step * direction
    return inner_complex(f, z, dys).imag / step


def central(f: Callable, args: Mapping[str, Any], u: Mapping[str, Array], *, dys: Sequence[Array],
            step: float | None = None) -> float:
    """The same by a central difference, whose step is found by trying if it is not given."""
    along = line(f, args, u, dys=dys)
    return settled(along, size_of(args, u), "central").value if step is None else slope(along, step)


def richardson(f: Callable, args: Mapping[str, Any], u: Mapping[str, Array], *, dys: Sequence[Array],
               levels: int = 3, step: float | None = None) -> tuple[float, float]:
    """Central differences at step, step/2, ..., extrapolated: (value, estimate of the error)."""
    along = line(f, args, u, dys=dys)
    if step is None:
        return settled(along, size_of(args, u), "richardson")[:2]
    return extrapolated([slope(along, step / 2**k) for k in range(levels)])


def gradient(f: Callable, args: Mapping[str, Any], name: str, *, dys: Sequence[Array],
             method: str = "complex", indices: Indices | None = None) -> np.ndarray:
    """The gradient of one argument, one derivative per element, on the host.

    All of it, in the argument's shape; or its values at `indices` into the flattened array.
    """
    check_method(method)
    shape = args[name].shape
    flat_indices = range(math.prod(shape)) if indices is None else indices
    values, _ = derivatives(f, args, name, flat_indices, dys=dys, method=method)
    return values.reshape(shape) if indices is None else values


def derivatives(f: Callable, args: Mapping[str, Any], name: str, indices: Indices, *,
                dys: Sequence[Array], method: str) -> tuple[np.ndarray, np.ndarray]:
    """(n,) by each of the elements at these indices, and (n,) how far a real difference may be off."""
    if method == "complex":
        return _complex_elements(f, args, name, dys, indices), np.zeros(len(indices))
    along, flat = element_lines(f, args, name, dys=dys), to_host(args[name]).reshape(-1)
    found = [settled(along(i), abs(float(flat[i])), method) for i in indices]
    for i, difference in zip(indices, found, strict=True):
        if not math.isfinite(difference.doubt):
            index = tuple(int(k) for k in np.unravel_index(i, args[name].shape))
            raise ValueError(f"{method}: the forward pass is not finite on both sides of {name}{list(index)} = "
                             f"{flat[i]:.6g}, however short the step, so no real difference can be taken there: "
                             "check at other arguments, or with method='complex'")
    return np.array([d.value for d in found]), np.array([d.doubt for d in found])


def check_method(method: str) -> None:
    """ValueError unless it is one of METHODS."""
    if method not in METHODS:
        raise ValueError(f"method {method!r} is not known: expected {', '.join(METHODS[:-1])} or {METHODS[-1]}")


def line(f: Callable, args: Mapping[str, Any], u: Mapping[str, Array], *, dys: Sequence[Array]) -> Line:
    """t -> the terms of <f(**(args + t u)), dys>, in float64."""
    x = cast(args, "float64")
    return lambda t: terms(f, {**x, **{name: x[name] + t * direction for name, direction in u.items()}}, dys)


def element_lines(f: Callable, args: Mapping[str, Any], name: str, *,
                  dys: Sequence[Array]) -> Callable[[int], Line]:
    """The line through args along one element of args[name], given the element's flat index."""
    x, flat = _flattened(args, name, "float64")

    def along(i: int) -> Line:
        kept = flat[i].copy()

        def at(t: float) -> np.ndarray:
            flat[i] = kept + t
            try:
                return terms(f, x, dys)
            finally:
                flat[i] = kept
        return at
    return along


def size_of(args: Mapping[str, Any], names: Iterable[str]) -> float:
    """The largest element of these arguments."""
    return max(float(abs(to_host(args[name])).max()) for name in names)


def _complex_elements(f, args, name, dys, indices) -> np.ndarray:
    z, flat = _flattened(args, name, "complex128")
    values = np.empty(len(indices))
    for k, i in enumerate(indices):
        kept = flat[i].copy()
        flat[i] = kept + 1j * STEP
        values[k] = inner_complex(f, z, dys).imag / STEP
        flat[i] = kept
    return values


def _flattened(args: Mapping[str, Any], name: str, dtype: str) -> tuple[dict[str, Any], Array]:
    """(the arguments in dtype, a flat view of args[name] among them)"""
    x = cast(args, dtype)
    x[name] = array_module(x[name]).ascontiguousarray(x[name]).reshape(args[name].shape)
    return x, x[name].reshape(-1)


def inner_complex(f: Callable, z: Mapping[str, Any], dys: Sequence[Array]) -> complex:
    """<f(**z), dys> for complex z; NotAnalyticError if f drops, refuses or loses the imaginary part."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):  # an overflow shows in the result, and is named
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        try:
            ys = outputs(call(f, z))
        except np.exceptions.ComplexWarning as error:
            raise NotAnalyticError(
                f"the forward pass casts complex numbers to real ones: {ADVICE}"
            ) from error
        except Exception as error:
            raise NotAnalyticError(f"the forward pass refuses complex numbers ({type(error).__name__}: {error}): "
                                   f"{ADVICE}") from error
    for k, y in enumerate(ys):
        if not _is_complex(y):
            raise NotAnalyticError(f"output {k} of the forward pass is real though its arguments are complex "
                                   f"(abs, norm, var, .real?): {ADVICE}")
    _check_count(ys, dys)
    with np.errstate(all="ignore"):
        total = sum((complex((y * dy).sum() if hasattr(dy, "sum") else y * dy)
                     for y, dy in zip(ys, dys, strict=True)), 0j)
    if not math.isfinite(total.real) or not math.isfinite(total.imag):
        raise NotAnalyticError(f"the forward pass gives {total} for complex arguments (1 / (1 + exp(-x)) far "
                               f"from zero, or mask * -inf?): {ADVICE}")
    return total


def terms(f: Callable, x: Mapping[str, Any], dys: Sequence[Array]) -> np.ndarray:
    """The terms y dy of <f(**x), dys> for real x, (n,), one for each element of the outputs."""
    ys = outputs(call(f, x))
    _check_count(ys, dys)
    return np.concatenate([to_host(y * dy).reshape(-1) for y, dy in zip(ys, dys, strict=True)])


def _is_complex(y: Any) -> bool:
    return isinstance(y, complex) or getattr(getattr(y, "dtype", None), "kind", "") == "c"


def _check_count(ys: Sequence[Any], dys: Sequence[Array]) -> None:
    if len(ys) != len(dys):
        raise ValueError(
            f"the forward pass has {len(ys)} outputs with a gradient, but {len(dys)} dys were given"
        )
