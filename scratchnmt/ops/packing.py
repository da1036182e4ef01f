"""Sentences of different lengths without their padding: rows sorted so that no step computes a pad.

A batch (T, B, ...) with lengths (3, 1, 2) holds six tokens.  Sorted by decreasing length, the tokens
of step t are the first n_t sentences, and stacking the steps gives six packed rows:

    step 0: sentences 0 2 1      step 1: sentences 0 2      step 2: sentence 0

The rows of step t start at offsets[t], and sentence j of step t stands at offsets[t] + j: the same
j at every step, so "the state of the step before" is simply the first n_t rows of that step.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

import numpy as np

from ..arrays import Array, to_device


class Packing(NamedTuple):
    order: Array  # (B,) sentence at each sorted place
    counts: list[int]  # [T'] n_t, how many sentences are longer than t, T' = max length
    offsets: list[int]  # [T' + 1] where the rows of step t start; the last is N, the number of rows
    rows: Array  # (N,) t * B + b: which row of the (T * B, ...) array each packed row is
    reversed_rows: Array  # (N,) the same, every sentence read from its last token to its first
    last: Array  # (B,) packed row of each sorted sentence's last step


def pack(lengths: np.ndarray, T: int) -> Packing:
    """How to pack B sentences of `lengths` (B,), 1 <= length <= T; ValueError otherwise."""
    lengths = to_device(lengths, "cpu")
    if lengths.ndim != 1 or not len(lengths) or lengths.min() < 1 or lengths.max() > T:
        raise ValueError(f"lengths are {lengths.tolist()}, expected one from 1 to T = {T} for each sentence")
    B = len(lengths)
    order = np.argsort(-lengths, kind="stable")
    sorted_lengths = lengths[order]
    steps = np.arange(sorted_lengths[0])
    counts = (sorted_lengths[None, :] > steps[:, None]).sum(axis=1)
    offsets = np.concatenate(([0], np.cumsum(counts)))
    t = np.repeat(steps, counts)
    j = np.arange(offsets[-1]) - offsets[t]
    b = order[j]
    return Packing(order=order, counts=counts.tolist(), offsets=offsets.tolist(), rows=t * B + b,
                   reversed_rows=(lengths[b] - 1 - t) * B + b,
                   last=offsets[sorted_lengths - 1] + np.arange(B))


def place(packing: Packing, xp: ModuleType) -> Packing:
    """The same with its four arrays as those of `xp`, so that indexing by them copies nothing to a GPU."""
    arrays = {name: xp.asarray(getattr(packing, name)) for name in ("order", "rows", "reversed_rows", "last")}
    return packing._replace(**arrays)


def steps(packing: Packing) -> Iterator[tuple[slice, slice, int]]:
    """For every step: its rows, the next step's rows, and how many sentences go on to it."""
    offsets = packing.offsets + packing.offsets[-1:]
    for t in range(len(packing.counts)):
        following = slice(offsets[t + 1], offsets[t + 2])
        yield slice(offsets[t], offsets[t + 1]), following, following.stop - following.start


def steps_back(packing: Packing) -> Iterator[tuple[slice, slice | None]]:
    """From the last step to the first: its rows, and those of the same sentences one step before (None at 0)."""
    for t in reversed(range(len(packing.counts))):
        start, stop = packing.offsets[t], packing.offsets[t + 1]
        before = packing.offsets[t - 1] if t else None
        yield slice(start, stop), slice(before, before + stop - start) if t else None
