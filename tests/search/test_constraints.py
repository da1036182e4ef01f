"""Searches under constraints find the best of what is allowed, with the scores of the model."""

import itertools
from collections import Counter
from functools import partial

import numpy as np
import pytest
from fake_model import FakeModel, padded, some_sentences
from hypothesis import given, settings
from hypothesis import strategies as st
from search.test_draws import assert_frequencies, generators, outcome
from search.test_ensemble import Mixture, real_models
from test_search import EOS, assert_same, forced, plain_beam_search, rank

from scratchnmt.data.batches import make_batch
from scratchnmt.errors import InputError
from scratchnmt.search import Ensemble, beam_search, greedy_search, sample
from scratchnmt.search.constraints import Constrained, MinLength, NoRepeatedNgram, constrained, forbid

both = st.fixed_dictionaries({"min_length": st.integers(0, 4), "no_repeat_ngram_size": st.integers(0, 3)})


def repeats(value, n):
    """Whether an n-gram of the value comes twice."""
    ngrams = [tuple(value[i : i + n]) for i in range(len(value) - n + 1)]
    return len(set(ngrams)) < len(ngrams)


def allowed(value, V, min_length=0, no_repeat_ngram_size=0):
    """The words that may come next, by the definition."""
    n = no_repeat_ngram_size
    words = [w for w in range(3, V) if not (n and repeats([*value, w], n))]
    return words + [EOS] if len(value) >= min_length or not words else words


def exhaustive(model, sentence, V, max_steps, alpha, constraints):
    """Every translation that is allowed and ends within max_steps, best first."""
    beginnings, ended = [[]], []
    for _ in range(max_steps):
        longer = [[*value, w] for value in beginnings for w in allowed(value, V, **constraints)]
        ended += [value[:-1] for value in longer if value[-1] == EOS]
        beginnings = [value for value in longer if value[-1] != EOS]
    scored = [(forced(model, sentence, value)[0], value) for value in ended]
    return sorted(scored, key=lambda x: -rank(x[0], len(x[1]) + 1, alpha))


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("min_length, n", [(3, 0), (4, 0), (0, 1), (0, 2), (0, 3), (2, 1), (3, 2), (4, 1)])
def test_full_width_beam_is_exhaustive_search_of_what_is_allowed(min_length, n, alpha):
    sentences, constraints = some_sentences(6), dict(min_length=min_length, no_repeat_ngram_size=n)
    models = [FakeModel(6, seed=seed, favour={EOS: 3.0, 4: 4.0}, scale=3.0) for seed in (1, 2)]
    options = dict(beam_size=300, max_steps=5, length_penalty=alpha, n_best=7)
    for model, mixture in (models[0], models[0]), (Ensemble(models), Mixture(models)):
        found = beam_search(model, *padded(sentences), **options, **constraints)
        free = beam_search(model, *padded(sentences), **options)
        for sentence, hypotheses in zip(sentences, found, strict=True):
            assert_same(hypotheses, exhaustive(mixture, sentence, 6, 5, alpha, constraints)[:7])
        assert [h.value for some in found for h in some] != [h.value for some in free for h in some]


@settings(max_examples=60, derandomize=True)
@given(seed=st.integers(0, 10**6), V=st.integers(4, 20), size=st.integers(1, 7), n_best=st.integers(1, 7),
       max_steps=st.integers(5, 9), alpha=st.sampled_from([0.0, 0.7]), constraints=both)
def test_a_beam_of_any_width_follows_its_rules(seed, V, size, n_best, max_steps, alpha, constraints):
    model, sentences, n = FakeModel(V, seed), some_sentences(5, seed), min(n_best, size)
    found = beam_search(model, *padded(sentences), beam_size=size, max_steps=max_steps, length_penalty=alpha, n_best=n,
                        **constraints)
    for sentence, hypotheses in zip(sentences, found, strict=True):
        assert_same(hypotheses, plain_beam_search(model, sentence, size, max_steps, alpha, n,
                                                  partial(allowed, **constraints)))


@settings(max_examples=60, derandomize=True)
@given(seed=st.integers(0, 10**6), V=st.integers(4, 9), constraints=both, max_steps=st.integers(5, 12))
def test_greedy_takes_the_most_probable_token_that_is_allowed(seed, V, constraints, max_steps):
    model, sentences = FakeModel(V, seed), some_sentences(6, seed)
    found = greedy_search(model, *padded(sentences), max_steps=max_steps, **constraints)
    assert found == [one for (one,) in beam_search(model, *padded(sentences), beam_size=1, max_steps=max_steps,
                                                   **constraints)]
    for sentence, hypothesis in zip(sentences, found, strict=True):
        value = []
        while len(value) < max_steps:
            p, _ = model.log_p(sentence, value)
            token = max(allowed(value, V, **constraints), key=lambda w: p[w])  # noqa: B023
            if token == EOS:
                break
            value.append(token)
        assert hypothesis.value == value


