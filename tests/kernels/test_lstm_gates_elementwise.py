"""The version for CuPy's ElementwiseKernel: its text run on the CPU, in a loop that stands for CuPy's."""

import numpy as np
import pytest
from shim import Shim

from benchmarks import lstm_gates_elementwise as elementwise
from scratchnmt.kernels import launch as launcher
from scratchnmt.kernels.launch import LaunchConfig, launch
from scratchnmt.ops import lstm_gates as plain

PLAIN = plain.lstm_gates_forward, plain.lstm_gates_backward
FUSED = elementwise.lstm_gates_forward, elementwise.lstm_gates_backward


def kernel_text(inputs, outputs, body, name):
    """A kernel with one thread for each element and all arrays flat."""
    given, made = ([word.split()[1] for word in text.split(", ")] for text in (inputs, outputs))
    parameters = [*(f"Rows<const T> {n}_" for n in given), *(f"Rows<T> {n}_" for n in made)]
    names = [*(f"const T& {n} = {n}_.data[blockIdx.x];" for n in given),
             *(f"T& {n} = {n}_.data[blockIdx.x];" for n in made)]
    lines = "\n".join([*names, body])
    return f"template <typename T>\n__global__ void {name}({', '.join(parameters)}) {{\n{lines}}}\n"


TEXT = launcher.read("device.h") + kernel_text(*elementwise.FORWARD) + kernel_text(*elementwise.BACKWARD)


@pytest.fixture(scope="module")
def small(compiled, tmp_path_factory):
    return Shim(tmp_path_factory.mktemp("elementwise"), text=lambda file: TEXT)


@pytest.fixture
def on_cpu(small, monkeypatch):
    def kernel(inputs, outputs, body, name):
        def run(*arrays):
            flat = [np.ascontiguousarray(array).reshape(-1) for array in arrays]
            launch("elementwise", name, np.result_type(*arrays), LaunchConfig((flat[0].size, 1, 1), (1,)), *flat)
            for array, found in list(zip(arrays, flat, strict=True))[len(inputs.split(", ")):]:
                array[...] = found.reshape(array.shape)
        return run

    monkeypatch.setattr(launcher, "kernel", small.kernel)
    monkeypatch.setattr(launcher, "address", small.address)
    monkeypatch.setattr(elementwise, "_kernel", kernel)


def arguments(rng, shape, dtype="float64"):
    z = rng.standard_normal((*shape[:-1], 4 * shape[-1]))
    return {"z": z.astype(dtype), "c_prev": rng.standard_normal(shape).astype(dtype)}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 3, 4)])
def test_it_is_the_plain_op(shape, dtype, on_cpu, rng, gradcheck):
    gradcheck.assert_variant(PLAIN, FUSED, arguments(rng, shape, dtype))


def test_gradients_by_complex_step_through_its_own_text(on_cpu, rng, gradcheck):
    """Its arguments must be of one type, as in CuPy."""
    def forward(z, c_prev):
        dtype = np.result_type(z, c_prev)
        return FUSED[0](z.astype(dtype), c_prev.astype(dtype))

    gradcheck.assert_gradients(forward, FUSED[1], arguments(rng, (2, 3)))


def test_buffers_and_overwriting(on_cpu, rng):
    z, c_prev = arguments(rng, (3, 2)).values()
    (h, c), cache = PLAIN[0](z, c_prev)
    buffers = {name: np.full((3, 2), np.nan) for name in ("h", "c", "tanh_c")}
    (h_found, c_found), found = FUSED[0](z, c_prev, **buffers, overwrite=True)
    assert h_found is buffers["h"] and c_found is buffers["c"] and found.gates is z
    for f, e in zip([h_found, c_found, *found], [h, c, *cache], strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-13)


@pytest.mark.parametrize("inputs, outputs", [way[:2] for way in (elementwise.FORWARD, elementwise.BACKWARD)])
def test_no_argument_has_the_name_that_cupy_keeps_for_itself(inputs, outputs):
    """cupy/_core/_kernel.pyx, ElementwiseKernel.__init__: the index i."""
    names = [word.split()[1] for word in (inputs + ", " + outputs).split(", ")]
    assert "i" not in names


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1), (2, 33, 300)])
def test_on_a_gpu(shape, dtype, cupy, rng, gradcheck):
    args = {name: cupy.asarray(value) for name, value in arguments(rng, shape, dtype).items()}
    assert gradcheck.assert_variant(PLAIN, FUSED, args).device == "cuda"
