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

from .arrays import Array, array_module, for_ranges, to_device
from .data.vocab import BOS, EOS
from .errors import InputError

_GROUP = 16  # words per group in the search for the best: one pass over all, then a few over V / 16
_CHUNK = 1 << 17  # logits at a time that stay in cache while their logsumexp is taken
RANK, SCORE, STEP, ROW, TOKEN = range(5)  # fields of the record of a hypothesis that has ended


class _ValueScore(NamedTuple):
    value: list[int]
    score: float


class Hypothesis(_ValueScore):
    """A translation: `value`, its token ids without <s> and </s>, and `score`, its log-probability.

    It is a pair and unpacks as one; the score counts </s>.  `attention` (T, S) holds the weights that each
    target token, </s> included, gave to the source tokens.  A hypothesis that reached the limit of steps
    without </s> has as many rows of attention as tokens.
    """

    attention: np.ndarray | None = None

    def __new__(cls, value: list[int], score: float, attention: np.ndarray | None = None) -> Hypothesis:
        self = super().__new__(cls, value, score)
        self.attention = attention
        return self


def greedy_search(model: Any, src: Array, src_lengths: Array, *, max_steps: Any = 70) -> list[Hypothesis]:
    """For each of B sentences the translation that takes the most probable token at every step.

    Arguments as in `beam_search`, of which this is the case of beam_size 1 and length_penalty 0.
    """
    found = beam_search(model, src, src_lengths, beam_size=1, max_steps=max_steps)
    return [hypotheses[0] for hypotheses in found]


