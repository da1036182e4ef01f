"""How the decoder's state h is compared with a source word: the scores of Luong et al. 2015, section 3.1.

    dot         score[s] = h . h_enc[s]
    general     score[s] = h . (h_enc[s] W)              W (M, H)
    location    score[s] = h . places[s]                 places (L, H)
    concat      score[s] = v . tanh([h; h_enc[s]] W)     W (H + M, H), v (H,)

All compare a query, made of h, with keys, made once of the source.  For the first three the query is h, and the score
the inner product: of a step backward only dscore is left, from which dkeys follows for all steps at once.  The tanh of
concat differs at every step, so that its dkeys and dv are added up in the loop.

The textbook computes the same for one sentence, in the lines of `keys[s]` and `score`, and of `dscore` and `dkeys[s]`;
its score is general.  Next: models/attention/global_attention.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...arrays import Array
from ...ops.attention import AttentionStepCache, attention_keys, attention_keys_backward, location_keys
from ...ops.packing import Packing
from ...ops.plain import Kernels

if TYPE_CHECKING:
    from ..config import NMTConfig


class ScoreRows(NamedTuple):
    """What training keeps of each step, packed; S source words, or those of a window."""

    weights: Array  # (N, S)
    query: Array | None = None  # (N, A) unless it is the state itself


class ScoreGradientRows(NamedTuple):
    dscore: Array  # (N, S)


class Dot:
    """The score of a state with an encoder's state; the base of all that are inner products."""

    v: Array | None = None  # of concat alone
    recordable = True  # see `Attention`

    def __init__(self, params: Mapping[str, Array], kernels: Kernels):
        self.params, self.kernels = params, kernels

    @staticmethod
    def shapes(config: NMTConfig) -> dict[str, tuple[int, ...]]:
        return {}

    def keys(self, values: Array) -> Array:
        """(B, S, A) from the encoder's states (B, S, M)."""
        return values

    def keys_backward(self, dkeys: Array, values: Array, grads: Mapping[str, Array]) -> Array:
        """What the values receive by the keys (B, S, M); the weights' gradients go into `grads`."""
        return dkeys

    def query(self, h: Array, out: Array | None = None) -> Array:
        """(..., A) from h (..., H): h itself, or written into `out`."""
        return h

    def rows(self, weights: Array) -> ScoreRows:
        """Room for what training keeps of each step beside the weights (N, S)."""
        return ScoreRows(weights)

    def gradient_rows(self, rows: Any, keys: Array, dtype: Any) -> Any:
        return ScoreGradientRows(np.empty_like(rows.weights, dtype))

    def step_backward(self, keys: Array, values: Array, window: Any, now: slice, rows: Any, drows: Any, h: Array,
                      dcontext: Array, dh: Array) -> None:
        """Add to dh (n, H); keys, values (n, S, .) are what the step saw, `window` where that stands in drows.dkeys."""
        # in the forward pass this was context = attention(h, h_enc)
        cache = AttentionStepCache(query=h[:, None], keys=keys, values=values, weights=rows.weights[now][:, None],
                                   v=None)
        self.kernels.attention.attention_step_backward(dcontext[:, None], cache, dquery=dh[:, None],
                                                       dscore=drows.dscore[now][:, None])

    def dkeys(self, dscore: Array, h: Array, packing: Packing, drows: Any) -> Array:
        """(B, S, A) of all steps, from dscore (B, T, S) and the queries h (N, H)."""
        queries = self.kernels.rows.by_sentence(h, packing)
        return self.kernels.product.product(dscore.transpose(0, 2, 1), queries)

    def query_gradients(self, h: Array, drows: Any, grads: Mapping[str, Array]) -> None:
        """Of the weights that make queries of h (N, H)."""


class General(Dot):
    @staticmethod
    def shapes(config: NMTConfig) -> dict[str, tuple[int, ...]]:
        return {"attention.W": (config.memory_size, config.hidden_size)}

    def keys(self, values: Array) -> Array:
        return attention_keys(values, self.params["attention.W"], None, self.kernels.product.product)

    def keys_backward(self, dkeys: Array, values: Array, grads: Mapping[str, Array]) -> Array:
        dvalues, dW = attention_keys_backward(dkeys, values, self.params["attention.W"], None,
                                              self.kernels.product.product)
        self.kernels.rows.put(grads["attention.W"], ..., dW)
        return dvalues


