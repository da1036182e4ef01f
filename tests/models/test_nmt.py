"""The invariants of loss and gradient: what a batch holds decides, not how it is laid out.

That the gradients are right is checked in test_selfcheck (numerically) and test_parity (by PyTorch).
"""

import numpy as np
import pytest
from tiny_nmt import SRC_LENGTHS, TGT_LENGTHS, alone, batch, by_configuration, padded

from scratchnmt.errors import InputError
from scratchnmt.gradcheck.convention import cast
from scratchnmt.models.inputs import prepare_inputs
from scratchnmt.models.nmt import NMT
from scratchnmt.ops.packing import pack_whole, steps
from scratchnmt.ops.r_drop import r_drop_forward


def results(model, some_batch, rng=None):
    """loss, flat gradient"""
    loss, cache = model.forward(*some_batch, rng=rng)
    return loss, model.backward(cache).flat


def assert_close(found, expected):
    """Two ways to compute the same in float64: equal to rounding."""
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13 * np.abs(b).max())


def as_op(model, some_batch):
    """(forward, backward) of the weights, for the checks that take an op."""
    def forward(**params):
        other = model.with_params(params)
        loss, cache = other.forward(*some_batch)
        return loss, (other, cache)

    def backward(dloss, model_and_cache):
        other, cache = model_and_cache
        return {name: dloss * g for name, g in other.backward(cache).items()}

    return forward, backward


@by_configuration
def test_a_padded_batch_is_its_sentences_one_by_one(case):
    model = case.model()
    singles = [results(model, alone(b)) for b in range(4)]
    assert_close(results(model, batch()), [sum(part) for part in zip(*singles, strict=True)])


@by_configuration
def test_more_padding_changes_nothing(case):
    model = case.model()
    assert_close(results(model, padded(2, 3)), results(model, batch()))


@by_configuration
def test_source_padding_may_hold_any_word(case):
    model, (src, lengths, tgt) = case.model(), batch()
    words = 1 + np.arange(src.size).reshape(src.shape) % 10
    spoilt = np.where(np.arange(len(src))[:, None] < lengths, src, words)
    assert (spoilt != src).any()
    for found, expected in zip(results(model, (spoilt, lengths, tgt)), results(model, (src, lengths, tgt)),
                               strict=True):
        np.testing.assert_array_equal(found, expected)


@by_configuration
def test_the_order_of_the_sentences_changes_nothing(case):
    model, (src, lengths, tgt) = case.model(), batch()
    for p in ([3, 0, 2, 1], [1, 2, 3, 0]):
        assert_close(results(model, (src[:, p], lengths[p], tgt[:, p])), results(model, batch()))


@by_configuration
def test_what_an_op_promises_the_model_keeps(case, gradcheck):
    """Deterministic; writes into nothing; backward twice is the same; weights of any layout."""
    model = case.model()
    gradcheck.assert_contract(*as_op(model, batch()), dict(model.params))


@by_configuration
def test_float32_is_close_to_float64(case, gradcheck):
    model = case.model()
    weights = cast(model.params, "float32")
    op = as_op(model, batch())
    report = gradcheck.assert_variant(op, op, weights, steps=SRC_LENGTHS.max() + TGT_LENGTHS.max())
    assert report.dtype == "float32"


@by_configuration
def test_a_gradient_buffer_is_overwritten(case):
    model = case.model()
    _, cache = model.forward(*batch())
    fresh = model.backward(cache)
    used = fresh.like(np.full_like(fresh.flat, np.nan))
    assert model.backward(cache, out=used) is used
    np.testing.assert_array_equal(used.flat, fresh.flat)
    used.flat[...] = np.nan
    _, cache = model.forward(*batch(), out=used)  # some of it is already filled here
    for out in (used, used, None):
        np.testing.assert_array_equal(model.backward(cache, out=out).flat, fresh.flat)


@by_configuration
def test_nll_is_without_dropout_and_smoothing(case, rng):
    model = case.model()
    without = NMT(11, 12, model.config.embed_size, 4, dtype="float64",
                  **{**case.choices, "dropout": 0.0, "embed_dropout": 0.0, "word_dropout": 0.0,
                     "recurrent_dropout": 0.0, "encoder_dropout": 0.0, "label_smoothing": 0.0, "r_drop": 0.0})
    nll = model.nll(*batch())
    assert isinstance(nll, float)
    assert nll == without.with_params(model.params).forward(*batch(), rng=rng)[0]


