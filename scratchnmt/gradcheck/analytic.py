"""Real code on complex numbers: what would drop an imaginary part keeps it, for the time of one forward pass.

A buffer made by np.zeros holds complex numbers; abs, sign, norm, var, std, conj and vdot are what they are of real
numbers, continued; astype keeps what it is given.  In a pass of real numbers, float32 becomes float64.  Whatever goes
another way (`from numpy import zeros`, math.exp) refuses complex numbers or loses them, and the guard sees that.
NumPy is changed for the whole process meanwhile: no other thread should run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import numpy as np

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