class Location(Dot):
    @staticmethod
    def shapes(config: NMTConfig) -> dict[str, tuple[int, ...]]:
        return {"attention.places": (config.max_source, config.hidden_size)}

    def keys(self, values: Array) -> Array:
        return location_keys(self.params["attention.places"], values)

    def keys_backward(self, dkeys: Array, values: Array, grads: Mapping[str, Array]) -> Array:
        dplaces = grads["attention.places"]
        known = min(dkeys.shape[1], len(dplaces))
        self.kernels.rows.put(dplaces, ..., 0)
        self.kernels.rows.sum_rows(dkeys[:, :known], out=dplaces[:known])
        return 0  # no key is made of a value


class ConcatGradientRows(NamedTuple):
    dscore: Array  # (N, S)
    dquery: Array  # (N, A)
    dkeys: Array  # as the keys: summed over the steps
    dv: Array  # (A,) the same


class Concat(Dot):
    recordable = False  # queries, and v, are products of arrays

    def __init__(self, params: Mapping[str, Array], kernels: Kernels):
        super().__init__(params, kernels)
        self.W, self.v = params["attention.W"], params["attention.v"]
        self.A = len(params["attention.v"])

    @staticmethod
    def shapes(config: NMTConfig) -> dict[str, tuple[int, ...]]:
        H = config.hidden_size
        return {"attention.W": (H + config.memory_size, H), "attention.v": (H,)}

    def keys(self, values: Array) -> Array:
        return attention_keys(values, self.W, self.v, self.kernels.product.product)

    def keys_backward(self, dkeys: Array, values: Array, grads: Mapping[str, Array]) -> Array:
        H = len(self.W) - values.shape[2]
        dvalues, dW = attention_keys_backward(dkeys, values, self.W, self.v, self.kernels.product.product)
        self.kernels.rows.put(grads["attention.W"], slice(H, None), dW)
        return dvalues

    def query(self, h: Array, out: Array | None = None) -> Array:
        return self.kernels.product.product(h, self.W[: h.shape[-1]], out=out)

    def rows(self, weights: Array) -> ScoreRows:
        return ScoreRows(weights, query=np.empty_like(weights, shape=(len(weights), self.A)))

    def gradient_rows(self, rows: Any, keys: Array, dtype: Any) -> ConcatGradientRows:
        return ConcatGradientRows(np.empty_like(rows.weights, dtype), dquery=np.zeros_like(rows.query, dtype),
                                  dkeys=np.zeros_like(keys, dtype, order="C"), dv=np.zeros_like(self.v, dtype))

    def step_backward(self, keys: Array, values: Array, window: Any, now: slice, rows: Any,
                      drows: ConcatGradientRows, h: Array, dcontext: Array, dh: Array) -> None:
        cache = AttentionStepCache(query=rows.query[now][:, None], keys=keys, values=values,
                                   weights=rows.weights[now][:, None], v=self.v)
        dquery = drows.dquery[now]
        grads = self.kernels.attention.attention_step_backward(dcontext[:, None], cache, dquery=dquery[:, None],
                                                               dscore=drows.dscore[now][:, None])
        self.kernels.rows.add_rows(drows.dkeys, window, grads.dkeys)
        self.kernels.rows.add(drows.dv, grads.dv)
        self.kernels.product.product(dquery, self.W[: h.shape[1]].T, out=dh, add=True)

    def dkeys(self, dscore: Array, h: Array, packing: Packing, drows: ConcatGradientRows) -> Array:
        return drows.dkeys

    def query_gradients(self, h: Array, drows: ConcatGradientRows, grads: Mapping[str, Array]) -> None:
        self.kernels.product.product(h.T, drows.dquery, out=grads["attention.W"][: h.shape[1]])
        self.kernels.rows.put(grads["attention.v"], ..., drows.dv)


SCORES: dict[str, type[Dot]] = {"dot": Dot, "general": General, "concat": Concat, "location": Location}
