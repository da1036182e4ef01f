"""Guesses from where the wrong elements lie: a gate, a step in time, behind a mask, ids that occur twice."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .clue import Clue, Hint
from .inputs import is_array, to_host


def some_groups(c: Clue) -> str | None:
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


def steps(c: Clue) -> str | None:
    """Axis 0 of three or more may be time: only its first or its last index, or all but that.

    Of two axes, as in a state (B, H), the first is the batch.
    """
    if len(c.shape) < 3 or c.shape[0] < 2:
        return None
    t, last = _coordinates(c)[0], c.shape[0] - 1
    if _only(c, t == 0, t):
        return f"{c.name} is wrong at the first index of axis 0 only{_zero_there(c, t == 0)}"
    if _only(c, t == last, t):
        return f"{c.name} is wrong at the last index of axis 0 only{_zero_there(c, t == last)}"
    if _only(c, t < last, t):
        return (f"{c.name} is right at the last index of axis 0 only: "
                "if that is time, is dh_next carried as it should be?")
    if _only(c, t > 0, t):
        return (f"{c.name} is right at the first index of axis 0 only: "
                "if that is time, is the gradient carried from step to step?")
    return None


def own_last_step(c: Clue) -> str | None:
    """Right at the last step of every sequence and behind it only, for an argument of lengths."""
    for name, lengths, (t, b) in _lengths(c):
        if len(set(lengths.tolist())) > 1 and _only(c, t < lengths[b] - 1, t * len(lengths) + b):
            return f"{c.name} is right at the last step only, by {name}: is dh_next carried as it should be?"
    return None


def behind_a_mask(c: Clue) -> str | None:
    """Right except where a boolean argument is False (or True), or beyond an argument of lengths."""
    for name, mask, cells in _masks(c):
        for value in (False, True):
            if _only(c, mask == value, cells):
                return f"{c.name} is right except where {name} is {value}: does what is masked get a gradient?"
    for name, lengths, (t, b) in _lengths(c):
        if _only(c, t >= lengths[b], t * len(lengths) + b):
            return f"{c.name} is right except beyond {name}: does padding get a gradient?"
    return None


def repeated_ids(c: Clue) -> str | None:
    """Rows whose number an integer argument holds more than once."""
    for name, ids in _host_arrays(c, "iu"):
        if c.shape and ids.size and ids.min() >= 0 and ids.max() < c.shape[0]:
            row, counts = _coordinates(c)[0], np.bincount(ids.reshape(-1), minlength=c.shape[0])
            if _only(c, counts[row] > 1, row):
                return (f"{c.name} is wrong only in the rows whose number occurs more than once in {name}: "
                        "is an id that occurs twice counted once?")
    return None


PLACES: tuple[Hint, ...] = (some_groups, repeated_ids, own_last_step, behind_a_mask, steps)


def _only(c: Clue, off: np.ndarray, cells: np.ndarray) -> bool:
    """Is it wrong here, where `off` (n,), and right everywhere else?"""
    return _is_wrong(c, off, cells) and _is_right(c, ~off)


def _is_wrong(c: Clue, here: np.ndarray, cells: np.ndarray) -> bool:
    """More than half of what is not zero, in each of the cells, numbered (n,), that make up the region.

    One wrong element, or one wrong cell, says nothing about its region.
    """
    live = here & ((c.backward != 0) | (c.reference != 0))
    counts, wrong = np.bincount(cells[live]), np.bincount(cells[live], weights=c.wrong[live])
    return bool(live.any()) and bool((wrong[counts > 0] > 0.5 * counts[counts > 0]).all())


def _is_right(c: Clue, here: np.ndarray) -> bool:
    """All of it, and not just because it is zero."""
    return not c.wrong[here].any() and bool(c.reference[here].any())


def _zero_there(c: Clue, here: np.ndarray) -> str:
    return "" if c.backward[here].any() else ", and zero there: is that step left out?"


def _coordinates(c: Clue) -> tuple[np.ndarray, ...]:
    """For each axis, where on it the checked elements lie, (n,)"""
    assert c.indices is not None
    return np.unravel_index(c.indices, c.shape)


def _masks(c: Clue) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Boolean arguments over the leading axes, the first two in either order: (name, values (n,), cells (n,))"""
    at = _coordinates(c)
    for name, mask in _host_arrays(c, "b"):
        for order in ((0, 1), (1, 0)) if mask.ndim > 1 else ((0,),):
            turned = mask.transpose(*order, *range(2, mask.ndim)) if mask.ndim > 1 else mask
            if mask.ndim and turned.shape == c.shape[:mask.ndim]:
                yield name, turned[at[:mask.ndim]], np.ravel_multi_index(at[:mask.ndim], turned.shape)


def _lengths(c: Clue) -> Iterator[tuple[str, np.ndarray, tuple[np.ndarray, np.ndarray]]]:
    """Integer vectors (B,) that may be lengths in (T, B, ...) or (B, T, ...): (name, they, (t, b))"""
    if len(c.shape) < 2:
        return
    at = _coordinates(c)
    for name, lengths in _host_arrays(c, "iu"):
        for time, batch in ((0, 1), (1, 0)):
            if lengths.shape == (c.shape[batch],) and lengths.min() >= 0 and lengths.max() <= c.shape[time]:
                yield name, lengths, (at[time], at[batch])


def _host_arrays(c: Clue, kinds: str) -> Iterator[tuple[str, np.ndarray]]:
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
