"""Products into buffers, or added to what is there."""

import numpy as np
import pytest

from scratchnmt.ops.product import product, transposed_product

by_shape = pytest.mark.parametrize("leading, m, k, n", [((), 3, 5, 8), ((2,), 3, 5, 8), ((), 1, 1, 1)])


@by_shape
@pytest.mark.parametrize("function", [product, transposed_product])
def test_a_product(function, leading, m, k, n, rng):
    a, b = rng.standard_normal((*leading, m, k)), rng.standard_normal((*leading, k, n))
    expected = a @ b
    b = b if function is product else b.swapaxes(-1, -2)
    close = dict(rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(function(a, b), expected, **close)
    out = np.full((*leading, m, 2 * n), np.nan)[..., ::2]
    assert function(a, b, out=out) is out
    np.testing.assert_allclose(out, expected, **close)
    assert function(a, b, out=out, add=True) is out
    np.testing.assert_allclose(out, 2 * expected, **close)