def test_weights_of_zero_choose_every_word_with_equal_probability():
    model = NMT(11, 12, 5, 4, dtype="float64", label_smoothing=0.3)
    model.params.flat[...] = 0
    assert model.nll(*batch()) == pytest.approx(TGT_LENGTHS.sum() * np.log(12), rel=1e-14)


@pytest.mark.parametrize("choice", [dict(dropout=0.5), dict(embed_dropout=0.5), dict(dropout=0.5, layers=2),
                                    dict(word_dropout=0.5), dict(recurrent_dropout=0.5), dict(encoder_dropout=0.5),
                                    dict(recurrent_dropout=0.5, layers=2)])
def test_dropout_is_drawn_from_the_generator_that_is_given(choice):
    model = NMT(11, 12, 5, 4, dtype="float64", **choice)
    plain = NMT(11, 12, 5, 4, dtype="float64", layers=choice.get("layers", 1)).with_params(model.params)
    for found, expected in zip(results(model, batch()), results(plain, batch()), strict=True):
        np.testing.assert_array_equal(found, expected)
    first, again, other = (results(model, batch(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[1], again[1])
    assert first[0] == again[0] != other[0] and first[0] != model.forward(*batch())[0]


def test_dropout_falls_on_the_embeddings_between_layers_and_on_the_output(rng):
    for choices, on in ((dict(embed_dropout=0.5), {"embeddings"}), (dict(dropout=0.5), {"between", "output"})):
        _, cache = NMT(11, 12, 5, 4, layers=2, **choices).forward(*batch(), rng=rng)
        dropped = {"embeddings": [dropout for _, dropout in cache.embeddings.values()],
                   "between": [cache.encoder.layers[1].dropout, cache.decoder.rows.layers[1].mask]}
        for where, masks in dropped.items():
            assert all((mask is not None) == (where in on) for mask in masks)
        assert cache.encoder.layers[0].dropout is None and cache.decoder.rows.layers[0].mask is None
        assert (cache.decoder.rows.readout_rows.slope == 0).any() == ("output" in on)


def test_encoder_dropout_falls_on_what_the_attention_reads_and_not_on_the_first_states(rng):
    model = NMT(11, 12, 5, 40, dtype="float64", encoder_dropout=0.3)
    _, cache = model.forward(*batch(), rng=rng)
    _, without = model.forward(*batch())
    read, whole = cache.decoder.attention.values, without.decoder.attention.values
    mask = cache.encoder.dropout.mask.transpose(1, 0, 2)[cache.decoder.packing.order]
    np.testing.assert_array_equal(read, whole * mask)
    assert 0.2 < (mask == 0).mean() < 0.4 and without.encoder.dropout is None
    first = slice(cache.decoder.packing.sentences)
    np.testing.assert_array_equal(cache.decoder.rows.layers[0].h[first], without.decoder.rows.layers[0].h[first])


@pytest.mark.parametrize("embed_dropout", [0.0, 0.25])
def test_a_dropped_word_is_dropped_as_a_whole(rng, embed_dropout):
    model = NMT(11, 12, 400, 4, dtype="float64", word_dropout=0.5, embed_dropout=embed_dropout)
    src = rng.integers(4, 11, (30, 6))
    _, cache = model.forward(src, np.full(6, 30), np.vstack([np.ones((1, 6), int), rng.integers(4, 12, (29, 6)),
                                                             np.full((1, 6), 2)]), rng=rng)
    for _, dropout in cache.embeddings.values():
        dropped = (dropout.mask == 0).mean(axis=-1)  # of each word
        whole = dropped == 1
        assert 0.35 < whole.mean() < 0.65
        assert np.abs(dropped[~whole] - embed_dropout).max() < 0.15
        np.testing.assert_allclose(np.unique(dropout.mask), [0, 2 / (1 - embed_dropout)], rtol=1e-6)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_unit_of_a_state_is_dropped_at_every_step_of_a_sentence(rng, layers):
    _, cache = NMT(11, 12, 5, 40, dtype="float64", layers=layers, recurrent_dropout=0.3).forward(*batch(), rng=rng)
    masks = []
    for layer in cache.encoder.layers:
        masks.append(layer.sequence.recurrent.m)
        packing, r = layer.sequence.packing, layer.sequence.r
        for now, before, _ in steps(packing)[1:]:
            dropped = masks[-1][:, : now.stop - now.start] == 0
            np.testing.assert_array_equal(r[:, before] == 0, dropped)  # of tanh, no number is zero by itself
    for layer in cache.decoder.rows.layers:
        masks.append(layer.recurrent.m)
        for now, before, _ in steps(cache.decoder.packing):
            mask = masks[-1][: now.stop - now.start]
            np.testing.assert_array_equal(layer.r[before], layer.h[before] * mask)
    for mask in masks:
        assert len(np.unique(mask.reshape(-1, 40), axis=0)) == mask.size / 40  # of each sentence its own
        np.testing.assert_allclose(np.unique(mask), [0, 1 / 0.7], rtol=1e-7)
        assert 0.15 < (mask == 0).mean() < 0.45


@pytest.mark.parametrize("choices", [{}, {"layers": 2, "feed": "context"}], ids=str)
def test_what_is_dropped_is_read_by_no_later_step(rng, choices):
    model = NMT(11, 12, 5, 40, dtype="float64", recurrent_dropout=0.3, **choices)
    _, cache = model.forward(*alone(0), rng=rng)
    grads, layers = model.backward(cache), range(model.config.layers)
    for l in layers:
        number = f".{l}" if l else ""
        masks = [*cache.encoder.layers[l].sequence.recurrent.m, cache.decoder.rows.layers[l].recurrent.m]
        for m, dWh in zip(masks, [*grads[f"encoder{number}.Wh"], grads[f"decoder{number}.Wh"]], strict=True):
            np.testing.assert_array_equal(dWh[:40].any(axis=1), m[0] != 0)
            assert dWh[40:].any(axis=1).all()  # what is fed


@pytest.mark.parametrize("choices", [{}, {"layers": 2, "feed": "context"}], ids=str)
def test_recurrent_dropout_where_padding_is_computed_too(choices):
    """Its masks belong to sentences, so that the layout of the rows changes no number."""
    model = NMT(11, 12, 5, 4, dtype="float64", recurrent_dropout=0.5, **choices)
    inputs = prepare_inputs(*batch(), None)
    whole = inputs._replace(src_packing=pack_whole(SRC_LENGTHS, len(inputs.src)), target_rows=inputs.tgt_packing.rows,
                            tgt_packing=pack_whole(TGT_LENGTHS, len(inputs.tgt)))
    found = []
    for layout in (inputs, whole):
        loss, cache = model.forward_inputs(layout, np.random.default_rng(5))
        found.append((loss, model.backward(cache).flat))
    assert_close(*found)
    assert found[0][0] != model.forward_inputs(inputs)[0]


def test_r_drop_reads_each_sentence_twice_with_masks_of_its_own():
    choices = dict(dtype="float64", dropout=0.3, embed_dropout=0.2, label_smoothing=0.1)
    model = NMT(11, 12, 5, 4, r_drop=0.7, **choices)
    twice = [np.repeat(array, 2, axis=-1) for array in batch()]
    _, (_, _, decoder, _) = NMT(11, 12, 5, 4, **choices).forward(*twice, rng=np.random.default_rng(5))
    o = decoder.rows.readout.outputs(decoder.rows.top, decoder.packing, decoder.rows.readout_rows)
    targets = prepare_inputs(*twice).targets
    expected, _ = r_drop_forward(o @ model.params["vocab.W"], targets, alpha=0.7, label_smoothing=0.1)
    np.testing.assert_allclose(model.forward(*batch(), rng=np.random.default_rng(5))[0], expected, rtol=1e-13)
    assert (o[::2] != o[1::2]).any(axis=1).all()  # though both have the same target


def test_r_drop_of_masks_that_drop_nothing_is_one_pass(rng):
    model = NMT(11, 12, 5, 4, dtype="float64", layers=2, r_drop=9.0, dropout=1e-12, recurrent_dropout=1e-12)
    plain = NMT(11, 12, 5, 4, dtype="float64", layers=2).with_params(model.params)
    for found, expected in zip(results(model, batch(), rng), results(plain, batch()), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    for found, expected in zip(results(model, batch()), results(plain, batch()), strict=True):
        np.testing.assert_array_equal(found, expected)  # without a generator it is one


def test_with_params_is_another_model_over_the_given_weights():
    model = NMT(11, 12, 5, 4, seed=0)
    before = model.params.flat.copy()
    other = model.with_params(model.params.like(2 * model.params.flat.astype("float64")))
    loss, gradient = results(other, batch())
    assert loss.dtype == gradient.dtype == np.float64 and loss != model.forward(*batch())[0]
    assert other.config is model.config and isinstance(other, NMT)
    other.params.flat[...] = 0
    np.testing.assert_array_equal(model.params.flat, before)
    shared = model.with_params(model.params)
    shared.params["combine.W"][0] = 7
    assert (model.params["combine.W"][0] == 7).all()


@pytest.mark.parametrize("where, value, message", [
    ("src", 11, r"ids run from 0 to 11, expected 0 to V - 1 = 10, where V comes from W \(11, 5\)"),
    ("src", -1, "ids run from -1 to "),
    ("tgt", 12, r"ids run from 0 to 12, expected 0 to V - 1 = 11, where V comes from W \(12, 5\)"),
    ("tgt", -1, "ids run from -1 to "),
    ("last tgt", 12, "targets run from 2 to 12, expected 0 to V - 1 = 11"),
    ("last tgt", -1, "targets run from -1 to "),
])
def test_an_id_outside_the_vocabulary(where, value, message):
    src, lengths, tgt = batch()
    ids, place = {"src": (src, (0, 1)), "tgt": (tgt, (1, 0)), "last tgt": (tgt, (5, 2))}[where]
    assert ids[place]
    ids[place] = value
    model = NMT(11, 12, 5, 4)
    for evaluate in (model.forward, model.nll):
        with pytest.raises(IndexError, match=message):
            evaluate(src, lengths, tgt)


def without_word(tgt):
    tgt[2, 0] = 0
    return tgt


@pytest.mark.parametrize("change, message", [
    (lambda s, n, t: (s, [3, 5, 0, 4], t), r"lengths are \[3, 5, 0, 4\], expected one from 1 to T = 5"),
    (lambda s, n, t: (s, [3, 6, 1, 4], t), r"lengths are \[3, 6, 1, 4\], expected one from 1 to T = 5"),
    (lambda s, n, t: (s, n[:3], t), r"lengths has shape \(3,\), expected \(B\) = \(4\)"),
    (lambda s, n, t: (s[:, :3], n[:3], t), r"tgt has shape \(6, 4\), expected \(U, B\) = \(6, 3\)"),
    (lambda s, n, t: (s[:, 0], n, t), r"NMT.forward: src has shape \(5,\), expected \(S, B\)"),
    (lambda s, n, t: (s, n, without_word(t)), "tgt has padding .* before a word"),
    (lambda s, n, t: (s, n, t[:1]), r"lengths are \[0, 0, 0, 0\]"),
])
def test_a_batch_that_does_not_fit(change, message):
    model = NMT(11, 12, 5, 4)
    for evaluate in (model.forward, model.nll):
        with pytest.raises(ValueError, match=message):
            evaluate(*change(*batch()))


@pytest.mark.parametrize("change, message", [
    (dict(hidden_size=0), "hidden_size is 0"),
    (dict(device="tpu"), "device 'tpu' is not known"),
    (dict(init="ones"), "init is 'ones'"),
])
def test_a_model_that_cannot_be(change, message):
    with pytest.raises(InputError, match=message):
        NMT(**{**dict(src_vocab_size=11, tgt_vocab_size=12, embed_size=5, hidden_size=4), **change})


@pytest.mark.parametrize("dtype", ["int32", "float16", None])
def test_weights_are_of_a_floating_type(dtype):
    with pytest.raises(InputError, match=f"dtype is {dtype!r}, expected float32 or float64"):
        NMT(5, 5, 4, 4, dtype=dtype)


def test_a_source_of_more_tokens_than_the_model_knows_places():
    model = NMT(9, 9, 4, 4, score="location", max_source=3)
    src, tgt = np.full((4, 1), 5), np.array([[1], [5], [2]])
    for call in (lambda: model.forward(src, np.array([4]), tgt), lambda: model.start(src, np.array([4]))):
        with pytest.raises(InputError, match="a source of 4 tokens, but score 'location' knows 3 positions"):
            call()
    padded = model.forward(src, np.array([3]), tgt)[0]  # padding has no place
    assert padded == pytest.approx(model.forward(src[:3], np.array([3]), tgt)[0])
