"""Cross-entropy on top of softmax, fused: the two derivatives together are simpler than either.

    (1)  log_p = logits - log sum exp(logits)                       row by row
    (2)  loss = - sum over rows of  (1 - s) log_p[target] + s mean(log_p)

with s the label smoothing (Szegedy et al. 2016, section 7); rows whose target is PAD are left out.
logits (N, V), targets (N,), which may be on the host, loss a scalar: the sum of nats.
`linear_cross_entropy` is the same with the projection to the vocabulary in front, without ever
holding all of the logits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..arrays import Array, array_module, check_shapes, for_ranges, to_device_of
from ..errors import IdError

PAD = 0  # the target that is not one: padding
BLOCK_BYTES = 1 << 20  # logits that a core works on at a time: small enough for its cache


class CrossEntropyCache(NamedTuple):
    p: Array  # (N, V) softmax of the logits
    targets: Array  # (N,)
    label_smoothing: float


class CrossEntropyGradients(NamedTuple):
    dlogits: Array  # (N, V), zero rows at padding


def check_targets(op: str, targets: Array, V: int) -> None:
    """IndexError if a target is outside the vocabulary: one below zero would silently count from its end."""
    if targets.size and not 0 <= int(targets.min()) <= int(targets.max()) < V:
        raise IdError(f"{op}: targets run from {int(targets.min())} to {int(targets.max())}, "
                         f"expected 0 to V - 1 = {V - 1}")


def cross_entropy_forward(logits: Array, targets: Array, *, label_smoothing: float = 0.0
                          ) -> tuple[Array, CrossEntropyCache]:
    """loss, cache from logits (N, V) and targets (N,); 0 <= label_smoothing < 1, which is not checked.

    Raises ValueError if a shape does not fit, IndexError if a target is outside the vocabulary.
    """
    xp = array_module(logits)
    sizes = check_shapes("cross_entropy", logits=("N V", logits), targets=("N", targets))
    check_targets("cross_entropy", targets, sizes["V"])
    targets = to_device_of(targets, logits)
    log_p = log_softmax(logits)  # (1)
    s = label_smoothing  # (2)
    per_row = (1 - s) * log_p[xp.arange(sizes["N"]), targets] + s * log_p.mean(axis=1)
    loss = -xp.where(targets != PAD, per_row, 0).sum()
    return loss, CrossEntropyCache(xp.exp(log_p), targets, s)


def cross_entropy_backward(dloss: Array, cache: CrossEntropyCache) -> CrossEntropyGradients:
    """dlogits (N, V) = dloss (p - target distribution), from the scalar dloss."""
    p, targets, s = cache
    xp = array_module(p)
    N, V = p.shape
    # in the forward pass this was (1), (2): d(-log_p[k]) / dlogits = p - onehot(k)
    dlogits = p - s / V
    dlogits[xp.arange(N), targets] -= 1 - s
    return CrossEntropyGradients(xp.where((targets != PAD)[:, None], dloss * dlogits, 0))


def log_softmax(x: Array) -> Array:
    """log of exp(x) / sum exp(x), over the last axis; from x minus its maximum, so that exp cannot overflow."""
    xp = array_module(x)
    shifted = x - x.real.max(axis=-1, keepdims=True)
    return shifted - xp.log(xp.exp(shifted).sum(axis=-1, keepdims=True))


def cross_entropy_in_place(z: Array, targets: Array, label_smoothing: float, losses: Array) -> None:
    """Forward and backward at once: fill losses (n,), replace the logits z (n, V) by p - target distribution.

    Rows whose target is PAD get zeros.  Targets (n,) must be below V, on z's device: nobody looks.
    """
    by_blocks(lambda rows: _in_place(z[rows], targets[rows], label_smoothing, losses[rows]), z)


def by_blocks(work: Callable[[slice], None], z: Array, multiple_of: int = 1) -> None:
    """Call work(rows) for all rows of z (n, V): on a CPU in blocks that fit a core's cache, on as many cores as there
    are.  The number of rows of each block is a multiple of `multiple_of`, as n must be."""
    n, V = z.shape
    if array_module(z) is not np:  # a GPU takes all rows at once, and its current device belongs to this thread
        work(slice(n))
        return
    block = max(1, BLOCK_BYTES // (multiple_of * V * z.itemsize))

    def some(start: int, stop: int) -> None:
        for first in range(start, stop, block):
            work(slice(multiple_of * first, multiple_of * min(first + block, stop)))

    for_ranges(some, n // multiple_of, grain=block)


def _in_place(z: Array, targets: Array, smoothing: float, losses: Array) -> None:
    xp = array_module(z)
    V = z.shape[1]
    index, is_word = xp.arange(len(z)), (targets != PAD).astype(z.real.dtype)
    z -= z.real.max(axis=1, keepdims=True)
    log_p = (1 - smoothing) * z[index, targets]
    if smoothing:
        log_p += smoothing * z.mean(axis=1)
    xp.exp(z, out=z)
    total = z.sum(axis=1)
    losses[...] = (xp.log(total) - log_p) * is_word  # (1), (2)
    z *= (is_word / total)[:, None]
    if smoothing:
        z -= (smoothing / V * is_word)[:, None]
    z[index, targets] -= (1 - smoothing) * is_word
