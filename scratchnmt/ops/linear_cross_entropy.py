"""Projection to the vocabulary, softmax and cross-entropy in one, in chunks of rows: the fast one.

    (1)  logits = x W
    (2)  loss = cross_entropy(logits, targets)            row by row, padding left out

The logits of a batch, (N, V), are by far its largest array, and nobody needs them: as soon as a
chunk of them exists it is turned into its own gradient in place and multiplied back into dx and dW.
So forward leaves nothing for backward to do but to scale.  Only rows with a target are computed.

x (N, H), W (H, V), targets (N,), loss a scalar: the sum of nats.  The targets may be on the host though
the rest is on a GPU: then neither the check of their range nor the search for padding waits for the GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..arrays import Array, array_module, beside, check_shapes, for_ranges
from .cross_entropy import PAD, check_targets

CHUNK_BYTES = 48 << 20  # logits in memory at a time: large enough for a fast product
BLOCK_BYTES = 1 << 20  # of which each core works on so much at a time: small enough for its cache
COLUMNS = 16384  # columns of dW added at a time, so that no second array of its size is needed


class LinearCrossEntropyCache(NamedTuple):
    dx: Array  # (N, H) for dloss = 1
    dW: Array  # (H, V) for dloss = 1


class LinearCrossEntropyGradients(NamedTuple):
    dx: Array  # (N, H)
    dW: Array  # (H, V)


def linear_cross_entropy_forward(x: Array, W: Array, targets: Array, *, label_smoothing: float = 0.0,
                                 gradients: bool = True, dW: Array | None = None, chunk_bytes: int = CHUNK_BYTES):
    """loss, cache; with gradients=False the cache is None and only the loss is computed.

    dW (H, V) may be a buffer for the weights' gradient, which is as large as the weights.
    """
    xp = array_module(x, W)
    check_shapes("linear_cross_entropy", x=("N H", x), W=("H V", W), targets=("N", targets))
    check_targets("linear_cross_entropy", targets, W.shape[1])
    rows = array_module(targets).flatnonzero(targets != PAD)
    x_rows = x
    if len(rows) < len(targets):
        rows, targets = beside(rows, x), targets[rows]
        x_rows = x[rows]
    targets = beside(targets, x)
    N, V = len(rows), W.shape[1]
    dtype = xp.result_type(x, W)
    if gradients:
        dx_rows = xp.empty(x_rows.shape, dtype)
        dW = xp.empty_like(W, dtype=dtype) if dW is None else dW
    losses = xp.zeros(N, dtype)
    parts = list(_even_slices(N, max(1, chunk_bytes // (V * dtype.itemsize))))
    logits = xp.empty((parts[0].stop, V), dtype)
    for part in parts:
        z = xp.matmul(x_rows[part], W, out=logits[: part.stop - part.start])  # (1)
        _loss_and_gradient_in_place(z, targets[part], label_smoothing, losses[part])  # (2)
        if gradients:
            xp.matmul(z, W.T, out=dx_rows[part])
            _add_product(dW, x_rows[part], z, first=part.start == 0)
    if not gradients:
        return losses.sum(), None
    dx = dx_rows
    if len(rows) < len(x):
        dx = xp.zeros(x.shape, dtype)
        dx[rows] = dx_rows
    return losses.sum(), LinearCrossEntropyCache(dx, dW)


def linear_cross_entropy_backward(dloss: Array, cache: LinearCrossEntropyCache) -> LinearCrossEntropyGradients:
    """The gradients of x and W from the scalar dloss."""
    return LinearCrossEntropyGradients(dx=cache.dx * dloss, dW=cache.dW * dloss)


def _loss_and_gradient_in_place(z: Array, targets: Array, smoothing: float, losses: Array) -> None:
    """Fill losses (n,) and replace the logits z (n, V) by p - wanted distribution, a few rows at a time."""
    xp = array_module(z)
    n, V = z.shape
    on_cpu = xp is np
    block = max(1, BLOCK_BYTES // (V * z.itemsize)) if on_cpu else n

    def work(start: int, stop: int) -> None:
        for first in range(start, stop, block):
            part = slice(first, min(first + block, stop))
            rows, wanted = z[part], targets[part]
            index = xp.arange(len(rows))
            rows -= rows.real.max(axis=1, keepdims=True)
            log_p = (1 - smoothing) * rows[index, wanted]
            if smoothing:
                log_p += smoothing * rows.mean(axis=1)
            xp.exp(rows, out=rows)
            total = rows.sum(axis=1)
            losses[part] = xp.log(total) - log_p
            rows *= (1 / total)[:, None]
            if smoothing:
                rows -= smoothing / V
            rows[index, wanted] -= 1 - smoothing

    if on_cpu:
        for_ranges(work, n, grain=block)
    else:  # a GPU takes all rows at once, and its current device belongs to this thread
        work(0, n)


def _add_product(dW: Array, x: Array, dlogits: Array, first: bool) -> None:
    """dW += x.T dlogits (dW = for the first chunk), in the memory order of dW: a tied table's is transposed."""
    xp = array_module(dW)
    if not dW.flags.c_contiguous:
        dW, x, dlogits = dW.T, dlogits, x
    if first:
        xp.matmul(x.T, dlogits, out=dW)
        return
    for columns in _even_slices(dW.shape[1], COLUMNS):
        dW[:, columns] += x.T @ dlogits[:, columns]


def _even_slices(size: int, most: int) -> Iterator[slice]:
    """range(size) in as few slices of at most `most` as will do, the first one the longest."""
    count = max(1, -(-size // most))
    step = -(-size // count)
    for start in range(0, max(size, 1), max(step, 1)):
        yield slice(start, min(start + step, size))
