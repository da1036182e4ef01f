"""A recorded step: its quantities and their formulas, the summands of gradients, derivatives of what is inside it."""

from functools import lru_cache

import numpy as np
import pytest

from scratchnmt import NMT
from scratchnmt.errors import InputError
from scratchnmt.microscope.formulas import evaluate, parse, split, terms
from scratchnmt.microscope.numeric import Cell, can_be_moved, derivatives
from scratchnmt.microscope.trace import Batch, Sentence, Trace
from scratchnmt.selfcheck.models import MODELS, example_batch

BATCH = Batch(*example_batch(np.array([3, 5, 1, 4]), np.array([4, 2, 5, 1])))
SENTENCES = range(4)
EVERY = pytest.mark.parametrize("case", [
    case for case in MODELS if not {"cell", "r_drop"} & {*case.choices}],
                                ids=lambda case: case.name)


def seed_of(model):
    config = model.config
    return 3 if config.drops else None


@lru_cache(maxsize=1)  # the tests of a configuration follow each other
def traced(name):
    model = next(case for case in MODELS if case.name == name).model()
    return model, Trace(model, BATCH, seed_of(model))


def rms(array):
    return max(1e-12, float(np.sqrt((np.asarray(array) ** 2).mean())))


def drawn_cells(rng, array, count):
    return [(int(rng.integers(array.shape[0])), int(rng.integers(array.shape[1]))) for _ in range(count)]


def sides(trace):
    return [(quantity, name, side) for quantity in trace.table.values() for name in ("value", "gradient")
            if (side := getattr(quantity, name))]


@EVERY
def test_recording_changes_no_number(case):
    model, trace = traced(case.name)
    rng = None if trace.seed is None else np.random.default_rng(trace.seed)
    loss, cache = model.forward(*BATCH, rng=rng)
    assert trace.loss == loss
    assert all(np.array_equal(trace.grads[name], gradient) for name, gradient in model.backward(cache).items())
    np.testing.assert_allclose(trace.word_losses().sum(), loss, rtol=1e-14)


@EVERY
def test_every_formula_gives_the_number_that_was_recorded(case):
    trace, rng, count = traced(case.name)[1], np.random.default_rng(1), 0
    for b in SENTENCES:
        numbers = Sentence(trace, b)
        for quantity, name, side in sides(trace):
            array = getattr(trace, name)(quantity.id, b)
            for cell in drawn_cells(rng, array, 3 if side.formula else 0):
                value = evaluate(side.formula, dict(zip(quantity.letters, cell, strict=True)), numbers)
                assert abs(value - array[cell]) <= 1e-12 * rms(array), f"{name} of {quantity.id}: {side.formula}"
                count += 1
    assert count > 400


@EVERY
def test_the_summands_of_each_gradient_add_up_to_it(case):
    trace = traced(case.name)[1]
    for quantity, name, side in sides(trace):
        if name == "gradient" and side.paths:
            for b in SENTENCES:
                whole, paths = trace.gradient(quantity.id, b), trace.paths(quantity.id, b)
                assert set(paths) <= set(side.paths), quantity.id
                total = sum((summands.array for summands in paths.values()), np.zeros_like(whole))
                assert np.abs(total - whole).max() <= 1e-12 * rms(whole), quantity.id


@EVERY
def test_every_summand_follows_its_formula(case):
    trace, rng = traced(case.name)[1], np.random.default_rng(2)
    for b in SENTENCES:
        numbers = Sentence(trace, b)
        for quantity, name, side in sides(trace):
            if name == "value" or not side.paths:
                continue
            whole = rms(trace.gradient(quantity.id, b))
            for path, summands in trace.paths(quantity.id, b).items():
                for row, column in drawn_cells(rng, summands.array, 2 if side.paths[path] else 0):
                    value = evaluate(side.paths[path], dict(zip(quantity.letters, (row, column), strict=True)), numbers)
                    if path == "first" and not summands.array[row].any():
                        continue  # it is of a sentence's last state alone
                    assert abs(value - summands.array[row, column]) <= 1e-12 * whole, (quantity.id, path)


