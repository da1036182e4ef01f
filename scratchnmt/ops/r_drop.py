"""R-Drop: two passes with dropout masks of their own, and how far apart their predictions are (Liang et al. 2021).

Each target token is predicted twice: rows 2n and 2n + 1 of the logits are its two passes.  Of row i, the partner is j:

    (1)  log_p[i] = logits[i] - log sum exp(logits[i])
    (2)  ce[i] = - (1 - s) log_p[i, target] - s mean(log_p[i])       s: label smoothing, as in cross_entropy
    (3)  d[i] = log_p[i] - log_p[j]
    (4)  kl[i] = sum_k p[i, k] d[i, k]                               KL(p[i] || p[j])
    (5)  loss = sum over rows of  (ce[i] + alpha/2 kl[i]) / 2

This is half of the loss of the paper ("R-Drop: Regularized Dropout for Neural Networks", NeurIPS 2021), with its alpha:
its (4) is the sum of the two cross-entropies, its (3), plus alpha times (KL(p || q) + KL(q || p)) / 2, its (2).  Here a
token adds the mean of its two cross-entropies, which compares to that of one pass.

The gradient.  As d log_p[i, k] / dlogits[i, m] = 1[k = m] - p[i, m], and as p sums to one,

    dkl[i] / dlogits[i, m] = sum_k p[i, k] (1[k = m] - p[i, m]) (d[i, k] + 1) = p[i, m] (d[i, m] - kl[i])
    dkl[i] / dlogits[j, m] = - sum_k p[i, k] (1[k = m] - p[j, m])             = p[j, m] - p[i, m]

A row's logits are in its own ce and kl, and in the kl of its partner, by the second line with i and j exchanged:

    (6)  of ce[i]         p[i] - wanted          (1 - s) at the target, and s / V everywhere
    (7)  of kl[i]         p[i] (d[i] - kl[i])
    (8)  of kl[j]         p[i] - p[j]
    (9)  dlogits[i] = ((6) + alpha/2 ((7) + (8))) / 2

logits (N, V), targets (N,), both rows of a token with the same one; N is even.  Rows whose target is PAD are left out.
`linear_cross_entropy` does this in chunks of rows, so that neither distribution is ever held whole.
Next: linear_cross_entropy.py.
"""

from __future__ import annotations

from typing import NamedTuple

from ..arrays import Array, array_module, check_shapes, to_device_of
from ..errors import ArgumentError
from .cross_entropy import PAD, by_blocks, check_targets, log_softmax


class RDropCache(NamedTuple):
    p: Array  # (N, V) softmax of the logits
    d: Array  # (N, V) log p less that of the partner
    kl: Array  # (N, 1)
    targets: Array  # (N,)
    alpha: float
    label_smoothing: float


class RDropGradients(NamedTuple):
    dlogits: Array  # (N, V), zero rows at padding


def check_pairs(op: str, targets: Array) -> None:
    """ArgumentError unless rows 2n and 2n + 1 have the same target."""
    if len(targets) % 2 or bool((targets[::2] != targets[1::2]).any()):
        raise ArgumentError(f"{op}: targets are {len(targets)} and not the same in rows 2n and 2n + 1, expected the "
                            "two passes of each token side by side")


def r_drop_forward(logits: Array, targets: Array, *, alpha: float, label_smoothing: float = 0.0
                   ) -> tuple[Array, RDropCache]:
    """loss, cache from logits (N, V) and targets (N,), rows 2n and 2n + 1 being a token's two passes.

    Raises ValueError if a shape does not fit or the targets of two passes differ, IndexError if a target is outside
    the vocabulary.
    """
    xp = array_module(logits)
    sizes = check_shapes("r_drop", logits=("N V", logits), targets=("N", targets))
    check_targets("r_drop", targets, sizes["V"])
    check_pairs("r_drop", targets)
    targets = to_device_of(targets, logits)
    log_p = log_softmax(logits)  # (1)
    s = label_smoothing
    ce = -(1 - s) * log_p[xp.arange(sizes["N"]), targets] - s * log_p.mean(axis=1)  # (2)
    d = log_p - _partners(log_p)  # (3)
    p = xp.exp(log_p)
    kl = (p * d).sum(axis=1)  # (4)
    loss = xp.where(targets != PAD, ce + alpha / 2 * kl, 0).sum() / 2  # (5)
    return loss, RDropCache(p=p, d=d, kl=kl[:, None], targets=targets, alpha=alpha, label_smoothing=s)


def r_drop_backward(dloss: Array, cache: RDropCache) -> RDropGradients:
    """dlogits (N, V) from the scalar dloss."""
    p, targets, s = cache.p, cache.targets, cache.label_smoothing
    xp = array_module(p)
    N, V = p.shape
    # in the forward pass this was (2) ce[i], of its own logits
    of_ce = p - s / V  # (6)
    of_ce[xp.arange(N), targets] -= 1 - s
    # in the forward pass this was (4) kl = sum p d, of its own logits by (7), of its partner's by (8)
    of_kl = p * (cache.d - cache.kl) + p - _partners(p)
    dlogits = (of_ce + cache.alpha / 2 * of_kl) * (dloss / 2)  # (9)
    return RDropGradients(xp.where((targets != PAD)[:, None], dlogits, 0))


def r_drop_in_place(z: Array, targets: Array, alpha: float, label_smoothing: float, losses: Array) -> None:
    """Forward and backward at once: fill losses (n,) with the summands of (5), replace the logits z (n, V) by (9).

    Rows whose target is PAD get zeros.  n must be even, targets (n,) those of `r_drop_forward`, on z's device: nobody
    looks.
    """
    by_blocks(lambda rows: _in_place(z[rows], targets[rows], alpha, label_smoothing, losses[rows]), z, multiple_of=2)


def _in_place(z: Array, targets: Array, alpha: float, smoothing: float, losses: Array) -> None:
    xp = array_module(z)
    n, V = z.shape
    index, half = xp.arange(n), (targets != PAD).astype(z.real.dtype) / 2
    z -= z.real.max(axis=1, keepdims=True)
    p = xp.exp(z)
    total = p.sum(axis=1, keepdims=True)
    p /= total
    z -= xp.log(total)  # (1)
    ce = (smoothing - 1) * z[index, targets]  # (2)
    if smoothing:
        ce -= smoothing * z.mean(axis=1)
    z[::2] -= z[1::2]  # (3)
    xp.negative(z[::2], out=z[1::2])
    kl = (p * z).sum(axis=1)  # (4)
    losses[...] = (ce + alpha / 2 * kl) * half  # (5)
    z -= kl[:, None]
    z *= p  # (7)
    z += p
    z[::2] -= p[1::2]  # (8)
    z[1::2] -= p[::2]
    z *= alpha / 2
    z += p
    if smoothing:
        z -= smoothing / V
    z[index, targets] -= 1 - smoothing  # (6)
    z *= half[:, None]  # (9)


def _partners(rows: Array) -> Array:
    """Rows 2n and 2n + 1 in each other's place."""
    return rows.reshape(-1, 2, rows.shape[1])[:, ::-1].reshape(rows.shape)
