"""The measures of a validation: perplexity of the references, and BLEU of greedy translations."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..data.batches import Batch, epoch_batches
from ..errors import InputError
from ..metrics import corpus_bleu, loss, perplexity_of
from ..parallel.ranks import Ranks
from ..search import greedy_search
from .plan import TrainingData

_WEIGHTS = 1 << 27  # attention weights that a batch may have: half a gigabyte of them


class NoPairFitsError(MemoryError):
    """Each pair of the validation alone takes more memory than there is; raised on all ranks."""


class Validation:
    """Batches of like length; `check` is called before each, and may raise to stop.

    A pair that is too long for the model (`longest`) or for the memory is left out.  ranks: who measure together, each
    its share of the batches; all have the same figures.  tokenize: as of `corpus_bleu`.
    """

    def __init__(self, data: TrainingData, batch_size: int, check: Callable[[], None], ranks: Ranks | None = None,
                 longest: int | None = None, tokenize: str = "auto"):
        self.data, self.batch_size, self.check, self.ranks = data, batch_size, check, ranks or Ranks()
        self.tokenize, self.lengths = tokenize, data.valid.lengths()
        self.left_out: set[int] = set()
        self._news: list[str] = []
        src, tgt = self.lengths.T
        unknown = np.flatnonzero(src > (src.max() if longest is None else longest))
        endless = np.setdiff1d(np.flatnonzero(src * tgt > _WEIGHTS), unknown)
        self._tell(unknown, f"the score 'location' knows {longest} positions")
        self._tell(endless, "that is too long to be measured")
        self.leave_out([*unknown.tolist(), *endless.tolist()])
        if not self.indices:
            raise InputError(f"no validation pair is left: {self._news[0]}")

    def leave_out(self, pairs: Iterable[int]) -> None:
        """Measure without these, too."""
        self.left_out |= set(pairs)
        kept = np.delete(np.arange(len(self.lengths)), list(self.left_out))
        batches = [kept[batch] for batch in epoch_batches(self.lengths[kept], self.batch_size)]
        self.indices = [part for batch in batches for part in np.array_split(batch, self._parts(batch))]

    def _parts(self, batch: np.ndarray) -> int:
        """In how many a batch of long sentences is cut, lest its attention weights fill the memory."""
        weights = len(batch) * int(self.lengths[batch].max(axis=0).prod())
        return min(len(batch), -(-weights // _WEIGHTS))

    def _tell(self, pairs: Iterable[int], why: str) -> None:
        for pair in pairs:
            src, tgt = self.lengths[pair].tolist()
            self._news.append(f"line {self.data.valid.line(pair)} of the validation text, of {src:,} and {tgt:,} "
                              f"tokens, is left out: {why}")

    def news(self) -> list[str]:
        """Sentences about what was left out since this was asked."""
        news, self._news = self._news, []
        return news

    def perplexity(self, model: Any) -> float:
        """Of the references, teacher-forced."""
        return perplexity_of(measured for _, measured in self._each(lambda batch: loss(model, batch)))

    def bleu(self, model: Any) -> float:
        """Of greedy translations, at most 2 S + 10 tokens long, detokenised, against the raw references."""
        def translate(batch: Batch) -> list[str]:
            limits = 2 * batch.src_lengths + 10
            hypotheses = greedy_search(model, batch.src, batch.src_lengths, max_steps=limits, keep_attention=False)
            return [self.data.tgt_vocab.decode(hypothesis.value) for hypothesis in hypotheses]

        decoded: dict[int, str] = {}
        for indices, translations in self._each(translate):
            decoded.update(zip(indices.tolist(), translations, strict=True))
        order = sorted(decoded)
        translations, references = ([lines[pair] for pair in order] for lines in (decoded, self.data.valid_references))
        score: float = self.ranks.from_first(
            lambda: corpus_bleu(translations, references, tokenize=self.tokenize).score)
        return score

    def _each(self, measure: Callable[[Batch], Any]) -> list[tuple[np.ndarray, Any]]:
        """The numbers of pairs with what `measure` returns of their batch, which is halved if it takes too much memory.

        A pair that does so alone is left out; NoPairFitsError if all do.
        """
        def work(indices: np.ndarray) -> list[tuple[np.ndarray, Any]]:
            self.check()
            try:
                return [(indices, measure(self.data.valid.batch(indices)))]
            except MemoryError as error:
                if len(indices) == 1:
                    return [(indices, MemoryError(str(error)))]
            return [result for half in np.array_split(indices, 2) for result in work(half)]

        results = [one for some in self.ranks.each(self.indices, work) for one in some]
        failed = {int(indices[0]): result for indices, result in results if isinstance(result, MemoryError)}
        if len(failed) == len(results):
            raise NoPairFitsError(str(next(iter(failed.values()))))
        self._tell(failed, "it does not fit into memory: this and later validations have fewer pairs than those before")
        self.leave_out(failed)
        return [(indices, result) for indices, result in results if not isinstance(result, MemoryError)]
