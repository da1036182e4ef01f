"""Projection to the vocabulary, softmax and cross-entropy in one, in chunks of rows: the fast one.

    (1)  logits = x W
    (2)  loss = cross_entropy(logits, targets)            row by row, padding left out

The logits of a batch, (N, V), are by far its largest array, and nobody needs them: as soon as a
chunk of them exists it is turned into its own gradient in place and multiplied back into dx and dW.
So forward leaves nothing for backward to do but to scale.  Only rows with a target are computed.

With R-Drop (2) is the loss of r_drop.py, and the rows 2n and 2n + 1 are the two passes of a token: a chunk has both.
With teachers it is the loss of soft_cross_entropy.py, and the logits of each teacher are made in chunks, too.

`linear_cross_entropy_rows` gives the loss of each row instead of their sum.  Then the gradient of a row is scaled by
what backward is given for it, which nobody knows before: backward makes the logits once more, chunk by chunk.

x (N, H), W (H, V), targets (N,), loss a scalar: the sum of nats.  The targets may be on the host though
the rest is on a GPU: then neither the check of their range nor the search for padding waits for the GPU.

The textbook computes the same for one sentence, in the lines of `log_p[t]` and `loss`, and of `dlogits`.
Next: models/nmt.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..arrays import Array, array_module, check_shapes, to_device_of
from ..errors import ArgumentError
from .cross_entropy import PAD, check_targets
from .plain import PLAIN, Kernels
from .r_drop import check_pairs

CHUNK_BYTES = {True: 48 << 20, False: 192 << 20}  # logits at a time, CPU or not: enough for a fast product
COLUMNS = 16384  # columns of dW added at a time, so that no second array of its size is needed


class LinearCrossEntropyCache(NamedTuple):
    dx: Array  # (N, H) for dloss = 1
    dW: Array  # (H, V) for dloss = 1


class LinearCrossEntropyGradients(NamedTuple):
    dx: Array  # (N, H)
    dW: Array  # (H, V)


class Teacher(NamedTuple):
    """What a teacher's logits are made of."""

    x: Array  # (N, H'), a row for each of the model's
    W: Array  # (H', V)


class LinearCrossEntropyRowsCache(NamedTuple):
    x: Array  # (N, H)
    W: Array  # (H, V)
    targets: Array  # (N,)
    chunk_bytes: int
    kernels: Kernels


def linear_cross_entropy_forward(x: Array, W: Array, targets: Array, *, label_smoothing: float = 0.0,
                                 r_drop: float = 0.0, teachers: Sequence[Teacher] = (), teacher_weight: float = 0.0,
                                 gradients: bool = True, dW: Array | None = None, rows: Array | None = None,
                                 chunk_bytes: int | None = None, kernels: Kernels = PLAIN
                                 ) -> tuple[Array, LinearCrossEntropyCache | None]:
    """loss, cache; with gradients=False the cache is None and only the loss is computed.

    dW (H, V) may be a buffer for the weights' gradient, which is as large as the weights.  rows (n,), all
    different, says which rows of x the targets (n,) belong to; those of padding are computed then, for nothing.
    r_drop: alpha of R-Drop, for two passes of each token, side by side (nobody looks, if rows are given); 0: none.
    teachers: whose distributions are learned from, by a share of teacher_weight; not together with R-Drop.
    """
    xp = array_module(x, W)
    all_rows = rows is None
    if r_drop and teachers:
        raise ArgumentError("linear_cross_entropy: r_drop and teachers are given, expected one of the two")
    check_shapes("linear_cross_entropy", x=("N H", x), W=("H V", W), targets=("N" if all_rows else "M", targets))
    if all_rows:
        check_targets("linear_cross_entropy", targets, W.shape[1])
        if r_drop:
            check_pairs("linear_cross_entropy", targets)
        rows = array_module(targets).flatnonzero(targets != PAD)
        all_rows = len(rows) == len(targets)
        rows, targets = (None, targets) if all_rows else (to_device_of(rows, x), targets[rows])
    for k, teacher in enumerate(teachers):
        check_shapes("linear_cross_entropy", x=("N H", x), W=("H V", W), **{
            f"teachers[{k}].x": ("N G", teacher.x), f"teachers[{k}].W": ("G V", teacher.W)})
    if not all_rows:
        teachers = [Teacher(kernels.rows.take(teacher.x, rows), teacher.W) for teacher in teachers]
    x_rows = x if all_rows else kernels.rows.take(x, rows)
    objective = _Objective(targets=to_device_of(targets, x), label_smoothing=label_smoothing, r_drop=r_drop,
                           teachers=teachers, teacher_weight=teacher_weight)
    losses, dx_rows, dW = _by_chunks(x_rows, W, objective, chunk_bytes or CHUNK_BYTES[xp is np], kernels,
                                     gradients=gradients, dW=dW)
    loss = kernels.rows.sum_rows(losses)
    if dx_rows is None:
        return loss, None
    dx = dx_rows
    if not all_rows:
        dx = xp.zeros(x.shape, dx_rows.dtype)
        kernels.rows.put(dx, rows, dx_rows)
    return loss, LinearCrossEntropyCache(dx, dW)


def linear_cross_entropy_backward(dloss: Array, cache: LinearCrossEntropyCache) -> LinearCrossEntropyGradients:
    """The gradients of x and W from the scalar dloss."""
    return LinearCrossEntropyGradients(dx=cache.dx * dloss, dW=cache.dW * dloss)


