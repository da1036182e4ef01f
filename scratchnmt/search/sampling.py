"""Translations drawn at random, word by word, as often as the model thinks them likely.

A word y_t is drawn from the softmax at a temperature tau, of all words or of the k that are most probable,

    q(y_t) = exp(logits[y_t] / tau) / sum over those words of exp(logits / tau)                        (1)

(Ackley et al. 1985 for tau, Fan et al. 2018 for k): tau = 1 is the model itself, tau -> 0 and k = 1 are greedy
search, a large tau forgets what the model knows.  <pad> and <s> are never drawn.  What is drawn is the word at which
the sum of q, in the order of the words, passes a number u that is uniform in [0, 1):

    q(1) + ... + q(y_t - 1) <= u < q(1) + ... + q(y_t)                                                 (2)

Every sentence has a generator of its own that gives one u for each step, drawn beforehand on the host.  So a draw
depends neither on the other sentences nor on the device, but for rounding: a u that lies as near to a sum of (2) as
the last digits of a float may fall to either side.

Sizes as in beam.py, of which this is the loop with K = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import Array, array_module, to_device
from ..data.vocab import BOS, EOS
from ..errors import InputError
from .beam import Ended, Hypothesis, Trellis
from .constraints import constrained
from .model import SearchedModel, State
from .rows import reduce_rows
from .rows import top_k as k_highest


def sample(
    model: SearchedModel[State],
    src: Array,
    src_lengths: Array,
    *,
    rng: np.random.Generator | Sequence[np.random.Generator],
    temperature: float = 1.0,
    top_k: int = 0,
    max_steps: Any = 70,
    min_length: int = 0,
    no_repeat_ngram_size: int = 0,
) -> list[Hypothesis]:
    """For each of B sentences a translation drawn by (1); its score is its log-probability under the model.

    That is the model's own, whatever temperature and top_k (0: all words) drew it.  rng, of the host: one
    generator, which gives each sentence a child of its own, or a list of one for each.  The rest as in `beam_search`:
    what min_length and no_repeat_ngram_size forbid is not drawn from, and a translation that has not ended within
    max_steps is returned without </s>.

    Raises InputError for a temperature that is not above 0, a negative top_k or constraint, max_steps below 1 or not
    above min_length, and another number of generators than of sentences; FloatingPointError if logits are not finite.
    """
    check_sampling(temperature, top_k)
    limits = np.broadcast_to(to_device(max_steps, "cpu"), src.shape[1])
    if limits.min() < 1:
        raise InputError(f"max_steps must be at least 1, not {limits.min()}")
    model = constrained(model, limits, min_length, no_repeat_ngram_size)
    xp = array_module(model.params.flat)
    uniform = xp.asarray(_uniform(rng, limits))
    limits = xp.asarray(limits)

    state = model.start(src, src_lengths)
    trellis, ended = Trellis(src.shape[1]), Ended(xp, src.shape[1], n_best=1)
    sentences = xp.arange(src.shape[1])  # those not yet ended
    score = xp.zeros((len(sentences), 1))
    tokens = xp.full(score.shape, BOS, dtype=np.int64)
    only = xp.zeros_like(tokens)  # the one hypothesis of each
    for step in range(uniform.shape[1]):
        logits, attention, state = model.step(state, tokens)
        tokens, log_p = _draw(logits[:, 0], uniform[sentences, step], temperature, top_k)
        score = score + log_p
        trellis.append(sentences, tokens, only, attention)
        over = (tokens == EOS) | (limits[sentences] == step + 1)[:, None]
        ended.add(sentences, xp.where(over, score, -np.inf), 1.0, step, only, tokens)
        keep = xp.flatnonzero(~over)
        if not len(keep):
            break
        state = state.select(keep, only[keep])
        sentences, score, tokens, only = sentences[keep], score[keep], tokens[keep], only[keep]
    return [drawn for (drawn,) in trellis.hypotheses(ended.records, to_device(src_lengths, "cpu"))]


def check_sampling(temperature: float, top_k: int) -> None:
    """InputError, naming the option, if `sample` would refuse these."""
    if not 0 < temperature < np.inf:
        raise InputError(f"temperature must be a finite number above 0, not {temperature}: close to 0, or top_k 1, "
                         "is greedy search")
    if top_k < 0:
        raise InputError(f"top_k must be at least 0, which means all words, not {top_k}")


def _uniform(rng: np.random.Generator | Sequence[np.random.Generator], limits: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1) for every sentence and step (B, T), as many of each generator as its sentence may need."""
    generators = rng.spawn(len(limits)) if isinstance(rng, np.random.Generator) else rng
    if len(generators) != len(limits):
        raise InputError(f"{len(generators)} random generators for {len(limits)} sentences, expected one for each")
    numbers = np.zeros((len(limits), limits.max()))
    for row, generator, limit in zip(numbers, generators, limits, strict=True):
        row[:limit] = generator.random(limit)
    return numbers


def _draw(logits: Array, u: Array, temperature: float, top_k: int) -> tuple[Array, Array]:
    """Words (B, 1) drawn by (1) and (2) from logits (B, V), which are overwritten, and their log p (B, 1)."""
    xp = array_module(logits)
    logits = xp.ascontiguousarray(logits)
    special, _, logsumexp = reduce_rows(logits)
    logits[:, EOS] = special[:, EOS]  # of the three, the one that may be drawn
    among_all = top_k == 0 or top_k >= logits.shape[1]
    highest, words = (logits, None) if among_all else k_highest(logits, top_k)
    q = xp.exp((highest - highest.max(axis=1, keepdims=True)).astype(np.float64) / temperature)  # (1)
    sums = xp.cumsum(q, axis=1)
    place = (sums <= (u * sums[:, -1])[:, None]).sum(axis=1)  # (2)
    row = xp.arange(len(logits))
    log_p = highest[row, place] - logsumexp
    return (place if words is None else words[row, place])[:, None], log_p[:, None]
