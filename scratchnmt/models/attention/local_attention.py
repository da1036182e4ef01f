"""What both kinds of local attention share: the source in the middle of zeros, so that every window lies inside it.

Luong et al. 2015, section 3.2 (ops/local.py).  All else is global attention, on windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...arrays import Array
from ...ops.plain import Kernels
from .global_attention import GlobalAttention

if TYPE_CHECKING:
    from ..config import NMTConfig


class LocalAttention(GlobalAttention):
    """keys (B, P, A), values (B, P, M), mask (B, P) of the padded source, P = S + 3D + 1."""

    def __init__(self, config: NMTConfig, params: Mapping[str, Array], h_enc: Array, mask: Array, kernels: Kernels):
        super().__init__(config, params, h_enc, mask, kernels)
        self.D, self.columns = config.window, 2 * config.window + 1
        padded = kernels.local.padded
        self.keys, self.values, self.mask = (padded(array, self.D) for array in (self.keys, self.values, self.mask))

    def _inside(self, array: Array) -> Array:
        return self.kernels.rows.contiguous(self.kernels.local.inside(array, self.D))
