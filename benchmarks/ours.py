"""scratchnmt as a contestant: one training step, written as scratchnmt.training does it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from scratchnmt.models.nmt import NMT
from scratchnmt.data.batches import Batch, make_batch
from scratchnmt.optim import Adam, clip_factor, global_norm


class Contestant:
    """Owns a model and its optimizer."""

    def __init__(self, model: NMT, clip: float = 5.0) -> None:
        self.model, self.clip = model, clip
        self.grads = model.params.like()
        self.optimizer = Adam(model.params, learning_rate=1e-3)

    def loss_and_gradients(self, batch: Batch) -> tuple[float, Mapping[str, np.ndarray]]:
        loss, cache = self.model.forward(batch.src, batch.src_lengths, batch.tgt)
        return float(loss), self.model.backward(cache, out=self.grads)

    def step(self, batch: Batch, rng: np.random.Generator | None = None) -> float:
        """Forward, backward, clip, update; the loss per sentence."""
        sentences = batch.src.shape[1]
        loss, cache = self.model.forward(batch.src, batch.src_lengths, batch.tgt, rng=rng, out=self.grads)
        grads = self.model.backward(cache, out=self.grads)
        mean = 1 / sentences
        self.optimizer.step(grads, scale=mean * clip_factor(mean * global_norm(grads), self.clip))
        return float(loss) / sentences


def random_batch(src_vocab_size: int, tgt_vocab_size: int, sentences: int, src_steps: int,
                 tgt_steps: int, seed: int = 0) -> Batch:
    """Random tokens; lengths from half to whole of src_steps and tgt_steps (</s> counted)."""
    rng = np.random.default_rng(seed)
    src = random_sentences(rng, src_vocab_size, sentences, src_steps)
    tgt = random_sentences(rng, tgt_vocab_size, sentences, tgt_steps)
    return make_batch(src, [ids[:-1] for ids in tgt])


def random_sentences(rng: np.random.Generator, vocab_size: int, sentences: int,
                     steps: int) -> list[list[int]]:
    """Lists of ids, (steps + 1) // 2 to steps long, at least one of them in full length."""
    lengths = rng.integers((steps + 1) // 2, steps + 1, sentences)
    lengths[rng.integers(sentences)] = steps
    return [rng.integers(4, vocab_size, length).tolist() for length in lengths]
