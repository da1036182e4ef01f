"""What `scratchnmt gradcheck` walks: the lists, the layers and every configuration of the whole model."""

import importlib
import pkgutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scratchnmt.ops
from scratchnmt.errors import InputError
from scratchnmt.gradcheck import strategies
from scratchnmt.models.nmt import NMT
from scratchnmt.selfcheck import CASES, EVERY, LAYERS, MODELS, check_model, choose, example_batch, rows

by_name = pytest.mark.parametrize("case", MODELS, ids=lambda case: case.name)


def test_every_op_of_the_package_is_listed():
    listed = {case.op for case in CASES}
    found = set()
    for module in pkgutil.iter_modules(scratchnmt.ops.__path__):
        names = vars(importlib.import_module(f"scratchnmt.ops.{module.name}"))
        found |= {name.removesuffix("_forward") for name in names if name.endswith("_forward")}
    assert found == listed


def test_every_row_is_right():
    checked = list(rows())
    assert [row.name for row in checked] == [case.name for case in EVERY]
    assert len({row.name for row in checked}) == len(checked)
    assert all(row.report.ok for row in checked), [row.report for row in checked if not row.report.ok]
    assert all(row.report.max_error <= 1e-12 and row.seconds > 0 for row in checked)


def test_a_name_chooses_the_lines_that_hold_all_of_its_words():
    def names(*wanted):
        return [case.name for case in choose(wanted)]

    every = names()
    assert names("lstm_cell", "sigmoid") == names("lstm cell", "sigmoid") == ["sigmoid", "lstm_cell"]
    for word in ("attention", "lstm", "dropout", "linear", "soft"):  # an op's name hides no line with more words
        assert names(word) == [name for name in every if word in name] and len(names(word)) > 1
    assert {"attention_step, concat", "lstm_gates"} <= {*names("attention", "lstm")}
    assert names("step, concat") == names("concat step") == ["attention_step, concat"]
    assert names("lstm gates") == names("LSTM_Gates") == ["lstm_gates"]
    assert names("lstm bidirectional") == ["lstm, two directions", "lstm, two directions, initial states"]
    assert names("Two  Directions") == names("bidirectional") == [
        case.name for case in EVERY if "two directions" in case.name]
    assert names("tied") == ["nmt, tied embeddings, label smoothing", "nmt, expected risk, tied embeddings, dropout",
                             "nmt, two teachers, tied embeddings, label smoothing"]
    assert names("softmax, masked", "masked") == ["softmax, masked"]
    assert names() == [row.name for row in EVERY]


@pytest.mark.parametrize("name, sentence", [
    ("capsule", "named 'capsule': expected words of a line's name, such as tanh, .*, lstm, encoder, decoder, .*, nmt"),
    ("lsmt", "named 'lsmt'; did you mean 'lstm'"),
    ("two direction lairs", "did you mean 'two directions'"),
    ("lstm gaets", "did you mean 'lstm_gates'"),
    ("setp", "did you mean 'step'"),
    ("  ", "expected words of a line's name"),
    ("", "expected words of a line's name"),
    ("_", "expected words of a line's name"),
])
def test_a_name_of_nothing_is_refused_with_what_is_near(name, sentence):
    with pytest.raises(InputError, match=sentence):
        list(rows(["linear", name]))


def test_float32():
    checked = list(rows(["lstm", "linear_cross_entropy", "attention", "encoder", "decoder"], dtype="float32"))
    assert all(row.report.ok and row.report.rtol > 1e-6 for row in checked)


layers_by_name = pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.name)


@layers_by_name
@settings(max_examples=2, derandomize=True)
@given(data=st.data())
def test_the_layers_at_drawn_sizes(case, data, gradcheck):
    sizes = data.draw(strategies.sizes(case.letters, max_size=3))
    args = case.arguments(sizes, np.random.default_rng(data.draw(strategies.seeds())))
    case.check(args, gradcheck.assert_gradients)


@layers_by_name
def test_a_layer_has_every_weight_of_its_part_of_the_model(case):
    part = case.name.partition(",")[0]
    report = case.report()
    model = next(m for m in MODELS if ("two layers" in m.name) == ("two layers" in case.name)
                 and ("concat" in m.name) == ("concat" in case.name) and ("dot" in m.name) == ("dot" in case.name)
                 and ("location" in m.name) == ("location" in case.name))
    theirs = {"encoder": ("encoder", "init"), "decoder": ("decoder", "attention", "combine")}[part]
    expected = {f"d{name}" for name in model.model().params if name.split(".")[0] in theirs}
    assert expected <= {t.name for t in report.tensors} and report.ok


@layers_by_name
def test_a_slip_in_any_gradient_of_a_layer_is_caught_and_its_gate_is_named(case, rng):
    def slip(*dys_and_cache):
        return {name: g * (1 + 1e-6) for name, g in case.backward(*dys_and_cache).items()}

    report = case._replace(backward=slip).check(case.arguments(case.sizes, rng), contract=False)
    assert report.wrong == tuple(t.name for t in report.tensors)
    labelled = {t.name for t in report.tensors if t.worst[0].label.startswith("gate ")}
    assert labelled == {t.name for t in report.tensors if t.name.startswith(("dencoder", "ddecoder"))}


@by_name
@settings(max_examples=6, derandomize=True)
@given(data=st.data())
def test_the_model_at_drawn_lengths(case, data, gradcheck):
    sizes = data.draw(strategies.sizes("S T B"))
    src_lengths = data.draw(strategies.lengths(sizes["S"], sizes["B"]))
    tgt_lengths = data.draw(strategies.lengths(sizes["T"], sizes["B"]))
    seed = data.draw(strategies.seeds())
    case.check(*example_batch(src_lengths, tgt_lengths, seed), seed=seed, check=gradcheck.assert_directional)


@by_name
def test_a_slip_in_any_weight_is_caught(case, monkeypatch):
    """No tensor's gradient is so small in the example that an error of 1e-6 in it would pass."""
    backward = NMT.backward

    def slip(self, cache, out=None):
        grads = backward(self, cache, out)
        grads.flat *= 1 + 1e-6
        return grads

    monkeypatch.setattr(NMT, "backward", slip)
    report = case.report()
    assert report.wrong == tuple(t.name for t in report.tensors)


def test_a_trained_models_own_weights_are_checked_in_float64():
    model = NMT(11, 12, 5, 4, dtype="float32", dropout=0.2, seed=1)
    before = model.params.flat.copy()
    batch = example_batch(np.array([4, 2]), np.array([3, 3]))
    assert check_model(model, *batch).ok
    assert check_model(model, *batch, dropout_seed=3).ok
    np.testing.assert_array_equal(model.params.flat, before)
    assert model.params.flat.dtype == np.float32


def test_example_batch_is_what_the_model_expects():
    src, lengths, tgt = example_batch(np.array([1, 3]), np.array([4, 1]))
    assert src.shape == (3, 2) and tgt.shape == (5, 2)
    np.testing.assert_array_equal((src != 0).sum(axis=0), lengths)
    np.testing.assert_array_equal(tgt[:, 1], [1, 2, 0, 0, 0])
    assert tgt[0, 0] == 1 and tgt[4, 0] == 2 and (tgt[1:4, 0] > 2).all()
