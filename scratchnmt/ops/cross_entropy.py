"""Cross-entropy on top of softmax, fused: the two derivatives together are simpler than either.

    (1)  log_p = logits - log sum exp(logits)                       row by row
    (2)  loss = - sum over rows of  (1 - s) log_p[target] + s mean(log_p)

with s the label smoothing (Szegedy et al. 2016, section 7); rows whose target is PAD are left out.
logits (N, V), targets (N,), which may be on the host, loss a scalar: the sum of nats.
`linear_cross_entropy` is the same with the projection to the vocabulary in front, without ever
holding all of the logits.
"""

from __future__ import annotations

from typing import NamedTuple

from ..arrays import Array, array_module, beside, check_shapes

PAD = 0  # the target that is not one: padding


class CrossEntropyCache(NamedTuple):
    p: Array  # (N, V) softmax of the logits
    targets: Array  # (N,)
    label_smoothing: float


class CrossEntropyGradients(NamedTuple):
    dlogits: Array  # (N, V), zero rows at padding


def check_targets(op: str, targets: Array, V: int) -> None:
    """IndexError if a target is outside the vocabulary: one below zero would silently count from its end."""
    if targets.size and not 0 <= int(targets.min()) <= int(targets.max()) < V:
        raise IndexError(f"{op}: targets run from {int(targets.min())} to {int(targets.max())}, "
                         f"expected 0 to V - 1 = {V - 1}")


def cross_entropy_forward(logits: Array, targets: Array, *, label_smoothing: float = 0.0):
    """loss, cache.  0 <= label_smoothing < 1."""
    xp = array_module(logits)
    sizes = check_shapes("cross_entropy", logits=("N V", logits), targets=("N", targets))
    check_targets("cross_entropy", targets, sizes["V"])
    targets = beside(targets, logits)
    shifted = logits - logits.real.max(axis=1, keepdims=True)
    log_p = shifted - xp.log(xp.exp(shifted).sum(axis=1, keepdims=True))  # (1)
    s = label_smoothing
    per_row = (1 - s) * log_p[xp.arange(sizes["N"]), targets] + s * log_p.mean(axis=1)
    loss = -xp.where(targets != PAD, per_row, 0).sum()  # (2)
    return loss, CrossEntropyCache(xp.exp(log_p), targets, s)


def cross_entropy_backward(dloss: Array, cache: CrossEntropyCache) -> CrossEntropyGradients:
    """dlogits = dloss (p - wanted distribution), from the scalar dloss."""
    p, targets, s = cache
    xp = array_module(p)
    N, V = p.shape
    # in the forward pass this was (1), (2): d(-log_p[k]) / dlogits = p - onehot(k)
    dlogits = p - s / V
    dlogits[xp.arange(N), targets] -= 1 - s
    return CrossEntropyGradients(xp.where((targets != PAD)[:, None], dloss * dlogits, 0))
