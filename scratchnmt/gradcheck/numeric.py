"""Numerical derivatives of <f(args), dys>: complex-step, central difference, Richardson.

    complex-step   Im f(x + ih) / h      exact to rounding: nothing is subtracted, so h can be 2^-100,
                                         and no kink is crossed, since the real part does not move.
    central        (f(x + h) - f(x - h)) / 2h             good to about 1e-9 of the gradient's size
    Richardson     central differences at h, h/2, h/4, extrapolated                  about 1e-11

f(**args) returns the outputs alone (no cache): one array or number, or several.  W. Squire and
G. Trapp, "Using complex variables to estimate derivatives of real functions", SIAM Review 40(1), 1998.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..arrays import Array, array_module
from .convention import call, cast, outputs
from .inputs import to_host

STEP = 2.0**-100  # a power of two: dividing by it is exact; the truncation error is about STEP**2
REACH = 2.0**-8  # of Richardson's widest difference
EPS = float(np.finfo(np.float64).eps)
METHODS = ("complex", "central", "richardson")
ADVICE = "use complex-safe array code (see docs), or method='central'"
Line = Callable[[float], float]


class NotAnalyticError(RuntimeError):
    """The forward pass cannot be differentiated by complex step: it does not carry an imaginary part."""


def complex_step(f: Callable, args: Mapping[str, Any], u: Mapping[str, Array], *, dys: Sequence[Array],
                 step: float = STEP) -> float:
    """d/dt <f(**(args + t u)), dys> at t = 0, to rounding error, by one complex forward pass."""
    z = cast(args, "complex128")
    for name, direction in u.items():
        z[name] = z[name] + 1j * step * direction
    return pair(f, z, dys).imag / step


def central(f: Callable, args: Mapping[str, Any], u: Mapping[str, Array], *, dys: Sequence[Array],
            step: float | None = None) -> float:
    """The same by a central difference; step defaults to cbrt(eps) * max(1, |x|)."""
    step = real_step(*(args[name] for name in u)) if step is None else step
    return slope(line(f, args, u, dys=dys), step)


def richardson(f: Callable, args: Mapping[str, Any], u: Mapping[str, Array], *, dys: Sequence[Array],
               levels: int = 3, step: float = REACH) -> tuple[float, float]:
    """Central differences at step, step/2, ..., extrapolated: (value, estimate of the error)."""
    return extrapolated(line(f, args, u, dys=dys), levels, step)


def gradient(f: Callable, args: Mapping[str, Any], name: str, *, dys: Sequence[Array],
             method: str = "complex", indices: Sequence[int] | None = None) -> np.ndarray:
    """The gradient of one argument, one derivative per element, on the host.

    All of it, in the argument's shape; or its values at `indices` into the flattened array.
    """
    check_method(method)
    shape = args[name].shape
    flat_indices = range(math.prod(shape)) if indices is None else indices
    if method == "complex":
        values = _complex_elements(f, args, name, dys, flat_indices)
    else:
        values = _real_elements(f, args, name, dys, flat_indices, method)
    return values.reshape(shape) if indices is None else values


def check_method(method: str) -> None:
    """ValueError unless it is one of METHODS."""
    if method not in METHODS:
        raise ValueError(f"method {method!r} is not known: expected {', '.join(METHODS[:-1])} or {METHODS[-1]}")


def line(f: Callable, args: Mapping[str, Any], u: Mapping[str, Array], *, dys: Sequence[Array]) -> Line:
    """t -> <f(**(args + t u)), dys>, in float64."""
    x = cast(args, "float64")
    return lambda t: inner(f, {**x, **{name: x[name] + t * direction for name, direction in u.items()}}, dys)


def element_lines(f: Callable, args: Mapping[str, Any], name: str, *,
                  dys: Sequence[Array]) -> Callable[[int], Line]:
    """The line through args along one element of args[name], given the element's flat index."""
    x, flat = _flattened(args, name, "float64")

    def along(i: int) -> Line:
        kept = flat[i].copy()

        def at(t: float) -> float:
            flat[i] = kept + t
            try:
                return inner(f, x, dys)
            finally:
                flat[i] = kept
        return at
    return along