def beam_search(
    model: Any,
    src: Array,
    src_lengths: Array,
    *,
    beam_size: int = 5,
    max_steps: Any = 70,
    length_penalty: float = 0.0,
    n_best: int = 1,
) -> list[list[Hypothesis]]:
    """The (up to) n_best translations of each of B sentences, best first.

    src (S, B) token ids, best on the host, src_lengths (B,) in any order.  max_steps bounds the
    tokens of a translation, </s> included: one number, or one for each sentence.  Translations without
    </s> are returned only for a sentence of which none has ended within max_steps.  length_penalty is
    the alpha of (3); the scores returned are without it.

    The model encodes once: state = model.start(src, src_lengths).  Then, with y (B, K) the newest tokens,
    logits (B, K, V), attention (B, K, S), state = model.step(state, y); the logits are overwritten here.
    state.select(sentences (B',), beams (B', K')) keeps sentences and, for each, the hypotheses to go on with.
    model.params.flat tells the device.

    Raises InputError for sizes below 1, n_best above beam_size, a negative length_penalty;
    FloatingPointError if the logits of a sentence are not finite.
    """
    check_options(max_steps, beam_size, length_penalty, n_best)
    limits = np.broadcast_to(to_device(max_steps, "cpu"), src.shape[1])
    most, last_steps = int(limits.max()), set(limits.tolist())
    xp = array_module(model.params.flat)
    limits = xp.asarray(limits)
    penalty = xp.asarray(((5.0 + np.arange(most + 1)) / 6.0) ** length_penalty)  # (3)

    state = model.start(src, src_lengths)
    trellis = _Trellis(src.shape[1])
    ended = _Ended(xp, src.shape[1], n_best)
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
    special, group_best, logsumexp = _reduce_rows(logits.reshape(B * K, V))
    base = score - logsumexp.reshape(B, K)  # (1), (2)
    end = base + special[:, EOS].reshape(B, K)

    # The best words are in the groups of highest maximum, first of a row, then of a sentence: each step
    # leaves fewer to look at.
    groups = group_best.shape[1]
    top, group = _top_k(group_best, min(size, groups))
    top, group = base[:, :, None] + top.reshape(B, K, -1), group.reshape(B, K, -1)
    top, best = _top_k(top.reshape(B, -1), min(size, top.size // B))
    parent = best // group.shape[2]  # (B, k)
    group = xp.take_along_axis(group.reshape(B, -1), best, axis=1)
    words = group[:, :, None] + groups * xp.arange(-(-V // groups))  # (B, k, words of a group)
    inside = (top > -np.inf)[:, :, None] & (words < V)
    words = xp.minimum(words, V - 1)

    sentence = xp.arange(B)[:, None]
    extended = base[sentence, parent][:, :, None] + logits[sentence[:, :, None], parent[:, :, None], words]
    candidates = xp.where(inside, extended, -np.inf).reshape(B, -1)
    score, best = _top_k(candidates, min(size, candidates.shape[1]))
    return end, score, parent[sentence, best // words.shape[2]], words.reshape(B, -1)[sentence, best]


def _top_k(values: Array, k: int) -> tuple[Array, Array]:
    """The k highest of each row, descending, and where they are; overwrites values with -inf there.

    k passes of argmax, which NumPy runs at the speed of memory; for a few of many, argpartition takes ten
    times as long.  Where a row has fewer than k above -inf, the value is -inf and its index means nothing.
    """
    xp = array_module(values)
    rows = xp.arange(len(values))
    best = xp.empty((len(values), k), dtype=values.dtype)
    where = xp.empty((len(values), k), dtype=np.int64)
    for i in range(k):
        index = values.argmax(axis=1)
        where[:, i] = index
        best[:, i] = values[rows, index]
        values[rows, index] = -np.inf
    return best, where


def _reduce_rows(logits: Array) -> tuple[Array, Array, Array]:
    """One visit to R rows of logits (R, V), in chunks that stay in cache, on all cores.

    Returns the logits of <pad>, <s> and </s> (R, 3), which are set to -inf in place; the maxima (R, G)
    of the groups {g, g + G, g + 2G, ...}; and log(sum(exp(row))) of the whole rows, float64 (R,).
    """
    xp = array_module(logits)
    R, V = logits.shape
    G = -(-V // _GROUP)
    special = logits[:, : EOS + 1].copy()
    group_best = xp.empty((R, G), dtype=logits.dtype)
    highest = xp.empty((R, 1), dtype=logits.dtype)
    total = xp.empty(R, dtype=logits.dtype)
    chunk = max(1, _CHUNK // V) if xp is np else R  # a GPU takes all at once

    def reduce(start: int, stop: int) -> None:
        buffer = xp.empty((min(chunk, stop - start), V), dtype=logits.dtype)
        for i in range(start, stop, chunk):
            rows = slice(i, min(i + chunk, stop))
            x = logits[rows]
            x[:, : EOS + 1] = -np.inf
            _group_maxima(x, out=group_best[rows])
            xp.maximum(group_best[rows].max(axis=1), special[rows].max(axis=1), out=highest[rows, 0])
            shifted = xp.subtract(x, highest[rows], out=buffer[: len(x)])
            xp.exp(shifted, out=shifted)
            total[rows] = xp.einsum("rv->r", shifted)  # half the time of shifted.sum(axis=1)

    if xp is np:
        for_ranges(reduce, R, grain=max(chunk, 4 * _CHUNK // V))
    else:
        reduce(0, R)
    total = total + xp.exp(special - highest).sum(axis=1)
    return special, group_best, highest[:, 0] + xp.log(total.astype(np.float64))


def _group_maxima(x: Array, out: Array) -> None:
    groups = out.shape[1]
    whole = x.shape[1] // groups * groups
    x[:, :whole].reshape(len(x), -1, groups).max(axis=1, out=out)
    rest = out[:, : x.shape[1] - whole]
    array_module(x).maximum(rest, x[:, whole:], out=rest)


class _Ended:
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
        rank, best = _top_k(both[..., RANK].copy(), self.records.shape[1])
        both = xp.take_along_axis(both, best[:, :, None], axis=1)
        both[..., RANK] = rank
        self.records[sentences] = both


class _Trellis:
    """Every step's tokens, parents and attention, of all sentences (those that have ended: zeros)."""

    def __init__(self, sentences: int):
        self.sentences = sentences
        self.steps: list[tuple[Array, ...]] = []  # (sentences, K'), (sentences, K'), (sentences, K, S)

    def append(self, sentences: Array, *arrays: Array) -> None:
        xp = array_module(sentences)
        full = [xp.zeros((self.sentences, *a.shape[1:]), dtype=a.dtype) for a in arrays]
        for target, a in zip(full, arrays):
            target[sentences] = a
        self.steps.append(tuple(full))

    def hypotheses(self, records: Array, src_lengths: np.ndarray) -> list[list[Hypothesis]]:
        """The hypotheses of the `records` (sentences, n, 5), read backwards along the parents."""
        xp = array_module(records)
        last = xp.where(records[..., RANK] > -np.inf, records[..., STEP], -1).astype(np.int64)
        path = [self._step_back(records, last, None, len(self.steps) - 1)]
        for step in range(len(self.steps) - 2, -1, -1):
            path.append(self._step_back(records, last, path[-1][1], step))
        tokens, _, attention = (to_device(xp.stack(x[::-1]), "cpu") for x in zip(*path))
        records, last = to_device(records, "cpu"), to_device(last, "cpu")
        if (last[:, 0] < 0).any():
            raise FloatingPointError("beam_search: the model's logits are not finite")

        def hypothesis(b: int, n: int) -> Hypothesis:
            length = last[b, n] + 1
            value = tokens[:length, b, n].tolist()
            weights = attention[:length, b, n, : src_lengths[b]].copy()
            return Hypothesis(value[:-1] if value[-1] == EOS else value, float(records[b, n, SCORE]), weights)

        return [[hypothesis(b, n) for n in np.flatnonzero(last[b] >= 0)] for b in range(self.sentences)]

    def _step_back(self, records: Array, last: Array, row: Array | None, step: int) -> tuple[Array, ...]:
        """Token, row and attention of every recorded hypothesis at `step`, given its row one step later."""
        xp = array_module(records)
        tokens, parents, attention = self.steps[step]
        b = xp.arange(self.sentences)[:, None]
        row = xp.zeros_like(last) if row is None else row  # means nothing until the hypothesis ends
        ends = step == last
        token = xp.where(ends, records[..., TOKEN], tokens[b, row]).astype(np.int64)
        row = xp.where(ends, records[..., ROW], parents[b, row]).astype(np.int64)
        return token, row, attention[b, row]
