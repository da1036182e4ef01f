"""Two implementations of one op: float32 and another formula beside plain float64."""

import numpy as np
import pytest

from scratchnmt.gradcheck import GradcheckError, assert_variant, check_variant
from scratchnmt.ops.linear_cross_entropy import linear_cross_entropy_backward, linear_cross_entropy_forward

RNG = np.random.default_rng(4)
ARGS = {"x": RNG.standard_normal((3, 4), "float32"), "W": RNG.standard_normal((4, 5), "float32")}


def plain_forward(x, W):
    y = np.tanh(x @ W)
    return y, (x, W, y)


def fused_forward(x, W):
    y = 1 - 2 / (np.exp(2 * (x @ W)) + 1)  # tanh, another way
    return y, (x, W, y)


def backward(dy, cache):
    x, W, y = cache
    dz = dy * (1 - y * y)
    return {"dx": dz @ W.T, "dW": x.T @ dz}


PLAIN = (plain_forward, backward)


def test_agreement_to_the_rounding_of_the_dtype():
    report = assert_variant(PLAIN, (fused_forward, backward), ARGS)
    assert [t.name for t in report.tensors] == ["y", "dx", "dW"]
    assert report.max_error > 0 and report.rtol == 64 * 2.0**-23
    assert check_variant(PLAIN, PLAIN, ARGS, steps=9).rtol == 3 * report.rtol


def test_a_wrong_gradient_or_output_is_named():
    def scaled(dy, cache):
        return {**backward(dy, cache), "dW": backward(dy, cache)["dW"] * np.float32(1 + 1e-4)}

    def shifted(x, W):
        return fused_forward(x + np.float32(1e-3), W)

    assert check_variant(PLAIN, (fused_forward, scaled), ARGS).wrong == ("dW",)
    assert "y" in check_variant(PLAIN, (shifted, backward), ARGS).wrong
    with pytest.raises(GradcheckError, match="worst elements of dW"):
        assert_variant(PLAIN, (fused_forward, scaled), ARGS)


def test_another_number_of_outputs_is_named():
    def two(x, W):
        y, cache = plain_forward(x, W)
        return (y, y), cache

    with pytest.raises(ValueError, match="the plain op has 2 outputs with a gradient, the fused one 1"):
        check_variant((two, backward), (fused_forward, backward), ARGS)


@pytest.mark.parametrize("pairs, sentence", [
    ((PLAIN, fused_forward), r"fused is a function: expected a pair \(forward, backward\)"),
    ((backward, PLAIN), "plain is a function: expected a pair"),
    ((PLAIN, (fused_forward, None)), "the backward of fused is None: expected a function"),
])
def test_what_is_no_pair_of_functions(pairs, sentence):
    with pytest.raises(TypeError, match=sentence):
        check_variant(*pairs, ARGS)


def test_an_output_of_another_shape_is_named():
    def summed(x, W):
        y, cache = fused_forward(x, W)
        return y.sum(axis=0), cache

    def backward_of_sum(dy, cache):
        return backward(np.broadcast_to(dy, cache[2].shape), cache)

    for dys in (None, np.ones(5, "float32")):
        report = check_variant(PLAIN, (summed, backward_of_sum), ARGS, dys=dys)
        assert report.broken_promises == ("y has shape (5,), but (3, 5) in the plain op",) and report.tensors == ()


def test_a_large_output_does_not_hide_an_error_of_a_gradient(rng):
    """A loss summed over 2,000 words is 9,000, and dx of the size of 0.1."""
    args = {"x": rng.standard_normal((2000, 6), "float32"), "W": rng.standard_normal((6, 50), "float32"),
            "targets": rng.integers(1, 50, 2000)}
    plain = (linear_cross_entropy_forward, linear_cross_entropy_backward)

    def slip(dy, cache):
        found = linear_cross_entropy_backward(dy, cache)
        return found._replace(dx=found.dx * np.float32(1.0002))

    assert_variant(plain, plain, args)
    assert check_variant(plain, (plain[0], slip), args).wrong == ("dx",)
