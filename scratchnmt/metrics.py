"""How good a model is: perplexity of the references, and BLEU and chrF of translations by sacrebleu."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp
from typing import Any, NamedTuple

from .data.batches import Batch
from .errors import InputError, require


class Score(NamedTuple):
    """A score from 0 to 100 and what it depends on: sacreBLEU's signature, to be quoted with it."""

    score: float
    signature: str


def perplexity(model: Any, batches: Iterable[Batch]) -> float:
    """exp of the mean nats per target token, </s> included: teacher-forced, without dropout or smoothing.

    What is left of a number too large for a float is the largest power that fits.  InputError if there is no sentence.
    """
    return perplexity_of(loss(model, batch) for batch in batches)


def loss(model: Any, batch: Batch) -> tuple[float, int]:
    """Nats and tokens of a batch."""
    nats = model.nll(batch.src, batch.src_lengths, batch.tgt)
    tokens = int(batch.tgt_lengths.sum())
    return nats, tokens


def perplexity_of(losses: Iterable[tuple[float, int]]) -> float:
    """The perplexity of all batches, of whose losses this is; InputError if they have no token."""
    nats, tokens = map(sum, zip((0.0, 0), *losses, strict=True))
    if not tokens:
        raise InputError("perplexity needs at least one sentence")
    return exp(min(nats / tokens, 700.0))


def corpus_bleu(hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    """BLEU of detokenised translations against raw references, tokenised by sacreBLEU itself (Post 2018).

    Raises InputError where their numbers differ or are 0, and if sacreBLEU is not installed.
    """
    return _score("BLEU", hypotheses, references, force=True)  # no warning that the text looks tokenised


def chrf(hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    """chrF of detokenised translations against raw references (Popović 2015); errors as `corpus_bleu`."""
    return _score("CHRF", hypotheses, references)


def _score(name: str, hypotheses: Sequence[str], references: Sequence[str], **options: bool) -> Score:
    if len(hypotheses) != len(references) or not references:
        raise InputError(f"{len(hypotheses)} translations and {len(references)} references: "
                         "expected as many of one as of the other, and at least one")
    metric = getattr(require("sacrebleu", extra="train"), name)(**options)
    score = metric.corpus_score(list(hypotheses), [list(references)]).score
    _forget(getattr(metric, "tokenizer", None))
    return Score(score, str(metric.get_signature()))


def _forget(tokenizer: Any) -> None:
    """Empty sacreBLEU's caches, which keep the last 65,536 sentences: a training with many validations would grow."""
    for part in (tokenizer, getattr(tokenizer, "_post_tokenizer", None)):
        if clear := getattr(type(part).__call__, "cache_clear", None):
            clear()
