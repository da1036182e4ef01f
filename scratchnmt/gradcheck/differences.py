"""Real differences along a line, whose step settles where the function is resolved, and what they leave in doubt.

With the slopes D(h) = (f(h) - f(-h)) / 2h and the bend B(h) = (f(h) + f(-h)) / 2 - f(0): where a step resolves f,
D(h) - D(h/2) and B(h) - 4 B(h/2) are small beside D and B.  Where f has another scale than was thought, where it
is rounded, or has a kink within the step, one of them is not, and the next, shorter step is tried.

Kinks are points where a function has one slope on its left and another on its right (relu, max, clip):

    L(h) = (f(0) - f(-h)) / h,    R(h) = (f(h) - f(0)) / h,    jump(h) = R(h) - L(h)

At a kink the jump stays the same as h shrinks; for a smooth f it shrinks with h, for one that is
sharper than h it grows.  On a kink every slope from L to R is a derivative (a subgradient) that a backward
pass may choose, but not each element by itself: max(a, b) at a tie has jumps along a and along b, and none
along both.  So the elements that a kink excuses are also held, all together, to the slopes along their sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..arrays import Array, array_module
from .convention import call, cast, outputs, to_host
from .report import EPS, rms

Indices: TypeAlias = Sequence[int] | np.ndarray  # into a flattened array
Line = Callable[[float], np.ndarray]
"""t -> the terms of <f, dys>, (n,), one for each output: what does not move cancels before it is summed."""

WIDEST = {"central": EPS ** (1 / 3), "richardson": 2.0**-11}  # relative to max(1, |x|)
ENOUGH = {"central": 1e-7, "richardson": 5e-9}  # doubt, relative to the derivative, that ends the search
LEVELS = {"central": 2, "richardson": 3}
RESOLVED = 1e-3  # a doubt, relative to slope and bend, that only a step which resolves f leaves
SHRINK, ROUNDS = 8.0, 14


class Difference(NamedTuple):
    """A derivative, and how far it may be off: by what is between its own steps, and by rounding."""

    value: float
    doubt: float  # absolute; inf where f is not finite
    step: float = 0.0


def settled(f: Line, at: float, method: str) -> Difference:
    """The derivative of f at 0, by the widest step that resolves it; `at`: the size of what is moved.

    Where none does, at a kink or for a constant that is rounded, by the widest at which f is finite.
    """
    with np.errstate(all="ignore"):
        middle, step, best, least = f(0.0), widest_step(at, method), None, math.inf
        noise = rounding(f, middle, max(1.0, at))
        for k in range(ROUNDS):
            found, ratio = _difference(f, middle, step, method, noise)
            if k and ratio <= RESOLVED:  # a short step may be without doubt by chance
                found = found._replace(doubt=max(found.doubt, spread(f, step)))
            if ratio <= ENOUGH[method]:
                return found
            if (least < 0.05 and 4 * least < ratio) or step < 64 * EPS * at:  # only rounding grows from here
                break
            if math.isfinite(found.value) and (best is None or ratio < min(least / SHRINK, RESOLVED)):
                best, least = found, ratio
            step /= SHRINK
    return best or Difference(math.nan, math.inf)


def widest_step(at: float, method: str = "central") -> float:
    """A power of two, so that x + step is exact."""
    return 2.0 ** round(math.log2(WIDEST[method] * max(1.0, at)))


def slope(f: Line, step: float) -> float:
    """The central difference at 0."""
    return float((f(step) - f(-step)).sum()) / (2 * step)


def spread(f: Line, step: float) -> float:
    """How far the slopes by nearly the same step differ: what rounding inside of f does to them."""
    with np.errstate(all="ignore"):
        slopes = [slope(f, step * k) for k in (1.0, 0.97, 0.93, 0.89)]
    return max(slopes) - min(slopes)


def extrapolated(slopes: list[float]) -> tuple[float, float]:
    """Richardson's extrapolation to 0 of central differences at step, step/2, ...: (value, estimate of error)"""
    column, before = slopes, slopes[-1]
    for k in range(1, len(slopes)):  # each pass removes the error's term in step**(2k)
        before = column[-1]
        column = [fine + (fine - coarse) / (4**k - 1) for coarse, fine in pairwise(column)]
    return column[-1], abs(column[-1] - before)


def _difference(f: Line, middle: np.ndarray, step: float, method: str,
                noise: float) -> tuple[Difference, float]:
    """(the derivative, its doubt relative to the slope and the bend)"""
    steps = [step / 2**k for k in range(LEVELS[method])]
    ends = [(f(h), f(-h)) for h in steps]
    slopes = [float((ahead - behind).sum()) / (2 * h) for h, (ahead, behind) in zip(steps, ends, strict=True)]
    bends = [float(((ahead - middle) + (behind - middle)).sum()) / 2 for ahead, behind in ends]
    if not np.isfinite([*slopes, *bends]).all():
        return Difference(math.nan, math.inf), math.inf
    value, doubt = extrapolated(slopes) if method == "richardson" else (slopes[0], abs(slopes[0] - slopes[1]))
    doubt += max(abs(a - 4 * b) / h for a, b, h in zip(bends, bends[1:], steps, strict=False)) + noise / steps[-1]
    size = abs(value) + abs(bends[0]) / step
    return Difference(value, doubt, step), doubt / size if size else math.inf if doubt else 0.0


