"""The fused tanh and dropout on the CPU: against the plain op, against complex-step through itself."""

import numpy as np
import pytest

from scratchnmt.kernels.tanh_dropout import tanh_dropout_backward, tanh_dropout_forward
from scratchnmt.ops import tanh_dropout as plain

PLAIN = plain.tanh_dropout_forward, plain.tanh_dropout_backward
FUSED = tanh_dropout_forward, tanh_dropout_backward
SIZES = [(1, 1), (3, 33), (2, 300)]  # (N, H), the last beyond a block
by_size = pytest.mark.parametrize("shape", SIZES, ids=str)
by_mask = pytest.mark.parametrize("masked", [False, True])


def arguments(rng, shape, masked, dtype="float64"):
    mask = (rng.random(shape) < 0.7).astype(dtype) / 0.7 if masked else None
    return {"p": rng.standard_normal(shape).astype(dtype), "mask": mask}


@by_size
@by_mask
def test_gradients_by_complex_step_through_the_kernel_itself(shape, masked, on_cpu, rng, gradcheck):
    gradcheck.assert_gradients(*FUSED, arguments(rng, shape, masked), wrt=("p",), max_elements=100)
    assert {*on_cpu.launched} == {"tanh_dropout_forward", "tanh_dropout_backward"}


@by_size
@by_mask
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_is_the_plain_op(shape, masked, dtype, on_cpu, rng, gradcheck):
    gradcheck.assert_variant(PLAIN, FUSED, arguments(rng, shape, masked, dtype), wrt=("p",))


def test_columns_of_wider_rows_are_read_and_written_where_they_lie(on_cpu, rng):
    wide = np.full((4, 3, 12), 7.0)
    p, mask, o, slope = (array[:, 2:7] for array in wide)
    p[...], mask[...] = rng.standard_normal((2, 3, 5))
    expected, cache = PLAIN[0](p.copy(), mask.copy())
    found, fused = FUSED[0](p, mask, o=o, slope=slope)
    assert found is o and fused.slope is slope
    np.testing.assert_allclose(o, expected, rtol=1e-14)
    np.testing.assert_allclose(slope, cache.slope, rtol=1e-14, atol=1e-16)
    np.testing.assert_array_equal(FUSED[1](p, fused, dp=o).dp, p * slope)
    wide[:, :, 2:7] = 7
    assert (wide == 7).all()


def test_what_does_not_fit(on_cpu):
    with pytest.raises(ValueError, match=r"tanh_dropout: mask has shape \(3, 4\), expected \(N, H\) = \(2, 4\)"):
        FUSED[0](np.zeros((2, 4)), np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"tanh_dropout: slope is float32 \(2, 4\) .*, expected float64 \(2, 4\)"):
        FUSED[0](np.zeros((2, 4)), slope=np.zeros((2, 4), "float32"))


@pytest.mark.gpu
@by_size
@by_mask
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_on_a_gpu(shape, masked, dtype, cupy, rng, gradcheck):
    args = {name: None if value is None else cupy.asarray(value)
            for name, value in arguments(rng, shape, masked, dtype).items()}
    assert gradcheck.assert_variant(PLAIN, FUSED, args, wrt=("p",)).device == "cuda"
