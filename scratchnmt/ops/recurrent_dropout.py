"""Recurrent dropout: one mask for all steps of a sentence (Gal & Ghahramani 2016, section 4).

    (1)  r[t] = h[t] m            what the next step reads of the state: z[t+1] += r[t] Wh

m (..., B, H) is drawn once for each sentence and unit, 0 with probability `rate`, else 1 / (1 - rate), so that a unit
that is dropped is dropped at every step.  Masks of their own for every step would leave a state that many steps read
next to nothing.  Only the product with Wh reads r: outputs, attention and the cell c have h as it is.

The rows of r are kept for all steps, as those of h are, so that the gradient of Wh is one product after the loop:

    dWh = sum_t r[t-1]^T dz[t],        dh[t-1] += (dz[t] Wh^T) m

h, r, dh, dr (..., n, H) are the rows of one step, those of the first n sentences.  Next: ops/lstm.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from .plain import Kernels


class RecurrentMask(NamedTuple):
    """m, in the order of the rows.  None: r is h, the same array, and nothing is computed."""

    m: Array | None  # (..., B, H)
    kernels: Kernels

    def of(self, directions: slice) -> RecurrentMask:
        """That of some of the directions alone."""
        return self if self.m is None else self._replace(m=self.m[directions])

    def room(self, h: Array) -> Array:
        """Where r of all steps stands beside h (..., B + N, H), or its gradient, which begins at zero."""
        return h if self.m is None else np.zeros_like(h)

    def forward(self, h: Array, r: Array) -> None:
        """Fill r of a step."""
        if self.m is not None:
            self.kernels.rows.multiply(h, self.m[..., : h.shape[-2], :], out=r)  # (1)

    def backward(self, dr: Array, dh: Array) -> None:
        """Add to dh of a step what has come to r."""
        if self.m is not None:
            # in the forward pass this was (1) r = h m
            self.kernels.rows.add(dh, self.kernels.rows.multiply(dr, self.m[..., : dh.shape[-2], :]))


def recurrent_mask(shape: tuple[int, ...], rate: float, rng: Any, dtype: Any, kernels: Kernels) -> Array | None:
    """m of one layer, in the order of the batch; None at a rate of 0, or where no masks are drawn, rng being None."""
    return kernels.dropout.dropout_mask(shape, rate, rng, dtype) if rate and rng is not None else None
