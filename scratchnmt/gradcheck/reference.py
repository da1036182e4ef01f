"""The derivatives that backward's are held to: by complex-step, guarded by real differences, or by these alone.

Below stands what lets real code run on complex numbers: what would drop an imaginary part keeps it, for the time of
one forward pass.  A buffer made by np.zeros holds complex numbers; abs, sign, norm, var, std, conj and vdot are what
they are of real numbers, continued; astype keeps what it is given.  In a pass of real numbers, float32 becomes float64.
Whatever goes another way (`from numpy import zeros`, math.exp) refuses complex numbers or loses them, and the guard
sees that.  NumPy is changed for the whole process meanwhile: no other thread should run.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import numpy as np

from ..arrays import Array, array_module
from .convention import call, cast, draw_dys, given_dys, output_names, outputs, to_host
from .differences import (
    Indices,
    Line,
    check_count,
    coarse,
    element_lines,
    extrapolated,
    flattened,
    jumps,
    line,
    settled,
    size_of,
    slope,
    spread,
    widest_step,
)
from .report import DOUBTS, EPS, NOISE, rms

STEP = 2.0**-100  # a power of two: dividing by it is exact; the truncation error is about STEP**2
METHODS = ("complex", "central", "richardson")
ADVICE = ("write that step in code for complex numbers (docs/gradcheck.md, section 7, says how), "
          "or check with method='richardson'")


class NotAnalyticError(RuntimeError):
    """The forward pass cannot be differentiated by complex step: it does not carry an imaginary part."""

    def __init__(self, message: str, argument: str = ""):
        super().__init__(message)
        self.argument = argument  # the one by which it cannot, where that is known


def complex_step(f: Callable[..., Any], args: Mapping[str, Any], u: Mapping[str, Array], *, dys: Sequence[Array],
                 step: float = STEP) -> float:
    """d/dt <f(**(args + t u)), dys> at t = 0, to rounding error, by one complex forward pass."""
    z = cast(args, "complex128")
    for name, direction in u.items():
        z[name] = z[name] + 1j * step * direction
    return inner_complex(f, z, dys).imag / step


def central(f: Callable[..., Any], args: Mapping[str, Any], u: Mapping[str, Array], *, dys: Sequence[Array],
            step: float | None = None) -> float:
    """The same by a central difference, whose step is found by trying if it is not given."""
    along = line(f, args, u, dys=dys)
    return settled(along, size_of(args, u), "central").value if step is None else slope(along, step)


def richardson(f: Callable[..., Any], args: Mapping[str, Any], u: Mapping[str, Array], *, dys: Sequence[Array],
               levels: int = 3, step: float | None = None) -> tuple[float, float]:
    """Central differences at step, step/2, ..., extrapolated: (value, estimate of the error)."""
    along = line(f, args, u, dys=dys)
    if step is None:
        return settled(along, size_of(args, u), "richardson")[:2]
    return extrapolated([slope(along, step / 2**k) for k in range(levels)])


def gradient(f: Callable[..., Any], args: Mapping[str, Any], name: str, *, dys: Sequence[Array],
             method: str = "complex", indices: Indices | None = None) -> np.ndarray:
    """The gradient of one argument, one derivative per element, on the host.

    All of it, in the argument's shape; or its values at `indices` into the flattened array.
    """
    check_method(method)
    shape = args[name].shape
    flat_indices = range(math.prod(shape)) if indices is None else indices
    values, _ = derivatives(f, args, name, flat_indices, dys=dys, method=method)
    return values.reshape(shape) if indices is None else values


def derivatives(f: Callable[..., Any], args: Mapping[str, Any], name: str, indices: Indices, *,
                dys: Sequence[Array], method: str, dtype: str = "float64") -> tuple[np.ndarray, np.ndarray]:
    """(n,) by each of the elements at these indices, and (n,) how far a real difference may be off.

    dtype: to which f rounds, whatever its arguments are.
    """
    if method == "complex":
        return _complex_elements(f, args, name, dys, indices), np.zeros(len(indices))
    along, flat = element_lines(f, args, name, dys=dys), to_host(args[name]).reshape(-1)
    if dtype != "float64":
        found = [coarse(along(i), abs(float(flat[i])), dtype) for i in indices]
    else:
        found = [settled(along(i), abs(float(flat[i])), method) for i in indices]
    for i, difference in zip(indices, found, strict=True):
        if not math.isfinite(difference.doubt):
            index = tuple(int(k) for k in np.unravel_index(i, args[name].shape))
            raise ValueError(f"{method}: the forward pass is not finite, or raises, on one side of {name}{list(index)} "
                             f"= {flat[i]:.6g}, however short the step, so no real difference can be taken there: "
                             "check at other arguments, or with method='complex'")
    return np.array([d.value for d in found]), np.array([d.doubt for d in found])


def check_method(method: str, known: Sequence[str] = METHODS) -> None:
    """ValueError unless it is one of those known."""
    if method not in known:
        raise ValueError(f"method {method!r} is not known: expected {', '.join(known[:-1])} or {known[-1]}")


def is_noisy(f: Callable[..., Any], args: Mapping[str, Any], names: Sequence[str], *, dys: Sequence[Array],
             seed: int = 0) -> bool:
    """Does f, of float64, have no more than the digits of float32?  Then it jumps between arguments 1e-9 apart."""
    rng = np.random.default_rng([seed, 5])
    u = {name: array_module(args[name]).asarray(rng.uniform(1, 2, args[name].shape) * (to_host(args[name]) + 1e-3))
         for name in names}
    along = line(f, args, u, dys=dys)
    with np.errstate(all="ignore"):
        return jumps(along)


def _complex_elements(f: Callable[..., Any], args: Mapping[str, Any], name: str, dys: Sequence[Array],
                      indices: Indices) -> np.ndarray:
    z, flat = flattened(args, name, "complex128")
    values = np.empty(len(indices))
    for k, i in enumerate(indices):
        kept = flat[i].copy()
        flat[i] = kept + 1j * STEP
        values[k] = inner_complex(f, z, dys).imag / STEP
        flat[i] = kept
    return values


def inner_complex(f: Callable[..., Any], z: Mapping[str, Any], dys: Sequence[Array]) -> complex:
    """<f(**z), dys> for complex z; NotAnalyticError if f drops, refuses or loses the imaginary part."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):  # an overflow shows in the result, and is named
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        try:
            ys = outputs(call(f, z))
        except np.exceptions.ComplexWarning as error:
            raise NotAnalyticError(
                f"the forward pass casts complex numbers to real ones: {ADVICE}"
            ) from error
        except NotAnalyticError:
            raise
        except Exception as error:
            raise NotAnalyticError(f"the forward pass refuses complex numbers ({type(error).__name__}: {error}): "
                                   f"{ADVICE}") from error
    for k, y in enumerate(ys):
        if not _is_complex(y):
            raise NotAnalyticError(f"output {k} of the forward pass is real though its arguments are complex "
                                   f"(abs, norm, var, .real?): {ADVICE}")
    check_count(ys, dys)
    with np.errstate(all="ignore"):
        total = sum((complex((y * dy).sum() if hasattr(dy, "sum") else y * dy)
                     for y, dy in zip(ys, dys, strict=True)), 0j)
    if not math.isfinite(total.real) or not math.isfinite(total.imag):
        raise NotAnalyticError(f"the forward pass gives {total} for complex arguments (1 / (1 + exp(-x)) far "
                               f"from zero, or mask * -inf?): {ADVICE}")
    return total


