import numpy as np
import pytest

from scratchnmt.ops.linear import linear_forward


def test_a_shape_that_does_not_fit():
    message = r"x has shape \(3, 5\), expected \(..., I\) = \(..., 4\), where I = 4 comes from W \(4, 2\)"
    with pytest.raises(ValueError, match=message):
        linear_forward(np.ones((3, 5)), np.ones((4, 2)))
