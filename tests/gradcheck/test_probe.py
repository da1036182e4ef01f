"""Random directions in which errors do not hide, and the way to an element."""

import numpy as np
import pytest

from scratchnmt.gradcheck import check_directional
from scratchnmt.gradcheck.directional import draw_direction, halve


def test_no_element_of_a_direction_is_weighted_down_by_more_than_3():
    u = draw_direction(100_000, [0, 1])
    assert u.dtype == np.float32 and 0.5 <= np.abs(u).min() < 0.501 and 1.499 < np.abs(u).max() <= 1.5
    assert abs(np.mean(u > 0) - 0.5) < 0.01 and abs(np.abs(u).mean() - 1) < 0.01
    assert np.unique(np.abs(u[:1000])).size > 990
    np.testing.assert_array_equal(draw_direction(9, [0, 1]), u[:9])
    assert not np.array_equal(draw_direction(9, [0, 2]), u[:9])


def test_two_errors_of_one_size_do_not_cancel():
    """A bias of two whose gradients are exchanged: their errors are d and -d."""
    a = np.array([1.0, 2.0])

    def loss(params):
        return (a * params["b"]).sum()

    missed = [seed for seed in range(50) if check_directional(
        loss, lambda params: {"b": a[::-1].copy()}, {"b": np.array([0.3, 0.4])}, seed=seed, locate=False).ok]
    assert missed == []


def test_halving_leads_to_the_largest_gap():
    gaps = np.array([0.1, -0.2, 5.0, 0.3, -0.1, 0.2, 0.0])
    assert halve(lambda start, stop: gaps[start:stop].sum(), 0, 7) == 2
    assert halve(lambda start, stop: gaps[start:stop].sum(), 5, 6) == 5


@pytest.mark.parametrize("rtol", [1e-11, 1e-6])
def test_a_gradient_that_is_small_beside_another_is_judged_by_its_own_size(rtol):
    def loss(params):
        return (1e-9 * params["a"] ** 2).sum() + (params["b"] ** 2).sum()

    params = {"a": np.array([0.3, -1.4]), "b": np.array([1.2, 0.7])}
    right = {"a": 2e-9 * params["a"], "b": 2 * params["b"]}
    assert check_directional(loss, lambda _: right, params, rtol=rtol).ok
    assert check_directional(loss, lambda _: {**right, "a": 0 * params["a"]}, params, rtol=rtol).wrong == ("a",)