def _is_complex(y: Any) -> bool:
    return isinstance(y, complex) or getattr(getattr(y, "dtype", None), "kind", "") == "c"


TOLERANCE = 1e-8
BESIDE = 1e-3  # how far beside a kink, relative to an array's size


def check_analytic(f: Callable[..., Any], args: Mapping[str, Any], names: Sequence[str], *, dys: Sequence[Array],
                   seed: int = 0) -> None:
    """NotAnalyticError if complex-step and a real difference disagree along one random direction of these arguments.

    What complex-step silently loses (abs inside a product, var) would else be called a wrong gradient,
    or worse, agree with a backward pass that forgot the same term.  Where the difference can tell nothing,
    on a kink (a relu at zero), they must agree at a point close by; if it cannot tell there either, since
    rounding hides the slope, complex-step is believed.
    """
    exact, found, verdict = _compare(f, args, names, dys, seed)
    if verdict == "same" or (verdict == "unclear" and _agree_beside(f, args, names, dys, seed)):
        return
    raise NotAnalyticError(
        f"along a random direction of {', '.join(names)} complex-step gives {exact:.9g}, a real difference "
        f"{found:.9g}: the forward pass is not complex-analytic (abs, norm, var, conj, a complex comparison?); "
        "rewrite that step on the real part, x * x for abs(x)**2, or check with method='richardson'"
    )


def compared(f: Line, exact: float, at: float) -> tuple[float, str]:
    """(a real difference at 0, a verdict on it beside the derivative `exact`: "same", "different" or "unclear")

    1e-8 is asked for, or what rounding leaves in doubt.  at: the size of what moves along the line.
    """
    with np.errstate(all="ignore"):
        step = widest_step(at, "richardson")
        if abs(extrapolated([slope(f, step), slope(f, step / 2)])[0] - exact) <= TOLERANCE * abs(exact):
            return exact, "same"  # as a rule: four forward passes
    flat = NOISE * EPS * float(np.abs(f(0.0)).sum())  # no difference shows a slope as small as that
    for method in ("central", "richardson"):  # by chance, rounding may leave one without doubt
        found, doubt, step = settled(f, at, method)
        gap = abs(found - exact)
        if gap <= TOLERANCE * abs(exact) + flat:
            return found, "same"
        if not doubt < 0.01 * (abs(found) + abs(exact)):
            return found, "unclear"
        if gap <= DOUBTS * max(doubt, spread(f, step)):
            return found, "same"
    return found, "different"


