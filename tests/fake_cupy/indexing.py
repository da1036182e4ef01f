"""Indexing as CuPy's where it differs from NumPy's (cupy/_core/_routines_indexing.pyx)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .cuda import MACHINE


def pick(array: np.ndarray, parts: list, is_array: list[bool]) -> np.ndarray:
    """array[parts]: a view, or if there are arrays among the parts a new array."""
    view, arrays = _in_two(array, parts, is_array)
    return view if arrays is None else np.asarray(view[arrays])


def assign(array: np.ndarray, parts: list, is_array: list[bool], value: Any, from_host: bool) -> None:
    """array[parts] = value."""
    view, arrays = _in_two(array, parts, is_array)
    if arrays is None:
        if from_host and np.shape(value):  # core.pyx, fill: "Refuse assignment from CPU arrays, see gh-2079"
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        view[...] = value
        return
    if from_host:
        MACHINE.upload("value")  # _scatter_op_single: core.array(value)
    places = np.arange(view.size).reshape(view.shape)[arrays]
    if np.size(value) > 1 and len(np.unique(places)) < places.size:
        # "the value that is actually stored is undefined" (difference.rst, "Duplicate values in indices")
        raise AssertionError("several values for one place: CuPy stores any of them")
    view[arrays] = value


def _in_two(array: np.ndarray, parts: list, is_array: list[bool]) -> tuple[np.ndarray, tuple | None]:
    """The view by slices and whole numbers (_view_getitem), then the index by arrays into what is left.

    NumPy takes a whole number beside an array for an array too, which puts the axes in another order.
    """
    parts, is_array = _without_ellipsis(array.ndim, parts, is_array)
    basic: list[Any] = []
    later: list[Any] = []
    for part, is_one in zip(parts, is_array, strict=True):
        if is_one:
            basic += [slice(None)] * (part.ndim if part.dtype.kind == "b" else 1)
            later.append(part)
        else:
            basic.append(part)
            later += [slice(None)] * (part is None or isinstance(part, slice))
    view = array[(*basic, ...)]
    if not any(is_array):
        return view, None
    return view, tuple(_wrapped(view.shape, later))


def _without_ellipsis(ndim: int, parts: list, is_array: list[bool]) -> tuple[list, list[bool]]:
    used = sum(0 if p is None or p is ... else p.ndim if a and p.dtype.kind == "b" else 1
               for p, a in zip(parts, is_array, strict=True))
    where = next((i for i, p in enumerate(parts) if p is ...), len(parts))
    whole = [slice(None)] * (ndim - used)
    return ([*parts[:where], *whole, *parts[where + 1 :]],
            [*is_array[:where], *[False] * len(whole), *is_array[where + 1 :]])


def _wrapped(shape: tuple[int, ...], parts: list) -> list:
    """Indices out of bounds wrap around, no error (difference.rst, "Out-of-bounds indices")."""
    axis, found = 0, []
    for part in parts:
        if isinstance(part, np.ndarray) and part.dtype.kind != "b":
            found.append(part % max(shape[axis], 1))
        else:
            found.append(part)
        axis += part.ndim if isinstance(part, np.ndarray) and part.dtype.kind == "b" else 1
    return found
