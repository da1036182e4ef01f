"""The gradient of the output: at random, or the caller's, unless that sees nothing."""

import numpy as np
import pytest

from scratchnmt.gradcheck import assert_gradients, check_gradients, check_variant
from scratchnmt.gradcheck.api import quick_check

RNG = np.random.default_rng(0)
ARGS = {"x": RNG.standard_normal((3, 4))}


def softmax_forward(x):
    e = np.exp(x - x.real.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True)
    return y, y


def softmax_backward(dy, y):
    return {"dx": y * (dy - (dy * y).sum(axis=-1, keepdims=True))}


def test_softmax_over_one_element_has_no_gradient_and_that_passes():
    assert_gradients(softmax_forward, softmax_backward, {"x": RNG.standard_normal((3, 1))})


def test_random_dy_sees_the_softmax_that_ones_do_not():
    def wrong(dy, y):
        return {"dx": y * (dy - dy.mean(axis=-1, keepdims=True))}

    args = {"x": ARGS["x"]}
    assert_gradients(softmax_forward, softmax_backward, args)
    assert check_gradients(softmax_forward, wrong, args).wrong == ("dx",)
    for method in ("complex", "central"):
        with pytest.raises(ValueError, match=r"by dys\[0\] the gradient is zero.* all elements of y whose sum"):
            check_gradients(softmax_forward, wrong, args, dys=np.ones((3, 4)), method=method)


def test_all_ones_are_refused_for_the_one_of_several_outputs_that_they_do_not_see():
    def forward(x, mask):
        e = np.where(mask, np.exp(x - x.real.max(axis=-1, keepdims=True)), 0)
        y = e / (e.sum(axis=-1, keepdims=True) + (~mask).all(axis=-1, keepdims=True))
        return (x * x, y), (x, y)

    def backward(dsquare, dy, cache):
        x, y = cache
        return {"dx": 2 * x * dsquare + y * (dy - (dy * y).sum(axis=-1, keepdims=True))}

    args = {"x": ARGS["x"], "mask": RNG.random((3, 4)) < 0.7}
    args["mask"][1] = False
    ones, random = np.ones((3, 4)), RNG.standard_normal((3, 4))
    for dys in ((ones, random), (random, 0 * ones), (0 * ones, random)):
        assert_gradients(forward, backward, args, dys=dys)
    for dys in ((random, ones), (ones, -3 * ones)):
        with pytest.raises(ValueError, match=r"by dys\[1\] .* elements of y\[1\] "):
            check_gradients(forward, backward, args, dys=dys)
    with pytest.raises(ValueError, match="dys are all zero"):
        check_gradients(forward, backward, args, dys=(0 * ones, 0 * ones))


def test_a_number_for_a_scalar_output():
    def forward(x):
        return (x * x).sum(), x

    assert_gradients(forward, lambda dloss, x: {"x": 2 * x * dloss}, ARGS, dys=3.0)
    assert check_gradients(forward, lambda dloss, x: {"x": 2 * x}, ARGS, dys=3.0).wrong == ("dx",)


SOFTMAX = (softmax_forward, softmax_backward)
BLIND = {"ones": np.ones((3, 4)), "the same in each row": np.repeat([[1.0], [2.0], [-3.0]], 4, axis=1)}


@pytest.mark.parametrize("blind", BLIND)
@pytest.mark.parametrize("check", [check_gradients, quick_check, check_variant])
def test_dys_that_see_nothing_are_refused_by_every_check(check, blind):
    op = (SOFTMAX, SOFTMAX) if check is check_variant else SOFTMAX
    with pytest.raises(ValueError, match=r"by dys\[0\] the gradient is zero"):
        check(*op, ARGS, dys=BLIND[blind])
    assert check(*op, ARGS, dys=BLIND[blind] + RNG.standard_normal((3, 4))).ok


def test_an_output_that_depends_on_nothing_takes_any_dy():
    def forward(x):
        return (x * x, np.ones_like(x)), x

    dys = (RNG.standard_normal((3, 4)), np.ones((3, 4)))
    assert_gradients(forward, lambda dy, _, x: {"x": 2 * x * dy}, ARGS, dys=dys)
