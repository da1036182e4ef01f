"""Masks as a function of (seed, step, position): published vectors, the same bits in NumPy and in the kernel."""

import numpy as np
import pytest

from scratchnmt.kernels.dropout import (
    Masks,
    by_four,
    dropout_backward,
    dropout_forward,
    dropout_mask,
    philox,
    random_words,
)
from scratchnmt.ops import dropout as plain

SIZES = [(1,), (3, 5), (2, 64), (7, 3, 50), (1025,)]
by_size = pytest.mark.parametrize("shape", SIZES, ids=str)


def masks(seed=11, step=5, xp=np):
    return Masks(seed, xp.asarray([step], "uint64"))


def words(text):
    return np.array([int(word, 16) for word in text.split()], np.uint64)


@pytest.mark.parametrize("counter, key, expected", [  # the known answers that come with Random123
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
])
def test_known_answers(counter, key, expected):
    np.testing.assert_array_equal(philox(words(counter), words(key)), words(expected))


@by_size
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed, step", [(0, 0), (11, 5), (2**64 - 1, 2**40 + 3)])
def test_the_kernel_draws_the_bits_that_numpy_draws(shape, dtype, seed, step, on_cpu):
    rng = masks(seed, step)
    for number in range(2):
        found = dropout_mask(shape, 0.3, rng, dtype)
        drawn = masks(seed, step)
        drawn.drawn = number
        keep = random_words(drawn.next(0.3), found.size) >= round(0.3 * 2**32)
        assert found.dtype == dtype and found.shape == shape
        np.testing.assert_array_equal(found.reshape(-1), keep * np.asarray(1 / 0.7, dtype))


def test_seed_step_number_and_position_all_matter():
    places = (11, 5), (12, 5), (11, 6), (11 + 2**32, 5), (11, 5 + 2**32)
    drawn = [random_words(masks(*place).next(0.5), 300) for place in places]
    rng = masks()
    rng.next(0.5)
    drawn.append(random_words(rng.next(0.5), 300))
    assert len(np.unique(drawn)) == 6 * 300  # all different: of 1,800 words of 32 bits two are rarely the same
    np.testing.assert_array_equal(drawn[0][:200], random_words(masks().next(0.5), 200))


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_share_and_mean(rate, on_cpu):
    mask = dropout_mask((100, 1000), rate, masks(), "float64")
    assert abs((mask == 0).mean() - rate) < 0.006 and abs(mask.mean() - 1) < 0.015  # about four standard errors
    for neighbours in (mask[:, 1:] * mask[:, :-1], mask[1:] * mask[:-1], mask[:, 32:] * mask[:, :-32]):
        assert abs(neighbours.mean() - 1) < 0.03


def test_nothing_is_dropped_at_rate_zero(on_cpu, rng):
    x = rng.standard_normal((3, 7))
    np.testing.assert_array_equal(dropout_forward(x, 0.0, rng=masks())[0], x)


@by_size
def test_gradients_by_complex_step_through_the_kernel_itself(shape, on_cpu, rng, gradcheck):
    forward = lambda x: dropout_forward(x, 0.3, rng=masks())
    gradcheck.assert_gradients(forward, dropout_backward, {"x": rng.standard_normal(shape)}, max_elements=40)
    assert {*on_cpu.launched} == {"dropout_forward"}


@by_size
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_is_the_plain_op_with_that_mask(shape, dtype, on_cpu, rng, gradcheck):
    mask = dropout_mask(shape, 0.3, masks(), "float64")
    fused = lambda x: dropout_forward(x, 0.3, rng=masks())
    plain_forward = lambda x: plain.dropout_forward(x, 0.3, mask=mask)
    args = {"x": rng.standard_normal(shape).astype(dtype)}
    gradcheck.assert_variant((plain_forward, plain.dropout_backward), (fused, dropout_backward), args)


def test_the_step_is_read_when_the_kernel_runs(on_cpu, rng):
    """A captured step is replayed with the same arguments: only what `step` holds is another number."""
    step = np.array([1], "uint64")
    ones = np.ones(500)
    first = dropout_forward(ones, 0.5, rng=Masks(3, step))[0]
    step += np.uint64(1)
    assert (dropout_forward(ones, 0.5, rng=Masks(3, step))[0] != first).any()
    step -= np.uint64(1)
    np.testing.assert_array_equal(dropout_forward(ones, 0.5, rng=Masks(3, step))[0], first)


def test_a_mask_that_is_given_is_left_to_the_plain_op(on_cpu, rng):
    x, mask = rng.standard_normal((2, 4, 5))
    y, cache = dropout_forward(x, 0.5, mask=mask)
    assert (y == x * mask).all() and (dropout_backward(x, cache).dx == y).all() and not on_cpu.launched


def test_bad_input():
    with pytest.raises(ValueError, match="dropout: rate is 1.0, expected 0 <= rate < 1"):
        masks().next(1.0)
    with pytest.raises(ValueError, match=r"Masks: step is int64 \(\), expected uint64 \(1,\)"):
        Masks(1, np.array(3))
    with pytest.raises(ValueError, match="expected either rng or mask"):
        dropout_forward(np.ones(3), 0.5)


def test_a_thread_for_every_four_elements():
    assert by_four(1024).grid == (1, 1, 1) and by_four(1025).grid == (2, 1, 1) and by_four(0).grid[0] == 0


@pytest.mark.gpu
@by_size
def test_on_a_gpu_the_bits_that_numpy_draws(shape, cupy):
    found = dropout_mask(shape, 0.3, masks(xp=cupy)).get()
    keep = random_words(masks().next(0.3), found.size) >= round(0.3 * 2**32)
    np.testing.assert_array_equal(found.reshape(-1), keep * np.float32(1 / 0.7))
    x = cupy.ones(shape, "float32")
    y, cache = dropout_forward(x, 0.3, rng=masks(xp=cupy))
    assert (y.get() == found).all() and (dropout_backward(x, cache).dx == y).all()
