"""Which elements of a large gradient are looked at, and one look along a direction at all the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from ..arrays import Array, array_module
from .numeric import central, complex_step
from .probe import draw_direction, halve

REAL = 1e-4  # a real difference along thousands of elements at once has few digits, but it sees what is left out


def sample(shape: tuple[int, ...], most: int, labels: Sequence[str] | None, seed: int) -> np.ndarray:
    """Flat indices to check: all, or `most` of them with an equal share for every label."""
    size = prod(shape)
    if size <= most:
        return np.arange(size)
    rng = np.random.default_rng(seed)
    if labels is None:
        return np.sort(rng.choice(size, most, replace=False))
    columns, rows = shape[-1], size // shape[-1]
    shares = most // columns + (rng.permutation(columns) < most % columns)
    picked = [rng.choice(rows, share, replace=False) * columns + c for c, share in enumerate(shares)]
    return np.sort(np.concatenate(picked))


def with_nonzero(indices: np.ndarray, backward: np.ndarray, most: int, seed: int) -> np.ndarray:
    """With up to most / 2 more where backward, flattened, is not zero, if few of the indices are there.

    Of a table of 20,000 words, the words of one sentence are hardly ever drawn.
    """
    if 2 * np.count_nonzero(backward[indices]) >= indices.size:
        return indices
    live = np.flatnonzero(backward)
    more = np.random.default_rng(seed).choice(live, min(live.size, (most + 1) // 2), replace=False)
    return np.union1d(indices, more)


def overlooked(f: Callable, args: Mapping[str, Any], name: str, backward: np.ndarray, *, dys: Sequence[Array],
               method: str, rtol: float, seed: int) -> list[int]:
    """One flat index where the derivative along a random direction of all of args[name] is not backward's.

    Empty if the two agree.  The element is found by halving the direction, and is yet to be compared.
    """
    if not np.isfinite(backward).all():
        return [int(np.argmin(np.isfinite(backward)))]
    u = draw_direction(backward.size, [seed, 4]).astype(float)
    derivative, tolerance = (complex_step, 10 * rtol) if method == "complex" else (central, max(REAL, 10 * rtol))

    def along(part: slice) -> float:
        v = np.zeros_like(u)
        v[part] = u[part]
        v = array_module(args[name]).asarray(v.reshape(args[name].shape))
        with np.errstate(all="ignore"):
            return derivative(f, args, {name: v}, dys=dys)

    def gap(start: int, stop: int) -> float:
        part = slice(start, stop)
        return float(backward[part] @ u[part]) - along(part)

    off = abs(gap(0, backward.size))
    return [] if off <= tolerance * float(np.linalg.norm(backward)) else [halve(gap, 0, backward.size)]
