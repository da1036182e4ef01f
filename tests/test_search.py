import itertools
import pickle

import numpy as np
import pytest
from fake_model import FakeModel, padded, some_sentences
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchnmt.data.batches import make_batch
from scratchnmt.errors import InputError
from scratchnmt.models.nmt import NMT
from scratchnmt.search import Hypothesis, beam_search, greedy_search
from scratchnmt.search.beam import _extend
from scratchnmt.search.rows import reduce_rows, top_k

EOS = 2


def forced(model, sentence, value, ended=True):
    """Summed log-probability of a translation, and its attention (T, S), a token at a time."""
    tokens = [*value, EOS] if ended else value
    steps = [model.log_p(sentence, value[:t]) for t in range(len(tokens))]
    return sum(p[token] for (p, _), token in zip(steps, tokens, strict=True)), np.array([a for _, a in steps])


def rank(score, length, alpha):
    return score / ((5 + length) / 6) ** alpha


def exhaustive(model, sentence, words, max_steps, alpha):
    """Every translation that ends within max_steps, best first."""
    values = [v for n in range(max_steps) for v in itertools.product(words, repeat=n)]
    scored = [(forced(model, sentence, list(v))[0], list(v)) for v in values]
    return sorted(scored, key=lambda x: -rank(x[0], len(x[1]) + 1, alpha))


def plain_beam_search(model, sentence, size, max_steps, alpha, n_best, allowed=lambda value, V: range(2, V)):
    """The rules of search/beam.py, one sentence and one hypothesis at a time."""
    beam, ended = [(0.0, [])], []
    for t in range(1, max_steps + 1):
        candidates = []
        for score, value in beam:
            p, _ = model.log_p(sentence, value)
            candidates += [(score + p[w], [*value, w]) for w in allowed(value, len(p))]
        candidates.sort(key=lambda c: -c[0])
        ended += [(rank(s, t, alpha), s, v[:-1]) for s, v in candidates[:size] if v[-1] == EOS]
        ended = sorted(ended, key=lambda e: -e[0])[:n_best]
        beam = [c for c in candidates if c[1][-1] != EOS][:size]
        if not beam or len(ended) == n_best and rank(beam[0][0], max_steps, alpha) <= ended[-1][0]:
            break
    if ended:
        return [(s, v) for _, s, v in ended]
    return beam[:n_best]


def assert_same(found, expected, tolerance=1e-9):
    assert [h.value for h in found] == [v for _, v in expected]
    np.testing.assert_allclose([h.score for h in found], [s for s, _ in expected], rtol=0, atol=tolerance)


def test_hypothesis_is_a_pair_that_carries_its_attention():
    attention = np.eye(2)
    hypothesis = Hypothesis([4, 5], -1.5, attention)
    value, score = hypothesis
    assert (value, score) == ([4, 5], -1.5) == hypothesis
    assert hypothesis == Hypothesis([4, 5], -1.5)
    assert hypothesis.attention is attention
    assert Hypothesis(value=[4], score=-1.0).attention is None
    assert (pickle.loads(pickle.dumps(hypothesis)).attention == attention).all()


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.5])
@pytest.mark.parametrize("n_best", [1, 4])
def test_full_width_beam_is_exhaustive_search(alpha, n_best):
    sentences = some_sentences(6)
    model = FakeModel(6, seed=1)
    options = dict(beam_size=300, max_steps=5, length_penalty=alpha, n_best=n_best)
    found = beam_search(model, *padded(sentences), **options)
    for sentence, hypotheses in zip(sentences, found, strict=True):
        assert_same(hypotheses, exhaustive(model, sentence, [3, 4, 5], 5, alpha)[:n_best])


@settings(max_examples=60, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    vocab_size=st.integers(5, 21),
    beam_size=st.integers(1, 7),
    n_best=st.integers(1, 7),
    max_steps=st.integers(1, 9),
    alpha=st.sampled_from([0.0, 0.0, 0.7, 2.0]),
    end=st.sampled_from([-2.0, 0.0, 3.0]),
)
def test_beam_search_follows_its_rules(seed, vocab_size, beam_size, n_best, max_steps, alpha, end):
    n = min(n_best, beam_size)
    model = FakeModel(vocab_size, seed, favour={EOS: end})
    sentences = some_sentences(5, seed)
    found = beam_search(
        model, *padded(sentences), beam_size=beam_size, max_steps=max_steps, length_penalty=alpha, n_best=n
    )
    for sentence, hypotheses in zip(sentences, found, strict=True):
        assert_same(hypotheses, plain_beam_search(model, sentence, beam_size, max_steps, alpha, n))


