"""Cross-entropy with soft targets: the teachers' distributions of a word, beside the word of the reference.

Word-level knowledge distillation (Kim & Rush 2016, "Sequence-Level Knowledge Distillation", EMNLP, 3.1; soft targets
are those of Hinton, Vinyals & Dean 2015).  A teacher has read the same words as the model, and gives logits of its
own.  With M teachers the soft target is the mean of their probabilities, as in an ensemble (search/model.py).  By row:

    (1)  q = mean over the M teachers of  softmax(their logits)
    (2)  wanted = (1 - w) ((1 - s) onehot(target) + s / V) + w q
    (3)  log_p = logits - log sum exp(logits)
    (4)  loss = - sum over rows of  sum_k wanted[k] log_p[k]

w is the weight of the teachers, s the label smoothing of the reference, as in cross_entropy.  The loss (4) of a row is
(1 - w) times its cross-entropy with the reference plus w times its cross-entropy with the teachers.  The second is
KL(q || p) plus the entropy of q, which is constant: no weight of the model is in it.

The gradient.  As d log_p[k] / dlogits[m] = 1[k = m] - p[m], and as `wanted` sums to one like any distribution,

    (5)  dlogits[m] = - sum_k wanted[k] (1[k = m] - p[m]) = p[m] - wanted[m]

Teachers are given, and have no gradient.

logits (N, V), teacher_logits (M, N, V), targets (N,).  Rows whose target is PAD are left out.  `linear_cross_entropy`
does this in chunks of rows, so that (N, V) is never in memory, neither the model's nor a teacher's.
Next: linear_cross_entropy.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..arrays import Array, array_module, check_shapes, to_device_of
from .cross_entropy import PAD, by_blocks, check_targets, log_softmax


class SoftCrossEntropyCache(NamedTuple):
    p: Array  # (N, V) softmax of the logits
    wanted: Array  # (N, V) the target distribution, (2)
    targets: Array  # (N,)


class SoftCrossEntropyGradients(NamedTuple):
    dlogits: Array  # (N, V), zero rows at padding


def soft_cross_entropy_forward(logits: Array, teacher_logits: Array, targets: Array, *, weight: float,
                               label_smoothing: float = 0.0) -> tuple[Array, SoftCrossEntropyCache]:
    """loss, cache from logits (N, V), teacher_logits (M, N, V) and targets (N,); 0 <= weight <= 1, not checked.

    Raises ValueError if a shape does not fit, IndexError if a target is outside the vocabulary.
    """
    xp = array_module(logits)
    sizes = check_shapes("soft_cross_entropy", logits=("N V", logits), teacher_logits=("M N V", teacher_logits),
                         targets=("N", targets))
    check_targets("soft_cross_entropy", targets, sizes["V"])
    targets = to_device_of(targets, logits)
    q = xp.exp(log_softmax(teacher_logits)).mean(axis=0)  # (1)
    wanted = weight * q + (1 - weight) * label_smoothing / sizes["V"]  # (2)
    wanted[xp.arange(sizes["N"]), targets] += (1 - weight) * (1 - label_smoothing)
    log_p = log_softmax(logits)  # (3)
    loss = -xp.where(targets != PAD, (wanted * log_p).sum(axis=1), 0).sum()  # (4)
    return loss, SoftCrossEntropyCache(p=xp.exp(log_p), wanted=wanted, targets=targets)


def soft_cross_entropy_backward(dloss: Array, cache: SoftCrossEntropyCache) -> SoftCrossEntropyGradients:
    """dlogits (N, V) = dloss (p - target distribution), from the scalar dloss."""
    p, wanted, targets = cache
    # in the forward pass this was (3), (4): - sum wanted log_p
    dlogits = dloss * (p - wanted)  # (5)
    return SoftCrossEntropyGradients(array_module(p).where((targets != PAD)[:, None], dlogits, 0))


def soft_cross_entropy_in_place(z: Array, teacher_logits: Sequence[Array], targets: Array, weight: float,
                                label_smoothing: float, losses: Array) -> None:
    """Forward and backward at once: fill losses (n,) with the summands of (4), replace the logits z (n, V) by (5).

    teacher_logits: an array (n, V) for each teacher, which is overwritten.  Rows whose target is PAD get zeros.
    Targets (n,) must be below V, on z's device: nobody looks.
    """
    by_blocks(lambda rows: _in_place(z[rows], [each[rows] for each in teacher_logits], targets[rows], weight,
                                     label_smoothing, losses[rows]), z)


def _in_place(z: Array, teacher_logits: Sequence[Array], targets: Array, weight: float, smoothing: float,
              losses: Array) -> None:
    xp = array_module(z)
    V = z.shape[1]
    index, is_word = xp.arange(len(z)), (targets != PAD).astype(z.real.dtype)
    for each in teacher_logits:
        _exp(each)
        each *= weight / len(teacher_logits) / each.sum(axis=1, keepdims=True)
    wanted = teacher_logits[0]  # no copy: w q is added up in the first teacher's array
    for each in teacher_logits[1:]:
        wanted += each  # (1)
    if smoothing:
        wanted += (1 - weight) * smoothing / V
    wanted[index, targets] += (1 - weight) * (1 - smoothing)  # (2)
    z -= z.real.max(axis=1, keepdims=True)
    dot = (wanted * z).sum(axis=1)
    xp.exp(z, out=z)
    total = z.sum(axis=1)
    losses[...] = (xp.log(total) - dot) * is_word  # (3), (4)
    z /= total[:, None]
    z -= wanted
    z *= is_word[:, None]  # (5)


def _exp(x: Array) -> None:
    """exp(x - max x), row by row, in place."""
    x -= x.real.max(axis=1, keepdims=True)
    array_module(x).exp(x, out=x)
