"""The fused gates on the CPU: against the plain op, against complex-step through themselves, on slices of rows."""

import numpy as np
import pytest

from scratchnmt.kernels.lstm_gates import lstm_gates_backward, lstm_gates_forward
from scratchnmt.ops import lstm_gates as plain

PLAIN = plain.lstm_gates_forward, plain.lstm_gates_backward
FUSED = lstm_gates_forward, lstm_gates_backward
SIZES = [(1,), (7,), (1, 1), (3, 5), (2, 300), (1, 1, 1), (2, 3, 33)]  # (..., H), the last of some beyond a block
by_size = pytest.mark.parametrize("shape", SIZES, ids=str)


def arguments(rng, shape, dtype="float64"):
    *leading, H = shape
    shapes = {"z": (*leading, 4 * H), "c_prev": shape}
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


@by_size
def test_gradients_by_complex_step_through_the_kernel_itself(shape, on_cpu, rng, gradcheck):
    report = gradcheck.assert_gradients(*FUSED, arguments(rng, shape), max_elements=100)
    assert report.rtol == 1e-12 and {*on_cpu.launched} == {"lstm_gates_forward", "lstm_gates_backward"}


@by_size
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_is_the_plain_op(shape, dtype, on_cpu, rng, gradcheck):
    gradcheck.assert_variant(PLAIN, FUSED, arguments(rng, shape, dtype))


def wide(array, columns):
    """The array as some columns of rows twice as wide, amid values that must survive: (whole, view)."""
    whole = np.full((*array.shape[:-2], 2 * array.shape[-2], 2 * array.shape[-1]), 7.0)
    view = whole[..., 1 : 1 + array.shape[-2], columns % 4 : columns % 4 + array.shape[-1]]
    view[...] = array
    return whole, view


def test_rows_of_larger_arrays_are_read_and_written_where_they_lie(on_cpu, rng):
    D, N, H = 2, 3, 5
    args = arguments(rng, (D, N, H))
    (h, c), cache = plain.lstm_gates_forward(**args)
    dh, dc = rng.standard_normal((2, D, N, H))
    expected = [h, c, *cache, *plain.lstm_gates_backward(dh, dc, cache)]
    empty = [np.full((D, N, H), np.nan) for _ in range(3)]
    wholes, views = zip(*(wide(array, k) for k, array in enumerate([*args.values(), *empty, dh, dc])), strict=True)
    z, c_prev, h, c, tanh_c, dh, dc = views
    (h_found, c_found), cache = lstm_gates_forward(z, c_prev, h=h, c=c, tanh_c=tanh_c, overwrite=True)
    assert h_found is h and c_found is c and cache.tanh_c is tanh_c and cache.gates is z
    dz_whole, dz = wide(np.full(z.shape, np.nan), 1)
    grads = lstm_gates_backward(dh, dc, cache, dz=dz)
    assert grads.dz is dz
    for e, found in zip(expected, [h, c, *cache, *grads], strict=True):
        np.testing.assert_allclose(found, e, rtol=1e-13, atol=1e-15)
    for whole, view in zip([*wholes, dz_whole], [*views, dz], strict=True):
        view[...] = 7
        assert (whole == 7).all()


def test_one_direction_of_a_step_and_rows_that_all_start_alike(on_cpu, rng):
    """z[0] of two directions, and a c_prev that is one row broadcast to all."""
    args = arguments(rng, (2, 4, 3))
    z, c_prev = args["z"][0], np.broadcast_to(args["c_prev"][0, :1], (4, 3))
    np.testing.assert_allclose(lstm_gates_forward(z, c_prev)[0], PLAIN[0](z, c_prev)[0], rtol=1e-13)


def test_saturated_gates_are_exact(on_cpu):
    z = np.repeat(np.array([[1e4, -1e4, 1e4, 1e4]], "float32"), 2, axis=0)  # write, forget, candidate 1, show
    (h, c), cache = lstm_gates_forward(z, np.full((2, 1), 7, "float32"))
    dz, dc_prev = lstm_gates_backward(np.ones_like(h), np.ones_like(c), cache)
    np.testing.assert_array_equal(c, 1)
    assert not dz.any() and not dc_prev.any() and dz.dtype == h.dtype == np.float32


def test_no_rows_launch_nothing(on_cpu):
    (h, _), cache = lstm_gates_forward(np.empty((2, 0, 12)), np.empty((2, 0, 3)))
    assert h.shape == (2, 0, 3) and lstm_gates_backward(h, h, cache).dz.shape == (2, 0, 12) and not on_cpu.launched


@pytest.mark.parametrize("shapes, buffers, message", [
    (((3, 8), (3, 3)), {}, r"lstm_gates: z has shape \(3, 8\), expected \(B, 4H\) = \(3, 12\), .* c_prev "),
    (((2, 8), (3, 2)), {}, r"lstm_gates: z has shape \(2, 8\), expected \(B, 4H\) = \(3, 8\)"),
    (((1, 1, 1, 4), (1, 1, 1, 1)), {}, r"c_prev has shape .*, expected \(H\), \(B, H\) or \(D, B, H\)"),
    (((3, 8), (3, 2)), {"h": np.zeros((3, 3))}, r"gates: h is float64 \(3, 3\) .*, expected float64 \(3, 2\)"),
    (((3, 8), (3, 2)), {"c": np.zeros((3, 2), "float32")}, r"c is float32 \(3, 2\) .*, expected float64 \(3, 2\)"),
    (((3, 8), (3, 2)), {"tanh_c": np.zeros((2, 3)).T}, r"tanh_c is .* expected .* with a contiguous last axis"),
])
def test_what_does_not_fit(shapes, buffers, message, on_cpu):
    with pytest.raises(ValueError, match=message):
        lstm_gates_forward(*map(np.zeros, shapes), **buffers)
    assert not on_cpu.launched


@pytest.mark.gpu
@by_size
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_on_a_gpu(shape, dtype, cupy, rng, gradcheck):
    args = {name: cupy.asarray(value) for name, value in arguments(rng, shape, dtype).items()}
    assert gradcheck.assert_variant(PLAIN, FUSED, args).device == "cuda"