def test_greedy_takes_the_most_probable_token_at_every_step():
    sentences = some_sentences(20)
    model = FakeModel(12, seed=3)
    found = greedy_search(model, *padded(sentences), max_steps=15)
    beam = beam_search(model, *padded(sentences), beam_size=1, max_steps=15)
    assert found == [hypotheses[0] for hypotheses in beam]
    for sentence, hypothesis in zip(sentences, found, strict=True):
        value = []
        while len(value) < 15:
            p, _ = model.log_p(sentence, value)
            token = 2 + int(p[2:].argmax())
            if token == EOS:
                break
            value.append(token)
        assert hypothesis.value == value


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 1e-5)])
def test_score_and_attention_are_those_of_forced_decoding(dtype, tolerance):
    sentences = some_sentences(12)
    model = FakeModel(15, seed=4, dtype=dtype)
    model.table[:4, ..., EOS] = -60  # some kinds of sentence never end
    ends = set()
    found = beam_search(model, *padded(sentences), n_best=5, max_steps=6)
    for sentence, hypotheses in zip(sentences, found, strict=True):
        for hypothesis in hypotheses:
            ended = len(hypothesis.attention) > len(hypothesis.value)
            score, attention = forced(model, sentence, hypothesis.value, ended)
            assert hypothesis.attention.shape == (len(hypothesis.value) + ended, len(sentence))
            assert hypothesis.score == pytest.approx(score, abs=tolerance)
            np.testing.assert_allclose(hypothesis.attention, attention, rtol=1e-12)
            ends.add(ended)
    assert ends == {True, False}


def test_results_do_not_depend_on_the_rest_of_the_batch(rng):
    sentences = some_sentences(10)
    model = FakeModel(13, seed=5)
    options = dict(beam_size=4, n_best=3, max_steps=12, length_penalty=0.5)
    together = beam_search(model, *padded(sentences), **options)
    order = rng.permutation(10)
    permuted = beam_search(model, *padded([sentences[i] for i in order], more=3), **options)
    assert permuted == [together[i] for i in order]
    for sentence, expected in zip(sentences, together, strict=True):
        (alone,) = beam_search(model, *padded([sentence]), **options)
        assert alone == expected
        for a, b in zip(alone, expected, strict=True):
            np.testing.assert_allclose(a.attention, b.attention, rtol=1e-12)


def test_padding_and_start_are_never_produced_but_keep_their_probability():
    model = FakeModel(10, seed=6, favour={0: 6.0, 1: 6.0})
    sentences = some_sentences(8)
    found = beam_search(model, *padded(sentences), n_best=5, max_steps=8)
    for sentence, hypotheses in zip(sentences, found, strict=True):
        for hypothesis in hypotheses:
            assert min(hypothesis.value, default=9) > EOS
            ended = len(hypothesis.attention) > len(hypothesis.value)
            assert hypothesis.score == pytest.approx(forced(model, sentence, hypothesis.value, ended)[0])


def test_unfinished_hypotheses_only_where_none_finished():
    sentences = [[3], [4], [5, 3]]
    model = FakeModel(9, seed=7)
    model.table[3 % model.kinds, ..., EOS] = -60.0  # the first kind of sentence never ends
    never, *others = beam_search(model, *padded(sentences), max_steps=7, n_best=2)
    assert len(never) == 2
    assert all(len(h.value) == len(h.attention) == 7 for h in never)
    assert never[0].score == pytest.approx(forced(model, [3], never[0].value, ended=False)[0])
    assert all(len(h.attention) == len(h.value) + 1 for hypotheses in others for h in hypotheses)


def crossroads():
    """First 3 (probability 0.6) or 4 (0.4).  After 3 many ways, </s> at best 0.3; after 4 surely 5, </s>."""
    model = FakeModel(9, seed=0)
    p = np.full((9, 9, 9), 1e-9)
    p[0, 1, [3, 4]] = 0.6, 0.4
    p[1, 3, [EOS, 5, 6, 7]] = 0.3, 0.25, 0.25, 0.2
    p[1, 4, 5] = p[4, 5, EOS] = 1.0
    p[3, [5, 6, 7], 8] = p[5:8, 8, 8] = p[8, 8, 8] = 1.0
    model.table[:] = np.log(p)
    model.position[:] = 0
    return model


def test_the_first_to_finish_is_not_the_best():
    (best, second), = beam_search(crossroads(), *padded([[3]]), beam_size=2, n_best=2, max_steps=9)
    assert best.value == [4, 5] and best.score == pytest.approx(np.log(0.4), abs=1e-6)
    assert second.value == [3] and second.score == pytest.approx(np.log(0.18), abs=1e-6)
    assert greedy_search(crossroads(), *padded([[3]]))[0].value == [3]


def test_stops_when_no_open_hypothesis_can_win():
    model = crossroads()
    beam_search(model, *padded([[3]]), beam_size=2)
    assert len(model.shapes) == 3  # [4, 5, </s>] at 0.4; the rest is below
    model = crossroads()
    beam_search(model, *padded([[3]]), beam_size=2, length_penalty=3.0, max_steps=40)
    assert len(model.shapes) == 40  # something longer might still win
    model = FakeModel(9, favour={EOS: 30.0})
    beam_search(model, *padded(some_sentences(4)))
    assert model.shapes == [(4, 1)]


def test_encodes_once_and_drops_finished_sentences():
    model = FakeModel(9, seed=2)
    beam_search(model, *padded(some_sentences(30)), beam_size=3, max_steps=20)
    sizes = [shape[0] for shape in model.shapes]
    assert model.starts == 1
    assert sizes == sorted(sizes, reverse=True) and 1 <= sizes[-1] < sizes[0] == 30
    assert model.shapes[0] == (30, 1) and model.shapes[1] == (30, 3)


