"""Greedy and beam search: the most probable translations that a model gives, many sentences at once.

A hypothesis is a beginning of a translation, y_1 ... y_t; its score is the sum of its tokens'
log-probabilities.  At every step each of the K open hypotheses of a sentence is extended by every word,

    score(y_1 ... y_t) = score(y_1 ... y_t-1) + log p(y_t | y_1 ... y_t-1, source)                    (1)
    log p(y_t | ...)   = logits[y_t] - logsumexp(logits)                                              (2)

and the beam_size best that do not end in </s> stay open.  One that ends in </s> is kept if it is among the
beam_size best of all; it takes no place from an open one and is never lost again.  A score can only fall,
so a sentence is finished when even its best open hypothesis, gaining probability 1 from here on, could
not enter the n best that have ended.  Ranks are by score, or with a length penalty alpha > 0 by

    rank = score / ((5 + t) / 6)^alpha,   t counts </s>                                               (3)

(Wu et al. 2016, equation 14).  With beam_size 1 and alpha = 0 this is greedy search.

Sizes: B sentences still searched, K open hypotheses of each, S source steps, V words, T steps in all.
No step loops over hypotheses: a hypothesis is a row of a trellis, written out when the search has ended.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, array_module, to_device
from ..data.vocab import BOS, EOS
from ..errors import InputError
from .constraints import constrained
from .model import SearchedModel, State
from .rows import reduce_rows, top_k

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


def greedy_search(model: SearchedModel[State], src: Array, src_lengths: Array, *,
                  max_steps: Any = 70, min_length: int = 0, no_repeat_ngram_size: int = 0,
                  keep_attention: bool = True) -> list[Hypothesis]:
    """For each of B sentences the translation that takes the most probable token at every step.

    Arguments as in `beam_search`, of which this is the case of beam_size 1 and length_penalty 0.
    """
    found = beam_search(model, src, src_lengths, beam_size=1, max_steps=max_steps, min_length=min_length,
                        no_repeat_ngram_size=no_repeat_ngram_size, keep_attention=keep_attention)
    return [hypotheses[0] for hypotheses in found]


def beam_search(
    model: SearchedModel[State],
    src: Array,
    src_lengths: Array,
    *,
    beam_size: int = 5,
    max_steps: Any = 70,
    length_penalty: float = 0.0,
    n_best: int = 1,
    min_length: int = 0,
    no_repeat_ngram_size: int = 0,
    keep_attention: bool = True,
) -> list[list[Hypothesis]]:
    """The (up to) n_best translations of each of B sentences, best first.

    src (S, B) token ids, best on the host, src_lengths (B,) in any order.  max_steps bounds the
    tokens of a translation, </s> included: one number, or one for each sentence.  Translations without
    </s> are returned only for a sentence of which none has ended within max_steps.  length_penalty is
    the alpha of (3); the scores returned are without it.  min_length and no_repeat_ngram_size leave out
    translations with fewer tokens before </s>, and with an n-gram of that size twice (see constraints.py);
    0 leaves out none.  keep_attention: False leaves the attention out of the hypotheses, which takes most of the
    memory, beam_size S numbers a token.

    model: see SearchedModel.  It encodes once; the logits of its steps are overwritten here.

    Raises InputError for sizes below 1, n_best above beam_size, a negative length_penalty or constraint, a
    min_length that max_steps leaves no room for; FloatingPointError if the logits of a sentence are not finite.
    """
    check_options(max_steps, beam_size, length_penalty, n_best)
    limits = np.broadcast_to(to_device(max_steps, "cpu"), src.shape[1])
    model = constrained(model, limits, min_length, no_repeat_ngram_size)
    most, last_steps = int(limits.max()), set(limits.tolist())
    xp = array_module(model.params.flat)
    limits = xp.asarray(limits)
    penalty = xp.asarray(((5.0 + np.arange(most + 1)) / 6.0) ** length_penalty)  # (3)

    state = model.start(src, src_lengths)
    trellis = Trellis(src.shape[1], keep_attention)
    ended = Ended(xp, src.shape[1], n_best)
    sentences = xp.arange(src.shape[1])  # those still searched
    score = xp.zeros((len(sentences), 1))
    tokens = xp.full(score.shape, BOS, dtype=np.int64)
    for step in range(most):
        logits, attention, state = model.step(state, tokens)
        end, score, parents, tokens = _extend(logits, score, beam_size)
        trellis.append(sentences, tokens, parents, attention)

        better = (score[:, None] > end[:, :, None]).sum(-1) + (end[:, None] > end[:, :, None]).sum(-1)
        kept = xp.where(better < beam_size, end, -np.inf)
        ended.add(sentences, kept, penalty[step + 1], step, xp.arange(end.shape[1]), EOS)

        at_limit = limits[sentences] == step + 1
        ranks = ended.records[sentences, :, RANK]
        hopeless = score[:, 0] / penalty[limits[sentences]] <= ranks[:, -1]
        if step + 1 in last_steps:  # else there are none, and a GPU need not be waited for
            none = xp.flatnonzero(at_limit & (ranks[:, 0] == -np.inf))
            if len(none):
                ended.add(sentences[none], score[none], penalty[step + 1], step, parents[none], tokens[none])
        keep = xp.flatnonzero(~(at_limit | hopeless))
        if not len(keep):
            break
        state = state.select(keep, parents[keep])
        sentences, score, tokens = sentences[keep], score[keep], tokens[keep]
    return trellis.hypotheses(ended.records, to_device(src_lengths, "cpu"))


def check_options(max_steps: Any, beam_size: int, length_penalty: float, n_best: int) -> None:
    """InputError, naming the option, if beam_search would refuse these."""
    for name, value in ("max_steps", np.min(max_steps)), ("beam_size", beam_size), ("n_best", n_best):
        if value < 1:
            raise InputError(f"{name} must be at least 1, not {value}")
    if n_best > beam_size:
        raise InputError(f"n_best must be at most beam_size = {beam_size}, not {n_best}")
    if not 0 <= length_penalty < np.inf:
        raise InputError(f"length_penalty must be a finite number of at least 0, not {length_penalty}")


def _extend(logits: Array, score: Array, size: int) -> tuple[Array, Array, Array, Array]:
    """Extend the open hypotheses, of `score` (B, K), by each word; keep the `size` best.

    Returns the scores (B, K) of all that end here, and of the K' <= size best that do not: their scores
    (B, K'), descending, -inf where there are fewer, their parents and their tokens.  <pad> and <s> are
    never taken, but keep their part of the probability.
    """
    xp = array_module(logits)
    B, K, V = logits.shape
    logits = xp.ascontiguousarray(logits)  # its rows are overwritten below
    special, group_best, logsumexp = reduce_rows(logits.reshape(B * K, V))
    base = score - logsumexp.reshape(B, K)  # (1), (2)
    end = base + special[:, EOS].reshape(B, K)

    # The best words are in the groups of highest maximum, first of a row, then of a sentence: each step
    # leaves fewer to look at.
    groups = group_best.shape[1]
    top, group = top_k(group_best, min(size, groups))
    top, group = base[:, :, None] + top.reshape(B, K, -1), group.reshape(B, K, -1)
    top, best = top_k(top.reshape(B, -1), min(size, top.size // B))
    parent = best // group.shape[2]  # (B, k)
    group = xp.take_along_axis(group.reshape(B, -1), best, axis=1)
    words = group[:, :, None] + groups * xp.arange(-(-V // groups))  # (B, k, words of a group)
    inside = (top > -np.inf)[:, :, None] & (words < V)
    words = xp.minimum(words, V - 1)

    sentence = xp.arange(B)[:, None]
    extended = base[sentence, parent][:, :, None] + logits[sentence[:, :, None], parent[:, :, None], words]
    candidates = xp.where(inside, extended, -np.inf).reshape(B, -1)
    score, best = top_k(candidates, min(size, candidates.shape[1]))
    return end, score, parent[sentence, best // words.shape[2]], words.reshape(B, -1)[sentence, best]
