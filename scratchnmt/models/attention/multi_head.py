"""Multi-head attention (Vaswani et al. 2017, section 3.2.2; the equations are those of ops/multi_head.py).

To the step of attention the heads of a sentence are so many sentences: it is that of global attention, of n heads rows.
Keys and values are projected once per sentence.  Backward, only the query's gradient cannot wait, and its product with
Wq; all that keys, values and the three weights receive is one product each after the loop:

    dkeys = dscore.T q,  dvalues = weights.T dcontext     (B heads, S, T) (B heads, T, d)
    dWq = h.T dq,  dWk = h_enc.T dkeys,  dWv = h_enc.T dvalues
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...arrays import Array, array_module
from ...ops.attention import AttentionStepCache
from ...ops.multi_head import merge_heads, split_heads
from ...ops.packing import Packing
from ...ops.plain import Kernels

if TYPE_CHECKING:
    from ..config import NMTConfig


class MultiHeadRows(NamedTuple):
    query: Array  # (N, H)
    weights: Array  # (N, heads S)


class MultiHeadGradientRows(NamedTuple):
    dquery: Array  # (N, H)
    dscore: Array  # (N, heads S)


class MultiHeadAttention:
    """See `Attention`.  Of each source are kept keys and values (B heads, S, d), and the mask (B heads, S)."""

    def __init__(self, config: NMTConfig, params: Mapping[str, Array], h_enc: Array, mask: Array, kernels: Kernels):
        self.kernels, self.heads = kernels, config.heads
        self.Wq, self.Wk, self.Wv = (params[f"attention.{name}"] for name in ("Wq", "Wk", "Wv"))
        self.scale = (config.hidden_size // config.heads) ** -0.5
        self.states = kernels.rows.contiguous(h_enc.transpose(1, 0, 2))  # (B, S, M)
        self.keys = self._split(self._projected(self.Wk, self.scale))
        self.values = self._split(self._projected(self.Wv))
        sentences = array_module(mask).arange(mask.shape[1] * self.heads) // self.heads
        self.mask = kernels.rows.take(kernels.rows.contiguous(mask.T), sentences)

    @staticmethod
    def shapes(config: NMTConfig) -> dict[str, tuple[int, ...]]:
        H, M = config.hidden_size, config.memory_size
        return {"attention.Wq": (H, H), "attention.Wk": (M, H), "attention.Wv": (M, H)}

    @staticmethod
    def context_size(config: NMTConfig) -> int:
        return config.hidden_size

    @staticmethod
    def recordable(config: NMTConfig) -> bool:
        return True

    def select(self, sentences: Array) -> MultiHeadAttention:
        other, rows = copy.copy(self), sentences[:, None] * self.heads + array_module(sentences).arange(self.heads)
        other.keys, other.values, other.mask = (array[rows.ravel()] for array in (self.keys, self.values, self.mask))
        return other

    def step(self, h: Array, t: int) -> tuple[Array, AttentionStepCache]:
        n, Q, H = h.shape
        query = self.kernels.product.product(h.reshape(n * Q, H), self.Wq).reshape(n, Q, H)  # (1)
        context, cache = self._attend(self._split(query))
        return self._merge(context), cache

    def map(self, t: int, cache: AttentionStepCache) -> Array:
        """The mean over the heads."""
        rows, Q, S = cache.weights.shape
        return cache.weights.reshape(rows // self.heads, self.heads, Q, S).mean(axis=1)

    def rows(self, N: int, dtype: Any) -> MultiHeadRows:
        query = np.empty_like(self.keys, dtype, shape=(N, len(self.Wq)))
        return MultiHeadRows(query=query, weights=np.empty_like(query, shape=(N, self.heads * self.keys.shape[1])))

    def training_step(self, rows: MultiHeadRows, h: Array, t: int, now: slice, context: Array) -> None:
        query = self.kernels.product.product(h, self.Wq, out=rows.query[now])  # (1)
        found, _ = self._attend(self._by_head(query), self._by_head(rows.weights[now]))
        self.kernels.rows.put(context, ..., found.reshape(context.shape))

    def gradient_rows(self, rows: MultiHeadRows, dtype: Any) -> MultiHeadGradientRows:
        return MultiHeadGradientRows(dquery=np.zeros_like(rows.query, dtype), dscore=np.empty_like(rows.weights, dtype))

    def step_backward(self, rows: MultiHeadRows, drows: MultiHeadGradientRows, h: Array, t: int, now: slice,
                      dcontext: Array, dh: Array) -> None:
        # in the forward pass this was (2), (3), (4): attention, each head by itself
        seen, dquery = slice(len(h) * self.heads), drows.dquery[now]
        cache = AttentionStepCache(query=self._by_head(rows.query[now]), keys=self.keys[seen], values=self.values[seen],
                                   weights=self._by_head(rows.weights[now]), v=None)
        self.kernels.attention.attention_step_backward(
            self._by_head(self.kernels.rows.contiguous(dcontext)), cache, dquery=self._by_head(dquery),
            dscore=self._by_head(drows.dscore[now]))
        # in the forward pass this was (1) q = h Wq
        self.kernels.product.transposed_product(dquery, self.Wq, out=dh, add=True)

    def backward(self, rows: MultiHeadRows, drows: MultiHeadGradientRows, h: Array, dcontext: Array, packing: Packing,
                 grads: Mapping[str, Array]) -> Array:
        product, transposed = self.kernels.product.product, (0, 2, 1)
        query, weights, dscore, dcontext = (
            self._split(self.kernels.rows.by_sentence(array, packing))
            for array in (rows.query, rows.weights, drows.dscore, dcontext))
        (B, S, M), H = self.states.shape, len(self.Wq)
        dkeys = self._merge(product(dscore.transpose(transposed), query)).reshape(B * S, H)
        dvalues = self._merge(product(weights.transpose(transposed), dcontext)).reshape(B * S, H)
        self.kernels.rows.multiply(dkeys, self.scale, out=dkeys)
        states = self.states.reshape(B * S, M)
        product(h.T, drows.dquery, out=grads["attention.Wq"])
        product(states.T, dkeys, out=grads["attention.Wk"])
        product(states.T, dvalues, out=grads["attention.Wv"])
        dstates = product(dkeys, self.Wk.T)
        product(dvalues, self.Wv.T, out=dstates, add=True)
        return dstates.reshape(B, S, M).transpose(1, 0, 2)

    def _projected(self, W: Array, scale: float | None = None) -> Array:
        """(1) of the encoder's states, (B, S, H)."""
        B, S, M = self.states.shape
        x = self.kernels.product.product(self.states.reshape(B * S, M), W)
        if scale is not None:
            self.kernels.rows.multiply(x, scale, out=x)
        return x.reshape(B, S, -1)

    def _attend(self, query: Array, weights: Array | None = None) -> tuple[Array, AttentionStepCache]:
        """(2), (3), (4): context (n heads, Q, d) and cache for query (n heads, Q, d)."""
        seen = slice(len(query))
        return self.kernels.attention.attention_step_forward(query, self.keys[seen], self.values[seen],
                                                             self.mask[seen], weights=weights)

    def _by_head(self, array: Array) -> Array:
        """Contiguous rows (n, heads X) of one query each as (n heads, 1, X), without a copy."""
        return array.reshape(len(array) * self.heads, 1, array.shape[1] // self.heads)

    def _split(self, x: Array) -> Array:
        return split_heads(x, self.heads, self.kernels.rows.contiguous)

    def _merge(self, x: Array) -> Array:
        return merge_heads(x, self.heads, self.kernels.rows.contiguous)
