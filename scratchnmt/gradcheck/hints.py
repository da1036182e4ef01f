"""What a hint is made from: a wrong gradient, and what else there is to compare it with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from math import prod
from typing import Any, NamedTuple

import numpy as np

from .convention import is_array, to_host
from .report import relative_errors


class Mismatch(NamedTuple):
    """The n elements of a wrong gradient that were checked, and what may explain them."""

    name: str  # "dW"
    argument: str  # "W"
    shape: tuple[int, ...]
    backward: np.ndarray  # (n,)
    reference: np.ndarray  # (n,)
    value: np.ndarray  # (n,) the argument itself
    wrong: np.ndarray  # (n,) True where the two disagree
    tolerance: float  # of the check
    args: Mapping[str, Any]  # every argument of the op
    indices: np.ndarray | None = None  # (n,) into the flattened array; None: projections, which lie nowhere
    groups: tuple[str, ...] | None = None  # for each place of the last axis, "gate f"
    references: Mapping[str, np.ndarray] = {}  # argument -> its whole reference, of those checked in full
    outputs: tuple[tuple[int, ...], ...] = ()  # the shapes of y

    @property
    def complete(self) -> bool:
        """Was every element checked?"""
        return self.indices is not None and self.backward.size == prod(self.shape)

    def whole(self) -> tuple[np.ndarray, np.ndarray]:
        """backward and reference in the argument's shape; only if complete."""
        return self.backward.reshape(self.shape), self.reference.reshape(self.shape)

    def close(self, found: np.ndarray, expected: np.ndarray) -> bool:
        """Are they equal but for rounding, each element by its own error as in the check?"""
        if found.shape != expected.shape:
            return False
        return bool((relative_errors(found, expected, 0.0) <= 10 * self.tolerance).all())

    def is_rather(self, guess: np.ndarray) -> bool:
        """Is what backward returned this guess, and is the reference something else?

        A guess that the reference fulfils as well (the transpose of a symmetric matrix) explains nothing.
        guess: in the argument's shape, or (n,) as the checked elements.
        """
        found, right = self.whole() if guess.shape == self.shape else (self.backward, self.reference)
        return self.close(found, guess) and not self.close(right, guess)


Hint = Callable[[Mismatch], str | None]


def some_groups(c: Mismatch) -> str | None:
    """Only some gates, by the text before the comma in the labels, "gate f"."""
    if c.groups is None:
        return None
    names = list(dict.fromkeys(c.groups))
    column = _coordinates(c)[-1]
    off = {name: np.array([c.groups[k] == name for k in column]) for name in names}
    wrong = [name for name in names if _is_wrong(c, off[name], np.zeros_like(column))]
    right = [name for name in names if _is_right(c, off[name])]
    if not wrong or not right or len(wrong) + len(right) < len(names):
        return None
    return f"{c.name}: {_enumerated(right)} right, {_enumerated(wrong)} wrong"


def steps(c: Mismatch) -> str | None:
    """One of the first three axes of three or more may be time: only its first or last index, or all but that.

    Of two axes, as in a state (B, H), the first is the batch.
    """
    for axis in range(min(3, len(c.shape))) if len(c.shape) >= 3 else ():
        if c.shape[axis] > 1 and (said := _step(c, axis)):
            return said
    return None


def _step(c: Mismatch, axis: int) -> str | None:
    t, last = _coordinates(c)[axis], c.shape[axis] - 1
    if _only(c, t == 0, t):
        return f"{c.name} is wrong at the first index of axis {axis} only{_zero_there(c, t == 0)}"
    if _only(c, t == last, t):
        return f"{c.name} is wrong at the last index of axis {axis} only{_zero_there(c, t == last)}"
    if _only(c, t < last, t):
        return (f"{c.name} is right at the last index of axis {axis} only: "
                "if that is time, is dh_next carried as it should be?")
    if _only(c, t > 0, t):
        return (f"{c.name} is right at the first index of axis {axis} only: "
                "if that is time, is the gradient carried from step to step?")
    return None


