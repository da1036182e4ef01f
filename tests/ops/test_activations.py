import numpy as np
import pytest

from scratchnmt.ops.activations import (
    sigmoid_backward,
    sigmoid_forward,
    softmax_backward,
    softmax_forward,
    tanh_forward,
)


def test_the_definitions():
    x = np.linspace(-20, 20, 41)
    np.testing.assert_allclose(sigmoid_forward(x)[0], 1 / (1 + np.exp(-x)), rtol=1e-14, atol=1e-16)
    np.testing.assert_array_equal(tanh_forward(x)[0], np.tanh(x))


def test_sigmoid_never_overflows():
    with np.errstate(all="raise"):
        y, cache = sigmoid_forward(np.array([-1e30, 0, 1e30], "float32"))
        dx = sigmoid_backward(np.array([3, 4, 5], "float32"), cache).dx
    assert y.tolist() == [0, 0.5, 1] and dx.tolist() == [0, 1, 0] and y.dtype == dx.dtype == np.float32


def test_the_definition_of_softmax(rng):
    x = rng.standard_normal((4, 6))
    y, _ = softmax_forward(x)
    np.testing.assert_allclose(y, np.exp(x) / np.exp(x).sum(axis=1, keepdims=True), rtol=1e-14)


def test_masked_places_take_no_part_whatever_they_hold(rng):
    x, mask = rng.standard_normal((4, 6)), rng.standard_normal((4, 6)) < 0.3
    mask[:, 2], mask[3] = True, [0, 1, 0, 0, 0, 0]
    y, cache = softmax_forward(np.where(mask, x, np.nan), mask)
    dx = softmax_backward(rng.standard_normal((4, 6)), cache).dx
    for b in range(4):
        np.testing.assert_allclose(y[b, mask[b]], softmax_forward(x[b, mask[b]])[0], rtol=1e-14)
    assert not y[~mask].any() and not dx[~mask].any() and np.isfinite(dx).all()


def test_a_row_without_a_token_is_zero(rng):
    with np.errstate(all="raise"):
        y, cache = softmax_forward(rng.standard_normal((2, 3)), np.array([[False] * 3, [True] * 3]))
        dx = softmax_backward(rng.standard_normal((2, 3)), cache).dx
    assert not y[0].any() and not dx[0].any() and y[1].all() and dx[1].all()


def test_a_mask_broadcasts(rng):
    x, mask = rng.standard_normal((2, 3, 4)), np.array([[True, True, False, True], [False, True, True, True]])
    y, _ = softmax_forward(x, mask[:, None])
    np.testing.assert_array_equal(y, softmax_forward(x, np.broadcast_to(mask[:, None], x.shape))[0])
    assert not y[0, :, 2].any() and not y[1, :, 0].any()


@pytest.mark.parametrize("shift", [0, 1e4, -1e4])
def test_large_logits_in_float32(shift):
    x = np.array([[1, 2, 3, -1e4]], "float32") + np.float32(shift)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y, cache = softmax_forward(x)
        dx = softmax_backward(np.array([[1, 2, 0, 5]], "float32"), cache).dx
    np.testing.assert_allclose(y, softmax_forward(np.array([[1.0, 2, 3, -np.inf]]))[0], rtol=1e-6)
    assert y.dtype == dx.dtype == np.float32 and np.isfinite(dx).all()