def rounding(f: Line, middle: np.ndarray, far: float) -> float:
    """How far the sum of a difference of terms may be rounded: 4 eps of those that a step as far as this moves.

    A short one need not move them, where f is saturated.
    """
    moved = (f(far) != middle) | (f(-far) != middle)
    return 4 * EPS * float(np.abs(middle)[moved].sum())


def coarse(f: Line, at: float, dtype: str) -> Difference:
    """`settled` for an f that rounds to `dtype`: by long steps, with what that rounding leaves in doubt."""
    best = Difference(math.nan, math.inf)
    for far in (2.0**-3, 2.0**-5, 2.0**-7, 2.0**-9):
        steps = [far * max(1.0, at) / 2**level for level in range(3)]
        ends = [(f(h), f(-h)) for h in steps]
        moved = max(float(np.abs(a[a != b]).sum()) for a, b in ends)
        value, doubt = extrapolated([float((a - b).sum()) / (2 * h) for h, (a, b) in zip(steps, ends, strict=True)])
        doubt += float(np.finfo(dtype).eps) * moved / steps[-1]
        if doubt < best.doubt:
            best = Difference(value, doubt, steps[0])
    return best


CLOSE = 1e-7  # arguments so near to each other, relative to their size, lie on a straight line
NOISY = 1e-10  # jumps of an output, relative to its size, that float64 does not make


def jumps(along: Line, scale: float = 0.0) -> bool:
    """Do the values along a line, `CLOSE` apart, bend more than float64 rounds, and as much where they are closer?

    Beside a kink, or where f is sharply curved, they bend less.  scale: the size of the terms, where values cancel.
    """
    values = [along(CLOSE * k) for k in range(5)]
    if not _bend(values) > NOISY * max(scale, float(np.abs(values[0]).max(initial=0.0))):
        return False
    return 2 * _bend([along(CLOSE * k / 16) for k in range(65)]) > _bend(values)


def _bend(values: Sequence[np.ndarray]) -> float:
    bends = [np.abs((a - b) - (b - c)) for a, b, c in zip(values, values[1:], values[2:], strict=False)]
    return float(np.max(bends, initial=0.0))


def line(f: Callable[..., Any], args: Mapping[str, Any], u: Mapping[str, Array], *, dys: Sequence[Array]) -> Line:
    """t -> the terms of <f(**(args + t u)), dys>, in float64."""
    x = cast(args, "float64")
    return lambda t: terms(f, {**x, **{name: x[name] + t * direction for name, direction in u.items()}}, dys)


def element_lines(f: Callable[..., Any], args: Mapping[str, Any], name: str, *,
                  dys: Sequence[Array]) -> Callable[[int], Line]:
    """The line through args along one element of args[name], given the element's flat index."""
    x, flat = flattened(args, name, "float64")

    def along(i: int) -> Line:
        kept = flat[i].copy()

        def at(t: float) -> np.ndarray:
            flat[i] = kept + t
            try:
                return terms(f, x, dys)
            finally:
                flat[i] = kept
        return at
    return along


def size_of(args: Mapping[str, Any], names: Iterable[str]) -> float:
    """The largest element of these arguments."""
    return max(float(abs(to_host(args[name])).max()) for name in names)


def flattened(args: Mapping[str, Any], name: str, dtype: str) -> tuple[dict[str, Any], Array]:
    """(the arguments in dtype, a flat view of args[name] among them)"""
    x = cast(args, dtype)
    x[name] = array_module(x[name]).ascontiguousarray(x[name]).reshape(args[name].shape)
    return x, x[name].reshape(-1)


def terms(f: Callable[..., Any], x: Mapping[str, Any], dys: Sequence[Array]) -> np.ndarray:
    """The terms y dy of <f(**x), dys> for real x, (n,), one for each element of the outputs; NaN outside its domain."""
    try:
        ys = outputs(call(f, x))
    except (ArithmeticError, AssertionError, ValueError):  # math.log(-1), a matrix that is not positive definite
        return np.full(sum(np.size(dy) for dy in dys), np.nan)
    check_count(ys, dys)
    return np.concatenate([to_host(y * dy).reshape(-1) for y, dy in zip(ys, dys, strict=True)])


def check_count(ys: Sequence[Any], dys: Sequence[Array]) -> None:
    if len(ys) != len(dys):
        raise ValueError(
            f"the forward pass has {len(ys)} outputs with a gradient, but {len(dys)} dys were given"
        )


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