def _compare(f: Callable[..., Any], args: Mapping[str, Any], names: Sequence[str], dys: Sequence[Array],
             seed: int) -> tuple[float, float, str]:
    """(by complex-step, by a real difference, the verdict on the two)"""
    rng = np.random.default_rng([seed, 3])
    drawn = {name: rng.standard_normal(args[name].shape) for name in names}
    norm = math.sqrt(sum(float((v * v).sum()) for v in drawn.values()))
    u = {name: array_module(args[name]).asarray(v / norm) for name, v in drawn.items()}
    exact = complex_step(f, args, u, dys=dys)
    return exact, *compared(line(f, args, u, dys=dys), exact, size_of(args, names))


def _agree_beside(f: Callable[..., Any], args: Mapping[str, Any], names: Sequence[str], dys: Sequence[Array],
                  seed: int) -> bool:
    try:
        with np.errstate(all="ignore"):
            return _compare(f, _beside(args, names, seed), names, dys, seed)[2] != "different"
    except NotAnalyticError:  # not finite there: outside of where the forward pass is defined
        return False


def _beside(args: Mapping[str, Any], names: Sequence[str], seed: int) -> dict[str, Any]:
    """The arguments moved a little, each element its own way, so that none is on a kink any more."""
    rng = np.random.default_rng([seed, 1])
    moved = dict(args)
    for name in names:
        by = rng.uniform(0.5, 1.5, args[name].shape) * rng.choice([-1.0, 1.0], args[name].shape)
        by *= BESIDE * (float(abs(to_host(args[name])).max()) or 1.0)
        moved[name] = args[name].astype("float64") + array_module(args[name]).asarray(by)
    return moved


Dys = list[Array]


def choose_dys(f: Callable[..., Any], args: Mapping[str, Any], names: Sequence[str], y: Any, dys: Any, *, seed: int,
               method: str = "complex") -> Dys:
    """Random ones for the outputs y of f(**args), or the caller's.

    ValueError if those do not fit, or see nothing: where the sum of an output is constant, as a softmax's is,
    and dy is the same for all that is summed, the gradient is zero, and every formula passes that gives zero.
    """
    drawn = draw_dys(outputs(y), seed)
    if dys is None:
        return drawn
    given = dys = given_dys(y, dys)
    if not any(to_host(dy).any() for dy in dys):
        raise ValueError("dys are all zero, so the check would see nothing; leave dys out")
    for k, name in enumerate(output_names(y)):
        if to_host(dys[k]).any() and _is_blind(f, args, names, dys, drawn, k, method, seed):
            raise ValueError(f"by dys[{k}] the gradient is zero, perhaps since it is the same for all elements of "
                             f"{name} whose sum is constant: the check would see nothing; leave dys out")
    return given


def _is_blind(f: Callable[..., Any], args: Mapping[str, Any], names: Sequence[str], dys: Dys, drawn: Dys, k: int,
              method: str, seed: int) -> bool:
    """Along a random direction, is the derivative by dys[k] negligible beside that by a random one?"""
    derivative, negligible = (complex_step, 1e-10) if method == "complex" else (central, 1e-6)
    rng = np.random.default_rng(seed)
    u = {name: array_module(args[name]).asarray(rng.choice([-1.0, 1.0], args[name].shape)) for name in names}

    def seen(some: Dys) -> float:
        alone = [dy if i == k else 0 * dy for i, dy in enumerate(some)]
        with np.errstate(all="ignore"):
            return abs(derivative(f, args, u, dys=alone)) / rms(to_host(some[k]).astype(float))
    could_be_seen = seen(drawn)
    return could_be_seen > 0 and seen(dys) <= negligible * could_be_seen


MAKERS = "zeros empty ones full zeros_like empty_like ones_like full_like"
Function = Callable[..., Any]


