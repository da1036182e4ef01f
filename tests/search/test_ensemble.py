"""Several models that search as one are the one model whose probabilities are the mean of theirs."""

import numpy as np
import pytest
from fake_model import FakeModel, padded, some_sentences
from test_search import assert_same, exhaustive

from scratchnmt.data.batches import make_batch
from scratchnmt.errors import InputError
from scratchnmt.models.nmt import NMT
from scratchnmt.search import Ensemble, beam_search, greedy_search, sample
from scratchnmt.search.rows import log_mean_exp, log_mean_softmax


class Mixture:
    """What fake models together think of one history at a time, in probabilities."""

    def __init__(self, models):
        self.models = models

    def log_p(self, sentence, value):
        found = [model.log_p(sentence, value) for model in self.models]
        return np.log(sum(np.exp(p) for p, _ in found) / len(found)), sum(a for _, a in found) / len(found)


def real_models(**changes):
    """Models that differ in more than their weights, sure enough of themselves to end sentences."""
    choices = [dict(), dict(layers=2, feed="context"), dict(score="concat", bidirectional=False)]
    models = [NMT(60, 30, 12, size, dtype="float64", seed=seed, **{**more, **changes})
              for seed, (size, more) in enumerate(zip((12, 10, 14), choices, strict=True))]
    for model in models:
        model.params.flat[...] *= 12
    return models


@pytest.mark.parametrize("alpha", [0.0, 0.8])
def test_full_width_beam_over_an_ensemble_is_exhaustive_search(alpha):
    models = [FakeModel(6, seed=seed, scale=3.0) for seed in (1, 2, 3)]
    sentences = some_sentences(6)
    options = dict(beam_size=300, max_steps=5, length_penalty=alpha, n_best=4)
    found = beam_search(Ensemble(models), *padded(sentences), **options)
    alone = beam_search(models[0], *padded(sentences), **options)
    for sentence, hypotheses in zip(sentences, found, strict=True):
        assert_same(hypotheses, exhaustive(Mixture(models), sentence, [3, 4, 5], 5, alpha)[:4], tolerance=1e-12)
    assert [h.value for (h, *_) in found] != [h.value for (h, *_) in alone]


def test_attention_is_the_mean():
    models, sentences = [FakeModel(9, seed=seed) for seed in (4, 5)], some_sentences(8)
    for sentence, (best,) in zip(sentences, beam_search(Ensemble(models), *padded(sentences)), strict=True):
        for t, weights in enumerate(best.attention):
            np.testing.assert_allclose(weights, Mixture(models).log_p(sentence, best.value[:t])[1], rtol=1e-12)


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_copies_of_a_model_are_that_model(copies):
    (model, *_), sentences = real_models(), some_sentences(25)
    options = dict(beam_size=4, n_best=4, max_steps=20)
    expected = beam_search(model, *padded(sentences), **options)
    found = beam_search(Ensemble([model] * copies), *padded(sentences), **options)
    for hypotheses, others in zip(found, expected, strict=True):
        assert_same(hypotheses, [(h.score, h.value) for h in others], tolerance=1e-12)
        for a, b in zip(hypotheses, others, strict=True):
            np.testing.assert_allclose(a.attention, b.attention, rtol=1e-12, atol=1e-15)


def test_scores_are_those_of_forced_decoding():
    ensemble, sentences, scores = Ensemble(real_models()), some_sentences(25), []
    results = beam_search(ensemble, *padded(sentences), n_best=3, max_steps=25)
    for sentence, hypotheses in zip(sentences, results, strict=True):
        for value, score in (h for h in hypotheses if len(h.attention) > len(h.value)):
            batch = make_batch([sentence], [value])
            log_p = ensemble.token_log_probs(batch.src, batch.src_lengths, batch.tgt)
            assert log_p.shape == (len(value) + 1, 1)
            scores.append((score, log_p.sum(), -ensemble.nll(batch.src, batch.src_lengths, batch.tgt)))
    assert len(scores) > 20
    found, forced, nll = np.transpose(scores)
    np.testing.assert_allclose(forced, found, rtol=0, atol=1e-10)
    np.testing.assert_allclose(nll, found, rtol=0, atol=1e-10)


def test_an_ensemble_of_ensembles_weighs_by_branches():
    a, b, c = (FakeModel(9, seed=seed) for seed in (6, 7, 8))
    nested, flat = Ensemble([Ensemble([a, b]), c]), Ensemble([a, b, c, c])
    for found, expected in zip(greedy_search(nested, *padded(some_sentences(9))),
                               greedy_search(flat, *padded(some_sentences(9))), strict=True):
        assert found.value == expected.value and found.score == pytest.approx(expected.score, abs=1e-12)


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-13), ("float32", 3e-6)])
@pytest.mark.parametrize("rows, V", [(1, 5), (300, 1003), (3, 200_000)])
def test_mean_of_large_logits(rows, V, dtype, tolerance, rng):
    logits = [(3 * rng.standard_normal((rows, V)) + offset).astype(dtype) for offset in (0, 700, -30)]
    p = [np.exp(x - x.max(1, keepdims=True)) for x in map(np.float64, logits)]
    expected = np.log(sum(x / x.sum(1, keepdims=True) for x in p) / 3)
    found = log_mean_softmax([x.copy() for x in logits])
    assert found.dtype == dtype
    relative = 1e-6 * 700 if dtype == "float32" else 1e-12  # the offset takes digits of the logits, not of the mean
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=relative)


def test_the_mean_of_what_is_all_but_impossible_is_not_zero():
    found = log_mean_exp([np.array([-2000.0, 0.0]), np.array([-2000.0, -2000.0])])
    np.testing.assert_allclose(found, [-2000, -np.log(2)], rtol=1e-14)


def test_what_cannot_be_an_ensemble():
    with pytest.raises(InputError, match="at least one model"):
        Ensemble([])
    with pytest.raises(InputError, match=r"share the target vocabulary: theirs have \[9, 8\] words"):
        greedy_search(Ensemble([FakeModel(9), FakeModel(8)]), *padded([[3]]))


@pytest.mark.parametrize("sizes, side", [((60, 31), "target"), ((61, 30), "source")])
@pytest.mark.parametrize("path", [
    lambda models: Ensemble(models).nll(*padded([[3]]), np.array([[1], [2]])),
    lambda models: Ensemble(models).token_log_probs(*padded([[3]]), np.array([[1], [2]])),
    lambda models: beam_search(Ensemble(models), *padded([[3]])),
    lambda models: sample(Ensemble(models), *padded([[3]])),
    lambda models: Ensemble([Ensemble([Ensemble(models[:1])]), FakeModel(30), models[1]]).start(*padded([[3]])),
], ids=["nll", "scores", "search", "sampling", "ensembles in it"])
def test_models_of_other_vocabularies_are_noticed_on_every_path(sizes, side, path):
    models = [NMT(60, 30, 4, 4), NMT(*sizes, 4, 4, seed=1)]
    with pytest.raises(InputError, match=rf"must share the {side} vocabulary: theirs have \[(60, 61|30, 31)\] words"):
        path(models)
