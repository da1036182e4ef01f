"""Local attention (Luong et al. 2015, section 3.2; the equations are those of ops/local.py): a window of the source.

The source stands in the middle of zeros (`padded`), so that every window lies inside it.  All else is global attention,
on windows.

    "local-m"   monotonic: step t looks at the D words on each side of source word t; every window is a slice
    "local-p"   predictive: a step predicts where it looks, and the Gaussian around that place is what it is learnt by.
                Each query has a window of its own, which is copied out of the padded source; on the way back it is
                taken again, so that it need not be kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ...arrays import Array, array_module
from ...ops.attention import AttentionStepCache
from ...ops.local import (
    PredictPlaceCache,
    centre,
    gaussian,
    gaussian_backward,
    inside,
    padded,
    predict_place_backward,
    predict_place_forward,
    spread,
    through,
    times_gaussian,
    window_at,
    windows_around,
)
from ...ops.packing import Packing, by_sentence
from ...ops.plain import Kernels
from .global_attention import GlobalAttention
from .scores import SCORES, Concat

if TYPE_CHECKING:
    from ..config import NMTConfig


class LocalAttention(GlobalAttention):
    """keys (B, P, A), values (B, P, M), mask (B, P) of the padded source, P = S + 3D + 1."""

    def __init__(self, config: NMTConfig, params: Mapping[str, Array], h_enc: Array, mask: Array, kernels: Kernels):
        super().__init__(config, params, h_enc, mask, kernels)
        self.D, self.columns = config.window, 2 * config.window + 1
        self.keys, self.values, self.mask = (padded(array, self.D) for array in (self.keys, self.values, self.mask))

    def _inside(self, array: Array) -> Array:
        return inside(array, self.D)


class MonotonicAttention(LocalAttention):
    """See `Attention` and `LocalAttention`."""

    def _window(self, t: int, n: int) -> Any:
        return window_at(t, n, self.mask.shape[1], self.D)

    def map(self, t: int, cache: AttentionStepCache) -> Array:
        first = array_module(cache.weights).full(cache.weights.shape[:2], self._window(t, 1)[1].start)
        return inside(spread(cache.weights, first, self.mask.shape[1]), self.D, axis=-1)

    def backward(self, rows: Any, drows: Any, h: Array, dcontext: Array, packing: Packing,
                 grads: Mapping[str, Array]) -> Array:
        xp, P = array_module(dcontext), self.mask.shape[1]
        T, B = len(packing.counts), packing.sentences
        first = xp.minimum(xp.arange(B * T) % T, P - 2 * self.D - 1)
        weights, dscore = (spread(by_sentence(array, packing), first, P) for array in (rows.weights, drows.dscore))
        return self._sums(weights, dscore, drows, h, dcontext, packing, grads)


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
        self.lengths = mask.T.sum(axis=1).astype(h_enc.real.dtype)  # (B,) words of each source

    @staticmethod
    def shapes(config: NMTConfig) -> dict[str, tuple[int, ...]]:
        H, score = config.hidden_size, SCORES[config.score]
        own = {"window.W": (H, H), "window.v": (H,)}
        # the order in which seeds have always drawn the weights
        return own | score.shapes(config) if score is Concat else score.shapes(config) | own

    @staticmethod
    def recordable(config: NMTConfig) -> bool:
        return False  # the places are predicted by products of arrays

    def select(self, sentences: Array) -> PredictiveAttention:
        other = super().select(sentences)
        other.lengths = self.lengths[sentences]
        return other

    def step(self, h: Array, t: int, context: Array | None = None,
             weights: Array | None = None) -> tuple[Array, PredictiveCache]:
        n, Q, H = h.shape
        query = self.score.query(h).reshape(n * Q, 1, -1)
        q = self.kernels.product.product(h.reshape(n * Q, H), self.W)
        _, predict = predict_place_forward(q, self.lengths[:n].repeat(Q), self.v)
        window = windows_around(predict.p, self.mask.shape[1], self.D, Q)
        keys, values, mask = (through(window, array) for array in (self.keys, self.values, self.mask))
        values = times_gaussian(values, gaussian(predict.p, self.D)[0])
        context, cache = self.kernels.attention.attention_step_forward(query, keys, values, mask, self.score.v,
                                                                       context=context, weights=weights)
        return context.reshape(n, Q, -1), PredictiveCache((n, Q), cache, predict)

    def map(self, t: int, cache: PredictiveCache) -> Array:
        p, P = cache.predict.p, self.mask.shape[1]
        weights = cache.step.weights * gaussian(p, self.D)[0][:, None]
        around = spread(weights, centre(p)[:, None], P)
        return inside(around, self.D, axis=-1).reshape(*cache.shape, P - 3 * self.D - 1)

    def rows(self, N: int, dtype: Any) -> PredictiveRows:
        empty = array_module(self.values).empty
        return PredictiveRows(self.score.rows(N, self.columns, dtype), empty((N, len(self.v)), dtype),
                              empty((N,), dtype))

    def training_step(self, rows: PredictiveRows, h: Array, t: int, now: slice, context: Array) -> None:
        _, cache = self.step(h[:, None], t, context[:, None], rows.score.weights[now][:, None])
        self.score.keep(rows.score, now, cache.step)
        rows.tanh[now], rows.share[now] = cache.predict.tanh, cache.predict.share

    def gradient_rows(self, rows: PredictiveRows, dtype: Any) -> PredictiveGradientRows:
        empty = array_module(self.values).empty
        keys = self.keys.reshape(-1, self.keys.shape[2])  # each window is an index into its rows
        return PredictiveGradientRows(self.score.gradient_rows(rows.score, keys, dtype), empty(rows.tanh.shape, dtype),
                                      empty(rows.share.shape, dtype))

    def step_backward(self, t: int, now: slice, rows: PredictiveRows, drows: PredictiveGradientRows, h: Array,
                      dcontext: Array, dh: Array) -> None:
        predict = PredictPlaceCache(rows.tanh[now], rows.share[now], self.lengths[: len(h)], self.v)
        window = windows_around(predict.p, self.mask.shape[1], self.D)
        g, slope = gaussian(predict.p, self.D)
        keys, values = through(window, self.keys), times_gaussian(through(window, self.values), g)
        self.score.step_backward(keys, values, window, now, rows.score, drows.score, h, dcontext, dh)
        # in the forward pass this was p = length sigmoid(v . tanh(h W)), and g around it
        dp = gaussian_backward(dcontext, rows.score.weights[now], values, slope)
        drows.dq[now], drows.du[now] = predict_place_backward(dp, predict)
        self.kernels.product.transposed_product(drows.dq[now], self.W, out=dh, add=True)

    def backward(self, rows: PredictiveRows, drows: PredictiveGradientRows, h: Array, dcontext: Array, packing: Packing,
                 grads: Mapping[str, Array]) -> Array:
        product, P = self.kernels.product.product, self.mask.shape[1]
        weights, dscore = by_sentence(rows.score.weights, packing), by_sentence(drows.score.dscore, packing)
        p = (self.lengths[:, None] * by_sentence(rows.share[:, None], packing)[..., 0]).reshape(-1)
        weights = weights * gaussian(p, self.D)[0].reshape(weights.shape)
        weights, dscore = spread(weights, centre(p), P), spread(dscore, centre(p), P)
        dh_enc = self._sums(weights, dscore, drows.score, h, dcontext, packing, grads)
        product(h.T, drows.dq, out=grads["window.W"])
        grads["window.v"][...] = drows.du @ rows.tanh
        return dh_enc
