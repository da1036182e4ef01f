"""cuBLAS' functions as ctypes calls them, made of NumPy: matrices counted by columns, at addresses."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from .cuda import get_current_stream
from .recording import recorded

SUCCESS, NOT_INITIALIZED, INVALID_VALUE = 0, 1, 7


class DLL:
    """What scratchnmt.kernels.product calls; `math_modes` and `streams` by handle."""

    def __init__(self) -> None:
        self.math_modes: dict[int, int] = {}
        self.streams: dict[int, int] = {}
        self.workspaces: set[int] = set()
        self.products: list[tuple[int, ...]] = []  # m, n, k, count of each

    def cublasCreate_v2(self, handle: Any) -> int:
        handle._obj.value = 7 + len(self.math_modes)
        self.math_modes[handle._obj.value] = 0
        return SUCCESS

    def cublasDestroy_v2(self, handle: Any) -> int:
        del self.streams[handle.value]
        return SUCCESS

    def cublasSetMathMode(self, handle: Any, mode: Any) -> int:
        self.math_modes[handle.value] = mode.value
        return SUCCESS

    def cublasSetStream_v2(self, handle: Any, stream: Any) -> int:
        self.streams[handle.value] = stream.value or 0
        self.workspaces.discard(handle.value)  # the library's documentation says so
        return SUCCESS

    def cublasSetWorkspace_v2(self, handle: Any, workspace: Any, size: Any) -> int:
        self.workspaces.add(handle.value)
        return SUCCESS

    def cublasSgemmStridedBatched(self, *arguments: Any) -> int:
        return self._gemm("float32", *arguments)

    def cublasDgemmStridedBatched(self, *arguments: Any) -> int:
        return self._gemm("float64", *arguments)

    def _gemm(self, dtype: str, handle: Any, op_a: Any, op_b: Any, m: Any, n: Any, k: Any, alpha: Any, a: Any,
              lda: Any, stride_a: Any, b: Any, ldb: Any, stride_b: Any, beta: Any, c: Any, ldc: Any, stride_c: Any,
              count: Any) -> int:
        if handle.value not in self.workspaces or self.streams[handle.value] != get_current_stream().ptr:
            return NOT_INITIALIZED
        m, n, k, count = m.value, n.value, k.value, count.value
        shape_a, shape_b = (k, m) if op_a.value else (m, k), (n, k) if op_b.value else (k, n)
        if lda.value < max(shape_a[0], 1) or ldb.value < max(shape_b[0], 1) or ldc.value < max(m, 1):
            return INVALID_VALUE
        self.products.append((m, n, k, count))
        call(dtype, count, (op_a.value, shape_a, a.value, lda.value, stride_a.value),
             (op_b.value, shape_b, b.value, ldb.value, stride_b.value), beta._obj.value,
             ((m, n), c.value, ldc.value, stride_c.value))
        return SUCCESS


@recorded
def call(dtype: str, count: int, a: tuple, b: tuple, beta: float, c: tuple) -> None:
    (op_a, *a), (op_b, *b) = a, b
    a, b = by_columns(dtype, count, *a), by_columns(dtype, count, *b)
    out = by_columns(dtype, count, *c)
    product = np.matmul(a.swapaxes(1, 2) if op_a else a, b.swapaxes(1, 2) if op_b else b)
    out[...] = product + beta * out if beta else product  # with beta = 0 what is there is not read, NaN or not


def by_columns(dtype: str, count: int, shape: tuple[int, int], address: int, step: int, stack: int) -> np.ndarray:
    """(count, rows, columns) at an address, `step` between columns and `stack` between matrices."""
    size = (count - 1) * stack + (shape[1] - 1) * step + shape[0]
    ctype = {"float32": ctypes.c_float, "float64": ctypes.c_double}[dtype]
    flat = np.ctypeslib.as_array((ctype * size).from_address(address))
    item = flat.itemsize
    return np.lib.stride_tricks.as_strided(flat, (count, *shape), (stack * item, item, step * item))
