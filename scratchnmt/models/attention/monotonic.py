"""Local attention, monotonic ("local-m"): step t looks at the D words on each side of source word t.

Luong et al. 2015, section 3.2; the equations are those of ops/local.py.  The source stands in the middle of zeros, so
that every window lies inside it.  All else is global attention, on windows.  What both kinds of local attention share
is their base here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...arrays import Array, array_module
from ...ops.attention import AttentionStepCache
from ...ops.packing import Packing
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


class MonotonicAttention(LocalAttention):
    """See `Attention`; every window is a slice of the source."""

    def _window(self, t: int, n: int) -> Any:
        return self.kernels.local.window_at(t, n, self.mask.shape[1], self.D)

    def map(self, t: int, cache: AttentionStepCache) -> Array:
        first = array_module(cache.weights).full(cache.weights.shape[:2], self._window(t, 1)[1].start)
        local = self.kernels.local
        return local.inside(local.spread(cache.weights, first, self.mask.shape[1]), self.D, axis=-1)

    def backward(self, rows: Any, drows: Any, h: Array, dcontext: Array, packing: Packing,
                 grads: Mapping[str, Array]) -> Array:
        xp, P, by_sentence = array_module(dcontext), self.mask.shape[1], self.kernels.rows.by_sentence
        T, B = len(packing.counts), packing.sentences
        first = xp.minimum(xp.arange(B * T) % T, P - 2 * self.D - 1)
        spread = self.kernels.local.spread
        weights, dscore = (spread(by_sentence(array, packing), first, P) for array in (rows.weights, drows.dscore))
        return self._sums(weights, dscore, drows, h, dcontext, packing, grads)
