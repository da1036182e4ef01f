"""cuBLAS' product of matrices, called without CuPy between: the only place that talks to the library.

CuPy has loaded the library already.  Each stream and precision has a handle of its own, with workspace of its own
(32 MiB, what the library's documentation advises for large cards), so that no product allocates anything, no two
that run side by side share workspace, and the same product gives the same bits each time.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..arrays import dtype_name
from ..errors import require

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
