"""Sentence pairs as ids, grouped by length into shuffled batches, padded and laid out time-major.

Sizes: N sentence pairs, B of them in a batch, S source steps, T target steps.  A source sentence is its
tokens and nothing else; a target sentence is y = <s> w_1 ... w_n </s>, of which step t reads y[t] and
predicts y[t+1], so it has n + 1 target tokens.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from .vocab import BOS, EOS, PAD, Vocabulary


class Batch(NamedTuple):
    src: np.ndarray  # (S, B) int64, PAD after each sentence's end
    src_lengths: np.ndarray  # (B,) int64
    tgt: np.ndarray  # (T+1, B) int64, from <s> to </s>, then PAD
    tgt_lengths: np.ndarray  # (B,) int64, tokens to predict: the words and </s>


class LeftOut(NamedTuple):
    """Numbers of sentence pairs that were not encoded, by reason."""

    blank: int
    too_long: int


@dataclass(frozen=True)
class Examples:
    """N sentence pairs as token ids; a sequence of (source ids, target ids), without <s> and </s>."""

    src: list[list[int]]
    tgt: list[list[int]]
    lines: array = field(default_factory=lambda: array("q"))  # of each, in the text that it is from, from 1; or none

    def __len__(self) -> int:
        return len(self.src)

    def __getitem__(self, index: int) -> tuple[list[int], list[int]]:
        return self.src[index], self.tgt[index]

    @property
    def lengths(self) -> np.ndarray:
        """(N, 2) int64: source tokens, and target tokens with </s>, as in `Batch`."""
        return np.array([(len(s), len(t) + 1) for s, t in self], dtype=np.int64).reshape(-1, 2)

    def batch(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """The batch of the sentence pairs at `indices`, in that order."""
        return make_batch([self.src[i] for i in indices], [self.tgt[i] for i in indices])


def encode_parallel(
    src_lines: Sequence[str],
    tgt_lines: Sequence[str],
    src_vocab: Vocabulary,
    tgt_vocab: Vocabulary,
    max_length: int | None = None,
) -> tuple[Examples, LeftOut]:
    """Encode pairs of lines, without those that are blank or over `max_length` tokens on either side.

    Raises InputError if nothing is left.
    """
    if max_length is not None and max_length < 1:
        raise InputError(f"max_length must be at least 1, not {max_length}")
    examples = Examples([], [])
    blank = too_long = 0
    for number, (src_line, tgt_line) in enumerate(zip(src_lines, tgt_lines, strict=True), start=1):
        src, tgt = src_vocab.encode(src_line), tgt_vocab.encode(tgt_line)
        if not src or not tgt:
            blank += 1
        elif max_length is not None and max(len(src), len(tgt)) > max_length:
            too_long += 1
        else:
            examples.src.append(src)
            examples.tgt.append(tgt)
            examples.lines.append(number)
    if not examples:
        limit = "" if max_length is None else f", {too_long} longer than {max_length} tokens"
        raise InputError(f"no sentence pair is left: of {len(src_lines)}, {blank} are blank on a side{limit}")
    return examples, LeftOut(blank, too_long)


def make_batch(src_ids: Sequence[Sequence[int]], tgt_ids: Sequence[Sequence[int]]) -> Batch:
    """Pad B sentence pairs, given without <s> and </s>, into one time-major batch."""
    if len(src_ids) != len(tgt_ids):
        raise ValueError(f"make_batch: {len(src_ids)} source sentences and {len(tgt_ids)} target sentences")
    src, src_lengths = _pad(src_ids)
    tgt, tgt_lengths = _pad([[BOS, *ids, EOS] for ids in tgt_ids])
    return Batch(src, src_lengths, tgt, tgt_lengths - 1)


def _pad(sentences: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.array([len(ids) for ids in sentences], dtype=np.int64)
    if not len(lengths):
        raise ValueError("make_batch: no sentences, expected at least one")
    if not lengths.all():
        raise ValueError(f"make_batch: sentence {int(lengths.argmin())} of {len(lengths)} is empty")
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
