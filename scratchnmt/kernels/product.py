"""Products of matrices by cuBLAS: the twin of ops/product.py, and the only place that talks to the library.

    (1)  out = a b        or  out += a b            (..., m, n) from (..., m, k) and (..., k, n)
    (2)  out = a b.T      or  out += a b.T          (..., m, n) from (..., m, k) and (..., n, k)

One launch each, the sum included, of slices and transposes where they lie, and allowed in a recorded step, which
CuPy's own products are not (they refuse while a stream is captured, cupy_backends/cuda/libs/cublas.pyx,
setStream, version 14.2).

cuBLAS counts matrices by columns: what it takes for a matrix with `step` between its columns is the transpose of
ours with `step` between its rows.  So it is asked for out.T = b.T a.T, with the factors in the other order.

CuPy has loaded the library already.  Each stream and precision has a handle of its own, with workspace of its own
(32 MiB, what the library's documentation advises for large cards), so that no product allocates anything, no two
that run side by side share workspace, and the same product gives the same bits each time.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, array_module, dtype_name
from ..errors import ArgumentError, require
from .launch import address


class Matrix(NamedTuple):
    """How a matrix, or a stack of them, lies in memory; counted in elements."""

    transposed: bool  # the last axis is not the contiguous one
    step: int  # between rows, or columns if transposed
    stack: int  # between matrices; 0: the same one again


class Products:
    """product and transposed_product as in ops/product.py; matmul "float32" or "tf32"."""

    def __init__(self, matmul: str = "float32"):
        self.matmul = matmul

    def product(self, a: Array, b: Array, *, out: Array | None = None, add: bool = False) -> Array:
        """(1), of at most three axes.

        ValueError if a shape does not fit, `out` has no contiguous axis, or there is nothing to add to; TypeError for
        other numbers than float32 and float64.
        """
        xp, shape = array_module(a, b), _shape(a, b)
        dtype = xp.result_type(a, b)
        if dtype_name(dtype) not in LETTERS:
            raise TypeError(f"product: arrays of {dtype}, expected {' or '.join(LETTERS)}")
        if out is None and add:
            raise ArgumentError("product: add without out, expected an array to add to")
        out = xp.empty(shape, dtype) if out is None else out
        if out.shape != shape or out.dtype != dtype:
            raise ArgumentError(f"product: out is {out.dtype} {out.shape}, expected {dtype} {shape}")
        if 0 in (*shape, a.shape[-1]):  # a sum of nothing
            if not add:
                out[...] = 0
            return out
        layout = matrix(out)
        if layout is None:
            raise ArgumentError(f"product: out has strides {out.strides}, expected one of its last two axes contiguous")
        a, b = (_readable(array.astype(dtype, copy=False)) for array in (a, b))
        if layout.transposed:  # out.T = b.T a.T has contiguous rows
            self._gemm(b.swapaxes(-1, -2), a.swapaxes(-1, -2), out.swapaxes(-1, -2), add)
        else:
            self._gemm(a, b, out, add)
        return out

    def transposed_product(self, a: Array, b: Array, *, out: Array | None = None, add: bool = False) -> Array:
        """(2), as `product`."""
        return self.product(a, b.swapaxes(-1, -2), out=out, add=add)

    def _gemm(self, a: Array, b: Array, out: Array, add: bool) -> None:
        """out (+)= a b, all three readable, rows of `out` contiguous."""
        (m, n), k = out.shape[-2:], a.shape[-1]
        first, second, result = _lies(b), _lies(a), _lies(out)
        operand = lambda array, layout: Operand(address(array), layout.step, layout.stack)
        library().gemm(self.matmul, out.dtype, (first.transposed, second.transposed), (n, m, k),
                              operand(b, first), operand(a, second), add, operand(out, result),
                              count=out.shape[0] if out.ndim == 3 else 1)


def matrix(array: Array) -> Matrix | None:
    """How an array's last two axes lie in memory; None if neither is contiguous, or rows overlap."""
    rows, columns = array.shape[-2:]
    row, column = (stride // array.itemsize for stride in array.strides[-2:])
    stack = array.strides[0] // array.itemsize if array.ndim == 3 and array.shape[0] > 1 else 0
    if (column == 1 or columns == 1) and (row >= columns or rows == 1):
        return Matrix(False, max(row, columns, 1) if rows > 1 else max(columns, 1), stack)
    if (row == 1 or rows == 1) and (column >= rows or columns == 1):
        return Matrix(True, max(column, rows, 1) if columns > 1 else max(rows, 1), stack)
    return None


def _lies(array: Array) -> Matrix:
    """How a readable array lies in memory."""
    if (layout := matrix(array)) is None:
        raise ArgumentError(f"product: strides {array.strides} of shape {array.shape} are no matrix's")
    return layout


def _readable(array: Array) -> Array:
    return array if matrix(array) is not None else array_module(array).ascontiguousarray(array)


def _shape(a: Array, b: Array) -> tuple[int, ...]:
    stacks = [array.shape[0] for array in (a, b) if array.ndim == 3]
    fits = (2 <= a.ndim <= 3 and 2 <= b.ndim <= 3 and a.shape[-1] == b.shape[-2] and len({*stacks}) < 2)
    if not fits:
        raise ArgumentError(f"product: a has shape {a.shape} and b {b.shape}, expected (m, k) and (k, n), or stacks of "
                         "as many")
    return (*stacks[:1], a.shape[-2], b.shape[-1])


WORKSPACE = 32 << 20  # bytes
DEFAULT_MATH, TF32_MATH = 0, 3  # cublasMath_t: CUBLAS_DEFAULT_MATH, CUBLAS_TF32_TENSOR_OP_MATH
LETTERS = {"float32": "S", "float64": "D"}
C_NUMBERS = {"float32": ctypes.c_float, "float64": ctypes.c_double}
STATUS = {1: "NOT_INITIALIZED", 3: "ALLOC_FAILED", 7: "INVALID_VALUE", 8: "ARCH_MISMATCH", 11: "MAPPING_ERROR",
          13: "EXECUTION_FAILED", 14: "INTERNAL_ERROR", 15: "NOT_SUPPORTED"}  # cublasStatus_t


class Operand(NamedTuple):
    """A matrix, or a stack of them, as cuBLAS is told about it, by columns; counted in elements."""

    address: int
    step: int  # between columns
    stack: int  # between matrices


class Handle:
    """cuBLAS for one stream and one precision."""

    def __init__(self, dll: Any, stream: int, matmul: str):
        cupy = require("cupy", "cuda12")
        self.dll, self.pointer = dll, ctypes.c_void_p()
        self.workspace = cupy.cuda.Memory(WORKSPACE)  # for as long as the handle is there, so not of a pool
        self.call("cublasCreate_v2", ctypes.byref(self.pointer))
        self.call("cublasSetMathMode", self.pointer, ctypes.c_int(TF32_MATH if matmul == "tf32" else DEFAULT_MATH))
        self.call("cublasSetStream_v2", self.pointer, ctypes.c_void_p(stream))
        # after the stream, the setting of which takes the workspace away
        self.call("cublasSetWorkspace_v2", self.pointer, ctypes.c_void_p(self.workspace.ptr),
                  ctypes.c_size_t(WORKSPACE))

    def call(self, function: str, *arguments: Any) -> None:
        """Call a function of the library; RuntimeError with its status if it fails."""
        status = getattr(self.dll, function)(*arguments)
        if status:
            raise RuntimeError(f"cuBLAS: {function} failed with status {status}, "
                               f"CUBLAS_STATUS_{STATUS.get(status, 'of no known name')}")


class Library:
    """The library as it is loaded; a handle for each card, stream and precision is made when it is first needed."""

    def __init__(self, dll: Any):
        self.dll = dll
        self.handles: dict[tuple[int, int, str], Handle] = {}

    def gemm(self, matmul: str, dtype: np.dtype, transposed: tuple[bool, bool], sizes: tuple[int, int, int],
             a: Operand, b: Operand, add: bool, out: Operand, count: int) -> None:
        """out = op(a) op(b) (+ out) of `count` matrices; sizes: its rows, its columns, and the length of the sums."""
        name = dtype_name(dtype)
        number, address, size, stride = C_NUMBERS[name], ctypes.c_void_p, ctypes.c_int, ctypes.c_longlong
        one, before, handle = number(1), number(add), self._handle(matmul)
        told = lambda operand: (address(operand.address), size(operand.step), stride(operand.stack))
        handle.call(f"cublas{LETTERS[name]}gemmStridedBatched", handle.pointer, *map(size, transposed),
                    *map(size, sizes), ctypes.byref(one), *told(a), *told(b), ctypes.byref(before), *told(out),
                    size(count))

    def release(self, stream: int) -> None:
        """Give back what a stream's handles hold; nothing may run there any more."""
        for key in [key for key in self.handles if key[1] == stream]:
            handle = self.handles.pop(key)
            handle.call("cublasDestroy_v2", handle.pointer)

    def _handle(self, matmul: str) -> Handle:
        cuda = require("cupy", "cuda12").cuda
        key = cuda.Device().id, cuda.get_current_stream().ptr, matmul
        if key not in self.handles:
            self.handles[key] = Handle(self.dll, key[1], matmul)
        return self.handles[key]


@lru_cache
def library() -> Library:
    """cuBLAS as CuPy has loaded it."""
    cupy = require("cupy", "cuda12")
    cupy.cuda.device.get_cublas_handle()  # loads it
    return Library(_loaded(cupy.cuda.runtime.runtimeGetVersion() // 1000))


def _loaded(major: int) -> ctypes.CDLL:
    names = [f"libcublas.so.{major}", f"cublas64_{major}.dll"]
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise RuntimeError(f"cuBLAS: CuPy has loaded it, but none of {', '.join(names)} is found")