class Carrier(np.ndarray):
    """An array whose methods keep an imaginary part, and digits."""

    def astype(self, dtype: Any, *args: Any, **options: Any) -> Any:
        if np.dtype(dtype).kind == "f" and self.dtype.kind in "fc":
            _note(dtype)
            return self.copy()
        return np.asarray(self).astype(dtype, *args, **options)

    def var(self, axis: Any = None, dtype: Any = None, out: Any = None, ddof: float = 0,  # type: ignore[override]
            keepdims: bool = False, **_: Any) -> Any:
        centred = self - self.mean(axis=axis, keepdims=True)
        total = (centred * centred).sum(axis=axis, keepdims=keepdims)
        return total / (self.size / max(1, np.size(total)) - ddof)

    def std(self, *args: Any, **options: Any) -> Any:
        return np.sqrt(self.var(*args, **options))

    def conj(self, *_: Any) -> Any:
        return self.copy()

    conjugate = conj

    def __abs__(self) -> Any:
        return _absolute(self)


class Carried:
    """A function whose complex arguments are `Carrier`s, and NumPy as described above; of real ones itself.

    wide: whether those, too, go through NumPy as described, whose buffers then hold float64.
    """

    def __init__(self, function: Function):
        self._function, self.wide = function, False
        self.narrow: dict[str, None] = {}  # the lines that make float32

    def __call__(self, **args: Any) -> Any:
        is_complex = any(_kind(value) == "c" for value in args.values())
        if not (is_complex or self.wide):
            return self._function(**args)
        given = {name: value.view(Carrier) if type(value) is np.ndarray and _kind(value) in "fc" else value
                 for name, value in args.items()}
        with _continued("complex128" if is_complex else "float64", self.narrow):
            return _plain(self._function(**given))


@contextmanager
def _continued(wanted: str, narrow: dict[str, None]) -> Iterator[None]:
    changes: list[tuple[Any, str, Function]] = [(np, name, _maker(getattr(np, name), wanted))
                                                for name in MAKERS.split()]
    if wanted == "complex128":
        changes += [(module, name, _or_real(getattr(module, name), instead)) for module, name, instead in CONTINUED]
    before = [getattr(module, name) for module, name, _ in changes]
    _narrow.append(narrow)
    try:
        for module, name, function in changes:
            setattr(module, name, function)
        yield
    finally:
        for (module, name, _), function in zip(changes, before, strict=True):
            setattr(module, name, function)
        _narrow.pop()


def _maker(make: Function, wanted: str) -> Function:
    @wraps(make)
    def made(*args: Any, **options: Any) -> Any:
        array = make(*args, **options)
        if type(array) not in (np.ndarray, Carrier) or array.dtype.kind not in "fc" or (
                make.__name__ not in sys._getframe(1).f_code.co_names):  # made for NumPy's own use, as in its random
            return array
        _note(array.dtype)
        return np.asarray(array).astype(wanted).view(Carrier)
    return made


def _or_real(function: Function, instead: Function) -> Function:
    """The function itself for real numbers."""
    @wraps(function)
    def chosen(x: Any, *args: Any, **options: Any) -> Any:
        if _kind(x) != "c" and not any(_kind(other) == "c" for other in args):
            return function(x, *args, **options)
        return instead(x, *args, **options)
    return chosen


def _absolute(x: Any) -> Any:
    return np.where(np.real(x) < 0, -x, x)


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    if ord not in (None, 2, "fro") or (ord == 2 and axis is None and np.ndim(x) > 1):
        raise TypeError(f"the norm of order {ord} is not continued to complex numbers")
    return np.sqrt((x * x).sum(axis=axis, keepdims=keepdims))


CONTINUED: tuple[tuple[Any, str, Function], ...] = (
    (np, "abs", _absolute), (np, "absolute", _absolute), (np, "fabs", _absolute),
    (np, "sign", lambda x: np.sign(np.real(x)) + 0j),
    (np, "var", lambda x, *args, **options: Carrier.var(np.asarray(x).view(Carrier), *args, **options)),
    (np, "std", lambda x, *args, **options: Carrier.std(np.asarray(x).view(Carrier), *args, **options)),
    (np, "conj", lambda x: x * 1), (np, "conjugate", lambda x: x * 1),
    (np, "vdot", lambda a, b: (np.ravel(a) * np.ravel(b)).sum()),
    (np.linalg, "norm", _norm))

_narrow: list[dict[str, None]] = []  # where the running passes note the lines that make float32


def _note(dtype: Any) -> None:
    if np.dtype(dtype).itemsize < 8 and _narrow:
        frame = sys._getframe(2)
        _narrow[-1][f"{frame.f_code.co_filename.rpartition('/')[2]}, line {frame.f_lineno}"] = None


def _kind(value: Any) -> str:
    return "c" if isinstance(value, complex) else getattr(getattr(value, "dtype", None), "kind", "") or "-"


def _plain(y: Any) -> Any:
    """Outputs as arrays of NumPy's own type."""
    if isinstance(y, tuple):
        values = [_plain(value) for value in y]
        return type(y)(*values) if hasattr(y, "_fields") else tuple(values)
    return np.asarray(y) if isinstance(y, Carrier) else y