@settings(max_examples=60, derandomize=True)
@given(seed=st.integers(0, 10**6), V=st.integers(4, 12), size=st.integers(1, 6), constraints=both)
def test_hypotheses_are_allowed_and_have_the_scores_of_forced_decoding(seed, V, size, constraints):
    model, sentences, n = FakeModel(V, seed, dtype="float32"), some_sentences(5, seed), constraints[
        "no_repeat_ngram_size"]
    found = beam_search(model, *padded(sentences), beam_size=size, n_best=size, max_steps=7, **constraints)
    drawn = sample(model, *padded(sentences), rng=np.random.default_rng(seed), max_steps=7, **constraints)
    for sentence, hypotheses, one in zip(sentences, found, drawn, strict=True):
        assert hypotheses
        for hypothesis in (*hypotheses, one):
            tokens = outcome(hypothesis)
            assert all(w in allowed(tokens[:t], V, **constraints) for t, w in enumerate(tokens))
            assert not (n and repeats(hypothesis.value, n))
            score, attention = forced(model, sentence, hypothesis.value, ended=tokens[-1] == EOS)
            assert hypothesis.score == pytest.approx(score, abs=2e-5)
            np.testing.assert_allclose(hypothesis.attention, attention, rtol=1e-5)


@pytest.mark.parametrize("constraints", [dict(min_length=6), dict(no_repeat_ngram_size=2),
                                         dict(min_length=9, no_repeat_ngram_size=1)], ids=str)
def test_results_do_not_depend_on_the_rest_of_the_batch(constraints, rng):
    sentences, model = some_sentences(12), FakeModel(9, seed=5, favour={EOS: 2.0})
    options = dict(beam_size=4, n_best=3, max_steps=12, length_penalty=0.5, **constraints)
    together = beam_search(model, *padded(sentences), **options)
    drawn = sample(model, *padded(sentences), rng=generators(3, 12), max_steps=12, **constraints)
    order = rng.permutation(12)
    mixed = padded([sentences[i] for i in order], more=3)
    assert beam_search(model, *mixed, **options) == [together[i] for i in order]
    assert sample(model, *mixed, rng=[generators(3, 12)[i] for i in order], max_steps=12, **constraints) == [
        drawn[i] for i in order]
    for i, sentence in enumerate(sentences):
        assert beam_search(model, *padded([sentence]), **options) == [together[i]]


def test_no_word_left_ends_a_hypothesis_that_is_too_short():
    model, sentences = FakeModel(7, seed=2), some_sentences(8)  # four words, <unk> among them
    constraints = dict(no_repeat_ngram_size=1, min_length=6, max_steps=8)
    for (hypothesis,), drawn in zip(beam_search(model, *padded(sentences), beam_size=30, **constraints),
                                    sample(model, *padded(sentences), rng=generators(0, 8), **constraints),
                                    strict=True):
        assert sorted(hypothesis.value) == sorted(drawn.value) == [3, 4, 5, 6]
        assert len(hypothesis.attention) == len(drawn.attention) == 5


def test_cut_off_at_the_limit_without_a_repeated_ngram():
    model = FakeModel(9, seed=3, favour={EOS: -60.0})
    found = beam_search(model, *padded(some_sentences(9)), max_steps=10, no_repeat_ngram_size=2, n_best=5)
    assert all(len(h.value) == 10 and not repeats(h.value, 2) for some in found for h in some)
    free = beam_search(model, *padded(some_sentences(9)), max_steps=10, n_best=5)
    assert any(repeats(h.value, 2) for some in free for h in some)


def test_draws_are_as_frequent_as_the_softmax_of_what_is_allowed():
    model, sentence, draws = FakeModel(7, seed=3, favour={EOS: 1.0}, scale=0.5), [5, 6, 7], 20_000
    constraints = dict(min_length=1, no_repeat_ngram_size=1)
    found = sample(model, *padded([sentence] * draws), rng=np.random.default_rng(8), max_steps=2, **constraints)
    expected = {(): 1.0}
    for _ in range(2):
        longer = {}
        for value, probability in expected.items():
            if value[-1:] == (EOS,):
                longer[value] = probability
                continue
            words = allowed(list(value), 7, **constraints)
            p = np.exp(model.log_p(sentence, list(value))[0])[words]
            longer |= {(*value, w): probability * x for w, x in zip(words, p / p.sum(), strict=True)}
        expected = longer
    assert len(expected) == 16
    assert_frequencies(Counter(map(outcome, found)), expected)


