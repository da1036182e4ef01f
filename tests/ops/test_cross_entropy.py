"""Cross-entropy against its definition, a row at a time."""

import numpy as np
import pytest

from scratchnmt.ops.cross_entropy import cross_entropy_backward, cross_entropy_forward

TARGETS = np.array([3, 0, 6, 1])  # the second is padding


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_definition(smoothing, rng):
    logits = 3 * rng.standard_normal((4, 7))
    loss, _ = cross_entropy_forward(logits, TARGETS, label_smoothing=smoothing)
    expected = 0.0
    for row, target in zip(logits, TARGETS, strict=True):
        if target:
            wanted = np.full(7, smoothing / 7)
            wanted[target] += 1 - smoothing
            expected -= wanted @ np.log(np.exp(row) / np.exp(row).sum())
    np.testing.assert_allclose(loss, expected, rtol=1e-14)


def test_padding_rows_may_hold_anything(rng):
    logits = rng.standard_normal((4, 7))
    logits[1] = np.nan
    loss, cache = cross_entropy_forward(logits, TARGETS)
    dlogits = cross_entropy_backward(np.float64(0.7), cache).dlogits
    assert np.isfinite(loss) and np.isfinite(dlogits).all() and not dlogits[1].any() and dlogits[0].all()


@pytest.mark.parametrize("targets", [[3, 7, 0, 1], [3, -1, 0, 1]])
def test_a_target_outside_the_vocabulary(targets):
    message = f"cross_entropy: targets run from {min(targets)} to {max(targets)}, expected 0 to V - 1 = 6"
    with pytest.raises(IndexError, match=message):
        cross_entropy_forward(np.zeros((4, 7)), np.array(targets))


def test_large_logits_in_float32():
    logits = np.array([[1e4, 0, -1e4], [-1e4, 1e4, 1e4]], "float32")
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        loss, cache = cross_entropy_forward(logits, np.array([1, 2]))
        dlogits = cross_entropy_backward(np.float32(1), cache).dlogits
    assert loss == np.float32(1e4 + np.log(2)) and loss.dtype == dlogits.dtype == np.float32
    np.testing.assert_array_equal(dlogits, [[1, -1, 0], [0, 0.5, -0.5]])
