"""Kinks are called kinks; what is merely curved, or wrong at a kink, is not."""

import numpy as np
import pytest

from scratchnmt.gradcheck import NotAnalyticError, assert_gradients, check_directional, check_gradients
from scratchnmt.gradcheck.differences import kink_at

METHODS = ("complex", "central", "richardson")
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


@pytest.mark.parametrize("method", ["central", "richardson"])
@pytest.mark.parametrize("distance", [1e-12, -1e-9, 1e-7, -3e-6, 1e-5, -1e-3, 2.0**-9, 3e-3])
def test_beside_a_kink_the_step_is_shortened(method, distance, rng):
    """The backward pass is exact there; a real difference is as well, once it does not cross the kink."""
    x = np.append(rng.uniform(0.5, 1, 3), distance)
    assert assert_gradients(relu_forward, relu_backward, {"x": x}, method=method).kinks == 0

    def wrong(dy, x):
        return {"dx": 1.5 * relu_backward(dy, x)["dx"] - 0.2 * dy}

    assert check_gradients(relu_forward, wrong, {"x": x}, method=method).tensors[0].wrong == 4


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


@every_method
@pytest.mark.parametrize("f, slope, x", [
    (lambda x: np.tanh(x - 1e6), lambda x: 1 / np.cosh(x - 1e6) ** 2, 1e6),
    (lambda x: np.tanh(1e2 * (x - 1e4)) / 1e2, lambda x: 1 / np.cosh(1e2 * (x - 1e4)) ** 2, 1e4),
    (lambda x: np.tanh(1e6 * (x - 1)) / 1e6, lambda x: 1 / np.cosh(1e6 * (x - 1)) ** 2, 1.0),
    (lambda x: np.exp(-(((x - 1.7e9) / 3600) ** 2)),
     lambda x: -2 * (x - 1.7e9) / 3600**2 * np.exp(-(((x - 1.7e9) / 3600) ** 2)), 1.7e9),
], ids=["tanh far out", "a sharp tanh far out", "a very sharp tanh", "seconds since 1970"])
@pytest.mark.parametrize("factor", [0.0, 0.3, 0.5, 1.001])
def test_what_is_smooth_on_a_shorter_scale_than_its_argument_has_no_kink(f, slope, x, factor, method):
    width = {1e6: 1.0, 1e4: 1e-2, 1.0: 1e-6, 1.7e9: 3600.0}[x]
    args = {"x": x + width * np.array([-0.9, -0.4, 0.3, 0.5, 0.8])}
    report = check_gradients(lambda x: (f(x), x), lambda dy, x: {"dx": dy * slope(x) * factor}, args, method=method)
    assert (report.tensors[0].wrong, report.kinks) == (5, 0)
    assert_gradients(lambda x: (f(x), x), lambda dy, x: {"dx": dy * slope(x)}, args, method=method)


@pytest.mark.parametrize("scale", [1e-300, 1e-6, 1.0, 1e6])
def test_a_kink_has_a_jump_that_stays(scale):
    def kinked(t):
        return np.array([np.exp(t / scale) + max(t, 0.0) / scale, 5.0])

    sides = kink_at(kinked, scale)
    assert (sides.low * scale, sides.high * scale) == pytest.approx((1, 2), abs=1e-5)
    assert [sides.holds(value / scale) for value in (0.99, 1.01, 1.99, 2.01)] == [False, True, True, False]
    for k in range(-12, 40):  # whatever its own scale
        assert kink_at(lambda t, k=k: np.tanh(np.array([2.0**k * t / scale + 0.3])), scale) is None
    assert kink_at(lambda t: np.array([t / scale]), scale) is None


@every_method
@pytest.mark.parametrize("to_first, to_second, right", [
    (1, 0, True), (0, 1, True), (0.5, 0.5, True), (0.2, 0.8, True), (1, 1, False), (0, 0, False), (0.5, 0.6, False)])
def test_the_shares_of_those_that_tie_add_up_to_one(to_first, to_second, right, method, rng):
    def forward(x):
        return x.max(axis=-1), x

    def backward(dy, x):
        dx = dy[:, None] * (x == x.max(axis=-1, keepdims=True))
        return {"dx": dx * np.array([to_first, to_second, 1, 1])}

    x = np.sort(rng.standard_normal((3, 4)), axis=1)
    x[1, :2] = 4.0
    report = check_gradients(forward, backward, {"x": x}, method=method)
    assert report.ok == right, str(report)


@every_method
def test_two_arguments_that_tie(method, rng):
    def forward(a, b):
        return np.maximum(a, b), (a, b)

    def backward(dy, cache, both=1.0):
        a, b = cache
        return {"da": dy * (a >= b), "db": dy * np.where(a == b, both, a < b)}

    a = rng.standard_normal(5)
    args = {"a": a, "b": a + [1, 0, -1, 0, 1]}
    assert not check_gradients(forward, backward, args, method=method).ok
    assert_gradients(forward, lambda dy, cache: backward(dy, cache, both=0.0), args, method=method)


def test_the_guard_of_complex_step_lets_kinks_pass_but_not_what_is_not_analytic(rng):
    x = with_zeros(rng)
    assert_gradients(relu_forward, relu_backward, {"x": x})
    assert_gradients(relu_forward, lambda dy, x: {"dx": dy * (x > 0)}, {"x": 0 * x})

    def forward(x):
        return x * (x.real > 0) * np.abs(x), x

    with pytest.raises(NotAnalyticError, match="not complex-analytic"):
        check_gradients(forward, lambda dy, x: {"dx": 2 * x * (x > 0) * dy}, {"x": x}, method="complex")


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
