"""The expected risk over all sequences of a tiny language, where it is exact, and over some of them."""

from itertools import product

import numpy as np
import pytest

from scratchnmt.ops.expected_risk import expected_risk_backward, expected_risk_forward

V, END, LONGEST = 5, 0, 3
SEQUENCES = [(*words, END) for n in range(LONGEST) for words in product(range(1, V), repeat=n)] + [
    (*words,) for words in product(range(1, V), repeat=LONGEST)]  # those of three words end there
PREFIXES = {prefix: row for row, prefix in enumerate(sorted({y[:t] for y in SEQUENCES for t in range(len(y))}))}


def log_p(logits):
    """log P of each sequence, from logits (prefixes, V) of the next word."""
    rows = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return np.array([sum(rows[PREFIXES[y[:t]], y[t]] for t in range(len(y))) for y in SEQUENCES])


def dlogits(dlog_p, logits):
    """The gradient of the logits from that of `log_p`."""
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = np.zeros_like(p)
    for d, y in zip(dlog_p, SEQUENCES, strict=True):
        for t, word in enumerate(y):
            found[PREFIXES[y[:t]]] += d * (np.eye(V)[word] - p[PREFIXES[y[:t]]])
    return found


@pytest.fixture
def logits(rng):
    return rng.standard_normal((len(PREFIXES), V))


@pytest.fixture
def delta(rng):
    return rng.random(len(SEQUENCES))


def all_of_them(logits, delta, alpha):
    mask = np.full((1, len(delta)), True)
    return expected_risk_forward(log_p(logits)[None], delta[None], mask, alpha)


def test_over_all_sequences_it_is_the_risk_itself(logits, delta, rng):
    """sum P(y) Delta(y), without any normalisation, by complex step; its gradient is P(y) (Delta(y) - the mean)."""
    p = np.exp(log_p(logits))
    assert p.sum() == pytest.approx(1, abs=1e-14)
    risk, cache = all_of_them(logits, delta, alpha=1.0)
    assert risk[0] == pytest.approx(p @ delta, abs=1e-15)
    drisk = rng.standard_normal(1)
    (dlog_p,), = expected_risk_backward(drisk, cache)
    np.testing.assert_allclose(dlog_p, drisk * p * (delta - p @ delta), rtol=1e-12)
    exact = derivative(lambda x: drisk[0] * (np.exp(log_p(x)) @ delta), logits)
    assert np.abs(dlogits(dlog_p, logits) - exact).max() < 1e-12 * np.sqrt((exact**2).mean())


@pytest.mark.parametrize("alpha", [0.005, 0.5, 3.0])
def test_over_some_sequences(logits, delta, alpha, rng):
    some = rng.random((1, len(SEQUENCES))) < 0.3
    drisk = rng.standard_normal(1)

    def subset(x):
        weights = np.exp(alpha * log_p(x))[some[0]]
        return drisk[0] * (weights @ delta[some[0]]) / weights.sum()

    risk, cache = expected_risk_forward(log_p(logits)[None], delta[None], some, alpha)
    assert drisk @ risk == pytest.approx(subset(logits), abs=1e-15)
    (dlog_p,), = expected_risk_backward(drisk, cache)
    assert not dlog_p[~some[0]].any() and abs(dlog_p.sum()) < 1e-12 * np.abs(dlog_p).max()
    exact = derivative(subset, logits)
    assert np.abs(dlogits(dlog_p, logits) - exact).max() < 1e-12 * np.sqrt((exact**2).mean())


def derivative(f, x):
    """By complex step, element by element."""
    found = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        moved = x.astype(complex)
        moved[index] += 1j * 2.0**-100
        found[index] = f(moved).imag * 2.0**100
    return found


def test_one_candidate_has_nothing_to_be_better_than():
    risk, cache = expected_risk_forward(np.array([[-3.0, 0.0]]), np.array([[0.4, 9.0]]), np.array([[True, False]]), 1.0)
    assert risk == [0.4] and not expected_risk_backward(np.array([2.0]), cache).dlog_p.any()


def test_improbable_sentences_do_not_vanish():
    """As every P does in float32."""
    values = np.array([[-900.0, -901.0]], "float32"), np.array([[0.0, 1.0]], "float32")
    risk, _ = expected_risk_forward(*values, np.full((1, 2), True), 1.0)
    np.testing.assert_allclose(risk, [1 / (1 + np.e)], rtol=1e-6)
    assert risk.dtype == np.float32


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"expected_risk: risks has shape \(2, 2\), expected \(B, K\) = \(2, 3\)"):
        expected_risk_forward(np.zeros((2, 3)), np.zeros((2, 2)), np.full((2, 3), True), 1.0)
