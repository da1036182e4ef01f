"""Kinks are called kinks; what is merely curved, or wrong at a kink, is not."""

import numpy as np
import pytest

from scratchnmt.gradcheck import NotAnalyticError, assert_gradients, check_directional, check_gradients
from scratchnmt.gradcheck.kinks import explains, has_kink

METHODS = ("complex", "central", "richardson")
STEP = 6e-6
every_method = pytest.mark.parametrize("method", METHODS)


def relu_forward(x):
    return x * (x.real > 0), x


def relu_backward(dy, x):
    return {"dx": dy * (x >= 0)}  # at 0 the slope of the right, where the forward pass has that of the left


def with_zeros(rng):
    x = rng.standard_normal((4, 5))
    x[[0, 1, 3], [2, 0, 4]] = 0.0
    return x


@every_method
def test_a_relu_at_exact_zeros(method, rng):
    report = assert_gradients(relu_forward, relu_backward, {"x": with_zeros(rng)}, method=method)
    [tensor] = report.tensors
    assert (tensor.kinks, tensor.wrong, tensor.checked, report.kinks) == (3, 0, 20, 3)
    assert report.margin > 10, "a kink is no error, and no erosion of the margin"
    assert "dx: 3 elements lie on a kink" in report.notes[0] and "(0, 2)" in report.notes[0]
    assert "kinks" in str(report).splitlines()[2]


@every_method
def test_no_kinks_no_column(method, rng):
    report = assert_gradients(relu_forward, relu_backward, {"x": rng.standard_normal((4, 5)) + 9}, method=method)
    assert report.kinks == 0 and report.notes == () and "kink" not in str(report)


@every_method
@pytest.mark.parametrize("slope", [-0.01, 1.01, 2.0])
def test_a_wrong_slope_at_a_kink_is_wrong(method, slope, rng):
    def backward(dy, x):
        return {"dx": np.where(x == 0, slope, x > 0) * dy}

    report = check_gradients(relu_forward, backward, {"x": with_zeros(rng)}, method=method)
    assert (report.tensors[0].wrong, report.kinks) == (3, 0)


@every_method
def test_a_wrong_gradient_elsewhere_is_wrong_beside_kinks(method, rng):
    def backward(dy, x):
        return {"dx": dy * (x >= 0) * np.where(x == x.max(), 1 - 1e-4, 1)}

    report = check_gradients(relu_forward, backward, {"x": with_zeros(rng)}, method=method)
    assert (report.tensors[0].wrong, report.kinks) == (1, 3)


@every_method
def test_max_pooling_with_ties(method, rng):
    def forward(x):
        return x.max(axis=1), x

    def backward(dy, x):
        best = x == x.max(axis=1, keepdims=True)  # all that tie share, where max takes one of them
        return {"dx": dy[:, None] * best / best.sum(axis=1, keepdims=True)}

    x = rng.standard_normal((4, 5))
    x[1, [0, 3]] = x[2, [1, 2, 4]] = 3.0
    report = assert_gradients(forward, backward, {"x": x}, method=method)
    assert 0 < report.kinks <= 5

    def all_get_twice(dy, x):
        return {"dx": 2 * dy[:, None] * (x == x.max(axis=1, keepdims=True))}

    report = check_gradients(forward, all_get_twice, {"x": x}, method=method)
    assert report.tensors[0].wrong == 7 and report.kinks == 0


@every_method
def test_clip_at_its_limits(method, rng):
    def forward(x):
        return np.clip(x, -1, 1), x

    def backward(dy, x):
        return {"dx": dy * ((x >= -1) & (x <= 1))}

    x = rng.uniform(-2, 2, 12)
    x[3], x[7] = 1.0, -1.0
    assert assert_gradients(forward, backward, {"x": x}, method=method).kinks >= 1


@every_method
def test_abs_written_with_the_sign(method, rng):
    def forward(x):
        return x * np.sign(x.real), x

    def backward(dy, x):
        return {"dx": np.where(x >= 0, dy, -dy)}

    assert assert_gradients(forward, backward, {"x": with_zeros(rng)}, method=method).kinks == 3


@pytest.mark.parametrize("method, distance", [
    ("central", 1e-7), ("central", -3e-6), ("richardson", 1e-7), ("richardson", -1e-5), ("richardson", 1e-3),
    ("richardson", 2.0**-9), ("richardson", -3e-3)])
