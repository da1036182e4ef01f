"""Embedding: a table of vectors, one row per token.

    (1)  y[n] = W[ids[n]]

ids (...) of integers below V, W (V, E), y (..., E).  A token that occurs k times receives the sum
of k gradients.  The sum is taken in a fixed order (sorted by id, then by position), so that the
same batch gives the same bits.  The ids may be on the host though W is on a GPU: then neither the
check of their range nor their sorting waits for the GPU.

The textbook computes the same for one sentence, in the lines that read `params["embed.src"]` and
`params["embed.tgt"]`.  Next: ops/linear_cross_entropy.py.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..arrays import Array, array_module, to_device, to_device_of
from ..errors import IdError


class EmbeddingCache(NamedTuple):
    ids: Array  # (...)
    shape: tuple[int, int]  # (V, E) of the table
    tokens: tuple[Array, Array] | None = None  # of the ids on a GPU: their `sorted_tokens`, if made beforehand


class EmbeddingGradients(NamedTuple):
    dW: Array  # (V, E)


def embedding_forward(ids: Array, W: Array, *, tokens: tuple[Array, Array] | None = None
                      ) -> tuple[Array, EmbeddingCache]:
    """The rows of W at ids, (..., E); tokens is for the kernel.  IndexError if an id is outside the table."""
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < W.shape[0]:
        raise IdError(f"embedding: ids run from {int(ids.min())} to {int(ids.max())}, "
                         f"expected 0 to V - 1 = {W.shape[0] - 1}, where V comes from W {W.shape}")
    return W[to_device_of(ids, W)], EmbeddingCache(ids, W.shape, tokens)  # (1)


def embedding_backward(dy: Array, cache: EmbeddingCache, *, dW: Array | None = None) -> EmbeddingGradients:
    """The gradient of the whole table from dy (..., E); rows of absent tokens are zero.

    dW (V, E) may be a buffer to be *added* to, as a table that is used twice needs it.
    """
    xp = array_module(dy)
    ids, order, starts = (xp.asarray(array) for array in distinct_ids(cache.ids))
    if dW is None:
        dW = xp.zeros(cache.shape, dy.dtype)
    # in the forward pass this was (1) y[n] = W[ids[n]]: every use of a row adds to its gradient
    rows = dy.reshape(-1, dy.shape[-1])[order]
    if xp is not np:  # CuPy takes differences of running sums, which need more digits than float32 has
        rows = rows.astype(xp.result_type(rows, "float64"))
    dW[ids] += xp.add.reduceat(rows, starts, axis=0).astype(dy.dtype, copy=False)
    return EmbeddingGradients(dW)


def distinct_ids(ids: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The distinct ids (U,), the order (N,) that sorts all, and where each begins in it (U,); on the host."""
    flat_ids = to_device(ids, "cpu").reshape(-1)
    order = np.argsort(flat_ids, kind="stable")
    sorted_ids = flat_ids[order]
    first = np.ones(len(sorted_ids), bool)  # True where a new token begins
    first[1:] = sorted_ids[1:] != sorted_ids[:-1]
    starts = np.flatnonzero(first)
    return sorted_ids[starts], order, starts
