"""The losses of whole sentences: parts of the loss of a batch, each with a gradient of its own."""

from itertools import product

import numpy as np
import pytest
from tiny_nmt import alone, batch, by_configuration

from scratchnmt import NMT
from scratchnmt.data.batches import make_batch
from scratchnmt.gradcheck import assert_directional
from scratchnmt.ops.expected_risk import expected_risk_backward, expected_risk_forward


@by_configuration
def test_they_are_those_of_each_sentence_alone_and_so_is_the_gradient(case, rng):
    model = case.model()
    losses, cache = model.sentence_losses(*batch())
    dlosses = rng.standard_normal(4)
    found, expected = model.sentence_losses_backward(dlosses, cache), model.params.like()
    assert losses.sum() == pytest.approx(model.nll(*batch()), rel=1e-12)
    for b in range(4):
        assert losses[b] == pytest.approx(model.nll(*alone(b)), rel=1e-12)
        _, one = model.sentence_losses(*alone(b))
        expected.flat += model.sentence_losses_backward(dlosses[b : b + 1], one).flat
    np.testing.assert_allclose(found.flat, expected.flat, rtol=1e-9, atol=1e-12)
    again = model.params.like(np.full_like(found.flat, np.nan))
    assert model.sentence_losses_backward(dlosses, cache, out=again) is again
    np.testing.assert_array_equal(again.flat, found.flat)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("tied", [False, True])
def test_their_sum_has_the_gradient_of_the_loss_to_the_last_bit(dropout, tied):
    model = NMT(11, 12, 6, 6, dropout=dropout, embed_dropout=dropout, tie_embeddings=tied, init="glorot")
    _, cache = model.forward(*batch(), rng=np.random.default_rng(1))
    losses, rows = model.sentence_losses(*batch(), rng=np.random.default_rng(1))
    assert losses.dtype == np.float32
    found = model.sentence_losses_backward(np.ones(4, "float32"), rows)
    np.testing.assert_array_equal(found.flat, model.backward(cache).flat)


def test_the_risk_over_all_sequences_of_a_tiny_vocabulary(rng):
    """V = 5, of which <unk> and one word are words: 15 sentences of up to three, and the risk is exact.

    The weighted sum is sum P(y) Delta(y), where the rest of the probability, of <pad> and <s>, has no risk.
    """
    words = [y for n in range(4) for y in product((3, 4), repeat=n)]
    all_of_them = make_batch([[3, 5, 4]] * len(words), words)[:3]
    model = NMT(6, 5, 3, 4, dtype="float64", seed=1)
    model.params.flat[...] = 0.5 * rng.standard_normal(model.params.flat.size)
    delta, mask = rng.random((1, len(words))), np.full((1, len(words)), True)

    def whole(params):
        losses, cache = (other := model.with_params(params)).sentence_losses(*all_of_them)
        return other, np.exp(-losses) * delta[0], cache

    def exact(params):  # d sum P Delta = - sum P Delta dloss
        other, parts, cache = whole(params)
        return other.sentence_losses_backward(-parts, cache)

    assert_directional(lambda params: whole(params)[1].sum(), exact, model.params, method="complex")

    def normalised(params):  # by complex step on sum P Delta / sum P
        losses, _ = model.with_params(params).sentence_losses(*all_of_them)
        p = np.exp(-losses)
        return (p * delta[0]).sum() / p.sum()

    def by_the_op(params):
        losses, cache = (other := model.with_params(params)).sentence_losses(*all_of_them)
        _, above = expected_risk_forward(-losses[None], delta, mask, 1.0)
        return other.sentence_losses_backward(-expected_risk_backward(np.ones(1), above).dlog_p[0], cache)

    assert_directional(normalised, by_the_op, model.params, method="complex")
