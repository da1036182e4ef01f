"""Kinks: points where a function has one slope on its left and another on its right (relu, max, clip).

    L(h) = (f(0) - f(-h)) / h,    R(h) = (f(h) - f(0)) / h,    jump(h) = R(h) - L(h)

At a kink the jump stays the same as h shrinks; for a smooth f it shrinks with h, for one that is
sharper than h it grows.  On a kink every slope from L to R is a derivative (a subgradient) that a backward
pass may choose, but not each element by itself: max(a, b) at a tie has jumps along a and along b, and none
along both.  So the elements that a kink excuses are also held, all together, to the slopes along their sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, array_module
from .convention import to_host
from .measure import rms
from .reference import Line, element_lines, line, rounding

NEAR = tuple(2.0**-k for k in (20, 23, 26))  # steps, relative to the element: it lies on the kink, not beside it
SAME = 0.1  # of a jump, between one step and the next
Chosen = Mapping[str, tuple[np.ndarray, np.ndarray]]  # argument -> (flat indices, what backward says there)
MISSES = 32  # so many wrong elements without a kink, and the rest of the array is not looked at


class Sides(NamedTuple):
    """The slopes on both sides of 0, each summed over the outputs, and how far they may be off."""

    low: float
    high: float
    doubt: float

    def holds(self, value: float) -> bool:
        """Is it between the two?"""
        slack = self.doubt + 1e-6 * (abs(self.low) + abs(self.high))
        return self.low - slack <= value <= self.high + slack


def at_kinks(f: Callable[..., Any], args: Mapping[str, Any], name: str, indices: np.ndarray, backward: np.ndarray,
             suspects: Iterable[int], *, dys: Sequence[Array]) -> tuple[np.ndarray, np.ndarray]:
    """Of the elements args[name][indices], (n,): (True on a kink, True where it explains what backward says).

    Looked at are the flat places `suspects` among them, in that order.
    """
    on, explained, misses = np.zeros(len(indices), bool), np.zeros(len(indices), bool), 0
    along, flat = element_lines(f, args, name, dys=dys), to_host(args[name]).reshape(-1)
    for k in suspects:
        kink = kink_at(along(indices[k]), size_at(flat, indices[k]))
        on[k] = kink is not None
        explained[k] = kink is not None and kink.holds(backward[k])
        misses += not on[k]
        if misses == MISSES:
            break
    return on, explained


def kink_at(f: Line, at: float) -> Sides | None:
    """The slopes on both sides of 0, if there is a kink there; `at`: the size of what is moved."""
    with np.errstate(all="ignore"):
        noise = rounding(f, f(0.0), at)
        sides = [_one_sided(f, h * at, noise) for h in NEAR]
    jumps = [float((right - left).sum()) for left, right, _ in sides]
    (left, right, doubt), jump = sides[-1], abs(jumps[-1])
    if not np.isfinite(jumps).all() or jump <= 4 * doubt:
        return None
    if any(abs(other - jumps[-1]) > SAME * jump for other in jumps):
        return None
    bend = max(abs(float((a - b).sum())) for a, b in zip(sides[-2][:2], sides[-1][:2], strict=True))
    return Sides(min(left.sum(), right.sum()), max(left.sum(), right.sum()), doubt + bend)


def jointly(f: Callable[..., Any], args: Mapping[str, Any], chosen: Chosen, *, dys: Sequence[Array]) -> bool:
    """Does what backward says of the chosen elements hold where all of them move alike?

    Each output may have its own kink, and lie on its own side of it.
    """
    u = direction(args, chosen)
    at = max(rms(to_host(args[name])) for name in u) or 1.0
    with np.errstate(all="ignore"):
        along = line(f, args, u, dys=dys)
        noise = rounding(along, along(0.0), at)
        coarse, fine = (_one_sided(along, h * at, noise) for h in NEAR[-2:])
    left, right, doubt = fine
    doubt += sum(float(np.abs(a - b).sum()) for a, b in zip(coarse[:2], fine[:2], strict=True))
    low, high = float(np.minimum(left, right).sum()), float(np.maximum(left, right).sum())
    said = np.concatenate([backward for _, backward in chosen.values()])
    doubt += 1e-6 * float(np.abs(said).sum())
    return not np.isfinite([low, high]).all() or Sides(low, high, doubt).holds(float(said.sum()))


def direction(args: Mapping[str, Any], chosen: Chosen) -> dict[str, Array]:
    """1 in every chosen element, 0 in all others."""
    u = {}
    for name, (indices, _) in chosen.items():
        moved = np.zeros(args[name].size)
        moved[indices] = 1.0
        u[name] = array_module(args[name]).asarray(moved.reshape(args[name].shape))
    return u


def size_at(flat: np.ndarray, i: int) -> float:
    """That of one element; of a zero that of its array."""
    return abs(float(flat[i])) or rms(flat) or 1.0


def _one_sided(f: Line, h: float, noise: float) -> tuple[np.ndarray, np.ndarray, float]:
    """(the slope on the left, that on the right, (n,) for each term; how far rounding may move their sums)"""
    behind, middle, ahead = f(-h), f(0.0), f(h)
    return (middle - behind) / h, (ahead - middle) / h, 2 * noise / h
