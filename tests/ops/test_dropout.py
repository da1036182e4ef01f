import numpy as np
import pytest

from scratchnmt.ops.dropout import dropout_backward, dropout_forward, dropout_mask


def generator():
    return np.random.default_rng(0)


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.9])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_share_is_dropped_and_the_rest_scaled_up(rate, dtype, rng):
    x = rng.standard_normal((200, 200)).astype(dtype)
    y, cache = dropout_forward(x, rate, rng=generator())
    kept = y != 0
    np.testing.assert_allclose(y[kept], x[kept] / (1 - rate), rtol=1e-6)
    assert abs(kept.mean() - (1 - rate)) < 0.01 and y.dtype == cache.mask.dtype == dtype
    assert rate or kept.all()


def test_backward_drops_what_forward_dropped(rng):
    x, dy = rng.standard_normal((2, 5, 6))
    y, cache = dropout_forward(x, 0.4, rng=generator())
    dx = dropout_backward(dy, cache).dx
    np.testing.assert_array_equal(dx == 0, y == 0)
    np.testing.assert_allclose(dx, dy * y / x, rtol=1e-14)


def test_the_same_seed_drops_the_same_whatever_the_dtype():
    masks = [dropout_mask((30, 30), 0.5, generator(), dtype) for dtype in ("float32", "float64")]
    np.testing.assert_array_equal(*masks)
    rng = generator()
    assert (dropout_mask((30, 30), 0.5, rng) != dropout_mask((30, 30), 0.5, rng)).any()


def test_a_mask_is_used_as_it_is(rng):
    x = rng.standard_normal((3, 4))
    mask = dropout_mask(x.shape, 0.5, generator(), "float64")
    y, cache = dropout_forward(x, 0.5, mask=mask)
    np.testing.assert_array_equal(y, x * mask)
    assert cache.mask is mask


@pytest.mark.parametrize("rate", [1.0, -0.1, np.nan])
def test_a_rate_out_of_range(rate):
    with pytest.raises(ValueError, match=f"rate is {rate}, expected 0 <= rate < 1"):
        dropout_mask((2,), rate, generator())


def test_either_a_generator_or_a_mask():
    for both in ({}, {"rng": generator(), "mask": np.ones(3)}):
        with pytest.raises(ValueError, match="expected either rng or mask"):
            dropout_forward(np.ones(3), 0.5, **both)