def own_last_step(c: Mismatch) -> str | None:
    """Right at the last step of every sequence and behind it only, for an argument of lengths."""
    for name, lengths, (t, b) in _lengths(c):
        if len(set(lengths.tolist())) > 1 and _only(c, t < lengths[b] - 1, t * len(lengths) + b):
            return f"{c.name} is right at the last step only, by {name}: is dh_next carried as it should be?"
    return None


def behind_a_mask(c: Mismatch) -> str | None:
    """Right except where a boolean argument is False (or True), or beyond an argument of lengths."""
    for name, mask, cells in _masks(c):
        for value in (False, True):
            if _only(c, mask == value, cells):
                return f"{c.name} is right except where {name} is {value}: does what is masked get a gradient?"
    for name, lengths, (t, b) in _lengths(c):
        if _only(c, t >= lengths[b], t * len(lengths) + b):
            return f"{c.name} is right except beyond {name}: does padding get a gradient?"
    return None


def repeated_ids(c: Mismatch) -> str | None:
    """Rows whose number an integer argument holds more than once."""
    for name, ids in _host_arrays(c, "iu"):
        if c.shape and ids.size and ids.min() >= 0 and ids.max() < c.shape[0]:
            row, counts = _coordinates(c)[0], np.bincount(ids.reshape(-1), minlength=c.shape[0])
            if _only(c, counts[row] > 1, row):
                return (f"{c.name} is wrong only in the rows whose number occurs more than once in {name}: "
                        "is an id that occurs twice counted once?")
    return None


POSITIONS: tuple[Hint, ...] = (some_groups, repeated_ids, own_last_step, behind_a_mask, steps)


def _only(c: Mismatch, off: np.ndarray, cells: np.ndarray) -> bool:
    """Is it wrong here, where `off` (n,), and right everywhere else?"""
    return _is_wrong(c, off, cells) and _is_right(c, ~off)


def _is_wrong(c: Mismatch, here: np.ndarray, cells: np.ndarray) -> bool:
    """More than half of what is not zero, in each of the cells, numbered (n,), that make up the region.

    One wrong element, or one wrong cell, says nothing about its region.
    """
    live = here & ((c.backward != 0) | (c.reference != 0))
    counts, wrong = np.bincount(cells[live]), np.bincount(cells[live], weights=c.wrong[live])
    return bool(live.any()) and bool((wrong[counts > 0] > 0.5 * counts[counts > 0]).all())


def _is_right(c: Mismatch, here: np.ndarray) -> bool:
    """All of it, and not just because it is zero."""
    return not c.wrong[here].any() and bool(c.reference[here].any())


def _zero_there(c: Mismatch, here: np.ndarray) -> str:
    return "" if c.backward[here].any() else ", and zero there: is that step left out?"


def _coordinates(c: Mismatch) -> tuple[np.ndarray, ...]:
    """For each axis, where on it the checked elements lie, (n,)"""
    assert c.indices is not None
    return np.unravel_index(c.indices, c.shape)


