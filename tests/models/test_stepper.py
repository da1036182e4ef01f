"""One step at a time is the same model as the whole sentence at once, whatever stands beside it."""

import numpy as np
import pytest
from tiny_nmt import SRC_LENGTHS, alone, batch, by_configuration, padded

from scratchnmt.models.nmt import NMT
from scratchnmt.ops.activations import softmax_forward
from scratchnmt.ops.cross_entropy import PAD

TOKENS = np.arange(SRC_LENGTHS.max()) < SRC_LENGTHS[:, None]  # (B, S)


def forced(model, state, words):
    """logits and attention of every step, (T, B, K, ·), when words (T, B, K) are read."""
    found = []
    for y in words:
        logits, attention, state = model.step(state, y)
        found.append((logits, attention))
    return [np.stack(arrays) for arrays in zip(*found, strict=True)]


def nll(logits, targets):
    """-log p of targets (T, ...) under logits (T, ..., V), padding left out, summed over time."""
    p = np.take_along_axis(softmax_forward(logits)[0], targets[..., None], axis=-1)[..., 0]
    return -np.where(targets != PAD, np.log(p), 0).sum(axis=0)


@by_configuration
def test_forced_decoding_is_nll(case):
    model, (src, lengths, tgt) = case.model(), batch()
    logits, _ = forced(model, model.start(src, lengths), tgt[:-1, :, None])
    expected = [model.nll(*alone(b)) for b in range(4)]
    np.testing.assert_allclose(nll(logits, tgt[1:, :, None])[:, 0], expected, rtol=1e-12)


@by_configuration
def test_hypotheses_of_one_sentence_do_not_touch_each_other(case, rng):
    model, (src, lengths, _) = case.model(), batch()
    words = rng.integers(1, 12, (4, 4, 3))
    start = model.start(src, lengths)
    together = forced(model, start.select(np.arange(4), np.zeros((4, 3), int)), words)
    for k in range(3):
        for found, expected in zip(together, forced(model, start, words[..., k : k + 1]), strict=True):
            np.testing.assert_allclose(found[:, :, k], expected[:, :, 0], rtol=1e-11, atol=1e-13)


@by_configuration
def test_select_goes_on_with_the_chosen_hypotheses(case, rng):
    model, (src, lengths, _) = case.model(), batch()
    words = rng.integers(1, 12, (3, 4, 2))
    state = model.start(src, lengths).select(np.arange(4), np.zeros((4, 2), int))
    for y in words[:2]:
        _, _, state = model.step(state, y)
    logits, attention, _ = model.step(state, words[2])
    fewer, one_each, wider = ([2, 0], [[1, 0], [1, 1]]), (range(4), [[1], [0], [1], [0]]), ([3], [[0, 1, 0, 1]])
    for sentences, beams in (fewer, one_each, wider):
        sentences, beams = np.array(sentences), np.array(beams)
        rows = sentences[:, None], beams
        chosen = model.step(state.select(sentences, beams), words[2][rows])
        np.testing.assert_allclose(chosen[0], logits[rows], rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(chosen[1], attention[rows], rtol=1e-11, atol=1e-15)


@by_configuration
def test_the_rest_of_the_batch_its_order_and_its_padding_change_nothing(case):
    model, (src, lengths, tgt) = case.model(), batch()
    logits, attention = forced(model, model.start(src, lengths), tgt[:-1, :, None])
    longer = padded(2, 0)
    logits_longer, attention_longer = forced(model, model.start(*longer[:2]), tgt[:-1, :, None])
    assert not attention_longer[..., 5:].any()
    p = [2, 3, 1, 0]
    logits_moved, attention_moved = forced(model, model.start(src[:, p], lengths[p]), tgt[:-1, p, None])
    close = lambda found, expected: np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)
    close(logits_longer, logits)
    close(attention_longer[..., :5], attention)
    close(logits_moved, logits[:, p])
    close(attention_moved, attention[:, p])
    for b in range(4):
        one = forced(model, model.start(*alone(b)[:2]), tgt[:-1, b : b + 1, None])
        close(one[0][:, 0], logits[:, b])
        close(one[1][:, 0], attention[:, b, :, : lengths[b]])


def model_attends(case):
    return case.choices.get("score") != "none"


@by_configuration
def test_attention_is_a_distribution_over_the_words_of_the_source(case):
    if not model_attends(case):
        return
    model, (src, lengths, tgt) = case.model(), batch()
    _, attention = forced(model, model.start(src, lengths), tgt[:-1, :, None])
    assert not attention[:, ~TOKENS[:, None]].any()
    if "window" not in case.choices:
        np.testing.assert_allclose(attention.sum(axis=-1), 1, rtol=1e-14)
        assert attention[:, TOKENS[:, None]].all()
        return
    D = case.choices["window"]
    assert ((attention > 0).sum(axis=-1) <= 2 * D + 1).all() and (attention.sum(axis=-1) <= 1 + 1e-14).all()
    if case.choices["attention"] == "local-m":  # what it sees at step t is known
        t, s = np.ogrid[: len(attention), : attention.shape[-1]]
        inside = (abs(s - t) <= D)[:, None, None] & TOKENS[:, None]
        np.testing.assert_array_equal(attention > 0, inside)
        np.testing.assert_allclose(attention.sum(axis=-1), inside.any(axis=-1), rtol=1e-14)


@by_configuration
def test_without_attention_nothing_is_attended_to(case):
    if model_attends(case):
        return
    model, (src, lengths, tgt) = case.model(), batch()
    logits, attention = forced(model, model.start(src, lengths), tgt[:-1, :, None])
    assert not attention.any() and attention.shape[-1] == len(src) and np.isfinite(logits).all()


@by_configuration
def test_a_step_leaves_its_state_as_it_was(case):
    model, (src, lengths, tgt) = case.model(), batch()
    _, _, state = model.step(model.start(src, lengths), tgt[0][:, None])
    first, again = (model.step(state, tgt[1][:, None]) for _ in range(2))
    for a, b in zip(first[:2], again[:2], strict=True):
        np.testing.assert_array_equal(a, b)


def test_float32_stays_float32():
    model, (src, lengths, tgt) = NMT(11, 12, 5, 4), batch()
    start = model.start(src, lengths)
    logits, attention, state = model.step(start, tgt[0][:, None])
    assert start.first.any_rows.dtype == logits.dtype == attention.dtype == state.first.top.dtype == np.float32
    assert logits.shape == (4, 1, 12) and attention.shape == (4, 1, 5)


@pytest.mark.parametrize("change, error, message", [
    (lambda s, n: (s, n + 1), ValueError, "expected one from 1 to T = 5"),
    (lambda s, n: (s, n[:2]), ValueError, r"lengths has shape \(2,\), expected \(B\) = \(4\)"),
    (lambda s, n: (s + 11, n), IndexError, "ids run from 11 to 21, expected 0 to V - 1 = 10"),
])
def test_a_source_that_does_not_fit(change, error, message):
    with pytest.raises(error, match=message):
        NMT(11, 12, 5, 4).start(*change(*batch()[:2]))
