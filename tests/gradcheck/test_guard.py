"""The guard of complex-step: what is not complex-analytic is found, what is gets through."""

import numpy as np
import pytest

from scratchnmt.gradcheck import NotAnalyticError
from scratchnmt.gradcheck.reference import check_analytic

X = np.array([[0.3, -1.2, 2.0], [0.7, 0.1, -0.4]])
DY = np.array([[1.5, -0.2, 0.4], [-2.0, 0.6, 1.1]])


def tanh_times(x, scale=2.0):
    return np.tanh(scale * x)


@pytest.mark.parametrize("f", [
    lambda x: x * np.abs(x),
    lambda x: x / np.linalg.norm(x),
    lambda x: (x - x.mean()) / np.sqrt(x.var() + 1e-5),
    lambda x: x * x.conj(),
], ids=["abs", "norm", "var", "conj"])
def test_a_forward_that_is_not_analytic_is_found_by_a_real_difference(f):
    with pytest.raises(NotAnalyticError, match="not complex-analytic.* with method='richardson'"):
        check_analytic(f, {"x": X}, ["x"], dys=[DY])


def test_an_analytic_forward_passes_even_where_its_gradient_is_zero():
    check_analytic(tanh_times, {"x": X}, ["x"], dys=[DY])
    check_analytic(lambda x: np.exp(x) / np.exp(x), {"x": X}, ["x"], dys=[DY])
    check_analytic(tanh_times, {"x": 1e6 * X}, ["x"], dys=[DY])


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3, 1e4])
def test_a_sharply_curved_forward_is_analytic(scale):
    check_analytic(tanh_times, {"x": X / scale, "scale": scale}, ["x"], dys=[DY])
    with pytest.raises(NotAnalyticError):
        check_analytic(lambda x: tanh_times(x * np.abs(x) * scale, scale), {"x": X / scale}, ["x"], dys=[DY])


def relu(x):
    return x * (x.real > 0)


@pytest.mark.parametrize("x", [np.zeros((2, 3)), X * [[0, 1, 0], [1, 1, 0]], X - X[0, 1]])
def test_a_forward_with_kinks_is_analytic(x):
    for seed in range(5):
        check_analytic(relu, {"x": x}, ["x"], dys=[DY], seed=seed)
        check_analytic(lambda x: np.maximum(x, 0) + np.clip(x, -0.1, 0), {"x": x}, ["x"], dys=[DY], seed=seed)


def test_kinks_do_not_hide_a_forward_that_is_not_analytic():
    for seed in range(5):
        with pytest.raises(NotAnalyticError, match="not complex-analytic"):
            check_analytic(lambda x: relu(x) * (1 + 0.01 * np.abs(x)), {"x": X * [[0, 1, 0], [1, 1, 0]]}, ["x"],
                           dys=[DY], seed=seed)


def test_a_kink_at_the_edge_of_where_the_forward_is_defined():
    """Beside it there is nothing to compare: the first finding stands."""
    def edge(x):
        return np.where(x.real >= 0, np.sqrt(np.where(x.real >= 0, x, 1)), np.nan)

    with pytest.raises(NotAnalyticError), np.errstate(all="ignore"):
        check_analytic(edge, {"x": np.zeros(3)}, ["x"], dys=[np.ones(3)])


@pytest.mark.parametrize("scale", [1e-6, 1e-5, 1e-4, 1e-3, 1e3, 1e6])
def test_a_relu_is_analytic_at_every_scale(scale):
    x = scale * np.random.default_rng(0).standard_normal((20, 30))
    dy = np.random.default_rng(1).standard_normal((20, 30))
    for some in (x, np.full((20, 30), scale)):
        check_analytic(lambda x: np.maximum(x, 0), {"x": some}, ["x"], dys=[dy])
    with pytest.raises(NotAnalyticError, match="not complex-analytic"):
        check_analytic(lambda x: np.maximum(x, 0) * np.abs(x), {"x": x}, ["x"], dys=[dy])


def test_what_is_hidden_by_rounding_is_no_contradiction():
    """The terms are of size 1e8, the result is not."""
    for seed in range(40):
        check_analytic(lambda x: (1e8 + np.tanh(x).sum()) - 1e8, {"x": X}, ["x"], dys=[1.0], seed=seed)
        check_analytic(tanh_times, {"x": 30 * X}, ["x"], dys=[DY], seed=seed)