def test_limit_of_steps_for_each_sentence():
    model = FakeModel(9, seed=2, favour={EOS: -60.0})
    found = beam_search(model, *padded(some_sentences(4)), max_steps=[1, 5, 2, 5])
    assert [len(h.value) for (h,) in found] == [1, 5, 2, 5]
    assert found[1:2] == beam_search(model, *padded(some_sentences(4)[1:2]), max_steps=5)


@pytest.mark.parametrize(
    "options, name",
    [
        (dict(beam_size=0), "beam_size"),
        (dict(max_steps=0), "max_steps"),
        (dict(n_best=0), "n_best"),
        (dict(beam_size=2, n_best=3), "n_best"),
        (dict(length_penalty=-0.1), "length_penalty"),
        (dict(length_penalty=float("nan")), "length_penalty"),
    ],
)
def test_bad_arguments_are_named(options, name):
    with pytest.raises(InputError, match=name):
        beam_search(FakeModel(5), *padded([[3]]), **options)


def test_logits_that_are_not_finite():
    model = FakeModel(5)
    model.table[:] = np.nan
    with pytest.raises(FloatingPointError, match="not finite"):
        beam_search(model, *padded([[3, 4]]))


@pytest.mark.parametrize("vocab_size", [4, 5, 8, 9, 64, 1003, 30000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extend_finds_the_best_of_large_vocabularies(vocab_size, dtype, rng):
    logits = 4 * rng.standard_normal((40, 3, vocab_size)) + 1e4 * rng.standard_normal((40, 3, 1))
    logits = logits.astype(dtype)
    logits[..., -1 - vocab_size // 16 :] += 20  # the last groups of words, some a word short
    logits[..., -1] += 20
    score = -10 * rng.random((40, 3))
    x = logits.astype(np.float64)
    x = x - x.max(2, keepdims=True)
    log_p = x - np.log(np.exp(x).sum(2, keepdims=True))
    expected = (score[..., None] + log_p)[..., 3:].reshape(40, -1)
    end, best, parents, tokens = _extend(logits, score, 6)
    k = min(6, expected.shape[1])
    tolerance = 2e-3 if dtype == "float32" else 1e-11  # of logits about 1e4
    np.testing.assert_allclose(end, score + log_p[..., EOS], rtol=0, atol=tolerance)
    np.testing.assert_allclose(best[:, :k], -np.sort(-expected, axis=1)[:, :k], rtol=0, atol=tolerance)
    assert (best[:, k:] == -np.inf).all()
    rows = np.arange(40)[:, None]
    chosen = score[rows, parents] + log_p[rows, parents, tokens]
    np.testing.assert_allclose(chosen[:, :k], best[:, :k], rtol=0, atol=tolerance)


def test_extend_takes_logits_of_any_layout(rng):
    logits = rng.standard_normal((3, 50, 4))
    logits[:, :2] += 9  # <pad> and <s>
    layout, score = logits.transpose(0, 2, 1), np.zeros((3, 4))
    for a, b in zip(_extend(layout.copy(), score, 5), _extend(layout, score, 5), strict=True):
        np.testing.assert_array_equal(a, b)


def test_logsumexp_of_float32_is_good_to_rounding(rng):
    logits = (3 * rng.standard_normal((100, 8000))).astype(np.float32)
    exact = np.log(np.exp(logits.astype(np.float64)).sum(axis=1))
    assert np.abs(reduce_rows(logits)[2] - exact).max() < 4e-6


def test_top_k_of_rows_with_too_few():
    values = np.array([[1.0, 3.0, 2.0], [-np.inf, 5.0, -np.inf]])
    best, where = top_k(values, 2)
    assert best.tolist() == [[3.0, 2.0], [5.0, -np.inf]]
    assert where[0].tolist() == [1, 2] and where[1, 0] == 1


@pytest.mark.parametrize("feed", ["output", "context", "none"])
def test_real_model(feed):
    model = NMT(60, 30, 12, 12, feed=feed, dtype="float64", seed=1)
    model.params.flat[...] *= 12  # sure enough of itself to end sentences
    sentences = some_sentences(25)
    found = beam_search(model, *padded(sentences), n_best=3, max_steps=25)
    scores = []
    for sentence, hypotheses in zip(sentences, found, strict=True):
        alone = model.beam_search(sentence, beam_size=5, max_decoding_time_step=25, n_best=3)
        assert [h.value for h in alone] == [h.value for h in hypotheses]
        for hypothesis in hypotheses:
            np.testing.assert_allclose(hypothesis.attention.sum(axis=1), 1.0, rtol=1e-12)
            if len(hypothesis.attention) > len(hypothesis.value):
                batch = make_batch([sentence], [hypothesis.value])
                scores.append((hypothesis.score, -model.nll(batch.src, batch.src_lengths, batch.tgt)))
    assert len(scores) > 8
    np.testing.assert_allclose(*np.transpose(scores), rtol=0, atol=1e-12)
