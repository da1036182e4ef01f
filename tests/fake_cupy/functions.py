"""CuPy's functions that are not element-wise: those that the package uses, with CuPy's own arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from .array import SCALARS, ndarray, new, on_this_card, view
from .cuda import MACHINE


def asarray(a: Any, dtype: Any = None, order: Any = None, *, copy: bool | None = None,
            blocking: bool = False) -> ndarray:
    """Of this card as it is, of another card or of the host a copy (core.pyx, array)."""
    if isinstance(a, ndarray):
        if a._card != MACHINE.card:
            return new(a._array.astype(dtype or a.dtype))
        return a if dtype is None or np.dtype(dtype) == a.dtype else a.astype(dtype)
    if isinstance(a, (list, tuple)) and a and all(isinstance(item, ndarray) for item in a):
        return stack(a)  # _array_from_nested_cupy_sequence
    MACHINE.upload("asarray")
    return new(np.array(a, dtype=dtype))


def array(obj: Any, dtype: Any = None, copy: bool = True) -> ndarray:
    return obj.astype(dtype or obj.dtype) if isinstance(obj, ndarray) else asarray(obj, dtype)


def asnumpy(a: Any) -> np.ndarray:
    return a.get() if isinstance(a, ndarray) else np.asarray(a)


def ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    a = asarray(a, dtype)
    return a if a.flags.c_contiguous and a.ndim else new(np.ascontiguousarray(on_this_card(a)))


def asfortranarray(a: Any, dtype: Any = None) -> ndarray:
    return new(np.asfortranarray(on_this_card(asarray(a, dtype))))


# New arrays; what `empty` leaves in memory is here what nobody wants to find


def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    dtype = np.dtype(dtype)
    return new(np.full(shape, {"f": np.nan, "c": np.nan, "b": True}.get(dtype.kind, 2**31 - 7), dtype))


def zeros(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return new(np.zeros(shape, dtype))


def ones(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return new(np.ones(shape, dtype))


def full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C") -> ndarray:
    return new(np.full(shape, fill_value, dtype))


def empty_like(prototype: ndarray, dtype: Any = None, order: str = "K", subok: Any = None,
               shape: Any = None) -> ndarray:
    return empty(prototype.shape if shape is None else shape, dtype or prototype.dtype)


def zeros_like(a: ndarray, dtype: Any = None, order: str = "K", subok: Any = None,
               shape: Any = None) -> ndarray:
    return zeros(a.shape if shape is None else shape, dtype or a.dtype)


def ones_like(a: ndarray, dtype: Any = None) -> ndarray:
    return ones(a.shape, dtype or a.dtype)


def full_like(a: ndarray, fill_value: Any, dtype: Any = None) -> ndarray:
    return full(a.shape, fill_value, dtype or a.dtype)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> ndarray:
    return new(np.arange(start, stop, step, dtype) if stop is not None else np.arange(start, dtype=dtype))


# Shapes


def concatenate(tup: Any, axis: int | None = 0, out: Any = None) -> ndarray:
    return new(np.concatenate(_all_ours(tup), axis))


def stack(tup: Any, axis: int = 0, out: Any = None) -> ndarray:
    return new(np.stack(_all_ours(tup), axis))


def broadcast_to(array: ndarray, shape: Any) -> ndarray:
    return view(np.broadcast_to(on_this_card(array), shape), array)


def shape(a: Any) -> tuple[int, ...]:
    return a.shape if isinstance(a, ndarray) else np.shape(a)


def size(a: Any, axis: int | None = None) -> int:
    return np.size(a._array, axis)


def swapaxes(a: ndarray, axis1: int, axis2: int) -> ndarray:
    return a.swapaxes(axis1, axis2)


# Products


def _not_while_recording() -> None:  # cupy_backends/cuda/libs/cublas.pyx, setStream
    if MACHINE.recording is not None:
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")


def matmul(a: ndarray, b: ndarray, out: ndarray | None = None) -> ndarray:
    _not_while_recording()
    if out is None:
        return new(np.matmul(on_this_card(a), on_this_card(b)))
    np.matmul(on_this_card(a), on_this_card(b), out=on_this_card(out))
    return out


def tensordot(a: ndarray, b: ndarray, axes: Any = 2) -> ndarray:
    _not_while_recording()
    return new(np.tensordot(on_this_card(a), on_this_card(b), axes))


def einsum(subscripts: str, *operands: ndarray) -> ndarray:
    return new(np.einsum(subscripts, *map(on_this_card, operands)))


# Reductions, choosing, searching


def sum(a: ndarray, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
    return a.sum(axis, dtype, out, keepdims)


def max(a: ndarray, axis: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
    return a.max(axis, out, keepdims)


def min(a: ndarray, axis: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
    return a.min(axis, out, keepdims)


def where(condition: ndarray, x: Any = None, y: Any = None) -> Any:
    if not isinstance(condition, ndarray):  # search.py, where: condition.astype
        raise AttributeError(f"{type(condition)} has no astype of CuPy's")
    for value in (x, y):
        if not isinstance(value, (ndarray, *SCALARS)):
            raise TypeError(f"Unsupported type {type(value)}")
    return new(np.where(*(on_this_card(v) if isinstance(v, ndarray) else v for v in (condition, x, y))))


def flatnonzero(a: ndarray) -> ndarray:
    return a.ravel().nonzero()[0]


def take_along_axis(a: ndarray, indices: ndarray, axis: int) -> ndarray:
    return new(np.take_along_axis(on_this_card(a), on_this_card(indices), axis))


def argsort(a: ndarray, axis: int = -1, kind: str | None = None) -> ndarray:
    return a.argsort(axis, kind=kind)


def cumsum(a: ndarray, axis: int | None = None, dtype: Any = None) -> ndarray:
    return new(np.cumsum(on_this_card(a), axis, dtype))


def result_type(*arrays_and_dtypes: Any) -> np.dtype:  # cupy/__init__.py, result_type
    return np.result_type(*(a.dtype if isinstance(a, ndarray) else a for a in arrays_and_dtypes))


def may_share_memory(a: ndarray, b: ndarray, max_work: None = None) -> bool:
    return np.may_share_memory(a._array, b._array)


def _all_ours(arrays: Any) -> list[np.ndarray]:
    if not all(isinstance(a, ndarray) for a in arrays):  # _routines_manipulation.pyx, concatenate
        raise TypeError("Only cupy arrays can be concatenated")
    return [on_this_card(a) for a in arrays]
