"""Functions that return a loss with its gradients, in every form."""

from dataclasses import dataclass

import numpy as np
import pytest
from trees import CONTAINERS, W, X, mapped, names, weights

from scratchnmt.gradcheck import check_loss


def test_a_loss_of_every_structure():
    def loss(tree):
        return sum((w**2).sum() for w in weights(tree)), mapped(lambda w: 2 * w, tree)
    for tree in (*CONTAINERS.values(), W):
        assert check_loss(loss, tree).ok
        assert not check_loss(lambda t: (loss(t)[0], mapped(lambda w: 2.001 * w, t)), tree).ok


def linear_loss(x, w, t, slip=1):
    r = x @ w - t
    return (r**2).sum(), 2 * np.outer(r, w), slip * 2 * x.T @ r


@pytest.mark.parametrize("together", [lambda dx, dw: (dx, dw), lambda dx, dw: ((dx, dw),), lambda dx, dw: ([dx, dw],),
                                      lambda dx, dw: ({"dx": dx, "w": dw},)])
def test_a_loss_of_several_arguments(together):
    def fn(x, w, t, slip=1):
        loss, *gradients = linear_loss(x, w, t, slip)
        return loss, *together(*gradients)
    report = check_loss(fn, X, W[:, 0], X[:, 0])
    assert report.ok and names(report) == ["dx", "dw"] and report.unchecked == ("t",)
    assert check_loss(fn, X, W[:, 0], X[:, 0], 1.001).wrong == ("dw",)


@pytest.mark.parametrize("returned, sentence", [
    (lambda r, w: r.sum(), r"fn returns an array of float64|fn returns a float64: expected \(loss, gradients\)"),
    (lambda r, w: (r**2, 2 * r), "expected .loss, gradients., the loss a number"),
    (lambda r, w: (w, (r**2).sum()), "expected .loss, gradients., the loss a number"),
    (lambda r, w: ((r**2).sum(), w, r.T, w), "an array of float64 of shape .5, 4. beside the loss, .* none of w, x"),
    (lambda r, w: ((r**2).sum(), {"v": w}), "returns gradients v for the arguments w, x: expected the same names"),
    (lambda r, w: None, "fn returns None"),
])
def test_a_loss_that_returns_something_else(returned, sentence):
    def fn(w, x):
        return returned(x @ w, w)
    with pytest.raises(ValueError, match=sentence) as caught:
        check_loss(fn, W, X)
    assert "backward" not in str(caught.value)


def test_a_loss_without_a_gradient_for_each_parameter():
    def fn(params, x):
        r = x @ params["W"] + params["b"]
        return (r**2).sum(), {"W": 2 * x.T @ r}
    for b in (0.5, W[0]):
        with pytest.raises(ValueError, match=r'^fn returns no gradient for params\["b"\]; .* by wrt=\[\'params\["W"\]'):
            check_loss(fn, {"W": W, "b": b}, X)
        assert check_loss(fn, {"W": W, "b": b}, X, wrt=['params["W"]']).ok


def test_parameters_in_a_dataclass():
    @dataclass
    class Params:
        W: np.ndarray
        b: np.ndarray

    def fn(params, x, slip=1):
        r = x @ params.W + params.b
        return (r**2).sum(), Params(2 * x.T @ r, slip * 2 * r.sum(axis=0))
    assert names(check_loss(fn, Params(W, W[0]), X)) == ["dparams.W", "dparams.b"]
    assert check_loss(fn, Params(W, W[0]), X, 2).wrong == ("dparams.b",)


def stateful_loss(other):
    """A loss of params, which returns `other` beside its gradients."""
    def loss(params, h0):
        h = params["w"] * h0
        return (h**2).sum() / 2, {"w": h * h0}, other(h, params["w"])
    return loss


def test_a_state_beside_the_gradients_is_told_from_a_wrong_gradient():
    params, h0 = {"w": np.array([0.5, -0.3, 0.2])}, np.array([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"not its gradient: .* wrt=\['params', 'h0'\] .* wrt=\['params'\] leaves it"):
        check_loss(stateful_loss(lambda h, w: h), params, h0)
    assert check_loss(stateful_loss(lambda h, w: h), params, h0, wrt=["params"]).ok
    assert check_loss(stateful_loss(lambda h, w: h), params, h0, wrt=["params", "h0"]).wrong == ("dh0",)
    assert names(check_loss(stateful_loss(lambda h, w: h * w), params, h0)) == ['dparams["w"]', "dh0"]


def test_what_may_be_a_gradient_of_the_wrong_shape_is_refused():
    params, h0 = {"w": np.array([0.5, -0.3, 0.2])}, np.array([1.0, 2.0, 3.0])
    for gradient in (lambda h, w: (h * w)[:, None], lambda h, w: (h * w).sum(keepdims=True)):
        with pytest.raises(ValueError, match=r"which is the gradient of none of params, h0: .* by wrt=\['params'\]"):
            check_loss(stateful_loss(gradient), params, h0)
    report = check_loss(stateful_loss(lambda h, w: np.ones(5)), params, h0)
    assert report.ok and report.unchecked == ("h0",)
    assert "no gradient: an array of float64 of shape (5,), which loss returns as well" in report.notes
