"""Choosing by name, as in compile(loss="mse"): a name that is not known is answered with the nearest that is."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import TypeVar

from ..errors import InputError, expected_one_of, shown

Thing = TypeVar("Thing")


def look_up(what: str, name: object, known: Mapping[str, Thing]) -> Thing:
    """known[name]; InputError if there is none of this name."""
    if isinstance(name, str) and name in known:
        return known[name]
    raise InputError(f"{what} {shown(name)} is not known, {expected_one_of(name, known)}")


def count(what: str, value: object) -> int:
    """The value, a whole number of at least 1; InputError otherwise."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise InputError(f"{what} is {value!r}, expected a whole number of at least 1")
    return int(value)