def linear_cross_entropy_rows_forward(x: Array, W: Array, targets: Array, *, chunk_bytes: int | None = None,
                                      kernels: Kernels = PLAIN) -> tuple[Array, LinearCrossEntropyRowsCache]:
    """losses (N,), zero at padding, and the cache.

    Raises ValueError if a shape does not fit, IndexError if a target is outside the vocabulary.
    """
    xp = array_module(x, W)
    check_shapes("linear_cross_entropy_rows", x=("N H", x), W=("H V", W), targets=("N", targets))
    check_targets("linear_cross_entropy_rows", targets, W.shape[1])
    targets, chunk_bytes = to_device_of(targets, x), chunk_bytes or CHUNK_BYTES[xp is np]
    losses, _, _ = _by_chunks(x, W, _Objective(targets), chunk_bytes, kernels, gradients=False)  # (1), (2)
    return losses, LinearCrossEntropyRowsCache(x=x, W=W, targets=targets, chunk_bytes=chunk_bytes, kernels=kernels)


def linear_cross_entropy_rows_backward(dlosses: Array, cache: LinearCrossEntropyRowsCache, *,
                                       dW: Array | None = None) -> LinearCrossEntropyGradients:
    """The gradients of x and W from dlosses (N,); dW (H, V) may be a buffer, which is filled."""
    # in the forward pass this was (1), (2): the same again, each row of its gradient by its dloss
    _, dx, dW = _by_chunks(cache.x, cache.W, _Objective(cache.targets), cache.chunk_bytes, cache.kernels, dW=dW,
                           dlosses=dlosses)
    return LinearCrossEntropyGradients(dx, dW)


class _Objective(NamedTuple):
    """Which loss (2) is: cross-entropy; with r_drop that of R-Drop; with teachers that of soft targets."""

    targets: Array  # (N,)
    label_smoothing: float = 0.0
    r_drop: float = 0.0  # alpha; 0: none
    teachers: Sequence[Teacher] = ()
    teacher_weight: float = 0.0


def _by_chunks(x: Array, W: Array, objective: _Objective, chunk_bytes: int, kernels: Kernels, *, gradients: bool = True,
               dW: Array | None = None, dlosses: Array | None = None) -> tuple[Array, Array | None, Array | None]:
    """The losses (N,) and, if wanted, dx (N, H) and dW (H, V), from one chunk of logits after another.

    dW (H, V) may be a buffer, which is filled.  dlosses (N,): the gradient of each loss, where it is not 1.
    """
    targets, label_smoothing, r_drop, teachers, teacher_weight = objective
    product = kernels.product.product
    N, V = len(targets), W.shape[1]
    dtype = np.result_type(x, W)
    dx = np.empty_like(x, dtype, order="C") if gradients else None
    if gradients and dW is None:
        dW = np.empty_like(W, dtype)
    losses = np.zeros_like(x, dtype, shape=N)
    most = max(1, chunk_bytes // (V * dtype.itemsize * (1 + len(teachers))))
    parts = list(_even_slices(N, most, 2 if r_drop else 1))
    logits = np.empty_like(x, dtype, shape=(parts[0].stop, V))
    teacher_buffers = [np.empty_like(teacher.x, shape=logits.shape) for teacher in teachers]
    for part in parts:
        z = product(x[part], W, out=logits[: part.stop - part.start])  # (1)
        if teachers:
            teacher_logits = tuple(product(teacher.x[part], teacher.W, out=out[: len(z)])
                                   for teacher, out in zip(teachers, teacher_buffers, strict=True))
            kernels.soft_cross_entropy.soft_cross_entropy_in_place(z, teacher_logits, targets[part], teacher_weight,
                                                                   label_smoothing, losses[part])  # (2)
        elif r_drop:
            kernels.r_drop.r_drop_in_place(z, targets[part], r_drop, label_smoothing, losses[part])  # (2)
        else:
            kernels.cross_entropy.cross_entropy_in_place(z, targets[part], label_smoothing, losses[part])  # (2)
        if dlosses is not None:
            kernels.rows.multiply(z, dlosses[part, None], out=z)
        if dx is not None:
            # in the forward pass this was (1) logits = x W; z is the gradient of the logits by now
            product(z, W.T, out=dx[part])
            _add_product(dW, x[part], z, first=part.start == 0, kernels=kernels)
    return losses, dx, dW


def _add_product(dW: Array, x: Array, dlogits: Array, first: bool, kernels: Kernels) -> None:
    """dW += x.T dlogits (dW = for the first chunk), in the memory order of dW: a tied table's is transposed."""
    if not dW.flags.c_contiguous:
        dW, x, dlogits = dW.T, dlogits, x
    product = kernels.product.product
    if first or array_module(dW) is not np:
        product(x.T, dlogits, out=dW, add=not first)
        return
    for columns in _even_slices(dW.shape[1], COLUMNS):
        product(x.T, dlogits[:, columns], out=dW[:, columns], add=True)


def _even_slices(size: int, most: int, multiple_of: int = 1) -> Iterator[slice]:
    """range(size) in as few slices of at most `most`, rounded up to a multiple, as will do, the first the longest."""
    count = max(1, -(-size // most))
    step = -(-size // (multiple_of * count)) * multiple_of
    for start in range(0, max(size, 1), max(step, 1)):
        yield slice(start, min(start + step, size))
