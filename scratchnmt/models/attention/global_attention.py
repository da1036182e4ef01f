"""Global attention: every step looks at all words of the source (Luong et al. 2015, section 3.1; ops/attention.py).

What the textbook computes for one sentence in the lines from `score` to `a[t]`.  Backward, only the gradient of the
query cannot wait.  Values and keys receive a sum over all steps, which is one batched product after the loop:

    dvalues = weights.T dcontext        (B, S, T) (B, T, M)
    dkeys   = dscore.T h                (B, S, T) (B, T, H)
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

from ...arrays import Array, array_module
from ...ops.attention import AttentionStepCache
from ...ops.packing import Packing, by_sentence
from ...ops.plain import Kernels
from .scores import SCORES

Own = TypeVar("Own", bound="GlobalAttention")


class GlobalAttention:
    """See `Attention`.  Of each source are kept its keys (B, S, A), its values (B, S, M) and the mask (B, S)."""

    def __init__(self, config: Any, params: Mapping[str, Array], h_enc: Array, mask: Array, kernels: Kernels):
        xp = array_module(h_enc)
        self.kernels = kernels
        self.score = SCORES[config.score](params, kernels)
        self.values = xp.ascontiguousarray(h_enc.transpose(1, 0, 2))
        self.mask = xp.ascontiguousarray(mask.T)
        self.keys = self.score.keys(self.values)

    @staticmethod
    def shapes(config: Any) -> dict[str, tuple[int, ...]]:
        return SCORES[config.score].shapes(config)

    def select(self: Own, sentences: Array) -> Own:
        other = copy.copy(self)
        other.keys, other.values, other.mask = self.keys[sentences], self.values[sentences], self.mask[sentences]
        return other

    def step(self, h: Array, t: int, context: Array | None = None,
             weights: Array | None = None) -> tuple[Array, AttentionStepCache]:
        n = len(h)
        return self.kernels.attention.attention_step_forward(
            self.score.query(h), self.keys[:n], self.values[:n], self.mask[:n], self.score.v,
            context=context, weights=weights)

    def map(self, t: int, cache: AttentionStepCache) -> Array:
        return cache.weights

    def rows(self, N: int, dtype: Any) -> Any:
        return self.score.rows(N, self.mask.shape[1], dtype)

    def training_step(self, h: Array, t: int, now: slice, rows: Any, context: Array) -> None:
        _, cache = self.step(h[:, None], t, context[:, None], rows.weights[now][:, None])
        self.score.keep(rows, now, cache)

    def gradient_rows(self, rows: Any, dtype: Any) -> Any:
        return self.score.gradient_rows(rows, self.keys, dtype)

    def step_backward(self, t: int, now: slice, rows: Any, drows: Any, h: Array, dcontext: Array, dh: Array) -> None:
        n = len(h)
        self.score.step_backward(self.keys[:n], self.values[:n], slice(n), now, rows, drows, h, dcontext, dh)

    def backward(self, rows: Any, drows: Any, h: Array, dcontext: Array, packing: Packing,
                 grads: Mapping[str, Array]) -> Array:
        weights, dscore = by_sentence(rows.weights, packing), by_sentence(drows.dscore, packing)
        dvalues = self.kernels.product.product(weights.transpose(0, 2, 1), by_sentence(dcontext, packing))
        dkeys = self.score.dkeys(dscore, h, packing, drows)
        dvalues = dvalues + self.score.keys_backward(dkeys, self.values, grads)
        self.score.query_gradients(h, drows, grads)
        return dvalues.transpose(1, 0, 2)
