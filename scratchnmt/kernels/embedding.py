"""The gradient of an embedding table without atomics and without waiting: the twin of ops/embedding.py."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, array_module, check_shapes, to_device_of
from ..ops import embedding as plain
from ..ops.embedding import EmbeddingCache, EmbeddingGradients
from .launch import WARP, LaunchConfig, buffer, launch, readable

EQUATIONS = plain
TWINS = {"embedding_backward": plain.embedding_backward}
PARTS = 8  # as in embedding.cu


def embedding_forward(ids: Array, W: Array, *, tokens: tuple[Array, Array] | None = None
                      ) -> tuple[Array, EmbeddingCache]:
    """The rows of W at ids, (..., E), which one launch of CuPy gathers; tokens: their `sorted_tokens`, if known.

    IndexError if an id on the host is outside the table; of ids on the GPU nobody notices, since the host would
    have to wait to see.
    """
    if isinstance(ids, np.ndarray):
        return plain.embedding_forward(ids, W, tokens=tokens)
    return W[ids], EmbeddingCache(ids, W.shape, tokens)


def sorted_tokens(ids: Array) -> tuple[Array, Array]:
    """(order, ids in that order), each (N,): sorted by id and then by position; on the host if the ids are."""
    ids = ids.reshape(-1)
    order = array_module(ids).argsort(ids, kind="stable")
    return order, ids[order]


def embedding_backward(dy: Array, cache: EmbeddingCache, *, dW: Array | None = None) -> EmbeddingGradients:
    """The gradient of the whole table from dy (..., E); dW (V, E) may be a buffer to be added to.

    Rows whose id in the cache's tokens is below zero are left out.
    """
    xp = array_module(dy)
    V, E = cache.shape
    rows = dy.reshape(-1, dy.shape[-1])
    order, ids = (to_device_of(array, dy) for array in cache.tokens or sorted_tokens(cache.ids))
    N = check_shapes("embedding", dy=("N E", rows), ids=("N", ids), order=("N", order))["N"]
    if dW is None:
        dW = xp.zeros((V, E), dy.dtype)
    buffer("embedding: dW", dW, dy, (V, E), dy.dtype)
    launch("embedding", "embedding_backward", dy.dtype, by_segment(N, E), readable(rows, dy.dtype),
           readable(order, "int64"), readable(ids, "int64"), dW, np.int32(N), np.int32(E))
    return EmbeddingGradients(dW)


def by_segment(N: int, E: int) -> LaunchConfig:
    """A block for each token and 32 columns; those whose token is not the first of its id end at once."""
    return LaunchConfig((N, -(-E // WARP), 1), (WARP, PARTS))