def test_a_kink_within_the_methods_own_reach(method, distance, rng):
    """The backward pass is exact there; the real difference is not, for it crosses the kink."""
    x = np.append(rng.uniform(0.5, 1, 3), distance)
    report = assert_gradients(relu_forward, relu_backward, {"x": x}, method=method)
    assert report.kinks == 1

    def wrong(dy, x):
        return {"dx": 1.5 * relu_backward(dy, x)["dx"] - 0.2 * dy}

    report = check_gradients(relu_forward, wrong, {"x": x}, method=method)
    assert report.tensors[0].wrong + report.kinks == 4 and report.tensors[0].wrong >= 3


def test_complex_step_needs_no_excuse_beside_a_kink():
    x = np.array([1e-7, -1e-7, 1e-300, 1.0])
    assert assert_gradients(relu_forward, relu_backward, {"x": x}).kinks == 0


@pytest.mark.parametrize("f, slope", [
    (lambda x: 1e8 * x * x, lambda x: 2e8 * x),
    (lambda x: np.cosh(300 * x), lambda x: 300 * np.sinh(300 * x)),
    (lambda x: np.tanh(1e3 * x), lambda x: 1e3 / np.cosh(1e3 * x) ** 2),
    (lambda x: 1 / (x + 1.02), lambda x: -1 / (x + 1.02) ** 2),
])
@pytest.mark.parametrize("method", ["complex", "central"])
def test_a_huge_curvature_is_no_kink(f, slope, method):
    """The gradient is wrong by what is small beside the difference of the slopes of both sides."""
    x = np.array([2e-4, -3e-4, 5e-4])
    report = check_gradients(lambda x: (f(x), x), lambda dy, x: {"dx": dy * slope(x) * (1 + 1e-4)}, {"x": x},
                             method=method)
    assert (report.tensors[0].wrong, report.kinks) == (3, 0)


@pytest.mark.parametrize("distance", [*np.linspace(-0.99, 0.99, 67), 7 / 45, 9 / 19])
def test_a_kink_is_seen_wherever_it_lies_within_reach(distance):
    """The two scores have zeros, at different places."""
    at = STEP * distance

    def f(t):
        return np.exp(t) + max(t - at, 0.0)

    assert has_kink(f, size=2.0, step=STEP, reach=STEP)
    assert has_kink(lambda t: f(t * 2.0**-8 / STEP), size=2.0, step=STEP, reach=2.0**-8) or abs(distance) > 0.95
    assert not has_kink(lambda t: f(t + 2 * at + 3 * STEP), size=2.0, step=STEP, reach=STEP)


def test_explained_is_only_what_lies_between_the_slopes():
    def f(t):
        return 3 * t if t > 0 else t

    ask = {"size": 1.0, "step": STEP, "reach": STEP}
    assert [explains(f, value, 1.0, **ask) for value in (0.9, 1.5, 3.0, 3.1)] == [False, True, True, False]
    assert not explains(np.sin, 1 + 1e-9, 1.0, **ask)


def test_the_guard_of_complex_step_lets_kinks_pass_but_not_what_is_not_analytic(rng):
    x = with_zeros(rng)
    assert_gradients(relu_forward, relu_backward, {"x": x})
    assert_gradients(relu_forward, lambda dy, x: {"dx": dy * (x > 0)}, {"x": 0 * x})

    def forward(x):
        return x * (x.real > 0) * np.abs(x), x

    with pytest.raises(NotAnalyticError, match="not complex-analytic"):
        check_gradients(forward, lambda dy, x: {"dx": 2 * x * (x > 0) * dy}, {"x": x})


def test_a_kink_of_a_whole_model_is_a_hint(rng):
    x = rng.standard_normal(7)

    def loss(params):
        z = params["w"] * x
        return (z * (z.real > 0)).sum()

    w = rng.standard_normal(7)
    w[4] = 0.0
    report = check_directional(loss, lambda p: {"w": x * (p["w"] * x >= 0)}, {"w": w})
    if x[4] > 0:
        assert report.tensors[0].worst[0].index == (4,)
    assert report.wrong == ("w",) and "the loss has a kink at (4,)" in report.hints[0]
