"""Products of matrices by cuBLAS: the twin of ops/product.py.

    (1)  out = a b        or  out += a b            (..., m, n) from (..., m, k) and (..., k, n)
    (2)  out = a b.T      or  out += a b.T          (..., m, n) from (..., m, k) and (..., n, k)

One launch each, the sum included, of slices and transposes where they lie, and allowed in a recorded step, which
CuPy's own products are not (they refuse while a stream is captured, cupy_backends/cuda/libs/cublas.pyx,
setStream, version 14.2).

cuBLAS counts matrices by columns: what it takes for a matrix with `step` between its columns is the transpose of
ours with `step` between its rows.  So it is asked for out.T = b.T a.T, with the factors in the other order.
"""

from __future__ import annotations

from typing import NamedTuple

from ..arrays import Array, array_module, dtype_name
from ..errors import ArgumentError
from . import compile as compiler
from . import cublas
from .cublas import Operand


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
        if dtype_name(dtype) not in cublas.LETTERS:
            raise TypeError(f"product: arrays of {dtype}, expected {' or '.join(cublas.LETTERS)}")
        if out is None and add:
            raise ArgumentError("product: add without out, expected an array to add to")
        out = xp.empty(shape, dtype) if out is None else out
        if out.shape != shape or out.dtype != dtype:
            raise ArgumentError(f"product: out is {out.dtype} {out.shape}, expected {dtype} {shape}")
        if 0 in (*shape, a.shape[-1]):  # a sum of nothing
            if not add:
                out[...] = 0
            return out
        found = matrix(out)
        if found is None:
            raise ArgumentError(f"product: out has strides {out.strides}, expected one of its last two axes contiguous")
        a, b = (_readable(array.astype(dtype, copy=False)) for array in (a, b))
        if found.transposed:  # out.T = b.T a.T has contiguous rows
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
        operand = lambda array, found: Operand(compiler.address(array), found.step, found.stack)
        cublas.library().gemm(self.matmul, out.dtype, (first.transposed, second.transposed), (n, m, k),
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
    if (found := matrix(array)) is None:
        raise ArgumentError(f"product: strides {array.strides} of shape {array.shape} are no matrix's")
    return found


def _readable(array: Array) -> Array:
    return array if matrix(array) is not None else array_module(array).ascontiguousarray(array)


def _shape(a: Array, b: Array) -> tuple[int, ...]:
    stacks = [array.shape[0] for array in (a, b) if array.ndim == 3]
    fits = (2 <= a.ndim <= 3 and 2 <= b.ndim <= 3 and a.shape[-1] == b.shape[-2] and len({*stacks}) < 2)
    if not fits:
        raise ArgumentError(f"product: a has shape {a.shape} and b {b.shape}, expected (m, k) and (k, n), or stacks of "
                         "as many")
    return (*stacks[:1], a.shape[-2], b.shape[-1])