def _masks(c: Mismatch) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Boolean arguments over the leading axes, the first two in either order: (name, values (n,), cells (n,))"""
    at = _coordinates(c)
    for name, mask in _host_arrays(c, "b"):
        for order in ((0, 1), (1, 0)) if mask.ndim > 1 else ((0,),):
            turned = mask.transpose(*order, *range(2, mask.ndim)) if mask.ndim > 1 else mask
            if mask.ndim and turned.shape == c.shape[:mask.ndim]:
                yield name, turned[at[:mask.ndim]], np.ravel_multi_index(at[:mask.ndim], turned.shape)


def _lengths(c: Mismatch) -> Iterator[tuple[str, np.ndarray, tuple[np.ndarray, np.ndarray]]]:
    """Integer vectors (B,) that may be lengths in (T, B, ...) or (B, T, ...): (name, they, (t, b))"""
    if len(c.shape) < 2:
        return
    at = _coordinates(c)
    for name, lengths in _host_arrays(c, "iu"):
        for time, batch in ((0, 1), (1, 0)):
            if lengths.shape == (c.shape[batch],) and lengths.min() >= 0 and lengths.max() <= c.shape[time]:
                yield name, lengths, (at[time], at[batch])


def _host_arrays(c: Mismatch, kinds: str) -> Iterator[tuple[str, np.ndarray]]:
    for name, value in c.args.items():
        if is_array(value) and value.dtype.kind in kinds:
            yield name, to_host(value)


def _enumerated(groups: list[str]) -> str:
    """["gate i", "gate g"] -> "gates i, g are", ["gate f"] -> "gate f is" """
    if len(groups) == 1:
        return f"{groups[0]} is"
    words = {group.partition(" ")[0] for group in groups}
    if len(words) == 1 and all(" " in group for group in groups):
        return f"{words.pop()}s {', '.join(group.partition(' ')[2] for group in groups)} are"
    return f"{', '.join(groups)} are"


def hints_for(mismatch: Mismatch) -> list[str]:
    """The first that fits, in a list: what is wrong with the values; else what is special about the places."""
    if not np.isfinite(mismatch.backward).all() or not mismatch.wrong.any():
        return []
    for hint in VALUES if mismatch.indices is None or not mismatch.shape else (*VALUES, *POSITIONS, nearly_right):
        if sentence := hint(mismatch):
            return [sentence]
    return []


def zero(c: Mismatch) -> str | None:
    if c.backward.any():
        return None
    sampled = c.indices is not None and not c.complete
    where = "in every element that was checked" if sampled else "everywhere"
    return f"{c.name} is zero {where}: is it ever written?"


def plus_itself(c: Mismatch) -> str | None:
    if c.is_rather(c.reference + c.value):
        return (f"{c.name} equals the reference plus {c.argument} itself: "
                f"was the buffer initialised from {c.argument}?")
    return None


def factor(c: Mismatch) -> str | None:
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


def exchanged_groups(c: Mismatch) -> str | None:
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


def anothers(c: Mismatch) -> str | None:
    """Another argument's gradient, as it is or transposed."""
    for other, reference in c.references.items() if c.complete else ():
        if other != c.argument and c.is_rather(reference) and reference.shape == c.shape:
            return f"{c.name} equals the reference of d{other}: are the two mixed up?"
        if other != c.argument and _is_transposed(c, reference):
            return f"{c.name} equals the reference of d{other}, transposed: are the two mixed up?"
    return None


def transposed(c: Mismatch) -> str | None:
    if c.complete and _is_transposed(c, c.whole()[1]):
        return f"{c.name} is the transpose of what it should be"
    return None


def spread(c: Mismatch) -> str | None:
    """The mean, or the sum, of the reference along an axis, the same everywhere along it."""
    for axis in range(len(c.shape)) if c.complete else ():
        for what, reduce in (("mean", np.mean), ("sum", np.sum)):
            if c.is_rather(np.broadcast_to(reduce(c.whole()[1], axis, keepdims=True), c.shape)):
                return (f"{c.name} is the {what} of the reference along axis {axis}, everywhere the same: "
                        "was it reduced and spread out again, as in the backward of an average?")
    return None


def clipped(c: Mismatch) -> str | None:
    """Cut off at a plateau of +-limit, where more than one element lies."""
    limit = np.abs(c.backward).max()
    plateau = np.abs(c.backward) == limit
    if plateau.sum() > 1 and c.is_rather(np.clip(c.reference, -limit, limit)):
        return (f"{c.name} is the reference cut off at +-{limit:.6g}, where {int(plateau.sum())} elements lie: "
                "is it clipped inside backward?")
    return None


def straight_through(c: Mismatch) -> str | None:
    """Of a forward pass that is flat."""
    if c.reference.any() or not c.complete:
        return None
    return (f"the reference of {c.name} is 0 everywhere: the forward pass does not depend on {c.argument}, or is flat "
            "(round, sign, argmax); a straight-through gradient is a choice that no check can confirm")


