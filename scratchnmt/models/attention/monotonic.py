"""Local attention, monotonic ("local-m"): step t looks at the D words on each side of source word t.

Luong et al. 2015, section 3.2.  The source stands in the middle of zeros (`padded`), so that every window is a slice
of it, and the step on a window is that of global attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...arrays import Array, array_module
from ...ops.attention import AttentionStepCache
from ...ops.local import inside, padded, spread, window_at
from ...ops.packing import Packing, by_sentence
from ...ops.plain import Kernels
from .global_attention import GlobalAttention


class MonotonicAttention(GlobalAttention):
    """See `Attention`.  keys (B, P, A), values (B, P, M), mask (B, P) of the padded source, P = S + 3D + 1."""

    def __init__(self, config: Any, params: Mapping[str, Array], h_enc: Array, mask: Array, kernels: Kernels):
        super().__init__(config, params, h_enc, mask, kernels)
        self.D = config.window
        self.keys, self.values, self.mask = (padded(array, self.D) for array in (self.keys, self.values, self.mask))

    def _window(self, t: int, n: int) -> tuple[slice, slice]:
        return window_at(t, n, self.mask.shape[1], self.D)

    def step(self, h: Array, t: int, context: Array | None = None,
             weights: Array | None = None) -> tuple[Array, AttentionStepCache]:
        window = self._window(t, len(h))
        return self.kernels.attention.attention_step_forward(
            self.score.query(h), self.keys[window], self.values[window], self.mask[window], self.score.v,
            context=context, weights=weights)

    def map(self, t: int, cache: AttentionStepCache) -> Array:
        first = array_module(cache.weights).full(cache.weights.shape[:2], self._window(t, 1)[1].start)
        return inside(spread(cache.weights, first, self.mask.shape[1]), self.D, axis=-1)

    def rows(self, N: int, dtype: Any) -> Any:
        return self.score.rows(N, 2 * self.D + 1, dtype)

    def step_backward(self, t: int, now: slice, rows: Any, drows: Any, h: Array, dcontext: Array, dh: Array) -> None:
        window = self._window(t, len(h))
        self.score.step_backward(self.keys[window], self.values[window], window, now, rows, drows, h, dcontext, dh)

    def backward(self, rows: Any, drows: Any, h: Array, dcontext: Array, packing: Packing,
                 grads: Mapping[str, Array]) -> Array:
        weights, dscore = (self._over_the_source(array, packing) for array in (rows.weights, drows.dscore))
        dvalues = self.kernels.product.product(weights.transpose(0, 2, 1), by_sentence(dcontext, packing))
        dkeys = self.score.dkeys(dscore, h, packing, drows)
        values, dvalues, dkeys = (inside(array, self.D) for array in (self.values, dvalues, dkeys))
        dvalues = dvalues + self.score.keys_backward(dkeys, values, grads)
        self.score.query_gradients(h, drows, grads)
        return dvalues.transpose(1, 0, 2)

    def _over_the_source(self, array: Array, packing: Packing) -> Array:
        """Rows of windows (N, 2D + 1) -> (B, T, P), each window where it stood."""
        xp, P = array_module(array), self.mask.shape[1]
        T, B = len(packing.counts), packing.sentences
        first = xp.minimum(xp.arange(B * T) % T, P - 2 * self.D - 1)
        return spread(by_sentence(array, packing), first, P)
