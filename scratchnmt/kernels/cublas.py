"""cuBLAS' product of matrices, called without CuPy between: the only place that talks to the library.

CuPy has loaded the library already.  Each card and precision has a handle of its own, with workspace of its own
(32 MiB, what the library's documentation advises for large cards), so that no product allocates anything and the
same product gives the same bits each time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import require

WORKSPACE = 32 << 20  # bytes
DEFAULT_MATH, TF32_MATH = 0, 3  # cublasMath_t: CUBLAS_DEFAULT_MATH, CUBLAS_TF32_TENSOR_OP_MATH
LETTERS = {"float32": "S", "float64": "D"}
C_NUMBERS = {"float32": ctypes.c_float, "float64": ctypes.c_double}

Place = tuple[int, int, int]  # address, step, stack: see product.py


class Handle:
    """cuBLAS for one card and one precision; what it does goes to CuPy's current stream."""

    def __init__(self, dll: Any, matmul: str):
        cupy = require("cupy", "cuda12")
        self.dll, self.stream = dll, None
        self.pointer = ctypes.c_void_p()
        self.workspace = cupy.cuda.Memory(WORKSPACE)  # for good, so not of the pool
        self.call("cublasCreate_v2", ctypes.byref(self.pointer))
        self.call("cublasSetMathMode", self.pointer, ctypes.c_int(TF32_MATH if matmul == "tf32" else DEFAULT_MATH))

    def call(self, function: str, *arguments: Any) -> None:
        """Call a function of the library; RuntimeError with its status if it fails."""
        status = getattr(self.dll, function)(*arguments)
        if status:
            raise RuntimeError(f"cuBLAS: {function} failed with status {status}")

    def follow(self, stream: int) -> None:
        """Work on this stream from now on; setting it takes the workspace away."""
        if stream != self.stream:
            self.call("cublasSetStream_v2", self.pointer, ctypes.c_void_p(stream))
            self.call("cublasSetWorkspace_v2", self.pointer, ctypes.c_void_p(self.workspace.ptr),
                      ctypes.c_size_t(WORKSPACE))
            self.stream = stream


class Library:
    """The library as it is loaded; a handle for each card and precision is made when it is first needed."""

    def __init__(self, dll: Any):
        self.dll = dll
        self.handles: dict[tuple[int, str], Handle] = {}

    def gemm(self, matmul: str, dtype: np.dtype, transposed: tuple[bool, bool], sizes: tuple[int, int, int],
             a: Place, b: Place, add: bool, out: Place, count: int) -> None:
        """out = op(a) op(b) (+ out), by columns as cuBLAS has it, of `count` matrices; sizes: its m, n, k."""
        cupy = require("cupy", "cuda12")
        handle = self._handle(cupy.cuda.Device().id, matmul)
        handle.follow(cupy.cuda.get_current_stream().ptr)
        name = np.dtype(dtype).name
        number, address, size, stride = C_NUMBERS[name], ctypes.c_void_p, ctypes.c_int, ctypes.c_longlong
        one, before = number(1), number(add)
        place = lambda at: (address(at[0]), size(at[1]), stride(at[2]))
        handle.call(f"cublas{LETTERS[name]}gemmStridedBatched", handle.pointer, *map(size, transposed),
                    *map(size, sizes), ctypes.byref(one), *place(a), *place(b), ctypes.byref(before), *place(out),
                    size(count))

    def _handle(self, card: int, matmul: str) -> Handle:
        if (card, matmul) not in self.handles:
            self.handles[card, matmul] = Handle(self.dll, matmul)
        return self.handles[card, matmul]


@lru_cache
def library() -> Library:
    """cuBLAS as CuPy has loaded it."""
    cupy = require("cupy", "cuda12")
    cupy.cuda.device.get_cublas_handle()  # loads it
    return Library(_loaded(cupy.cuda.runtime.runtimeGetVersion() // 1000))


def _loaded(major: int) -> Callable:
    names = [f"libcublas.so.{major}", f"cublas64_{major}.dll"]
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise RuntimeError(f"cuBLAS: CuPy has loaded it, but none of {', '.join(names)} is found")
