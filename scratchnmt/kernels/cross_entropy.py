"""Logits turned into their gradient, and the loss of each row, in one launch: the twin of ops/cross_entropy.py."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, check_shapes, to_device_of
from ..ops import cross_entropy as plain
from .launch import buffer, launch, per_row, readable, real

EQUATIONS = plain
TWINS = {"cross_entropy_in_place": plain.cross_entropy_forward}


def cross_entropy_in_place(z: Array, targets: Array, label_smoothing: float, losses: Array) -> None:
    """Fill losses (n,) and replace the logits z (n, V) by p - target distribution.

    Rows whose target is PAD get zeros, so they need not be taken out first, which would make the host
    wait for their number.  Targets (n,) must be below V: nobody looks.
    """
    V = check_shapes("cross_entropy", z=("N V", z), targets=("N", targets), losses=("N", losses))["V"]
    buffer("cross_entropy: z", z, z, z.shape, z.dtype)
    buffer("cross_entropy: losses", losses, z, losses.shape, z.dtype)
    launch("cross_entropy", "cross_entropy_in_place", z.dtype, per_row(targets.shape, V, most=512),
           z, readable(to_device_of(targets, z), "int64"), losses, real(z.dtype, label_smoothing), np.int32(V))
