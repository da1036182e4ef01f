import numpy as np
import pytest

from scratchnmt.ops.linear import linear_forward, transposed_product


def test_a_shape_that_does_not_fit():
    message = r"x has shape \(3, 5\), expected \(..., I\) = \(..., 4\), where I = 4 comes from W \(4, 2\)"
    with pytest.raises(ValueError, match=message):
        linear_forward(np.ones((3, 5)), np.ones((4, 2)))


@pytest.mark.parametrize("leading, n, I, O", [((), 3, 5, 8), ((2,), 3, 5, 8), ((), 1, 1, 1)])
def test_transposed_product(leading, n, I, O, rng):
    dy, W = rng.standard_normal((*leading, n, O)), rng.standard_normal((*leading, I, O))
    np.testing.assert_allclose(transposed_product(dy, W), dy @ W.swapaxes(-1, -2), rtol=1e-13, atol=1e-14)
