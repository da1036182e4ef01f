"""Embedding: a table of vectors, one row per token.

    (1)  y[n] = W[ids[n]]

ids (...) of integers below V, W (V, E), y (..., E).  A token that occurs k times receives the sum
of k gradients.  The sum is taken in a fixed order (sorted by id, then by position), so that the
same batch gives the same bits.  The ids may be on the host though W is on a GPU: then neither the
check of their range nor their sorting waits for the GPU.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..arrays import Array, array_module, beside, to_device


class EmbeddingCache(NamedTuple):
    ids: Array  # (...)
    shape: tuple[int, int]  # (V, E) of the table


class EmbeddingGradients(NamedTuple):
    dW: Array  # (V, E)


def embedding_forward(ids: Array, W: Array) -> tuple[Array, EmbeddingCache]:
    """The rows of W at ids, (..., E).  Raises IndexError if an id is outside the table."""
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < W.shape[0]:
        raise IndexError(f"embedding: ids run from {int(ids.min())} to {int(ids.max())}, "
                         f"expected 0 to V - 1 = {W.shape[0] - 1}, where V comes from W {W.shape}")
    return W[beside(ids, W)], EmbeddingCache(ids, W.shape)  # (1)


def embedding_backward(dy: Array, cache: EmbeddingCache) -> EmbeddingGradients:
    """The gradient of the whole table from dy (..., E); rows of absent tokens are zero."""
    ids, sums = embedding_row_gradients(dy, cache)
    dW = array_module(dy).zeros(cache.shape, dy.dtype)
    dW[ids] = sums
    return EmbeddingGradients(dW)


def embedding_row_gradients(dy: Array, cache: EmbeddingCache) -> tuple[Array, Array]:
    """The same gradient without the zeros: the distinct ids (U,) and their rows' gradients (U, E)."""
    xp = array_module(dy)
    flat_ids = to_device(cache.ids, "cpu").reshape(-1)
    order = np.argsort(flat_ids, kind="stable")
    sorted_ids = flat_ids[order]
    first = np.ones(len(sorted_ids), bool)  # True where a new token begins
    first[1:] = sorted_ids[1:] != sorted_ids[:-1]
    starts = np.flatnonzero(first)
    # in the forward pass this was (1) y[n] = W[ids[n]]: every use of a row adds to its gradient
    rows = dy.reshape(-1, dy.shape[-1])[xp.asarray(order)]
    if xp is not np:  # CuPy takes differences of running sums, which need more digits than float32 has
        rows = rows.astype(xp.result_type(rows, "float64"))
    sums = xp.add.reduceat(rows, xp.asarray(starts), axis=0)
    return xp.asarray(sorted_ids[starts]), sums.astype(dy.dtype, copy=False)
