"""Measuring a model on the validation set: perplexity, and BLEU of its greedy translations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..data.batches import Batch, epoch_batches
from ..metrics import corpus_bleu, perplexity
from ..search import greedy_search
from .data import TrainingData


class Validation:
    """Batches of like length, made once; `check` is called before each, and may raise to stop."""

    def __init__(self, data: TrainingData, batch_size: int, check: Callable[[], None]):
        self.data = data
        self.indices = epoch_batches(data.valid.lengths(), batch_size)
        self.check = check

    def perplexity(self, model: Any) -> float:
        """Of the references, teacher-forced."""
        return perplexity(model, self._batches())

    def bleu(self, model: Any) -> float:
        """Of greedy translations, at most 2 S + 10 tokens long, detokenised, against the raw references."""
        found = [""] * len(self.data.valid)
        for indices, batch in zip(self.indices, self._batches()):
            limits = 2 * batch.src_lengths + 10
            hypotheses = greedy_search(model, batch.src, batch.src_lengths, max_steps=limits)
            for index, hypothesis in zip(indices, hypotheses):
                found[index] = self.data.tgt_vocab.decode(hypothesis.value)
        return corpus_bleu(found, self.data.valid_references).score

    def _batches(self) -> Iterator[Batch]:
        for indices in self.indices:
            self.check()
            yield self.data.valid.batch(indices)
