"""Sentence pairs as ids, grouped by length into shuffled batches, padded and laid out time-major.

Sizes: N sentence pairs, B of them in a batch, S source steps, T target steps.  A source sentence is its
tokens and nothing else; a target sentence is y = <s> w_1 ... w_n </s>, of which step t reads y[t] and
predicts y[t+1], so it has n + 1 target tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..errors import ArgumentError, InputError
from .vocab import BOS, EOS, PAD


class Batch(NamedTuple):
    src: np.ndarray  # (S, B) int64, PAD after each sentence's end
    src_lengths: np.ndarray  # (B,) int64
    tgt: np.ndarray  # (T+1, B) int64, from <s> to </s>, then PAD
    tgt_lengths: np.ndarray  # (B,) int64, tokens to predict: the words and </s>


def make_batch(src_ids: Sequence[Sequence[int]], tgt_ids: Sequence[Sequence[int]]) -> Batch:
    """Pad B sentence pairs, given without <s> and </s>, into one time-major batch."""
    if len(src_ids) != len(tgt_ids):
        raise ArgumentError(f"make_batch: {len(src_ids)} source sentences and {len(tgt_ids)} target sentences")
    src, src_lengths = _pad(src_ids)
    tgt, tgt_lengths = _pad([[BOS, *ids, EOS] for ids in tgt_ids])
    return Batch(src, src_lengths, tgt, tgt_lengths - 1)


def _pad(sentences: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.array([len(ids) for ids in sentences], dtype=np.int64)
    if not len(lengths):
        raise ArgumentError("make_batch: no sentences, expected at least one")
    if not lengths.all():
        raise ArgumentError(f"make_batch: sentence {int(lengths.argmin())} of {len(lengths)} is empty")
    padded = np.full((lengths.max(), len(lengths)), PAD, dtype=np.int64)
    for column, ids in enumerate(sentences):
        padded[: len(ids), column] = ids
    return padded, lengths


def epoch_batches(
    lengths: np.ndarray,
    batch_size: int,
    by: str = "sentences",
    rng: np.random.Generator | None = None,
    pool: int = 1,
) -> list[np.ndarray]:
    """Divide examples of the given `lengths` (N, 2) into batches of like length; every example once.

    by="sentences": `batch_size` sentences each (the last may have fewer).  by="tokens": as many sentences
    as keep B times the longest target at or below `batch_size`, and at least one.  The examples are
    shuffled, sorted by target and source length inside pools of about `pool` batches (1: batches as chance
    makes them), cut, and the batches shuffled; the same state of `rng` gives the same batches.  rng=None:
    sorted as a whole and not shuffled, for validation.  Raises InputError for a batch_size or pool below 1
    and an unknown `by`.
    """
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, not {batch_size}")
    if pool < 1:
        raise InputError(f"pool must be at least 1, not {pool}")
    if by not in ("sentences", "tokens"):
        raise InputError(f'batches are counted by "sentences" or "tokens", not by {by!r}')
    lengths = np.asarray(lengths)
    count = len(lengths)
    order = np.arange(count) if rng is None else rng.permutation(count)
    together = count if rng is None else _sentences(pool * batch_size, lengths, by)
    cut = _cut_by_sentences if by == "sentences" else _cut_by_tokens
    batches: list[np.ndarray] = []
    for start in range(0, count, max(together, 1)):
        members = order[start : start + together]
        src, tgt = lengths[members].T
        batches += cut(members[np.lexsort((src, tgt))], lengths, batch_size)  # ties stay in random order
    return batches if rng is None else [batches[i] for i in rng.permutation(len(batches))]


def _sentences(size: int, lengths: np.ndarray, by: str) -> int:
    """About how many sentences make up `size` sentences or target tokens."""
    if by == "sentences" or not len(lengths):
        return size
    return max(1, int(size / max(lengths[:, 1].mean(), 1)))


def _cut_by_sentences(members: np.ndarray, lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    return [members[i : i + batch_size] for i in range(0, len(members), batch_size)]


def _cut_by_tokens(members: np.ndarray, lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    starts = [0]
    for i, longest in enumerate(lengths[members, 1].tolist()):  # ascending: the newest is the longest
        if i > starts[-1] and (i + 1 - starts[-1]) * longest > batch_size:
            starts.append(i)
    return np.split(members, starts[1:])