def slope(f: Line, step: float) -> float:
    """The central difference of a function of one number, at 0."""
    return (f(step) - f(-step)) / (2 * step)


def extrapolated(f: Line, levels: int = 3, step: float = REACH) -> tuple[float, float]:
    """Richardson's extrapolation of `slope` to step 0: (value, estimate of the error)."""
    column = [slope(f, step / 2**k) for k in range(levels)]
    before = column[-1]
    for k in range(1, levels):  # each pass removes the error's term in step**(2k)
        before = column[-1]
        column = [fine + (fine - coarse) / (4**k - 1) for coarse, fine in pairwise(column)]
    return column[-1], abs(column[-1] - before)


def real_step(*values: Any) -> float:
    """cbrt(eps) * max(1, |x|): where truncation and rounding of a central difference are about equal."""
    return EPS ** (1 / 3) * max(1.0, *(float(abs(to_host(x)).max()) for x in values))


def _complex_elements(f, args, name, dys, indices) -> np.ndarray:
    z, flat = _flattened(args, name, "complex128")
    values = np.empty(len(indices))
    for k, i in enumerate(indices):
        kept = flat[i].copy()
        flat[i] = kept + 1j * STEP
        values[k] = pair(f, z, dys).imag / STEP
        flat[i] = kept
    return values


def _real_elements(f, args, name, dys, indices, method) -> np.ndarray:
    along, flat = element_lines(f, args, name, dys=dys), to_host(args[name]).reshape(-1)
    if method == "richardson":
        return np.array([extrapolated(along(i))[0] for i in indices])
    return np.array([slope(along(i), real_step(flat[i])) for i in indices])


def _flattened(args: Mapping[str, Any], name: str, dtype: str) -> tuple[dict[str, Any], Array]:
    """(the arguments in dtype, a flat view of args[name] among them)"""
    x = cast(args, dtype)
    x[name] = array_module(x[name]).ascontiguousarray(x[name]).reshape(args[name].shape)
    return x, x[name].reshape(-1)


def pair(f: Callable, z: Mapping[str, Any], dys: Sequence[Array]) -> complex:
    """<f(**z), dys> for complex z; NotAnalyticError if f drops, refuses or loses the imaginary part."""
    with warnings.catch_warnings():
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
    total = _inner(ys, dys)
    if not math.isfinite(total.real) or not math.isfinite(total.imag):
        raise NotAnalyticError(f"the forward pass gives {total} for complex arguments (1 / (1 + exp(-x)) far "
                               f"from zero, or mask * -inf?): {ADVICE}")
    return total


def inner(f: Callable, x: Mapping[str, Any], dys: Sequence[Array]) -> float:
    """<f(**x), dys> for real x."""
    return _inner(outputs(call(f, x)), dys).real


def magnitude(f: Callable, x: Mapping[str, Any], dys: Sequence[Array]) -> float:
    """The sum of |y dy| over all outputs: eps times this is the rounding error of `inner`."""
    return sum(float(abs(to_host(y * dy)).sum()) for y, dy in zip(outputs(call(f, x)), dys))


def _is_complex(y: Any) -> bool:
    return isinstance(y, complex) or getattr(getattr(y, "dtype", None), "kind", "") == "c"


def _inner(ys: Sequence[Any], dys: Sequence[Array]) -> complex:
    if len(ys) != len(dys):
        raise ValueError(
            f"the forward pass has {len(ys)} outputs with a gradient, but {len(dys)} dys were given"
        )
    return sum((complex((y * dy).sum() if hasattr(dy, "sum") else y * dy) for y, dy in zip(ys, dys)), 0j)