@pytest.mark.parametrize("constraints", [dict(min_length=12), dict(no_repeat_ngram_size=2),
                                         dict(min_length=9, no_repeat_ngram_size=3)], ids=str)
def test_real_models_score_as_forced_decoding_does(constraints):
    ensemble, sentences = Ensemble(real_models()), some_sentences(25)
    results = beam_search(ensemble, *padded(sentences), n_best=3, max_steps=25, **constraints)
    results += [[one] for one in sample(ensemble, *padded(sentences), rng=generators(1, 25), max_steps=25,
                                        **constraints)]
    scores = []
    for sentence, hypotheses in zip(sentences * 2, results, strict=True):
        for value, score in (h for h in hypotheses if len(h.attention) > len(h.value)):
            batch = make_batch([sentence], [value])
            model = constrained(ensemble, 26, **{"min_length": 0, "no_repeat_ngram_size": 0, **constraints})
            scores.append((score, model.token_log_probs(batch.src, batch.src_lengths, batch.tgt).sum()))
            assert len(value) >= constraints.get("min_length", 0)
    assert len(scores) > 10
    np.testing.assert_allclose(*np.transpose(scores), rtol=0, atol=1e-10)


def test_without_constraints_the_model_is_searched_itself():
    model = FakeModel(5)
    assert constrained(model, [3, 4], 0, 0) is model
    assert isinstance(constrained(model, [3, 4], 2, 0), Constrained)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 50])
def test_forbidden_words_are_those_that_would_repeat(n, rng):
    for t in range(9):
        y = rng.integers(3, 6, (4, 3, t))
        found = NoRepeatedNgram(n).forbidden(y)
        for value, words in zip(y.reshape(12, t).tolist(), found.reshape(12, -1), strict=True):
            known = {tuple(value[i : i + n]) for i in range(t - n + 1)}
            expected = {w for w in range(3, 6) if tuple([*value[t - n + 1 :], w]) in known} if t >= n else set()
            assert set(words.tolist()) - {0} == expected


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_forbidden_goes_to_padding(dtype, rng):
    logits = (5 * rng.standard_normal((3, 2, 9))).astype(dtype)
    logits[0, :, 0] = -np.inf  # a model that leaves <pad> no probability
    logits[2, 1, [0, 4]] = -np.inf
    found = [np.array([[[4], [0]], [[8], [0]], [[0], [4]]]), np.full((3, 2, 1), EOS)]
    p = np.exp(logits.astype(np.float64))
    forbid(logits, found)
    for b, k in itertools.product(range(3), range(2)):
        words = {int(x[b, k, 0]) for x in found} - {0}
        assert (logits[b, k, list(words)] == -np.inf).all()
        p[b, k, 0] += p[b, k, list(words)].sum()
        p[b, k, list(words)] = 0
    assert logits.dtype == dtype
    np.testing.assert_allclose(np.exp(logits.astype(np.float64)), p, rtol=1e-6 if dtype == "float32" else 1e-14)


@pytest.mark.filterwarnings("error")
def test_what_forbids_nothing_changes_no_bit(rng):
    logits = rng.standard_normal((3, 2, 9)).astype("float32")
    logits[0, 0, 0] = -np.inf
    same, y = logits.copy(), np.zeros((3, 2, 2), dtype=np.int64)
    forbid(same, [MinLength(2).forbidden(y), NoRepeatedNgram(3).forbidden(y)])
    np.testing.assert_array_equal(np.exp(same), np.exp(logits))
    np.testing.assert_array_equal(same[1:], logits[1:])


@pytest.mark.parametrize("options, message", [
    (dict(min_length=-1), "min_length must be at least 0, which forbids nothing, not -1"),
    (dict(no_repeat_ngram_size=-2), "no_repeat_ngram_size must be at least 0"),
    (dict(min_length=7, max_steps=7), "min_length must be below max_steps, 7, which counts </s>, not 7"),
    (dict(min_length=3, max_steps=[3, 9]), "min_length must be below max_steps, 3"),
])
@pytest.mark.parametrize("search", [beam_search, greedy_search, sample], ids=lambda f: f.__name__)
def test_bad_arguments_are_named(search, options, message):
    more = {"rng": np.random.default_rng(0)} if search is sample else {}
    with pytest.raises(InputError, match=message):
        search(FakeModel(5), *padded([[3], [4]]), **more, **options)
