"""Guesses at why a gradient is wrong, where they cost nothing to see: one short function per mistake.

Each is given a `Clue` and returns a sentence, or None.  A false hint is worse than none, so each must
explain every element that was checked, to rounding.  Those here compare values; those of places.py ask
where the wrong ones lie.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from .clue import Clue, Hint
from .inputs import is_array
from .places import PLACES


def hints_for(clue: Clue) -> list[str]:
    """The first that fits, in a list: what is wrong with the values; else what is special about the places."""
    if not np.isfinite(clue.backward).all() or not clue.wrong.any():
        return []
    for hint in VALUES if clue.indices is None or not clue.shape else (*VALUES, *PLACES):
        if sentence := hint(clue):
            return [sentence]
    return []


def zero(c: Clue) -> str | None:
    if c.backward.any():
        return None
    sampled = c.indices is not None and not c.complete
    where = "in every element that was checked" if sampled else "everywhere"
    return f"{c.name} is zero {where}: is it ever written?"


def plus_itself(c: Clue) -> str | None:
    if c.is_rather(c.reference + c.value):
        return (f"{c.name} equals the reference plus {c.argument} itself: "
                f"was the buffer initialised from {c.argument}?")
    return None


def factor(c: Clue) -> str | None:
    """A constant times the reference, named where it is -1, or 1/n or n for a size n of the arguments."""
    if not c.reference.any():
        return None
    unit = np.abs(c.reference).max()  # squares of very large or small numbers are inf or 0
    scaled = c.reference / unit
    k = float(c.backward / unit @ scaled / (scaled @ scaled))
    if not c.is_rather(k * c.reference):
        return None
    words = _factor_in_words(k, c)
    if words is None and (np.count_nonzero(c.reference) < 2 or abs(k - 1) < 1e-3):
        return None  # any number is some number's multiple, and one so near to 1 is no forgotten factor
    return f"{c.name} is the reference times {words or f'{k:.6g}: is a constant factor missing, or one too many?'}"


def exchanged_groups(c: Clue) -> str | None:
    """Gates whose blocks lie in another order."""
    if not c.complete or c.groups is None:
        return None
    found, expected = ({g: values[..., [name == g for name in c.groups]] for g in dict.fromkeys(c.groups)}
                       for values in c.whole())
    holds = {g: [other for other in expected if c.close(found[g], expected[other])] for g in found}
    if any(len(others) != 1 for others in holds.values()) or all([g] == others for g, others in holds.items()):
        return None
    moved = [f"{g} has that of {other}" for g, [other] in holds.items() if g != other]
    return f"{c.name} has its blocks in another order: {', '.join(moved)}"


def anothers(c: Clue) -> str | None:
    """Another argument's gradient, as it is or transposed."""
    for other, reference in c.references.items() if c.complete else ():
        if other != c.argument and c.is_rather(reference) and reference.shape == c.shape:
            return f"{c.name} equals the reference of d{other}: are the two mixed up?"
        if other != c.argument and _is_transposed(c, reference):
            return f"{c.name} equals the reference of d{other}, transposed: are the two mixed up?"
    return None


def transposed(c: Clue) -> str | None:
    if c.complete and _is_transposed(c, c.whole()[1]):
        return f"{c.name} is the transpose of what it should be"
    return None


def spread(c: Clue) -> str | None:
    """The mean, or the sum, of the reference along an axis, the same everywhere along it."""
    for axis in range(len(c.shape)) if c.complete else ():
        for what, reduce in (("mean", np.mean), ("sum", np.sum)):
            if c.is_rather(np.broadcast_to(reduce(c.whole()[1], axis, keepdims=True), c.shape)):
                return (f"{c.name} is the {what} of the reference along axis {axis}, everywhere the same: "
                        "was it reduced and spread out again, as in the backward of an average?")
    return None


VALUES: tuple[Hint, ...] = (zero, plus_itself, factor, exchanged_groups, anothers, transposed, spread)


def _is_transposed(c: Clue, reference: np.ndarray) -> bool:
    """The last two axes exchanged."""
    if reference.ndim < 2:
        return False
    turned = reference.swapaxes(-1, -2)
    return turned.shape == c.shape and c.is_rather(turned)


def _factor_in_words(k: float, c: Clue) -> str | None:
    """The rest of the sentence for a factor that has a name, else None."""
    near = 10 * c.tolerance * abs(k)
    if abs(k + 1) <= near:
        return "-1: the sign is turned round"
    for value, text in _numbers(c.args):
        if abs(k - value) <= near:
            return f"{value:.6g}, which is {text}: is that factor missing, or one too many?"
    for n, where in _sizes(c.args):
        for sign, turned in ((1, ""), (-1, ", and the sign is turned round")):
            if n > 1 and abs(k - sign / n) <= near:
                return f"{Fraction(sign, n)}, and {n} is the size of {where}: a mean for a sum{turned}?"
            if n > 1 and abs(k - sign * n) <= near:
                return f"{sign * n}, and {n} is the size of {where}: a sum for a mean{turned}?"
    return None


def _numbers(args: Mapping[str, Any]) -> Iterator[tuple[float, str]]:
    """What a plain number among the arguments, a scale or a dropout rate, may multiply with."""
    for name, s in args.items():
        if isinstance(s, float) and s not in (0.0, 1.0):
            yield from ((s, name), (1 / s, f"1 / {name}"))
            yield from ((1 - s, f"1 - {name}"), (1 / (1 - s), f"1 / (1 - {name})"))


def _sizes(args: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Every size in the shapes of the arguments, and whose it is."""
    for name, value in args.items():
        for axis, size in enumerate(value.shape if is_array(value) else ()):
            yield int(size), f"{name}'s axis {axis}"
