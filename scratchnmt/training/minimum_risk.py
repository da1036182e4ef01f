"""Minimum risk training: how bad the model's own translations are, in the place of the reference's cross-entropy.

Of each source x, k translations are drawn from the model as it stands, and the expected risk over them is made small
(Shen et al. 2016, ACL, "Minimum Risk Training for Neural Machine Translation"):

    (1)  S(x) = {y_1, ..., y_k}  drawn from P(y | x), and the reference if it is to be; none twice
    (2)  Delta(y) = 1 - score(y, reference) / 100                 smoothed BLEU of a sentence, or chrF
    (3)  risk(x) = sum over S(x) of Q(y) Delta(y)                 ops/expected_risk.py, where Q is
    (4)  drisk/dw = - sum over S(x) of  drisk/dlog P(y)  dloss(y)/dw              as loss(y) = - log P(y)

S(x) is taken as given: that other weights would draw others has no part in (4).  Draws are made without dropout, as
any search is; P(y) in (3) and (4) is that of the training pass, with the dropout of the model.

What is drawn depends on the seed, the step and the part of the batch alone, and on the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ..arrays import to_device
from ..data.batches import Batch, make_batch
from ..data.vocab import Vocabulary
from ..metrics import sentence_scores
from ..models.nmt import NMT
from ..ops.expected_risk import expected_risk_backward, expected_risk_forward
from ..parameters import Parameters
from ..search import sample

Ids = Sequence[int]  # of a sentence, without <s> and </s>


class MinimumRisk(NamedTuple):
    """What the expected risk of a batch depends on besides the model."""

    vocab: Vocabulary  # of the target
    metric: str  # "bleu" or "chrf"
    tokenize: str  # of BLEU
    samples: int  # k
    alpha: float  # the sharpness of Q
    with_reference: bool  # whether it is in S(x)
    generator: Callable[[int, int], np.random.Generator]  # step and part from 0 -> that of the draws

    def gradient(self, model: NMT, batch: Batch, step: int, part: int, masks: object, out: Parameters) -> float:
        """The risk of a batch, summed over its sentences, whose gradient is then in `out`; masks: rng of dropout.

        The batch is computed in groups of sentences, each with about as many candidates as the batch has sentences, so
        that memory is that of a batch; all candidates of a sentence are in one group.  NaN, and such a gradient, if
        the model's logits are not finite.
        """
        own, draws, risk = model.params.like(), self.generator(step, part), 0.0
        sources = [batch.src[:n, b].tolist() for b, n in enumerate(batch.src_lengths)]
        references = [batch.tgt[1:n, b].tolist() for b, n in enumerate(batch.tgt_lengths)]
        out.flat[...] = 0
        for some in np.array_split(np.arange(len(sources)), min(len(sources), self.samples + self.with_reference)):
            x, y = ([sentences[b] for b in some] for sentences in (sources, references))
            try:
                candidates = self.candidates(model, x, y, draws)
            except FloatingPointError:
                out.flat[...] = np.nan
                return np.nan
            risk += self._of_candidates(model, x, candidates, self.risks(candidates, y), masks, own)
            out.flat[...] += own.flat
        return risk

    def candidates(self, model: NMT, sources: Sequence[Ids], references: Sequence[Ids],
                   rng: np.random.Generator) -> list[list[Ids]]:
        """S(x) of each source; what has not ended after 2 S + 10 tokens, as in a validation, is taken to end there."""
        k = self.samples
        many = make_batch([x for x in sources for _ in range(k)], [()] * (k * len(sources)))
        drawn = sample(model, many.src, many.src_lengths, rng=rng, max_steps=2 * many.src_lengths + 10)
        found = []
        for b, reference in enumerate(references):
            every = [reference] * self.with_reference + [one.value for one in drawn[b * k : (b + 1) * k]]
            found.append([*{tuple(y): y for y in every}.values()])  # (1)
        return found

    def risks(self, candidates: Sequence[Sequence[Ids]], references: Sequence[Ids]) -> list[list[float]]:
        """Delta of each candidate, of the text that it is decoded to."""
        every = [(y, reference) for own, reference in zip(candidates, references, strict=True) for y in own]
        texts, wanted = ([self.vocab.decode(y) for y in side] for side in zip(*every, strict=True))
        scores = iter(sentence_scores(self.metric, texts, wanted, self.tokenize))
        return [[1 - next(scores) / 100 for _ in own] for own in candidates]  # (2)

    def _of_candidates(self, model: NMT, sources: Sequence[Ids], candidates: Sequence[Sequence[Ids]],
                       risks: Sequence[Sequence[float]], masks: object, out: Parameters) -> float:
        """The risk, summed over the sources, whose gradient is then in `out`."""
        counts = np.array([len(own) for own in candidates])
        mask = np.arange(counts.max()) < counts[:, None]  # (B, K)
        batch = make_batch([x for x, n in zip(sources, counts, strict=True) for _ in range(n)],
                           [y for own in candidates for y in own])
        losses, cache = model.sentence_losses(batch.src, batch.src_lengths, batch.tgt, masks)
        log_p, delta = np.zeros(mask.shape), np.zeros(mask.shape)
        log_p[mask], delta[mask] = -to_device(losses, "cpu"), [one for own in risks for one in own]
        risk, above = expected_risk_forward(log_p, delta, mask, self.alpha)  # (3)
        dlog_p = expected_risk_backward(np.ones(len(risk)), above).dlog_p
        model.sentence_losses_backward(-dlog_p[mask].astype(losses.dtype), cache, out)  # (4)
        return float(risk.sum())