def nearly_right(c: Mismatch) -> str | None:
    """Off by less than a hundredth of itself, all of it."""
    if np.count_nonzero(c.reference) < c.reference.size or c.wrong.mean() < 0.9:
        return None
    off = np.abs(c.backward / c.reference - 1)
    if not c.tolerance < off.max() < 1e-2 or c.tolerance > 1e-7:
        return None
    return (f"{c.name} is off by at most {off.max():.1e} of itself, nearly everywhere: is an eps, or a rounded "
            "constant, in one of the two passes only?")


VALUES: tuple[Hint, ...] = (zero, straight_through, plus_itself, factor, exchanged_groups, anothers, transposed, spread,
                            clipped)


def _is_transposed(c: Mismatch, reference: np.ndarray) -> bool:
    """The last two axes exchanged."""
    if reference.ndim < 2:
        return False
    turned = reference.swapaxes(-1, -2)
    return turned.shape == c.shape and c.is_rather(turned)


def _factor_in_words(k: float, c: Mismatch) -> str | None:
    """The rest of the sentence for a factor that has a name, else None."""
    near = 10 * c.tolerance * abs(k)
    if abs(k + 1) <= near:
        return "-1: the sign is turned round"
    for value, text in _numbers(c.args):
        if abs(k - value) <= near:
            return f"{value:.6g}, which is {text}: is that factor missing, or one too many?"
    for n, where in _sizes(c):
        for sign, turned in ((1, ""), (-1, ", and the sign is turned round")):
            for factor, slip in ((Fraction(sign, n), "a mean for a sum"), (Fraction(sign * n), "a sum for a mean")):
                if n > 1 and abs(k - factor) <= near:
                    square = "is the 2 of a square missing, or one too many, or is it " if n == 2 else ""
                    return f"{factor}, and {n} is the size of {where}: {square}{slip}{turned}?"
    return None


def _numbers(args: Mapping[str, Any]) -> Iterator[tuple[float, str]]:
    """What a plain number among the arguments, a scale or a dropout rate, may multiply with."""
    for name, s in args.items():
        if isinstance(s, float) and s not in (0.0, 1.0):
            yield from ((s, name), (1 / s, f"1 / {name}"))
            yield from ((1 - s, f"1 - {name}"), (1 / (1 - s), f"1 / (1 - {name})"))


def _sizes(c: Mismatch) -> Iterator[tuple[int, str]]:
    """Every size in the shapes of the arguments, and whose it is; then the numbers of elements of whole arrays."""
    whose: dict[int, list[str]] = {}
    shapes = {name: value.shape for name, value in c.args.items() if is_array(value)}
    outputs = {"y" if len(c.outputs) == 1 else f"y[{i}]": shape for i, shape in enumerate(c.outputs)}
    for name, shape in shapes.items():
        for axis, size in enumerate(shape):
            whose.setdefault(int(size), []).append(f"{name}'s axis {axis}")
    for name, shape in (outputs | shapes).items():
        whose.setdefault(prod(shape), []).append(f"all of {name}")
    for size, places in whose.items():
        axes = [text for text in places if "axis" in text] or places
        axes = axes if len(axes) <= 3 else [*axes[:2], f"{len(axes) - 2} more"]
        yield size, axes[0] if len(axes) == 1 else f"{', '.join(axes[:-1])} and {axes[-1]}"


def said_once(hints: Sequence[str], names: Sequence[str]) -> list[str]:
    """The hints, more than three that differ in a gradient's name alone as one."""
    by_text: dict[str, list[str]] = {}
    for hint in hints:
        name = next((n for n in sorted(names, key=len, reverse=True) if hint.startswith(f"{n} ")), "")
        by_text.setdefault(hint.removeprefix(name), []).append(name)
    return [said for text, some in by_text.items() for said in (
        [f"{', '.join(some[:3])} and {len(some) - 3} more{text}"] if len(some) > 3 else [name + text for name in some])]
