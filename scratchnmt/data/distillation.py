"""Distillation at sequence level beside references: each sentence has two translations, and an epoch has one of them.

A student learns from its teacher's translations (Kim & Rush 2016, "Sequence-Level Knowledge Distillation", 3.2), and
here from the references, too.  In each epoch a sentence has the teacher's translation with probability `weight`, else
its reference.  What is drawn depends on the seeds and the pair alone, so that workers and resumed runs draw the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .corpus import BLOCK, Corpus, DrawnText, Flat, ranges
from .subword_sampling import nth_random


class Distillation:
    """A corpus and a teacher's translations of its sources; `epoch` gives the text of an epoch.

    teacher: made of the same source text; a pair that it lacks, because its translation was blank or too long, keeps
    its reference.  Raises InputError if it is damaged.
    """

    def __init__(self, corpus: Corpus, teacher: Corpus, weight: float):
        teacher.check(range(-(-len(teacher) // BLOCK)))
        self.corpus, self.teacher, self.weight = corpus, teacher, weight
        lines, theirs = corpus.rows["line"], teacher.rows["line"]
        place = np.minimum(np.searchsorted(theirs, lines), max(len(theirs) - 1, 0))
        self.theirs = np.where(theirs[place] == lines, place, -1)  # (N,) the teacher's pair, or none

    def epoch(self, seeds: Sequence[int]) -> Drawn:
        """The text as the seeds have it."""
        return Drawn(self, seeds)


class Drawn(DrawnText):
    """The sources of a corpus with the translations of one epoch."""

    def __init__(self, distillation: Distillation, seeds: Sequence[int]):
        self.of = distillation
        self.key = np.random.SeedSequence(seeds).generate_state(1, np.uint64)

    def lengths(self, indices: np.ndarray) -> np.ndarray:
        """(N, 2) int64: source tokens, and target tokens with </s>."""
        indices = np.asarray(indices, np.int64)
        lengths, theirs = self.of.corpus.lengths(indices), self._theirs(indices)
        drawn = theirs >= 0
        lengths[drawn, 1] = self.of.teacher.lengths(theirs[drawn])[:, 1]
        return lengths

    def sides(self, indices: np.ndarray) -> list[Flat]:
        """Of source and target, as of `Corpus.sides`."""
        theirs = self._theirs(indices)
        drawn = theirs >= 0
        src, (ids, lengths) = self.of.corpus.sides(indices)
        teachers_ids, teachers_lengths = self.of.teacher.sides(theirs[drawn])[1]
        mixed = lengths.copy()
        mixed[drawn] = teachers_lengths
        start = np.cumsum(mixed) - mixed
        found = np.zeros(int(mixed.sum()), np.result_type(ids, teachers_ids))
        found[ranges(start[drawn], teachers_lengths)] = teachers_ids
        found[ranges(start[~drawn], lengths[~drawn])] = ids[np.repeat(~drawn, lengths)]
        return [src, Flat(found, mixed)]

    def _theirs(self, indices: np.ndarray) -> np.ndarray:
        """The teacher's pairs of those at `indices` whose turn it is; -1 where it is the reference's."""
        chance = (nth_random(self.key, indices) >> np.uint64(11)) * 2.0**-53
        return np.where(chance < self.of.weight, self.of.theirs[indices], -1)