@EVERY
def test_the_gradient_of_what_is_inside_a_step_is_its_complex_step_derivative(case):
    model, trace = traced(case.name)
    rng = np.random.default_rng(3)
    cells = [Cell(id, b, *drawn_cells(rng, trace.value(id, b), 1)[0])
             for id in trace.table if can_be_moved(trace, id) for b in SENTENCES]
    assert len(cells) >= 50
    for cell, derivative in zip(cells, derivatives(model, BATCH, cells, trace.seed), strict=True):
        gradient = trace.gradient(cell.id, cell.b)
        assert abs(gradient[cell.row, cell.unit] - derivative) <= 1e-11 * rms(gradient), cell


def test_a_cell_that_the_microscope_does_not_know():
    with pytest.raises(InputError, match="the cell of this model is 'layer-norm-lstm', and only 'lstm'"):
        Trace(NMT(9, 9, 4, 4, dtype="float64", cell="layer-norm-lstm"), BATCH)


def test_of_r_drop_one_pass_is_taken_apart():
    model = NMT(11, 12, 5, 4, dtype="float64", r_drop=1.0, dropout=0.2)
    assert Trace(model, BATCH).loss == model.forward(*BATCH)[0]
    with pytest.raises(InputError, match="goes through each sentence twice, .* leave the seed out"):
        Trace(model, BATCH, seed=3)


def test_gradients_of_single_words_add_up_to_that_of_the_loss():
    trace = Trace(MODELS[0].model(), BATCH)
    names = "h_dec", "c_fwd", "h_enc", "a", "x"
    whole = {name: [trace.gradient(name, b) for b in SENTENCES] for name in names}
    total = {name: [np.zeros_like(array) for array in arrays] for name, arrays in whole.items()}
    for b in SENTENCES:
        for t in range(trace.tgt_lengths[b]):
            trace.backward(word=(b, t))
            for name in names:
                for other in SENTENCES:
                    gradient = trace.gradient(name, other)
                    assert other == b or not gradient.any()
                    total[name][other] += gradient
            if t:
                assert set(trace.paths("o", b)) == {"loss", "feeding"}
    for name in names:
        for expected, array in zip(whole[name], total[name], strict=True):
            np.testing.assert_allclose(array, expected, rtol=0, atol=1e-13 * rms(expected))


class Constants:
    """Numbers for formulas of this test."""

    constants = {"H": 2, "S": 3}
    arrays = {"a": np.array([[1.0, 2.0], [3.0, 4.0]]), "W.x[0]": np.arange(8.0).reshape(4, 2)}

    def get(self, name, indices):
        return float(self.arrays[name][indices])

    def size(self, name, axis):
        return self.arrays[name].shape[axis]


@pytest.mark.parametrize("formula, expected", [
    ("a[t,j]", 4.0), ("a[t-1,j] - a[t,0]", -1.0), ("sum k: a[t,k] * W.x[0][k+H,j]", 3 * 5 + 4 * 7),
    ("(1 - a[t,j]) * a[t,0]", -9.0), ("a[t,j] / (sum r: a[r,j]) * S", 2.0), ("-a[0,0] + sum k: a[k,j]", 5.0),
    ("sum t: (sum k: a[t,k] * W.x[0][k,j])", 1 + 2 * 3 + 3 + 4 * 3), ("exp(log(a[t,j])) * 0.5", 2.0)])
def test_a_formula(formula, expected):
    letters = {"t": 1, "j": 1}
    assert evaluate(formula, letters, Constants()) == pytest.approx(expected, rel=1e-14)
    assert sum(term.total for term in terms(formula, letters, Constants())) == pytest.approx(expected, rel=1e-14)


def test_the_terms_of_a_formula_have_names_and_numbers():
    first, second = terms("sum k: a[t,k] * W.x[0][k+H,j] - a[0,j] * 2", {"t": 1, "j": 1}, Constants())
    assert first.values[1] == ("k = 1", [("a[1,1]", 4.0), ("W.x[0][3,1]", 7.0)], 28.0)
    assert second.values == [("", [("a[0,1]", 2.0), ("2", 2.0)], -4.0)]
    assert [first.text, second.text] == split("sum k: a[t,k] * W.x[0][k+H,j] - a[0,j] * 2")


@pytest.mark.parametrize("formula", ["a[t,j] +", "a[t,j", "tanh a[t,j]", "a[t,j]) * 2", "sum k: a[t,j]"])
def test_what_is_no_formula_is_an_error(formula):
    with pytest.raises((ValueError, KeyError)):
        parse(formula)
        evaluate(formula, {"t": 0, "j": 0}, Constants())
