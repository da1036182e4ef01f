"""What a search finds: hypotheses, read from the trellis of all that it looked at when it has ended."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, array_module, to_device
from ..data.vocab import EOS
from .rows import top_k

RANK, SCORE, STEP, ROW, TOKEN = range(5)  # fields of the record of a hypothesis that has ended


class _ValueScore(NamedTuple):
    value: list[int]
    score: float


class Hypothesis(_ValueScore):
    """A translation: `value`, its token ids without <s> and </s>, and `score`, its log-probability.

    It is a pair and unpacks as one; the score counts </s>.  `attention` (T, S) holds the weights that each
    target token, </s> included, gave to the source tokens; None if the search did not keep it.  A hypothesis that
    reached the limit of steps without </s> has as many rows of attention as tokens.
    """

    attention: np.ndarray | None = None

    def __new__(cls, value: list[int], score: float, attention: np.ndarray | None = None) -> Hypothesis:
        self = super().__new__(cls, value, score)
        self.attention = attention
        return self


class Ended:
    """The n best hypotheses of each sentence that have ended: a record each, of five numbers.

    records (sentences, n, 5), best first: rank, score, the step of the last token, the row of the hypothesis
    at that step, the last token.  A place not yet taken has rank -inf.
    """

    def __init__(self, xp: Any, sentences: int, n_best: int):
        self.records = xp.full((sentences, n_best, 5), -np.inf)

    def add(self, sentences: Array, score: Array, penalty: Array, step: int, row: Array, token: Any) -> None:
        """Offer hypotheses of `score` (sentences, K); -inf is none.  The first to come wins a tie."""
        xp = array_module(score)
        new = xp.empty((*score.shape, 5))
        new[..., RANK] = score / penalty  # (3)
        new[..., SCORE], new[..., STEP], new[..., ROW], new[..., TOKEN] = score, step, row, token
        both = xp.concatenate([self.records[sentences], new], axis=1)
        rank, best = top_k(both[..., RANK].copy(), self.records.shape[1])
        both = xp.take_along_axis(both, best[:, :, None], axis=1)
        both[..., RANK] = rank
        self.records[sentences] = both


class Trellis:
    """Every step's tokens, parents and, if it is kept, attention, of all sentences (those that have ended: zeros)."""

    def __init__(self, sentences: int, attention: bool = True):
        self.sentences, self.attention = sentences, attention
        self.steps: list[tuple[Array, ...]] = []  # (sentences, K'), (sentences, K') and (sentences, K, S)

    def append(self, sentences: Array, tokens: Array, parents: Array, attention: Array) -> None:
        xp = array_module(sentences)
        arrays = (tokens, parents, attention) if self.attention else (tokens, parents)
        full = [xp.zeros((self.sentences, *a.shape[1:]), dtype=a.dtype) for a in arrays]
        for target, a in zip(full, arrays, strict=True):
            target[sentences] = a
        self.steps.append(tuple(full))

    def hypotheses(self, records: Array, src_lengths: np.ndarray) -> list[list[Hypothesis]]:
        """The hypotheses of the `records` (sentences, n, 5), read backwards along the parents."""
        xp = array_module(records)
        last = xp.where(records[..., RANK] > -np.inf, records[..., STEP], -1).astype(np.int64)
        path = [self._step_back(records, last, None, len(self.steps) - 1)]
        for step in range(len(self.steps) - 2, -1, -1):
            path.append(self._step_back(records, last, path[-1][1], step))
        tokens, _, *attention = (to_device(xp.stack(x[::-1]), "cpu") for x in zip(*path, strict=True))
        records, last = to_device(records, "cpu"), to_device(last, "cpu")
        if (last[:, 0] < 0).any():
            raise FloatingPointError("search: the model's logits are not finite")

        def hypothesis(b: int, n: int) -> Hypothesis:
            length = int(last[b, n]) + 1
            value = tokens[:length, b, n].tolist()
            weights = [a[:length, b, n, : src_lengths[b]].copy() for a in attention]
            return Hypothesis(value[:-1] if value[-1] == EOS else value, float(records[b, n, SCORE]), *weights)

        return [[hypothesis(b, int(n)) for n in np.flatnonzero(last[b] >= 0)] for b in range(self.sentences)]

    def _step_back(self, records: Array, last: Array, row: Array | None, step: int) -> tuple[Array, ...]:
        """Token, row and attention of every recorded hypothesis at `step`, given its row one step later."""
        xp = array_module(records)
        tokens, parents, *attention = self.steps[step]
        b = xp.arange(self.sentences)[:, None]
        row = xp.zeros_like(last) if row is None else row  # means nothing until the hypothesis ends
        ends = step == last
        token = xp.where(ends, records[..., TOKEN], tokens[b, row]).astype(np.int64)
        row = xp.where(ends, records[..., ROW], parents[b, row]).astype(np.int64)
        return (token, row, *(a[b, row] for a in attention))
