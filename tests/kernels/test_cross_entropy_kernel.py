"""Logits into their gradient: against the plain op, against complex-step through the kernel, with padding."""

import numpy as np
import pytest

from scratchnmt.kernels.cross_entropy import cross_entropy_in_place
from scratchnmt.ops.cross_entropy import cross_entropy_backward, cross_entropy_forward
from scratchnmt.ops.cross_entropy import cross_entropy_in_place as plain_in_place

SIZES = [(1, 2), (1, 33), (3, 7), (5, 513), (2, 1500)]  # (N, V), the last two larger than a block
by_size = pytest.mark.parametrize("N, V", SIZES)
by_smoothing = pytest.mark.parametrize("label_smoothing", [0.0, 0.1])


def forward(logits, targets, label_smoothing):
    z, losses = logits.copy(), np.full(len(logits), np.nan, logits.dtype)
    cross_entropy_in_place(z, targets, label_smoothing, losses)
    return losses.sum(), z


def backward(dloss, gradient):
    return {"logits": dloss * gradient}


def arguments(rng, N, V, label_smoothing, dtype="float64"):
    targets = rng.integers(1, V, N)
    targets[1:2] = 0  # a row of padding where there are several
    return {"logits": rng.standard_normal((N, V)).astype(dtype), "targets": targets,
            "label_smoothing": label_smoothing}


@by_size
@by_smoothing
def test_gradients_by_complex_step_through_the_kernel_itself(N, V, label_smoothing, on_cpu, rng, gradcheck):
    gradcheck.assert_gradients(forward, backward, arguments(rng, N, V, label_smoothing), max_elements=40)


@by_size
@by_smoothing
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_is_the_plain_op(N, V, label_smoothing, dtype, on_cpu, rng, gradcheck):
    plain = cross_entropy_forward, cross_entropy_backward
    gradcheck.assert_variant(plain, (forward, backward), arguments(rng, N, V, label_smoothing, dtype))


@by_smoothing
def test_row_by_row_it_is_what_the_projection_to_the_vocabulary_calls(label_smoothing, on_cpu, rng):
    args = arguments(rng, 4, 40, label_smoothing)
    results = []
    for in_place in plain_in_place, cross_entropy_in_place:
        z, losses = args["logits"].copy(), np.full(4, np.nan)
        in_place(z, np.array([3, 39, 1, 7], "int32"), label_smoothing, losses)
        results.append(np.column_stack([losses, z]))
    np.testing.assert_allclose(results[1], results[0], rtol=1e-12, atol=1e-15)


def test_rows_of_padding_are_zero(on_cpu, rng):
    z, losses = rng.standard_normal((3, 40)), np.full(3, np.nan)
    cross_entropy_in_place(z, np.array([5, 0, 0]), 0.1, losses)
    assert not z[1:].any() and not losses[1:].any() and losses[0] > 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_logits_do_not_overflow(dtype, on_cpu):
    z = np.array([[1e4, -1e4, 1e4, 0]] * 2, dtype)
    losses = np.empty(2, dtype)
    cross_entropy_in_place(z, np.array([2, 1]), 0.0, losses)
    np.testing.assert_allclose(losses, [np.log(2), 2e4 + np.log(2)], rtol=1e-6)
    np.testing.assert_array_equal(z, [[0.5, 0, -0.5, 0], [0.5, -1, 0.5, 0]])


def test_some_columns_of_a_larger_array_change_and_no_others(on_cpu, rng):
    whole = rng.standard_normal((5, 50))
    before, losses, expected = whole.copy(), np.empty(3), np.ascontiguousarray(whole[1:4, 3:43])
    targets = np.array([1, 2, 39])
    cross_entropy_in_place(expected, targets, 0.1, np.empty(3))
    cross_entropy_in_place(whole[1:4, 3:43], targets, 0.1, losses)
    np.testing.assert_array_equal(whole[1:4, 3:43], expected)
    whole[1:4, 3:43] = before[1:4, 3:43]
    np.testing.assert_array_equal(whole, before)


def test_the_order_of_the_threads_changes_no_bit(on_cpu, rng):
    args = arguments(rng, 3, 700, 0.1)
    loss, gradient = forward(**args)
    on_cpu.backwards = True
    assert forward(**args)[0] == loss and (forward(**args)[1] == gradient).all()


@pytest.mark.parametrize("z, targets, losses, message", [
    (np.zeros((3, 4)), np.ones(2, int), np.zeros(3), r"cross_entropy: targets has shape \(2,\), expected \(N\)"),
    (np.zeros((3, 4)), np.ones(3, int), np.zeros(2), r"losses has shape \(2,\), expected \(N\) = \(3\)"),
    (np.zeros((3, 4)), np.ones(3, int), np.zeros(3, "float32"), r"losses is float32 \(3,\) .*, expected float64"),
    (np.zeros((4, 3)).T, np.ones(3, int), np.zeros(3), r"z is float64 .* expected .* with a contiguous last axis"),
])
def test_what_does_not_fit(z, targets, losses, message, on_cpu):
    with pytest.raises(ValueError, match=message):
        cross_entropy_in_place(z, targets, 0.0, losses)


@pytest.mark.gpu
@by_size
@by_smoothing
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_on_a_gpu(N, V, label_smoothing, dtype, cupy, rng, gradcheck):
    def on_gpu(logits, targets, label_smoothing):
        z, losses = cupy.asarray(logits), cupy.empty(len(logits), logits.dtype)
        cross_entropy_in_place(z, cupy.asarray(targets), label_smoothing, losses)
        return losses.get().sum(), z.get()

    plain = cross_entropy_forward, cross_entropy_backward
    gradcheck.assert_variant(plain, (on_gpu, backward), arguments(rng, N, V, label_smoothing, dtype))
