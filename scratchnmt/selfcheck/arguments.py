"""Example arguments for ops, at any sizes: functions of (sizes, rng) that draw a dict of arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..arrays import Array
from ..ops.cross_entropy import PAD
from ..ops.dropout import dropout_mask

Sizes = dict[str, int]
Draw = Callable[[Sizes, np.random.Generator], Any]
SIZES: Sizes = dict(T=4, S=5, B=3, Q=2, N=6, I=4, O=3, E=4, H=5, M=6, A=4, V=7)


def normal(*names_and_shapes: str, **fixed: Any) -> Draw:
    """Arguments from texts like "x B I" and "Wh H 4H": normal values in an array of that shape."""
    def arguments(sizes: Sizes, rng: np.random.Generator) -> dict[str, Any]:
        drawn = {}
        for text in names_and_shapes:
            name, *terms = text.split()
            drawn[name] = rng.standard_normal([_size(term, sizes) for term in terms])
        return {**drawn, **{k: v(sizes, rng) if callable(v) else v for k, v in fixed.items()}}
    return arguments


def _size(term: str, sizes: Sizes) -> int:
    """4H is four times H, H+M a sum, 2 a number."""
    parts = [part.strip() for part in term.split("+")]
    return sum(int(p) if p.isdigit() else int(p[:-1] or 1) * sizes[p[-1]] for p in parts)


def mask(letters: str) -> Draw:
    return lambda sizes, rng: rng.random([_size(x, sizes) for x in letters.split()]) < 0.7


def prefix_mask(sizes: Sizes, rng: np.random.Generator) -> Array:
    """(S, B) True for the tokens of each sentence, as many as `lengths` says."""
    return np.arange(sizes["S"])[:, None] < lengths("S")(sizes, rng)


def ids(shape: str, upper: str) -> Draw:
    return lambda sizes, rng: rng.integers(0, sizes[upper], [_size(x, sizes) for x in shape.split()])


def lengths(letter: str) -> Draw:
    """(B,) from 1 to the size of the letter, one of them that size, in no order."""
    def draw(sizes: Sizes, rng: np.random.Generator) -> Array:
        longest = sizes[letter]
        return rng.permutation(np.append(rng.integers(1, longest + 1, sizes["B"] - 1), longest))
    return draw


def targets(sizes: Sizes, rng: np.random.Generator) -> Array:
    """(N,) ids, about a quarter of them padding."""
    return np.where(rng.random(sizes["N"]) < 0.25, PAD, rng.integers(0, sizes["V"], sizes["N"]))


def scaled_mask(sizes: Sizes, rng: np.random.Generator) -> Array:
    """(B, I) of 0 and 1 / 0.7."""
    return dropout_mask((sizes["B"], sizes["I"]), 0.3, rng, "float64")
