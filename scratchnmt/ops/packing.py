"""Sentences of different lengths: which rows of a batch each step computes.

A batch (T, B, ...) with lengths (3, 1, 2) holds six tokens.  Sorted by decreasing length, the tokens
of step t are the first n_t sentences, and stacking the steps gives six packed rows, none of them padding:

    step 0: sentences 0 2 1      step 1: sentences 0 2      step 2: sentence 0

The rows of step t start at offsets[t], and sentence j of step t stands at offsets[t] + j: the same
j at every step, so "the state of the step before" is simply the first n_t rows of that step.

States are kept in arrays of B + N rows: in front the states that the batch begins with, then those after each
packed row.  So a step finds what it starts from, `before`, and leaves what it made, `after`, in one array.

`pack_whole` computes padding too: n_t = B at every step, in the order given, so that every shape follows from
T and B alone.  A GPU needs that to repeat one recorded step for other sentences.
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import numpy as np

from ..arrays import Array, to_device
from ..errors import ArgumentError

Index = Array | slice  # what an array is indexed by; a slice of everything is no copy


class Packing(NamedTuple):
    sentences: int  # B
    order: Index  # (B,) sentence at each sorted place
    counts: list[int]  # [T'] n_t, how many sentences step t computes; T' steps have any
    offsets: list[int]  # [T' + 1] where the rows of step t start; the last is N, the number of rows
    starts: Array | None  # (T' + 1,) the same, for kernels that take all steps; None: t * B
    rows: Index  # (N,) t * B + b: which row of the (T * B, ...) array each packed row is
    reversed_rows: Index | None  # (N,) the same, every sentence read from its last token to its first
    last: Array | None  # (B,) row of B + N of each sorted sentence's state after its last token
    previous: Index  # (N,) row of B + N of the state that each packed row starts from
    padding_mask: Array | None  # (N, 1) 1.0 where a row is padding, else 0.0; None: none is

    @property
    def shape(self) -> tuple[int]:
        """As if it were the lengths (B,)."""
        return (self.sentences,)


class Step(NamedTuple):
    """The rows of one step."""

    now: slice  # of the N packed rows
    before: slice  # of B + N states: what it starts from
    after: slice  # of B + N states: what it makes


def pack(lengths: np.ndarray, T: int) -> Packing:
    """How to pack B sentences of `lengths` (B,), 1 <= length <= T; ValueError otherwise."""
    lengths = check_lengths(lengths, T)
    B = len(lengths)
    order = np.argsort(-lengths, kind="stable")
    sorted_lengths = lengths[order]
    steps = np.arange(sorted_lengths[0])
    counts = (sorted_lengths[None, :] > steps[:, None]).sum(axis=1)
    offsets = np.concatenate(([0], np.cumsum(counts)))
    t = np.repeat(steps, counts)
    j = np.arange(offsets[-1]) - offsets[t]
    b = order[j]
    return Packing(sentences=B, order=order, counts=counts.tolist(), offsets=offsets.tolist(),
                   starts=offsets, rows=t * B + b,
                   reversed_rows=(lengths[b] - 1 - t) * B + b,
                   last=B + offsets[sorted_lengths - 1] + np.arange(B),
                   previous=np.where(t, B + offsets[t - 1], 0) + j, padding_mask=None)


def pack_whole(lengths: np.ndarray, T: int) -> Packing:
    """Every step computes all B sentences, those that have ended too; ValueError as in `pack`."""
    lengths = check_lengths(lengths, T)
    B = len(lengths)
    t, b = np.divmod(np.arange(T * B), B)
    is_token = t < lengths[b]
    return whole(T, B, reversed_rows=np.where(is_token, lengths[b] - 1 - t, t) * B + b,
                 last=lengths * B + np.arange(B), padding_mask=(~is_token[:, None]).astype("float32"))


def whole(T: int, B: int, reversed_rows: Array | None = None, last: Array | None = None,
          padding_mask: Array | None = None) -> Packing:
    """The layout in which T steps have all B sentences; the arrays, which an encoder needs, as in Packing."""
    everything = slice(None)
    return Packing(sentences=B, order=everything, counts=[B] * T, offsets=list(range(0, (T + 1) * B, B)),
                   starts=None, rows=everything, reversed_rows=reversed_rows, last=last, previous=slice(0, T * B),
                   padding_mask=padding_mask)


def check_lengths(lengths: np.ndarray, T: int) -> np.ndarray:
    """The lengths (B,) as an array; ValueError unless each is from 1 to T."""
    lengths = np.asarray(lengths)
    if lengths.ndim != 1 or not len(lengths) or lengths.min() < 1 or lengths.max() > T:
        raise ArgumentError(f"lengths are {lengths.tolist()}, expected one from 1 to T = {T} for each sentence")
    return lengths


def packed(lengths: Array | Packing, T: int, xp: ModuleType) -> Packing:
    """The packing of `lengths` for arrays of `xp`; one that is given as it is."""
    return lengths if isinstance(lengths, Packing) else place(pack(to_device(lengths, "cpu"), T), xp)


def place(packing: Packing, xp: ModuleType) -> Packing:
    """The same with its arrays as those of `xp`, so that indexing by them copies nothing to a GPU."""
    arrays = {name: xp.asarray(value) for name, value in packing._asdict().items() if isinstance(value, np.ndarray)}
    return packing._replace(**arrays)


def steps(packing: Packing) -> list[Step]:
    """The rows of every step, from the first to the last."""
    B, start, rows = packing.sentences, 0, []
    for count, offset in zip(packing.counts, packing.offsets[:-1], strict=True):
        rows.append(Step(now=slice(offset, offset + count), before=slice(start, start + count),
                         after=slice(B + offset, B + offset + count)))
        start = B + offset
    return rows


def steps_back(packing: Packing) -> list[Step]:
    """The same from the last to the first."""
    return steps(packing)[::-1]
