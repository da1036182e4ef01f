"""Right gradients pass and wrong ones fail whatever the scale of the arguments and of the outputs."""

import numpy as np
import pytest

from scratchnmt.gradcheck import check_gradients

METHODS = ("complex", "central", "richardson")
X_SCALES = (1e-6, 1e-3, 1.0, 1e3, 1e6)
Y_SCALES = (1e-12, 1e-6, 1.0, 1e6)


def softmax(x):
    e = np.exp(x - x.real.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def softmax_backward(dy, x):
    y = softmax(x)
    return y * (dy - (y * dy).sum(-1, keepdims=True))


def layer_norm(x):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)


def layer_norm_backward(dy, x):
    y = layer_norm(x)
    rstd = 1 / np.sqrt(((x - x.mean(-1, keepdims=True)) ** 2).mean(-1, keepdims=True) + 1e-5)
    return rstd * (dy - dy.mean(-1, keepdims=True) - y * (dy * y).mean(-1, keepdims=True))


def tied(x):
    """The first two of each row tie for the largest."""
    x = np.array(x)
    x[:, 0] = x[:, 1] = np.abs(x).max(1) * 1.5
    return x


def all_that_tie(dy, x):
    best = x == x.max(-1, keepdims=True)
    return dy[:, None] * best / best.sum(-1, keepdims=True)


OPS = {  # forward, dx of (dy, x), the arguments of normal numbers
    "relu": (lambda x: np.maximum(x, 0), lambda dy, x: dy * (x > 0), lambda x: x),
    "tanh": (np.tanh, lambda dy, x: dy * (1 - np.tanh(x) ** 2), lambda x: x),
    "layer norm": (layer_norm, layer_norm_backward, lambda x: x),
    "square": (lambda x: x * x, lambda dy, x: 2 * x * dy, lambda x: x),
    "log": (np.log, lambda dy, x: dy / x, lambda x: np.abs(x) + 1e-3),
    "sqrt": (np.sqrt, lambda dy, x: dy / (2 * np.sqrt(x)), lambda x: np.abs(x) + 1e-3),
    "softmax": (softmax, softmax_backward, lambda x: x),
    "max with ties": (lambda x: x.max(-1), all_that_tie, tied),
}
every_case = [pytest.param(name, method, id=f"{name}, {method}") for name in OPS for method in METHODS]


def op(name, x_scale, y_scale, factor=1.0):
    forward, backward, prepare = OPS[name]
    x = x_scale * prepare(np.random.default_rng(3).standard_normal((2, 4)))
    return (lambda x: (y_scale * forward(x), x)), (lambda dy, x: {"dx": factor * y_scale * backward(dy, x)}), {"x": x}


@pytest.mark.parametrize("name, method", every_case)
def test_right_and_wrong_at_every_scale(name, method):
    for x_scale in X_SCALES:
        for y_scale in Y_SCALES:
            at = (x_scale, y_scale)
            report = check_gradients(*op(name, *at), method=method, contract=False)
            assert report.ok, (at, str(report))
            if vanishes(name, *at):
                continue
            for factor in (0.0, 0.5, 1.001):
                if factor == 0.5 and name == "max with ties":
                    factor = 0.3
                wrong = check_gradients(*op(name, *at, factor), method=method, contract=False)
                assert not wrong.ok, (at, factor, str(wrong))


def vanishes(name, x_scale, y_scale):
    """A saturated gradient, which is nothing but rounding beside the output."""
    _, backward, args = op(name, x_scale, y_scale)
    return np.abs(backward(np.ones(8).reshape(2, 4)[:, 0] if name.startswith("max") else
                           np.random.default_rng(0).standard_normal((2, 4)), args["x"])["dx"]).max() < 1e-13 * y_scale


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e-200, 1e155, 1e200])
def test_a_gradient_whose_squares_overflow(scale):
    def check(factor):
        return check_gradients(lambda x: (scale * x * x, x), lambda dy, x: {"dx": factor * scale * 2 * x * dy},
                               {"x": np.array([0.3, -1.2, 2.0])}, contract=False)
    assert check(1).ok and check(7).wrong == ("dx",)
    assert check(7).hints[0].startswith("dx is the reference times 7: is a constant")
