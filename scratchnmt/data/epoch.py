"""The batches of one pass over a corpus, in an order that needs little memory.

A corpus of up to BUFFER pairs is shuffled as a whole.  Of a larger one the blocks of BLOCK pairs are shuffled, dealt
out into buffers, and the pairs of each buffer shuffled among themselves: what is read from the disk at a time is whole
blocks, and what is in memory is one buffer.  Within it, pairs of like length are brought together in pools (see
`epoch_batches`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import numpy as np

from .batches import epoch_batches
from .corpus import BLOCK, Corpus

BUFFER = 1 << 20  # pairs


class Epoch(Sequence[np.ndarray]):
    """Batches, each the numbers of its pairs, in the order of training; every pair is in one of them.

    seeds: of the generators; the same give the same order.  by, pool: as in `epoch_batches`.
    """

    def __init__(self, corpus: Corpus, batch_size: int, by: str, pool: int, seeds: Sequence[int]):
        self.corpus, self.seeds, self.how = corpus, list(seeds), (batch_size, by, pool)
        blocks = -(-len(corpus) // BLOCK)
        self.parts = [np.arange(blocks)]
        if len(corpus) > BUFFER:
            per = BUFFER // BLOCK
            order = np.random.default_rng(self.seeds).permutation(blocks)
            self.parts = [order[start : start + per] for start in range(0, blocks, per)]
        self.ends = np.cumsum([self._count(part) for part in range(len(self.parts))])
        self.part = -1  # the buffer at hand, and its batches
        self.batches: list[np.ndarray] = []

    def __len__(self) -> int:
        return int(self.ends[-1])

    if TYPE_CHECKING:  # as in Corpus
        @overload
        def __getitem__(self, position: int) -> np.ndarray: ...

        @overload
        def __getitem__(self, position: slice) -> list[np.ndarray]: ...

    def __getitem__(self, position: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(position, slice):
            return [self[one] for one in range(*position.indices(len(self)))]
        if not 0 <= position < len(self):
            raise IndexError(position)
        part = int(np.searchsorted(self.ends, position, side="right"))
        if part != self.part:
            if len(self.parts) > 1:
                self.corpus.forget()
            self.corpus.check(np.sort(self.parts[part]).tolist())
            self.part, self.batches = part, self._batches(part)
        return self.batches[position - (int(self.ends[part - 1]) if part else 0)]

    def _count(self, part: int) -> int:
        """How many batches a buffer has."""
        batch_size, by, _ = self.how
        if by == "sentences" and batch_size >= 1:
            return -(-self._pairs(part) // batch_size)
        return len(self._batches(part))

    def _pairs(self, part: int) -> int:
        last = -(-len(self.corpus) // BLOCK) - 1
        missing = (last + 1) * BLOCK - len(self.corpus) if last in self.parts[part] else 0
        return len(self.parts[part]) * BLOCK - missing

    def _batches(self, part: int) -> list[np.ndarray]:
        batch_size, by, pool = self.how
        alone = len(self.parts) == 1
        pairs = np.concatenate([np.arange(block * BLOCK, min((block + 1) * BLOCK, len(self.corpus)))
                                for block in self.parts[part].tolist()])
        rng = np.random.default_rng(self.seeds if alone else [*self.seeds, part])
        return [pairs[batch] for batch in epoch_batches(self.corpus.lengths(pairs), batch_size, by, rng, pool)]
