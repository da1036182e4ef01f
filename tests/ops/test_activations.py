import numpy as np

from scratchnmt.ops.activations import sigmoid_backward, sigmoid_forward, tanh_forward


def test_the_definitions():
    x = np.linspace(-20, 20, 41)
    np.testing.assert_allclose(sigmoid_forward(x)[0], 1 / (1 + np.exp(-x)), rtol=1e-14, atol=1e-16)
    np.testing.assert_array_equal(tanh_forward(x)[0], np.tanh(x))


def test_sigmoid_never_overflows():
    with np.errstate(all="raise"):
        y, cache = sigmoid_forward(np.array([-1e30, 0, 1e30], "float32"))
        dx = sigmoid_backward(np.array([3, 4, 5], "float32"), cache).dx
    assert y.tolist() == [0, 0.5, 1] and dx.tolist() == [0, 1, 0] and y.dtype == dx.dtype == np.float32
