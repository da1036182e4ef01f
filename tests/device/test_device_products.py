"""Products by cuBLAS, with NumPy behind its functions: slices and transposes where they lie, sums, precisions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchnmt import NMT
from scratchnmt.errors import InputError
from scratchnmt.kernels import choose
from scratchnmt.kernels.product import Matrix, Products, library, matrix
from scratchnmt.ops.plain import PLAIN

LAYOUTS = ("as it is", "transposed", "columns of wider rows", "rows of longer columns", "neither")
by_layout = pytest.mark.parametrize("layout", LAYOUTS)


def on_device(cupy, a, layout):
    """The array on the device in this layout, which indexing and transposing there bring about."""
    spread = cupy.asarray(np.ascontiguousarray(a))
    rows, columns = a.shape[-2:]
    if layout == "transposed":
        return cupy.asarray(np.ascontiguousarray(a.swapaxes(-1, -2))).swapaxes(-1, -2)
    if layout == "columns of wider rows":
        spread = cupy.full((*a.shape[:-1], columns + 3), np.nan, a.dtype)
        spread[..., 1 : columns + 1] = cupy.asarray(a)
        return spread[..., 1 : columns + 1]
    if layout == "rows of longer columns":
        spread = cupy.full((*a.shape[:-2], columns, rows + 3), np.nan, a.dtype)
        spread[..., 2 : rows + 2] = cupy.asarray(np.ascontiguousarray(a.swapaxes(-1, -2)))
        return spread[..., 2 : rows + 2].swapaxes(-1, -2)
    if layout == "neither":
        spread = cupy.full((*a.shape[:-1], 2 * columns), np.nan, a.dtype)
        spread[..., ::2] = cupy.asarray(a)
        return spread[..., ::2]
    return spread


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("leading", [(), (2,)], ids=["one", "a stack"])
@pytest.mark.parametrize("a_layout", LAYOUTS)
@pytest.mark.parametrize("b_layout", LAYOUTS)
def test_factors_in_every_layout(a_layout, b_layout, leading, dtype, cupy, rng):
    m, k, n = 4, 5, 6
    a, b = rng.standard_normal((*leading, m, k)).astype(dtype), rng.standard_normal((*leading, k, n)).astype(dtype)
    close = dict(rtol=1e-5 if dtype == "float32" else 1e-13, atol=1e-6 if dtype == "float32" else 1e-14)
    products, there = Products(), on_device(cupy, a, a_layout)
    found = products.product(there, on_device(cupy, b, b_layout))
    assert found.dtype == dtype
    np.testing.assert_allclose(found.get(), a @ b, **close)
    other = on_device(cupy, np.ascontiguousarray(b.swapaxes(-1, -2)), b_layout)
    np.testing.assert_allclose(products.transposed_product(there, other).get(), a @ b, **close)


@by_layout
@pytest.mark.parametrize("leading", [(), (2,)], ids=["one", "a stack"])
@pytest.mark.parametrize("m, k, n", [(4, 5, 6), (1, 5, 6), (4, 1, 6), (4, 5, 1), (1, 1, 1)])
def test_results_in_every_layout_and_sums(layout, leading, m, k, n, cupy, rng):
    a, b, before = (rng.standard_normal((*leading, *shape)) for shape in ((m, k), (k, n), (m, n)))
    out = on_device(cupy, before, layout)
    args = cupy.asarray(a), cupy.asarray(b)
    if layout == "neither" and min(m, n) > 1:
        with pytest.raises(ValueError, match="expected one of its last two axes contiguous"):
            Products().product(*args, out=out)
        return
    if layout == "neither":
        return
    assert Products().product(*args, out=out, add=True) is out
    np.testing.assert_allclose(out.get(), before + a @ b, rtol=1e-13, atol=1e-14)
    Products().product(*args, out=out)
    np.testing.assert_allclose(out.get(), a @ b, rtol=1e-13, atol=1e-14)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.booleans())
def test_a_matrix_is_told_as_it_lies(rows, columns, more, transposed):
    whole = np.arange(3 * rows * (columns + more), dtype=float).reshape(3, rows, columns + more)
    array = whole[:, :, :columns]
    array = array.swapaxes(1, 2) if transposed else array
    found = matrix(array)
    assert isinstance(found, Matrix) and found.stack == rows * (columns + more)
    flat = whole.ravel()
    for i in range(array.shape[1]):
        for j in range(array.shape[2]):
            at = j * found.step + i if found.transposed else i * found.step + j
            assert flat[at] == array[0, i, j]


def test_one_matrix_for_a_whole_stack(cupy, rng):
    a, b = rng.standard_normal((3, 4, 5)), rng.standard_normal((5, 6))
    found = Products().product(cupy.asarray(a), cupy.asarray(b))
    np.testing.assert_allclose(found.get(), a @ b, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("a, b, out, message", [
    ((2, 3), (4, 5), None, r"a has shape \(2, 3\) and b \(4, 5\), expected \(m, k\) and \(k, n\)"),
    ((2, 4, 3), (3, 3, 5), None, "expected"), ((3,), (3, 2), None, "expected"),
    ((2, 3), (3, 5), (2, 4), r"out is float64 \(2, 4\), expected float64 \(2, 5\)"),
])
def test_what_does_not_fit(a, b, out, message, cupy):
    with pytest.raises(ValueError, match=f"product: .*{message}"):
        Products().product(cupy.zeros(a), cupy.zeros(b), out=None if out is None else cupy.zeros(out))


def test_nothing_to_multiply(cupy):
    assert Products().product(cupy.zeros((0, 3)), cupy.zeros((3, 2))).shape == (0, 2)
    assert not Products().product(cupy.zeros((2, 0)), cupy.zeros((0, 3))).get().any()
    kept = cupy.ones((2, 3))
    assert (Products().product(cupy.zeros((2, 0)), cupy.zeros((0, 3)), out=kept, add=True).get() == 1).all()


def test_what_cannot_be_asked(cupy):
    for dtype in ("complex128", "int64"):
        with pytest.raises(TypeError, match=f"product: arrays of {dtype}, expected float32 or float64"):
            Products().product(cupy.zeros((1, 1), dtype), cupy.zeros((1, 1), dtype))
    with pytest.raises(ValueError, match="add without out"):
        Products().product(cupy.zeros((1, 1)), cupy.zeros((1, 1)), add=True)


def test_a_precision_has_a_handle_of_its_own_and_keeps_its_workspace(cupy):
    one, dll = cupy.ones((2, 2), "float32"), library().dll
    Products("float32").product(one, one)
    Products("tf32").product(one, one)
    assert dll.math_modes == {7: 0, 8: 3}  # by handle: CUBLAS_DEFAULT_MATH, CUBLAS_TF32_TENSOR_OP_MATH
    stream = cupy.cuda.Stream()
    with stream:
        Products("tf32").product(one, one)
    assert dll.streams == {7: 0, 8: 0, 9: stream.ptr} and dll.workspaces == {7, 8, 9}
    library().release(stream.ptr)
    assert dll.streams == {7: 0, 8: 0}


def test_a_failure_of_the_library_is_an_error(cupy, monkeypatch):
    monkeypatch.setattr(library().dll, "cublasSgemmStridedBatched", lambda *_: 13, raising=False)
    with pytest.raises(RuntimeError, match="cublasSgemmStridedBatched failed with status 13, CUBLAS_STATUS_EXECUT"):
        Products().product(cupy.ones((1, 1), "float32"), cupy.ones((1, 1), "float32"))


def test_the_choice_is_explicit():
    assert choose(None, "float32", "cpu", "float64") is PLAIN is choose("plain", "float32", "cuda", "float32")
    assert choose(None, "tf32", "cuda:1", "float32").product.matmul == "tf32"
    for arguments, message in (((None, "tf32", "cpu", "float32"), "not of plain in float32"),
                               ((None, "tf32", "cuda", "float64"), "not of fused in float64"),
                               (("fused", "float32", "cpu", "float32"), "needs a GPU"),
                               (("fast", "float32", "cpu", "float32"), "expected one of plain, fused"),
                               ((None, "bfloat16", "cuda", "float32"), "expected one of float32, tf32")):
        with pytest.raises(InputError, match=message):
            choose(*arguments)


def test_a_model_says_how_it_computes(cupy):
    sizes = dict(src_vocab_size=9, tgt_vocab_size=9, embed_size=2, hidden_size=2)
    assert NMT(**sizes).computing == "cpu"
    assert NMT(**sizes, device="cuda", kernels="plain").computing == "cuda:0, plain kernels"
    assert NMT(**sizes, device="cuda:1", matmul="tf32").computing == "cuda:1, fused kernels, products in tf32"
