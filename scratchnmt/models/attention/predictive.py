"""Local attention, predictive ("local-p"): a step predicts where it looks.

Luong et al. 2015, section 3.2; the equations are those of ops/local.py.  The Gaussian around the predicted position is
what it is learnt by.  Each query has a window of its own, which is copied out of the padded source; on the way back
it is taken again, so that it need not be kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...arrays import Array, array_module
from ...ops.attention import AttentionStepCache
from ...ops.local import PredictPlaceCache
from ...ops.packing import Packing
from ...ops.plain import Kernels
from .monotonic import LocalAttention
from .scores import SCORES, Concat

if TYPE_CHECKING:
    from ..config import NMTConfig


class PredictiveCache(NamedTuple):
    """Of one step: n Q queries."""

    shape: tuple[int, int]  # n, Q
    step: AttentionStepCache
    predict: PredictPlaceCache


class PredictiveRows(NamedTuple):
    score: Any  # the rows of the score
    tanh: Array  # (N, H)
    share: Array  # (N,)


class PredictiveGradientRows(NamedTuple):
    score: Any
    dq: Array  # (N, H)
    du: Array  # (N,)


class PredictiveAttention(LocalAttention):
    """See `Attention` and `LocalAttention`."""

    def __init__(self, config: NMTConfig, params: Mapping[str, Array], h_enc: Array, mask: Array, kernels: Kernels):
        super().__init__(config, params, h_enc, mask, kernels)
        self.W, self.v = params["window.W"], params["window.v"]
        self.lengths = kernels.local.token_counts(mask, h_enc.real.dtype)  # (B,) words of each source

    @staticmethod
    def shapes(config: NMTConfig) -> dict[str, tuple[int, ...]]:
        H, score = config.hidden_size, SCORES[config.score]
        own = {"window.W": (H, H), "window.v": (H,)}
        # the order in which seeds have always drawn the weights
        return own | score.shapes(config) if score is Concat else score.shapes(config) | own

    @staticmethod
    def recordable(config: NMTConfig) -> bool:
        return False  # the positions are predicted by products of arrays

    def select(self, sentences: Array) -> PredictiveAttention:
        other = super().select(sentences)
        other.lengths = self.lengths[sentences]
        return other

    def step(self, h: Array, t: int, context: Array | None = None, weights: Array | None = None,
             query: Array | None = None) -> tuple[Array, PredictiveCache]:
        n, Q, H = h.shape
        local, take = self.kernels.local, self.kernels.rows.take
        query = self.score.query(h, query).reshape(n * Q, 1, -1)
        q = self.kernels.product.product(h.reshape(n * Q, H), self.W)
        lengths = take(self.lengths, array_module(h).arange(n * Q) // Q)
        p, predict = local.predict_place_forward(q, lengths, self.v)
        window = local.windows_around(p, self.mask.shape[1], self.D, Q)
        keys, values, mask = (local.through(window, array) for array in (self.keys, self.values, self.mask))
        values = local.times_gaussian(values, local.gaussian(p, self.D)[0])
        context, cache = self.kernels.attention.attention_step_forward(query, keys, values, mask, self.score.v,
                                                                       context=context, weights=weights)
        return context.reshape(n, Q, -1), PredictiveCache((n, Q), cache, predict)

    def map(self, t: int, cache: PredictiveCache) -> Array:
        local, p, P = self.kernels.local, cache.predict.p, self.mask.shape[1]
        weights = cache.step.weights * local.gaussian(p, self.D)[0][:, None]
        around = local.spread(weights, local.centre(p)[:, None], P)
        return local.inside(around, self.D, axis=-1).reshape(*cache.shape, P - 3 * self.D - 1)

    def rows(self, N: int, dtype: Any) -> PredictiveRows:
        return PredictiveRows(super().rows(N, dtype), np.empty_like(self.values, dtype, shape=(N, len(self.v))),
                              np.empty_like(self.values, dtype, shape=N))

    def training_step(self, rows: PredictiveRows, h: Array, t: int, now: slice, context: Array) -> None:
        query = None if rows.score.query is None else rows.score.query[now][:, None]
        _, cache = self.step(h[:, None], t, context[:, None], rows.score.weights[now][:, None], query)
        self.kernels.rows.put(rows.tanh, now, cache.predict.tanh)
        self.kernels.rows.put(rows.share, now, cache.predict.share)

    def gradient_rows(self, rows: PredictiveRows, dtype: Any) -> PredictiveGradientRows:
        keys = self.keys.reshape(-1, self.keys.shape[2])  # each window is an index into its rows
        return PredictiveGradientRows(self.score.gradient_rows(rows.score, keys, dtype),
                                      np.empty_like(rows.tanh, dtype), np.empty_like(rows.share, dtype))

    def step_backward(self, rows: PredictiveRows, drows: PredictiveGradientRows, h: Array, t: int, now: slice,
                      dcontext: Array, dh: Array) -> None:
        local, put, n = self.kernels.local, self.kernels.rows.put, len(h)
        predict = PredictPlaceCache(rows.tanh[now], rows.share[now], self.lengths[:n], self.v)
        p = self.kernels.rows.multiply(self.lengths[:n], predict.share)
        window = local.windows_around(p, self.mask.shape[1], self.D)
        g, slope = local.gaussian(p, self.D)
        keys, values = local.through(window, self.keys), local.times_gaussian(local.through(window, self.values), g)
        self.score.step_backward(keys, values, window, now, rows.score, drows.score, h, dcontext, dh)
        # in the forward pass this was p = length sigmoid(v . tanh(h W)), and g around it
        dp = local.gaussian_backward(dcontext, rows.score.weights[now], values, slope)
        dq, du = local.predict_place_backward(dp, predict)
        put(drows.dq, now, dq)
        put(drows.du, now, du)
        self.kernels.product.transposed_product(drows.dq[now], self.W, out=dh, add=True)

    def backward(self, rows: PredictiveRows, drows: PredictiveGradientRows, h: Array, dcontext: Array, packing: Packing,
                 grads: Mapping[str, Array]) -> Array:
        product, local, P = self.kernels.product.product, self.kernels.local, self.mask.shape[1]
        by_sentence, multiply = self.kernels.rows.by_sentence, self.kernels.rows.multiply
        weights, dscore = by_sentence(rows.score.weights, packing), by_sentence(drows.score.dscore, packing)
        p = multiply(self.lengths[:, None], by_sentence(rows.share[:, None], packing)[..., 0]).reshape(-1)
        weights = multiply(weights, local.gaussian(p, self.D)[0].reshape(weights.shape))
        weights, dscore = (local.spread(array, local.centre(p), P) for array in (weights, dscore))
        dh_enc = self._sums(weights, dscore, drows.score, h, dcontext, packing, grads)
        product(h.T, drows.dq, out=grads["window.W"])
        product(drows.du[None], rows.tanh, out=grads["window.v"][None])
        return dh_enc
