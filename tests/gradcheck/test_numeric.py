"""Numerical derivatives against derivatives known on paper."""

from pathlib import Path

import numpy as np
import pytest

from scratchnmt.gradcheck import NotAnalyticError, central, complex_step, gradient, richardson

X = np.array([[0.3, -1.2, 2.0], [0.7, 0.1, -0.4]])
DY = np.array([[1.5, -0.2, 0.4], [-2.0, 0.6, 1.1]])
U = np.array([[1.0, -1.0, 1.0], [1.0, 1.0, -1.0]])


def tanh_times(x, scale=2.0, where=None):
    y = np.tanh(scale * x)
    return y if where is None else np.where(where, y, 0)


EXACT = DY * 2 / np.cosh(2 * X) ** 2


def test_complex_step_is_exact_to_rounding():
    found = complex_step(tanh_times, {"x": X}, {"x": U}, dys=[DY])
    assert found == pytest.approx((EXACT * U).sum(), rel=1e-15)


def test_central_and_richardson_reach_their_stated_accuracy():
    exact = (EXACT * U).sum()
    assert central(tanh_times, {"x": X}, {"x": U}, dys=[DY]) == pytest.approx(exact, rel=1e-9)
    value, estimate = richardson(tanh_times, {"x": X}, {"x": U}, dys=[DY])
    assert value == pytest.approx(exact, rel=1e-11)
    assert estimate < 1e-6


def test_richardson_gains_on_central_at_the_same_step():
    exact = (EXACT * U).sum()
    coarse = central(tanh_times, {"x": X}, {"x": U}, dys=[DY], step=2.0**-8)
    value, _ = richardson(tanh_times, {"x": X}, {"x": U}, dys=[DY], step=2.0**-8)
    assert abs(value - exact) < 1e-4 * abs(coarse - exact)


@pytest.mark.parametrize("method, rtol", [("complex", 1e-14), ("central", 1e-8), ("richardson", 1e-10)])
def test_gradient_element_by_element(method, rtol):
    found = gradient(tanh_times, {"x": X}, "x", dys=[DY], method=method)
    np.testing.assert_allclose(found, EXACT, rtol=rtol)


@pytest.mark.parametrize("method", ["complex", "central"])
def test_gradient_at_chosen_indices(method):
    found = gradient(tanh_times, {"x": X}, "x", dys=[DY], method=method, indices=[4, 1])
    np.testing.assert_allclose(found, EXACT.reshape(-1)[[4, 1]], rtol=1e-8)


def test_the_argument_is_not_changed_and_need_not_be_contiguous():
    x = X.T
    before = x.copy()
    np.testing.assert_allclose(gradient(tanh_times, {"x": x}, "x", dys=[DY.T]), EXACT.T, rtol=1e-14)
    np.testing.assert_array_equal(x, before)


def test_a_number_as_argument_of_no_dimension():
    found = gradient(lambda x: x * x, {"x": np.array(3.0)}, "x", dys=[np.array(2.0)])
    assert found.shape == ()
    assert found == 12.0


def test_numbers_none_booleans_and_integers_are_left_alone():
    def f(ids, x, scale, where, nothing, word):
        assert ids.dtype == np.int64 and where.dtype == bool and nothing is None and word == "sum"
        return tanh_times(x, scale, where)[ids]

    args = {"ids": np.array([1, 1]), "x": X, "scale": 2.0, "where": X > 0, "nothing": None, "word": "sum"}
    expected = np.where(X > 0, EXACT / DY, 0) * [[0], [1]] * DY.sum(axis=0)
    np.testing.assert_allclose(gradient(f, args, "x", dys=[DY]), expected, rtol=1e-14, atol=1e-300)


def test_several_outputs_are_summed_and_one_without_a_gradient_is_skipped():
    def f(x):
        return x * x, np.arange(3), np.exp(x).sum()

    found = gradient(f, {"x": X}, "x", dys=[DY, 3.0])
    np.testing.assert_allclose(found, 2 * X * DY + 3 * np.exp(X), rtol=1e-14)


def test_a_generator_starts_from_the_same_state_for_every_derivative():
    def f(x, rng):
        return x * rng.standard_normal(x.shape)

    noise = np.random.default_rng(5).standard_normal(X.shape)
    found = gradient(f, {"x": X, "rng": np.random.default_rng(5)}, "x", dys=[DY])
    np.testing.assert_allclose(found, noise * DY, rtol=1e-14)


def test_no_kink_is_crossed():
    x = np.array([1e-9, -1e-9, 1.0])
    found = gradient(lambda x: x * (x.real > 0), {"x": x}, "x", dys=[np.ones(3)])
    np.testing.assert_array_equal(found, [1, 0, 1])


def test_an_unknown_method():
    with pytest.raises(ValueError, match="'forward' is not known: expected complex, central or richardson"):
        gradient(tanh_times, {"x": X}, "x", dys=[DY], method="forward")


def test_too_few_dys():
    with pytest.raises(ValueError, match="2 outputs with a gradient, but 1 dys"):
        gradient(lambda x: (x, x), {"x": X}, "x", dys=[DY])


@pytest.mark.parametrize("f, sentence", [
    (lambda x: np.abs(x), "output 0 of the forward pass is real"),
    (lambda x: x.astype("f4"), "casts complex numbers to real"),
    (lambda x: np.logaddexp(x, 0), "refuses complex numbers"),
    (lambda x: 1 / (1 + np.exp(-1000 * x)), "gives .*nan"),
])
@pytest.mark.filterwarnings("error")
def test_a_forward_that_drops_the_imaginary_part_is_named(f, sentence):
    with pytest.raises(NotAnalyticError, match=sentence) as caught:
        gradient(f, {"x": X}, "x", dys=[DY])
    assert "docs/gradcheck.md, section 7" in str(caught.value) and "method='richardson'" in str(caught.value)


def test_the_page_to_which_the_advice_sends_has_that_section():
    page = (Path(__file__).parents[2] / "docs" / "gradcheck.md").read_text(encoding="utf-8")
    assert "\n## 7. Where the complex step cannot go" in page


@pytest.mark.parametrize("method, rtol", [("central", 1e-6), ("richardson", 1e-8)])
@pytest.mark.parametrize("f, slope, x", [
    (lambda x: np.sqrt(x), lambda x: 0.5 / np.sqrt(x), [1e-7, 1.0, 2.0]),
    (lambda x: np.log(x), lambda x: 1 / x, [1e-3, 1.0, 1e6]),
    (lambda x: x * x, lambda x: 2 * x, [1e-6, 1.0, 1e6]), (lambda x: np.tanh(x - 1e6), lambda x: 1.0, [1e6])])
def test_the_step_settles_where_the_function_is_resolved(f, slope, x, method, rtol):
    x = np.array(x)
    np.testing.assert_allclose(gradient(f, {"x": x}, "x", dys=[np.ones(len(x))], method=method), slope(x), rtol=rtol)


@pytest.mark.parametrize("method", ["central", "richardson"])
def test_where_no_difference_can_be_taken_there_is_a_sentence(method):
    with pytest.raises(ValueError, match=rf"{method}: the forward pass is not finite, or raises, .* of x\[1\] = 0"):
        gradient(lambda x: np.sqrt(x), {"x": np.array([1.0, 0.0])}, "x", dys=[np.ones(2)], method=method)
