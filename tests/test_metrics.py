"""Perplexity by hand; BLEU and chrF are sacrebleu's."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from scratchnmt.data.batches import make_batch
from scratchnmt.errors import InputError
from scratchnmt.metrics import chrf, corpus_bleu, perplexity
from scratchnmt.models.nmt import NMT


def test_perplexity_of_a_uniform_model_is_its_vocabulary_and_batches_do_not_matter():
    model = NMT(9, 11, 4, 4)
    model.params.flat[...] = 0
    pairs = [[4, 5], [6]], [[4, 5, 6], [7]]
    together = [make_batch(*pairs)]
    assert perplexity(model, together) == pytest.approx(11, rel=1e-6)
    model = NMT(9, 11, 4, 4, init="uniform", seed=1, dtype="float64", dropout=0.5, label_smoothing=0.3)
    model.params.flat[...] *= 20
    apart = [make_batch([s], [t]) for s, t in zip(*pairs, strict=True)]
    assert perplexity(model, apart) == pytest.approx(perplexity(model, together), rel=1e-12)


def test_perplexity_weighs_by_target_tokens_with_the_end():
    losses = iter([3.0, 5.0])
    model = SimpleNamespace(nll=lambda *a: next(losses), params=SimpleNamespace(flat=np.zeros(1)))
    batches = [make_batch([[4]], [[4, 5]]), make_batch([[4], [5]], [[4], [5, 6]])]  # 3 and 2 + 3 tokens
    assert perplexity(model, batches) == pytest.approx(math.exp(8 / 8))


def test_a_huge_loss_is_still_a_number_and_nothing_is_an_error():
    model = SimpleNamespace(nll=lambda *a: 1e9, params=SimpleNamespace(flat=np.zeros(1)))
    assert perplexity(model, [make_batch([[4]], [[4]])]) > 1e300
    with pytest.raises(InputError):
        perplexity(model, [])


def test_bleu_is_sacrebleus_on_raw_text():
    sacrebleu = pytest.importorskip("sacrebleu")
    hypotheses, references = ["Ein Hund läuft.", "Zwei Männer gehen"], ["Ein Hund rennt.", "Zwei Männer gehen."]
    found = corpus_bleu(hypotheses, references)
    assert found.score == sacrebleu.corpus_bleu(hypotheses, [references]).score
    assert "tok:13a" in found.signature and "version:" in found.signature
    assert corpus_bleu(references, references).score == pytest.approx(100)
    assert chrf(hypotheses, references).score == sacrebleu.corpus_chrf(hypotheses, [references]).score


@pytest.mark.parametrize("hypotheses, references", [([], []), (["a"], ["a", "b"])])
def test_unequal_or_no_lines_are_refused(hypotheses, references):
    with pytest.raises(InputError, match=f"{len(hypotheses)} translations"):
        corpus_bleu(hypotheses, references)


def test_no_sentence_is_kept_after_it_was_scored():
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
    from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp

    corpus_bleu(["a dog runs .", "b"], ["a dog ran .", "c"])
    assert Tokenizer13a.__call__.cache_info().currsize == TokenizerRegexp.__call__.cache_info().currsize == 0
