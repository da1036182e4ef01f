"""The table behind `scratchnmt gradcheck`, and every configuration of the whole model."""

import importlib
import pkgutil

import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st

import scratchnmt.ops
from scratchnmt.errors import InputError
from scratchnmt.models.nmt import NMT
from scratchnmt.selfcheck import CASES, MODELS, check_model, example_batch, rows, table

by_name = pytest.mark.parametrize("case", MODELS, ids=lambda case: case.name)


def test_every_op_of_the_package_is_listed():
    listed = {case.name.partition(",")[0] for case in CASES}
    found = set()
    for module in pkgutil.iter_modules(scratchnmt.ops.__path__):
        names = vars(importlib.import_module(f"scratchnmt.ops.{module.name}"))
        found |= {name.removesuffix("_forward") for name in names if name.endswith("_forward")}
    assert found == listed


def test_every_row_is_right_and_the_table_says_so():
    checked = list(rows())
    assert [row.name for row in checked] == [case.name for case in (*CASES, *MODELS)]
    assert all(row.ok for row in checked), [row.report for row in checked if not row.ok]
    assert all(row.error <= 1e-12 for row in checked)
    lines = table(checked).splitlines()
    assert len(lines) == len(checked) + 3 and "WRONG" not in table(checked)
    assert lines[-1].startswith(f"  {len(checked)} of {len(checked)} right")


def test_a_wrong_row_is_called_wrong():
    [row] = rows(["softmax, masked"])
    assert "WRONG" in table([row._replace(ok=False)])
    assert "0 of 1 right" in table([row._replace(ok=False)])


def test_names_choose_an_op_or_one_configuration():
    assert [row.name for row in rows(["lstm_cell", "linear"])] == [
        "linear", "linear, no bias, over time", "lstm_cell"]
    assert [row.name for row in rows(["attention, concat"])] == ["attention, concat"]
    with pytest.raises(InputError, match="'gru' is not an operation, expected one of tanh, .*, lstm, nmt"):
        list(rows(["linear", "gru"]))


def test_float32():
    checked = list(rows(["lstm", "linear_cross_entropy", "attention"], dtype="float32"))
    assert all(row.ok and row.tolerance > 1e-6 for row in checked)


@by_name
@settings(max_examples=6, deadline=None, derandomize=True)
@given(data=st.data())
def test_the_model_at_drawn_lengths(case, data):
    sizes = data.draw(strategies.sizes("S T B"))
    src_lengths = data.draw(strategies.lengths(sizes["S"], sizes["B"]))
    tgt_lengths = data.draw(strategies.lengths(sizes["T"], sizes["B"]))
    seed = data.draw(strategies.seeds())
    report = case.check(*example_batch(src_lengths, tgt_lengths, seed), seed=seed)
    assert report.ok, report


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
