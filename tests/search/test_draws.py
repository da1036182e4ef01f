"""Draws are as frequent as the model says, and depend on nothing but their own random numbers."""

from collections import Counter

import numpy as np
import pytest
from fake_model import FakeModel, padded, some_sentences
from test_search import EOS, forced

from scratchnmt.errors import InputError
from scratchnmt.search import Ensemble, greedy_search, sample
from scratchnmt.search.sampling import _draw


def generators(seed, count):
    return [np.random.default_rng([seed, n]) for n in range(count)]


def q(model, sentence, value, temperature=1.0, top_k=0):
    """The probabilities (V,) that the next word is drawn with."""
    log_p = model.log_p(sentence, value)[0] / temperature
    log_p[:EOS] = -np.inf
    if top_k:
        log_p[np.argsort(-log_p)[top_k:]] = -np.inf
    p = np.exp(log_p - log_p.max())
    return p / p.sum()


def assert_frequencies(counts, expected):
    """Chi-square of counts against probabilities, both by outcome: within five standard deviations."""
    draws = sum(counts.values())
    assert set(counts) <= set(expected) and sum(expected.values()) == pytest.approx(1)
    chi_square = sum((counts[x] - draws * p) ** 2 / (draws * p) for x, p in expected.items())
    freedom = len(expected) - 1
    assert min(expected.values()) * draws > 5 and chi_square < freedom + 5 * np.sqrt(2 * freedom)


def outcome(hypothesis):
    return (*hypothesis.value, EOS) if len(hypothesis.attention) > len(hypothesis.value) else tuple(hypothesis.value)


@pytest.mark.parametrize("top_k", [0, 3])
@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
def test_first_words_are_as_frequent_as_the_softmax_says(temperature, top_k):
    model, sentence, draws = FakeModel(9, seed=2, favour={0: 2.0, 1: 2.0}, scale=1.0), [3, 4], 20_000
    found = sample(model, *padded([sentence] * draws), rng=np.random.default_rng(7), max_steps=1,
                   temperature=temperature, top_k=top_k)
    expected = q(model, sentence, [], temperature, top_k)
    assert_frequencies(Counter(map(outcome, found)), {(w,): p for w, p in enumerate(expected) if p})


def test_whole_translations_are_as_frequent_as_the_product_of_their_words():
    model, sentence, draws = FakeModel(6, seed=3, scale=0.7), [5, 6, 7], 20_000
    found = sample(model, *padded([sentence] * draws), rng=np.random.default_rng(8), max_steps=2)
    expected = {}
    for first, p in enumerate(q(model, sentence, [])[EOS:], EOS):
        after = {(first,): 1.0} if first == EOS else {
            (first, w): x for w, x in enumerate(q(model, sentence, [first])[EOS:], EOS)}
        expected |= {words: p * x for words, x in after.items()}
    assert len(expected) == 13
    assert_frequencies(Counter(map(outcome, found)), expected)


@pytest.mark.parametrize("k", [2, 4])
def test_top_k_never_leaves_the_k_best(k):
    model, sentences, ranks = FakeModel(15, seed=4, scale=0.5), some_sentences(300), set()
    drawn = sample(model, *padded(sentences), rng=np.random.default_rng(9), top_k=k, max_steps=8, temperature=3.0)
    for sentence, hypothesis in zip(sentences, drawn, strict=True):
        for t, word in enumerate(outcome(hypothesis)):
            p = q(model, sentence, hypothesis.value[:t])
            ranks.add(int((p > p[word]).sum()))
    assert ranks == set(range(k))


@pytest.mark.parametrize("options", [dict(top_k=1), dict(top_k=1, temperature=5.0), dict(temperature=1e-6)], ids=str)
def test_one_word_to_draw_from_and_no_warmth_are_greedy_search(options):
    model, sentences = FakeModel(12, seed=5), some_sentences(40)
    found = sample(model, *padded(sentences), rng=np.random.default_rng(0), max_steps=15, **options)
    expected = greedy_search(model, *padded(sentences), max_steps=15)
    assert [h.value for h in found] == [h.value for h in expected]
    np.testing.assert_allclose([h.score for h in found], [h.score for h in expected], rtol=1e-12)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.attention, b.attention)


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 2e-5)])
def test_scores_are_the_models_own_whatever_the_temperature(dtype, tolerance):
    model, sentences, ends = FakeModel(12, seed=6, dtype=dtype), some_sentences(60), set()
    drawn = sample(model, *padded(sentences), rng=np.random.default_rng(1), max_steps=6, temperature=2.0, top_k=5)
    for sentence, hypothesis in zip(sentences, drawn, strict=True):
        ended = outcome(hypothesis)[-1] == EOS
        score, attention = forced(model, sentence, hypothesis.value, ended)
        assert hypothesis.score == pytest.approx(score, abs=tolerance)
        np.testing.assert_allclose(hypothesis.attention, attention, rtol=1e-12)
        ends.add(ended)
    assert ends == {True, False}


