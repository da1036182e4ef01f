"""Looking over what was given: arrays of finite floats, and a sentence where it is something else."""

from __future__ import annotations

from typing import Any

import numpy as np


def is_array(value: Any) -> bool:
    """NumPy's or CuPy's; other frameworks' tensors, in a cache for example, are looked past."""
    kind_of_numbers = getattr(getattr(value, "dtype", None), "kind", None)  # of the module numpy no text
    return isinstance(kind_of_numbers, str) and not isinstance(value, np.generic)


def is_float_array(value: Any) -> bool:
    return is_array(value) and value.dtype.kind == "f"


def to_host(array: Any) -> np.ndarray:
    return np.asarray(array.get() if hasattr(array, "get") else array)


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
