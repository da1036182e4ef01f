"""A model without learning: random logits by the sentence, the last two tokens and the position.

It has the interface that the search asks of a model, and says, for one history at a time, what it thinks:
the tests search through those answers in their own slow way.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

BOS = 1


class FakeState(NamedTuple):
    src: np.ndarray  # (S, B)
    mask: np.ndarray  # (S, B)
    before: np.ndarray  # (B, K) the token before the newest, of every hypothesis
    length: int = 0  # steps made

    def select(self, sentences, beams):
        assert beams.shape[0] == sentences.shape[0]
        before = np.take_along_axis(self.before[sentences], beams, axis=1)
        return FakeState(self.src[:, sentences], self.mask[:, sentences], before, self.length)


class FakeModel:
    """`favour` adds to the logits of one token: {2: 3.0} ends sentences early, {2: -50.0} never."""

    params = SimpleNamespace(flat=np.zeros(1))  # tells on which device the model is
    kinds = 7  # sentences fall into so many kinds, each with its own table

    def __init__(self, vocab_size, seed=0, dtype="float64", favour=None, scale=2.0):
        rng = np.random.default_rng(seed)
        shape = (self.kinds, vocab_size, vocab_size, vocab_size)
        self.table = (scale * rng.standard_normal(shape)).astype(dtype)
        self.position = 0.3 * rng.standard_normal((100, vocab_size)).astype(dtype)
        for token, amount in (favour or {}).items():
            self.table[..., token] += amount
        self.look = rng.standard_normal((vocab_size, 100))  # attention scores: newest token, source token
        self.starts, self.shapes = 0, []

    def start(self, src, src_lengths):
        self.starts += 1
        mask = np.arange(len(src))[:, None] < src_lengths
        return FakeState(src, mask, np.zeros((src.shape[1], 1), dtype=np.int64))

    def step(self, state, y_prev):
        self.shapes.append(y_prev.shape)
        kind = (state.src * state.mask).sum(axis=0) % self.kinds
        logits = self.table[kind[:, None], state.before, y_prev] + self.position[state.length]
        look = self.look[y_prev[:, :, None], state.src.T[:, None] % 100]  # (B, K, S)
        score = np.where(state.mask.T[:, None], look, -np.inf)
        weights = np.exp(score - score.max(axis=2, keepdims=True))
        weights /= weights.sum(axis=2, keepdims=True)
        return logits, weights, state._replace(before=y_prev, length=state.length + 1)

    def log_p(self, sentence, value):
        """log p (V,) of the token after `value`, and the attention (S,) of that step, for one sentence."""
        before, newest = [0, BOS, *value][-2:]
        logits = self.table[sum(sentence) % self.kinds, before, newest] + self.position[len(value)]
        logits = logits.astype(np.float64)
        weights = np.exp(self.look[newest, np.asarray(sentence) % 100])
        return logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max(), weights / weights.sum()


def padded(sentences, more=0):
    """src (S, B) and src_lengths (B,) of lists of ids, with `more` rows of padding."""
    lengths = np.array([len(s) for s in sentences])
    src = np.zeros((lengths.max() + more, len(sentences)), dtype=np.int64)
    for b, sentence in enumerate(sentences):
        src[: len(sentence), b] = sentence
    return src, lengths


def some_sentences(count, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(3, 60, rng.integers(1, 9)).tolist() for _ in range(count)]