def test_a_draw_does_not_depend_on_the_rest_of_the_batch(rng):
    model, sentences = FakeModel(13, seed=7), some_sentences(30)
    together = sample(model, *padded(sentences), rng=generators(3, 30), max_steps=12)
    order = rng.permutation(30)
    mixed = [generators(3, 30)[i] for i in order]
    assert sample(model, *padded([sentences[i] for i in order], more=2), rng=mixed, max_steps=12) == [
        together[i] for i in order]
    for i, sentence in enumerate(sentences):
        assert sample(model, *padded([sentence]), rng=generators(3, 30)[i : i + 1], max_steps=40)[0].value[:12] == \
            together[i].value
    assert together != sample(model, *padded(sentences), rng=generators(4, 30), max_steps=12)


def test_one_generator_gives_every_sentence_its_own_numbers():
    model = FakeModel(13, seed=8)
    found = [sample(model, *padded([[3, 4]] * 20), rng=np.random.default_rng(seed)) for seed in (5, 5, 6)]
    assert found[0] == found[1] != found[2]
    assert len({tuple(h.value) for h in found[0]}) > 15
    others = [sample(model, *padded([[3, 4]] * 9), rng=np.random.default_rng(5), max_steps=[first, *[9] * 8])[1:]
              for first in (1, 9)]
    assert others[0] == others[1]
    rng = np.random.default_rng(5)
    assert sample(model, *padded([[3, 4]] * 20), rng=rng) != sample(model, *padded([[3, 4]] * 20), rng=rng)


def test_limits_of_steps_and_an_ensemble():
    never = [FakeModel(9, seed=seed, favour={EOS: -60.0}) for seed in (1, 2)]
    found = sample(Ensemble(never), *padded(some_sentences(4)), rng=generators(0, 4), max_steps=[1, 5, 2, 5])
    assert [len(h.value) for h in found] == [1, 5, 2, 5]


@pytest.mark.parametrize("u", [0.0, 0.5, 1 - 2.0**-53])
@pytest.mark.parametrize("top_k", [0, 2, 50])
def test_no_random_number_draws_what_has_no_probability(u, top_k):
    logits = np.array([[9.0, 9.0, -900.0, 1.0, -900.0, 1.0, -900.0], [9.0, 9.0, 1.0, -900.0, 1.0, -900.0, -900.0]])
    words, log_p = _draw(logits.copy()[:, :], np.full(2, u), 1.0, top_k)
    assert words[0, 0] in (3, 5) and words[1, 0] in (2, 4)
    exact = 1 - np.log(2 * np.exp(9) + 2 * np.exp(1))
    np.testing.assert_allclose(log_p, [[exact], [exact]], rtol=1e-12)


@pytest.mark.parametrize("options, name", [
    (dict(temperature=0.0), "temperature must be a finite number above 0"), (dict(temperature=-1.0), "temperature"),
    (dict(temperature=float("nan")), "temperature"), (dict(temperature=float("inf")), "temperature"),
    (dict(top_k=-1), "top_k"), (dict(max_steps=0), "max_steps"),
    (dict(rng=generators(0, 3)), "3 random generators for 1 sentences"),
])
def test_bad_arguments_are_named(options, name):
    with pytest.raises(InputError, match=name):
        sample(FakeModel(5), *padded([[3]]), **{"rng": np.random.default_rng(0), **options})


def test_logits_that_are_not_finite():
    model = FakeModel(5)
    model.table[:] = np.nan
    with pytest.raises(FloatingPointError, match="not finite"):
        sample(model, *padded([[3, 4]]), rng=np.random.default_rng(0))
