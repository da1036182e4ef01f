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
from typing import Any

import numpy as np

from ..arrays import Array, array_module
from .convention import call, cast, outputs, to_host

STEP = 2.0**-100  # a power of two: dividing by it is exact; the truncation error is about STEP**2
EPS = float(np.finfo(np.float64).eps)


class NotAnalyticError(RuntimeError):
    """The forward pass cannot be differentiated by complex step: it does not carry an imaginary part."""


def complex_step(f: Callable, args: Mapping[str, Any], u: Mapping[str, Array], *, dys: Sequence[Array],
                 step: float = STEP) -> float:
    """d/dt <f(**(args + t u)), dys> at t = 0, to rounding error, by one complex forward pass."""
    z = cast(args, "complex128")
    for name, direction in u.items():
        z[name] = z[name] + 1j * step * direction
    return _imaginary(f, z, dys) / step


def central(f: Callable, args: Mapping[str, Any], u: Mapping[str, Array], *, dys: Sequence[Array],
            step: float | None = None) -> float:
    """The same by a central difference; step defaults to cbrt(eps) * max(1, |x|)."""
    x = cast(args, "float64")
    if step is None:
        step = EPS ** (1 / 3) * max(1.0, *(float(abs(to_host(x[name])).max()) for name in u))
    plus, minus = (_real(f, _moved(x, u, t), dys) for t in (step, -step))
    return (plus - minus) / (2 * step)


def richardson(f: Callable, args: Mapping[str, Any], u: Mapping[str, Array], *, dys: Sequence[Array],
               levels: int = 3, step: float = 2.0**-8) -> tuple[float, float]:
    """Central differences at step, step/2, ..., extrapolated: (value, estimate of the error)."""
    column = [central(f, args, u, dys=dys, step=step / 2**k) for k in range(levels)]
    before = column[-1]
    for k in range(1, levels):  # each pass removes the error's term in step**(2k)
        before = column[-1]
        column = [fine + (fine - coarse) / (4**k - 1) for coarse, fine in zip(column, column[1:])]
    return column[-1], abs(column[-1] - before)


def gradient(f: Callable, args: Mapping[str, Any], name: str, *, dys: Sequence[Array],
             method: str = "complex", indices: Sequence[int] | None = None) -> np.ndarray:
    """The gradient of one argument, one derivative per element, on the host.

    All of it, in the argument's shape; or its values at `indices` into the flattened array.
    """
    shape = args[name].shape
    flat_indices = range(math.prod(shape)) if indices is None else indices
    element = {"complex": _complex_elements, "central": _real_elements, "richardson": _real_elements}
    if method not in element:
        raise ValueError(f"method {method!r} is not known: expected complex, central or richardson")
    values = np.array(element[method](f, args, name, dys, flat_indices, method))
    return values.reshape(shape) if indices is None else values


def _complex_elements(f, args, name, dys, indices, method) -> list[float]:
    z = cast(args, "complex128")
    z[name] = array_module(z[name]).ascontiguousarray(z[name]).reshape(args[name].shape)
    flat = z[name].reshape(-1)  # a view
    values = []
    for i in indices:
        kept = flat[i].copy()
        flat[i] = kept + 1j * STEP
        values.append(_imaginary(f, z, dys) / STEP)
        flat[i] = kept
    return values


def _real_elements(f, args, name, dys, indices, method) -> list[float]:
    xp = array_module(args[name])
    values = []
    for i in indices:
        u = xp.zeros(args[name].size)
        u[i] = 1.0
        direction = {name: u.reshape(args[name].shape)}
        if method == "central":
            values.append(central(f, args, direction, dys=dys))
        else:
            values.append(richardson(f, args, direction, dys=dys)[0])
    return values


def _moved(x: Mapping[str, Any], u: Mapping[str, Array], t: float) -> dict[str, Any]:
    return {**x, **{name: x[name] + t * direction for name, direction in u.items()}}


def _imaginary(f: Callable, z: Mapping[str, Any], dys: Sequence[Array]) -> float:
    """Im <f(**z), dys>; NotAnalyticError if f drops, refuses or loses the imaginary part."""
    advice = "use complex-safe array code (see docs), or method='central'"
    with warnings.catch_warnings():
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        try:
            ys = outputs(call(f, z))
        except np.exceptions.ComplexWarning as error:
            raise NotAnalyticError(
                f"the forward pass casts complex numbers to real ones: {advice}"
            ) from error
        except TypeError as error:
            raise NotAnalyticError(f"the forward pass refuses complex numbers ({error}): {advice}") from error
    for k, y in enumerate(ys):
        if not _is_complex(y):
            raise NotAnalyticError(f"output {k} of the forward pass is real though its arguments are complex "
                                   f"(abs, norm, var, .real?): {advice}")
    total = _inner(ys, dys)
    if not math.isfinite(total.real) or not math.isfinite(total.imag):
        raise NotAnalyticError(f"the forward pass gives {total} for complex arguments (1 / (1 + exp(-x)) far "
                               f"from zero, or mask * -inf?): {advice}")
    return total.imag


def _real(f: Callable, x: Mapping[str, Any], dys: Sequence[Array]) -> float:
    return _inner(outputs(call(f, x)), dys).real


def _is_complex(y: Any) -> bool:
    return isinstance(y, complex) or getattr(getattr(y, "dtype", None), "kind", "") == "c"


def _inner(ys: Sequence[Any], dys: Sequence[Array]) -> complex:
    if len(ys) != len(dys):
        raise ValueError(
            f"the forward pass has {len(ys)} outputs with a gradient, but {len(dys)} dys were given"
        )
    return sum((complex((y * dy).sum() if hasattr(dy, "sum") else y * dy) for y, dy in zip(ys, dys)), 0j)


def check_analytic(f: Callable, args: Mapping[str, Any], names: Sequence[str], *, dys: Sequence[Array],
                   seed: int = 0) -> None:
    """NotAnalyticError if complex-step and a real difference disagree along one random direction.

    What complex-step silently loses (abs inside a product, var) would else be called a wrong gradient,
    or worse, agree with a backward pass that forgot the same term.  1e-6 is asked for; a difference
    that fails for rounding or for a kink close by gets a second try with Richardson's.
    """
    rng = np.random.default_rng(seed)
    drawn = {name: rng.standard_normal(args[name].shape) for name in names}
    norm = math.sqrt(sum(float((v * v).sum()) for v in drawn.values()))
    u = {name: array_module(args[name]).asarray(v / norm) for name, v in drawn.items()}
    exact = complex_step(f, args, u, dys=dys)
    ys = outputs(call(f, cast(args, "float64")))
    size = sum(float(np.abs(to_host(y) * to_host(dy)).sum()) for y, dy in zip(ys, dys))
    scale = abs(exact) + 1e-3 * size  # rounding of the outputs limits any difference
    difference = central(f, args, u, dys=dys)
    if abs(difference - exact) > 1e-6 * scale:
        difference = richardson(f, args, u, dys=dys, step=2.0**-10)[0]
    if not abs(difference - exact) <= 1e-6 * scale:
        raise NotAnalyticError(
            f"along a random direction complex-step gives {exact:.6g}, a real difference {difference:.6g}: "
            "the forward pass is not complex-analytic (abs, norm, var, conj, a complex comparison?); "
            "rewrite that step on the real part, x * x for abs(x)**2, or check with method='central'"
        )
