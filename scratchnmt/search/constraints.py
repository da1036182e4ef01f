"""What a translation may not be: shorter than a minimum, or with the same n-gram twice.

A constraint forbids words as the next of a hypothesis, y_t after y_1 ... y_t-1:

    min_length N              y_t = </s>   for t <= N, so that N tokens or more stand before </s>     (1)
    no_repeat_ngram_size n    y_t = y_i    for n <= i < t, if y_i-n+1 ... y_i-1 = y_t-n+1 ... y_t-1   (2)

as in fairseq (Ott et al. 2019) and OpenNMT (Klein et al. 2017): (1) does not count </s>, and (2) (Paulus et al.
2018, with n = 3) is of tokens, <unk> and pieces of words as well.  </s> comes once, so (2) never forbids it.  Where (2)
forbids all words, which takes a vocabulary of very few, (1) forbids nothing, and the hypothesis ends.

The search need not know.  A model under constraints is a model again, which says of every forbidden word w

    p(w) = 0,   p(<pad>) = p(<pad>) + sum of the p(w) that are forbidden                              (3)

and no search takes <pad>.  All other words keep their probability, and a hypothesis its score.

Sizes as in beam.py, and t tokens so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..arrays import Array, array_module
from ..data.vocab import EOS, PAD
from ..errors import InputError
from .model import SearchedModel, SearchedState, Weights


def constrained(model: SearchedModel[Any], max_steps: Any, min_length: int, no_repeat_ngram_size: int
                ) -> SearchedModel[Any]:
    """The model under (1) and (2), its logits overwritten; if both are 0, itself.  Errors as `check_constraints`'."""
    check_constraints(min_length, no_repeat_ngram_size, max_steps=max_steps)
    constraints: list[Constraint] = []
    if min_length:
        constraints.append(MinLength(min_length))
    if no_repeat_ngram_size:
        constraints.append(NoRepeatedNgram(no_repeat_ngram_size))
    return Constrained(model, constraints) if constraints else model


def check_constraints(min_length: int, no_repeat_ngram_size: int, **limit: Any) -> None:
    """InputError, naming the option, for one below 0 and for a min_length that is not below the limit.

    limit: the most tokens of a translation, </s> included, by the name that they have for the caller.
    """
    for name, value in ("min_length", min_length), ("no_repeat_ngram_size", no_repeat_ngram_size):
        if not value >= 0:
            raise InputError(f"{name} must be at least 0, which forbids nothing, not {value}")
    for name, value in limit.items():
        if min_length and np.min(value) <= min_length:
            raise InputError(f"min_length must be below {name}, {np.min(value)}, which counts </s>, not {min_length}")


class Constraint(Protocol):
    def forbidden(self, y: Array) -> Array:
        """Words (B, K, W) that may not follow the beginnings y (B, K, t), none twice; <pad> where there are fewer."""


class MinLength(NamedTuple):
    """(1): as many tokens before </s>."""

    tokens: int

    def forbidden(self, y: Array) -> Array:
        return array_module(y).full((*y.shape[:2], int(y.shape[2] < self.tokens)), EOS)


class NoRepeatedNgram(NamedTuple):
    """(2): no n-gram twice."""

    n: int

    def forbidden(self, y: Array) -> Array:
        last = y[:, :, self.n - 1 :]  # of each n-gram so far, W of them
        W = last.shape[2]
        again = array_module(y).ones(last.shape, dtype=bool)  # its other words are the newest of y
        for i in range(self.n - 1 if W else 0):
            again &= y[:, :, i : i + W] == y[:, :, W + i, None]
        return array_module(y).where(again, last, PAD)


class ConstrainedState(NamedTuple):
    state: SearchedState  # the model's own
    y: Array  # (B, K, t) the tokens of every hypothesis so far, <s> the first

    def select(self, sentences: Array, beams: Array) -> ConstrainedState:
        return ConstrainedState(self.state.select(sentences, beams), self.y[sentences[:, None], beams])


class Constrained:
    """A model under constraints, in its place."""

    def __init__(self, model: SearchedModel[Any], constraints: Sequence[Constraint]):
        self.model, self.constraints = model, constraints

    @property
    def params(self) -> Weights:
        return self.model.params

    def start(self, src: Array, src_lengths: Array) -> ConstrainedState:
        """As the model's."""
        xp = array_module(self.params.flat)
        return ConstrainedState(self.model.start(src, src_lengths), xp.empty((src.shape[1], 1, 0), dtype=np.int64))

    def step(self, state: ConstrainedState, y_prev: Array) -> tuple[Array, Array, ConstrainedState]:
        """As the model's, with the logits of (3)."""
        logits, attention, own = self.model.step(state.state, y_prev)
        y = array_module(y_prev).concatenate([state.y, y_prev[:, :, None]], axis=2)
        forbid(logits, [constraint.forbidden(y[:, :, 1:]) for constraint in self.constraints])
        return logits, attention, ConstrainedState(own, y)

    def token_log_probs(self, src: Array, src_lengths: Array, tgt: Array) -> Array:
        """As the model's: what is given is not searched for."""
        return self.model.token_log_probs(src, src_lengths, tgt)


def forbid(logits: Array, found: Sequence[Array]) -> None:
    """(3) for the words that are `found` (B, K, W each), in the logits (B, K, V)."""
    xp, (B, K, V) = array_module(logits), logits.shape
    words = xp.concatenate(found, axis=2)
    if not words.shape[2]:  # no n-gram is complete yet, or the minimum is reached
        return
    stuck = (words != PAD).sum(axis=2, keepdims=True) == V - EOS  # </s> and all words
    words = xp.where(stuck & (words == EOS), PAD, words)

    place = xp.arange(B)[:, None, None], xp.arange(K)[:, None], words
    taken = xp.where(words == PAD, -np.inf, logits[place])
    taken = xp.concatenate([logits[:, :, PAD, None], taken], axis=2)
    highest = xp.maximum(taken.max(axis=2), np.finfo(taken.dtype).min)
    total = xp.exp(taken - highest[:, :, None]).sum(axis=2)
    logits[place] = -np.inf
    logits[:, :, PAD] = highest + xp.log(xp.maximum(total, 1))  # below 1 only if all are impossible
