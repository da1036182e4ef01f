"""What a quantity is: which argument of an operation has its value and its gradient, and the formulas of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .record import Call

SOURCE, ATTENTION, DECODER, OUTPUT = "source", "attention", "decoder", "output"
ENCODERS = {"fwd": "encoder, left to right", "bwd": "encoder, right to left"}


class Argument(NamedTuple):
    """One argument of the calls of an operation from one function."""

    op: str
    function: str  # "models/cells.py:step"
    name: str  # of the argument, "h"
    after: bool  # as the call left it, or as it found it
    layout: str  # how its rows belong to words: a method of Words
    layer: int = 0
    layers: int = 1  # that call the operation at each step
    head: int = 0
    heads: int = 1  # that have a row each in the place of one
    weight: str = ""  # that the call multiplies by, if that tells it from others
    direction: int = 0


def found(op: str, function: str, name: str, layout: str, **more: Any) -> Argument:
    """As the call found it."""
    return Argument(op=op, function=function, name=name, after=False, layout=layout, **more)


def left(op: str, function: str, name: str, layout: str, **more: Any) -> Argument:
    """As the call left it."""
    return Argument(op=op, function=function, name=name, after=True, layout=layout, **more)


class Inside(NamedTuple):
    """A summand of a gradient that is added inside an operation, and in none of its arguments."""

    path: str  # its id
    label: str
    summand: Callable[[Any, Call], np.ndarray]  # of a trace and a call, in the argument's shape


@dataclass(frozen=True)
class Side:
    """The value of a quantity, or its gradient."""

    argument: Argument | None
    formula: str = ""
    paths: dict[str, str] = field(default_factory=dict)  # of a gradient, path's id -> the formula of what it adds
    derived: Callable[[Any, Call, np.ndarray], np.ndarray] | None = None  # what is shown of the argument
    inside: Inside | None = None


@dataclass(frozen=True, kw_only=True)
class Quantity:
    id: str  # "h_dec"
    title: str
    group: str
    axis: str  # "t", "s", or "": a row for each target or source word, or a single one
    columns: int
    value: Side | None = None
    gradient: Side | None = None
    kind: str = ""  # "dec", "fwd", "bwd": whose units the columns are
    column_axis: str = "units"  # or "s", "words"
    start: str = ""  # the quantity before its first row
    reversed: bool = False  # whether the row after row s is s - 1
    of: str = ""  # an alias of some columns of another quantity,
    first: int = 0  # from this one on

    @property
    def letters(self) -> tuple[str, str]:
        return (self.axis or "t", "s" if self.column_axis == "s" else "j")
