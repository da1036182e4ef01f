"""Global attention: every step looks at all words of the source (Luong et al. 2015, section 3.1; ops/attention.py).

Backward, only the gradient of the query cannot wait.  Values and keys receive a sum over all steps, which is one
batched product after the loop:

    dvalues = weights.T dcontext        (B, S, T) (B, T, M)
    dkeys   = dscore.T h                (B, S, T) (B, T, H)

The textbook computes the same for one sentence, in the lines from `score` to `a[t]`, and in those of `dh_enc[s]` and
`dkeys[s]`.  Next: ops/embedding.py.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ...arrays import Array
from ...ops.packing import Packing
from ...ops.plain import Kernels
from .scores import SCORES

if TYPE_CHECKING:
    from ..config import NMTConfig

Own = TypeVar("Own", bound="GlobalAttention")


class GlobalAttention:
    """See `Attention`.  Of each source are kept its keys (B, S, A), its values (B, S, M) and the mask (B, S)."""

    def __init__(self, config: NMTConfig, params: Mapping[str, Array], h_enc: Array, mask: Array, kernels: Kernels):
        contiguous = kernels.rows.contiguous
        self.kernels = kernels
        self.score = SCORES[config.score](params, kernels)
        self.values = contiguous(h_enc.transpose(1, 0, 2))
        self.mask = contiguous(mask.T)
        self.keys = self.score.keys(self.values)
        self.columns = self.mask.shape[1]  # source words that a step looks at

    @staticmethod
    def shapes(config: NMTConfig) -> dict[str, tuple[int, ...]]:
        return SCORES[config.score].shapes(config)

    @staticmethod
    def context_size(config: NMTConfig) -> int:
        return config.memory_size

    @staticmethod
    def recordable(config: NMTConfig) -> bool:
        return SCORES[config.score].recordable

    def select(self: Own, sentences: Array) -> Own:
        other = copy.copy(self)
        other.keys, other.values, other.mask = self.keys[sentences], self.values[sentences], self.mask[sentences]
        return other

    def _window(self, t: int, n: int) -> Any:
        """What step t of the first n sentences looks at, as an index of keys, values and mask."""
        return slice(n)

    def step(self, h: Array, t: int, context: Array | None = None, weights: Array | None = None,
             query: Array | None = None) -> tuple[Array, Any]:
        window = self._window(t, len(h))
        return self.kernels.attention.attention_step_forward(
            self.score.query(h, query), self.keys[window], self.values[window], self.mask[window], self.score.v,
            context=context, weights=weights)

    def map(self, t: int, cache: Any) -> Array:
        return cache.weights

    def rows(self, N: int, dtype: Any) -> Any:
        return self.score.rows(np.empty_like(self.values, dtype, shape=(N, self.columns)))

    def training_step(self, rows: Any, h: Array, t: int, now: slice, context: Array) -> None:
        query = None if rows.query is None else rows.query[now][:, None]
        self.step(h[:, None], t, context[:, None], rows.weights[now][:, None], query)

    def gradient_rows(self, rows: Any, dtype: Any) -> Any:
        return self.score.gradient_rows(rows, self.keys, dtype)

    def step_backward(self, rows: Any, drows: Any, h: Array, t: int, now: slice, dcontext: Array, dh: Array) -> None:
        window = self._window(t, len(h))
        self.score.step_backward(self.keys[window], self.values[window], window, now, rows, drows, h, dcontext, dh)

    def backward(self, rows: Any, drows: Any, h: Array, dcontext: Array, packing: Packing,
                 grads: Mapping[str, Array]) -> Array:
        by_sentence = self.kernels.rows.by_sentence
        weights, dscore = by_sentence(rows.weights, packing), by_sentence(drows.dscore, packing)
        return self._sums(weights, dscore, drows, h, dcontext, packing, grads)

    def _sums(self, weights: Array, dscore: Array, drows: Any, h: Array, dcontext: Array, packing: Packing,
              grads: Mapping[str, Array]) -> Array:
        """dh_enc (S, B, M), and the score's gradients into `grads`; weights, dscore (B, T, S) over the whole source."""
        product, by_sentence, add = self.kernels.product.product, self.kernels.rows.by_sentence, self.kernels.rows.add
        dvalues = product(weights.transpose(0, 2, 1), by_sentence(dcontext, packing))
        # the reshape: of predicted windows, concat has added dkeys up in the rows of all sentences
        dkeys = self.score.dkeys(dscore, h, packing, drows).reshape(*dvalues.shape[:2], -1)
        values, dvalues, dkeys = map(self._inside, (self.values, dvalues, dkeys))
        add(dvalues, self.score.keys_backward(dkeys, values, grads))
        self.score.query_gradients(h, drows, grads)
        return dvalues.transpose(1, 0, 2)

    def _inside(self, array: Array) -> Array:
        """The source's own rows, contiguous; local attention has zeros around them."""
        return array
