"""The error of an element, and what is kept of an array of them."""

import numpy as np
import pytest

from scratchnmt.gradcheck.report import EPS, noise_floors, relative_errors, rms, rounding, tensor_report


def test_error_is_relative_to_rms_and_element():
    errors = relative_errors(np.array([3.0, 4.5]), np.array([3.0, 4.0]), floor=0.0)
    np.testing.assert_allclose(errors, [0, 0.5 / (np.sqrt(12.5) + 4)])


def test_error_of_a_zero_reference_uses_the_floor_and_nan_is_infinite():
    np.testing.assert_allclose(relative_errors(np.array([0.0, 1e-3]), np.zeros(2), floor=0.1), [0, 1e-2])
    assert relative_errors(np.array([1.0]), np.zeros(1), floor=0.0) == np.inf
    np.testing.assert_array_equal(
        relative_errors(np.array([np.nan, 1.0]), np.ones(2), floor=0.0), [np.inf, 0]
    )


def test_the_worst_element_comes_first_with_index_and_label():
    found = tensor_report("dW", (2, 2), np.array([1.0, 2.5, 3.0, 40.0]), np.array([1.0, 2.0, 3.0, 4.0]),
                          rtol=1e-12, floor=0.0, labels=["gate i", "gate f"])
    assert (found.checked, found.wrong) == (4, 2)
    worst = found.worst[0]
    assert (worst.name, worst.index, worst.label, worst.backward, worst.reference) == (
        "dW",
        (1, 1),
        "gate f",
        40,
        4,
    )
    assert found.max_error == worst.error


def test_sampled_elements_keep_their_index():
    found = tensor_report("dx", (3, 5), np.array([0.0, 9.0]), np.array([0.0, 1.0]), rtol=1e-12, floor=0,
                          indices=np.array([2, 13]))
    assert found.worst[0].index == (2, 3)


def test_elements_on_a_kink_are_not_held_to_the_reference():
    found = tensor_report("dx", (3,), np.array([1.0, 9.0, 2.1]), np.array([1.0, 1.0, 2.0]), rtol=1e-12, floor=0,
                          kinks=np.array([False, True, False]))
    assert (found.wrong, found.kinks, found.checked) == (1, 1, 3) and found.worst[0].index == (2,)
    assert found.max_error == found.worst[0].error


def test_the_tolerance_follows_the_dtype():
    assert rounding("float64") == 1e-12 and rounding("float32") == 64 * 2.0**-23
    assert rounding("longdouble") == 1e-12


def floors(y, rtol=1e-12, dtype="float64", **references):
    args = {name: value for name, (value, _) in references.items()}
    return noise_floors({name: g for name, (_, g) in references.items()}, args, [y], [np.ones_like(y)], rtol=rtol,
                        dtype=dtype)


def test_noise_follows_the_terms_and_not_the_tolerance():
    y, x, g = np.ones(4), np.ones(4), np.zeros(4)
    assert floors(y, x=(x, g))["x"] == pytest.approx(16 * EPS / 1e-12)
    assert floors(1e-9 * y, x=(x, g))["x"] == pytest.approx(1e-9 * 16 * EPS / 1e-12)
    assert floors(y, rtol=1e-6, x=(x, g))["x"] * 1e-6 == pytest.approx(16 * EPS), "a loose method is no noisier"
    assert floors(y, rtol=7.6e-6, dtype="float32", x=(x, g))["x"] == pytest.approx(16 * 2.0**-23 / 7.6e-6)
    assert floors(y, rtol=7.6e-6, dtype="float32", x=(1e3 * x, g))["x"] == pytest.approx(0.016 * 2.0**-23 / 7.6e-6)
    assert floors(y, x=(np.ones(8), g))["x"] == pytest.approx(8 * EPS / 1e-12), "two elements share an output"


def test_noise_beside_a_large_gradient_is_by_what_its_argument_adds_to_the_output():
    y, b, g = np.ones(4), np.ones(4), np.zeros(4)
    assert floors(y, b=(b, g), x=(np.ones(2), np.full(2, 1e3)))["b"] == pytest.approx(1e3 * 16 * EPS / 1e-12)
    assert floors(y, b=(b, g), x=(np.full(2, 1e-8), np.full(2, 1e8)))["b"] < 16 * EPS / 1e-12 * 1.01


def test_rms_does_not_underflow():
    assert rms(np.array([3e-200, 4e-200])) == pytest.approx(np.sqrt(12.5) * 1e-200)
    assert rms(np.zeros(0)) == rms(np.zeros(2)) == 0
