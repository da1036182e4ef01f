"""Measuring a model on the validation set: perplexity, and BLEU of its greedy translations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..data.batches import Batch, epoch_batches
from ..metrics import corpus_bleu, loss, perplexity_of
from ..parallel.ranks import Ranks
from ..search import greedy_search
from .plan import TrainingData


class Validation:
    """Batches of like length, made once; `check` is called before each, and may raise to stop.

    ranks: who measure together, each its share of the batches; all have the same figures.
    """

    def __init__(self, data: TrainingData, batch_size: int, check: Callable[[], None], ranks: Ranks | None = None):
        self.data, self.ranks = data, ranks or Ranks()
        self.indices = epoch_batches(data.valid.lengths(), batch_size)
        self.check = check

    def perplexity(self, model: Any) -> float:
        """Of the references, teacher-forced."""
        return perplexity_of(self._each(lambda batch: loss(model, batch)))

    def bleu(self, model: Any) -> float:
        """Of greedy translations, at most 2 S + 10 tokens long, detokenised, against the raw references."""
        def translate(batch: Batch) -> list[str]:
            limits = 2 * batch.src_lengths + 10
            hypotheses = greedy_search(model, batch.src, batch.src_lengths, max_steps=limits)
            return [self.data.tgt_vocab.decode(hypothesis.value) for hypothesis in hypotheses]

        found = [""] * len(self.data.valid)
        for indices, translations in zip(self.indices, self._each(translate), strict=True):
            for index, translation in zip(indices, translations, strict=True):
                found[index] = translation
        score: float = self.ranks.from_first(lambda: corpus_bleu(found, self.data.valid_references).score)
        return score

    def _each(self, measure: Callable[[Batch], Any]) -> list[Any]:
        def work(indices: Any) -> Any:
            self.check()
            return measure(self.data.valid.batch(indices))

        return self.ranks.each(self.indices, work)
