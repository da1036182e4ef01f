"""Rows of arrays moved, added up and masked: what a model computes between its operations.

    (1)  y = x[index]                        take
    (2)  out[index] = x                      put
    (3)  out += x                            add        a bias to every row, say
    (4)  out[index] += x                     add_rows   index names no row twice
    (5)  y = x m                             multiply   with a mask of dropout
    (6)  y = sum_n x[n]                      sum_rows   the gradient of a bias

An index is whatever NumPy takes: numbers of rows, a slice, `...` for all.  These have no kernels of their own; they
are part of a backend (see plain.py) so that whoever wraps one sees everything that a step computes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array
from .packing import Packing


def take(x: Array, index: Any) -> Array:
    """x[index]: a copy, or a view if index is a slice."""
    return x[index]  # (1)


def put(out: Array, index: Any, x: Any) -> None:
    """x, an array or a number, into the places of `out`."""
    out[index] = x  # (2)


def add(out: Array, x: Array) -> None:
    """x, which may be broadcast, to what is there."""
    out += x  # (3)


def add_rows(out: Array, index: Any, x: Array) -> None:
    """x to the places of `out`."""
    out[index] += x  # (4)


def multiply(x: Array, mask: Array, *, out: Array | None = None) -> Array:
    """x mask, written into `out` if given."""
    return np.multiply(x, mask, out=out)  # (5)


def sum_rows(x: Array, *, axis: int = 0, out: Array | None = None) -> Array:
    """The sum over the rows, which stand along `axis`, written into `out` if given."""
    return np.sum(x, axis=axis, out=out)  # (6)


def contiguous(x: Array) -> Array:
    """x with its axes in the order of its memory: a copy unless they are."""
    return x if x.flags.c_contiguous else x.copy()


def by_sentence(rows: Array, packing: Packing) -> Array:
    """Packed rows (N, X) -> (B, T, X) in sorted order, zeros where a sentence has padding."""
    T, B, counts = len(packing.counts), packing.sentences, packing.counts
    if counts[-1] == B:  # every step has all sentences
        return rows.reshape(T, B, -1).transpose(1, 0, 2)
    array = np.zeros_like(rows, shape=(B, T, rows.shape[1]))
    for t, (n, offset) in enumerate(zip(counts, packing.offsets, strict=False)):  # the last offset is the end
        array[:n, t] = rows[offset : offset + n]
    return array
