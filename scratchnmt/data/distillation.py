"""Sequence-level distillation, references included: of the translations of a sentence each epoch has one.

A student learns from its teachers' translations (Kim & Rush 2016, "Sequence-Level Knowledge Distillation", 3.2), and
here from the references, too.  In each epoch a sentence has the translation of teacher k with probability
`weights[k]`, else its reference.  What is drawn depends on the seeds and the pair alone, so that workers and resumed
runs draw the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .corpus import BLOCK, Corpus, DrawnText, Flat, ranges
from .subword_sampling import nth_random


class Distillation:
    """A corpus and its sources as teachers translate them; `epoch` gives the text of an epoch.

    teachers: each a corpus of the same source text; a pair that one lacks, because its translation was blank or too
    long, keeps its reference.  weights: one for each teacher, with a sum of at most 1.
    Raises InputError if a teacher's is damaged.
    """

    def __init__(self, corpus: Corpus, teachers: Sequence[Corpus], weights: Sequence[float]):
        for teacher in teachers:
            teacher.check(range(-(-len(teacher) // BLOCK)))
        self.corpus, self.teachers, self.ends = corpus, teachers, np.cumsum(weights)
        self.theirs = [_pairs_of(teacher, corpus) for teacher in teachers]

    def epoch(self, seeds: Sequence[int]) -> Drawn:
        """The text as the seeds have it."""
        return Drawn(self, seeds)


def _pairs_of(teacher: Corpus, corpus: Corpus) -> np.ndarray:
    """(N,) which pair of the teacher's is of the same line as each of the corpus; -1: none."""
    lines, theirs = corpus.rows["line"], teacher.rows["line"]
    place = np.minimum(np.searchsorted(theirs, lines), max(len(theirs) - 1, 0))
    return np.where(theirs[place] == lines, place, -1)


class Drawn(DrawnText):
    """The sources of a corpus with the translations of one epoch."""

    def __init__(self, distillation: Distillation, seeds: Sequence[int]):
        self.of = distillation
        self.key = np.random.SeedSequence(seeds).generate_state(1, np.uint64)

    def lengths(self, indices: np.ndarray) -> np.ndarray:
        """(N, 2) int64: source tokens, and target tokens with </s>."""
        indices = np.asarray(indices, np.int64)
        lengths = self.of.corpus.lengths(indices)
        for text, drawn, pairs in self._texts(indices):
            lengths[drawn, 1] = text.lengths(pairs)[:, 1]
        return lengths

    def sides(self, indices: np.ndarray) -> list[Flat]:
        """Of source and target, as of `Corpus.sides`."""
        src, _ = self.of.corpus.sides(indices)
        parts = [(drawn, text.sides(pairs)[1]) for text, drawn, pairs in self._texts(indices)]
        lengths = np.zeros(len(indices), np.int64)
        for drawn, part in parts:
            lengths[drawn] = part.lengths
        start = np.cumsum(lengths) - lengths
        ids = np.zeros(int(lengths.sum()), np.result_type(*(part.ids for _, part in parts)))
        for drawn, part in parts:
            ids[ranges(start[drawn], part.lengths)] = part.ids
        return [src, Flat(ids, lengths)]

    def _texts(self, indices: np.ndarray) -> Iterator[tuple[Corpus, np.ndarray, np.ndarray]]:
        """Each text, the corpus last, with the sentences that have its translation, (N,) boolean, and its pairs."""
        chance = (nth_random(self.key, indices) >> np.uint64(11)) * 2.0**-53
        turn = np.searchsorted(self.of.ends, chance, side="right")  # whose it is: teacher k's where chance < ends[k]
        left = np.full(len(indices), True)
        for k, (teacher, theirs) in enumerate(zip(self.of.teachers, self.of.theirs, strict=True)):
            drawn = (turn == k) & (theirs[indices] >= 0)
            left &= ~drawn
            yield teacher, drawn, theirs[indices[drawn]]
        yield self.of.corpus, left, indices[left]
