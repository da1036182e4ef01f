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

from ...arrays import Array, array_module
from ...ops.attention import (
    AttentionStepCache,
    attention_keys,
    attention_keys_backward,
    attention_query,
    attention_query_backward,
    location_keys,
    location_keys_backward,
)
from ...ops.packing import Packing, by_sentence
from ...ops.plain import Kernels

if TYPE_CHECKING:
    from ..config import NMTConfig


class ScoreRows(NamedTuple):
    """What training keeps of each step, packed; S source words, or those of a window."""

    weights: Array  # (N, S)


class ScoreGradientRows(NamedTuple):
    dscore: Array  # (N, S)


class Dot:
    """The score of a state with an encoder's state; the base of all that are inner products."""

    v: Array | None = None  # of concat alone
    recordable = True  # see `Attention`

    def __init__(self, params: Mapping[str, Array], kernels: Kernels):
        self.params, self.kernels = params, kernels
        self.empty = array_module(next(iter(params.values()))).empty

    @staticmethod
    def shapes(config: NMTConfig) -> dict[str, tuple[int, ...]]:
        return {}

    def keys(self, values: Array) -> Array:
        """(B, S, A) from the encoder's states (B, S, M)."""
        return values

    def keys_backward(self, dkeys: Array, values: Array, grads: Mapping[str, Array]) -> Array:
        """What the values receive by the keys (B, S, M); the weights' gradients go into `grads`."""
        return dkeys

    def query(self, h: Array) -> Array:
        """(..., A) from h (..., H)."""
        return h

    def rows(self, N: int, columns: int, dtype: Any) -> Any:
        return ScoreRows(self.empty((N, columns), dtype))

    def keep(self, rows: Any, now: slice, cache: AttentionStepCache) -> None:
        """What a step has not written into `rows` itself."""

    def gradient_rows(self, rows: Any, keys: Array, dtype: Any) -> Any:
        return ScoreGradientRows(self.empty(rows.weights.shape, dtype))

    def step_backward(self, keys: Array, values: Array, window: Any, now: slice, rows: Any, drows: Any, h: Array,
                      dcontext: Array, dh: Array) -> None:
        """Add to dh (n, H); keys, values (n, S, .) are what the step saw, `window` where that stands in drows.dkeys."""
        # in the forward pass this was context = attention(h, h_enc)
        cache = AttentionStepCache(h[:, None], keys, values, rows.weights[now][:, None], None)
        self.kernels.attention.attention_step_backward(dcontext[:, None], cache, dquery=dh[:, None],
                                                       dscore=drows.dscore[now][:, None])

    def dkeys(self, dscore: Array, h: Array, packing: Packing, drows: Any) -> Array:
        """(B, S, A) of all steps, from dscore (B, T, S) and the queries h (N, H)."""
        return self.kernels.product.product(dscore.transpose(0, 2, 1), by_sentence(h, packing))

    def query_gradients(self, h: Array, drows: Any, grads: Mapping[str, Array]) -> None:
        """Of the weights that make queries of h (N, H)."""


class General(Dot):
    @staticmethod
    def shapes(config: NMTConfig) -> dict[str, tuple[int, ...]]:
        return {"attention.W": (config.memory_size, config.hidden_size)}

    def keys(self, values: Array) -> Array:
        return attention_keys(values, self.params["attention.W"], None, self.kernels.product.product)

    def keys_backward(self, dkeys: Array, values: Array, grads: Mapping[str, Array]) -> Array:
        dvalues, grads["attention.W"][...] = attention_keys_backward(dkeys, values, self.params["attention.W"], None,
                                                                     self.kernels.product.product)
        return dvalues


class Location(Dot):
    @staticmethod
    def shapes(config: NMTConfig) -> dict[str, tuple[int, ...]]:
        return {"attention.places": (config.max_source, config.hidden_size)}

    def keys(self, values: Array) -> Array:
        return location_keys(self.params["attention.places"], values)

    def keys_backward(self, dkeys: Array, values: Array, grads: Mapping[str, Array]) -> Array:
        grads["attention.places"][...] = location_keys_backward(dkeys, self.params["attention.places"])
        return 0  # no key is made of a value


class ConcatRows(NamedTuple):
    weights: Array  # (N, S)
    query: Array  # (N, A)


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
        dvalues, grads["attention.W"][H:] = attention_keys_backward(dkeys, values, self.W, self.v,
                                                                    self.kernels.product.product)
        return dvalues

    def query(self, h: Array) -> Array:
        return attention_query(h, self.W, self.v)

    def rows(self, N: int, columns: int, dtype: Any) -> ConcatRows:
        return ConcatRows(self.empty((N, columns), dtype), query=self.empty((N, self.A), dtype))

    def keep(self, rows: ConcatRows, now: slice, cache: AttentionStepCache) -> None:
        rows.query[now] = cache.query[:, 0]

    def gradient_rows(self, rows: ConcatRows, keys: Array, dtype: Any) -> ConcatGradientRows:
        zeros = array_module(keys).zeros
        return ConcatGradientRows(self.empty(rows.weights.shape, dtype), dquery=zeros(rows.query.shape, dtype),
                                  dkeys=zeros(keys.shape, dtype), dv=zeros((self.A,), dtype))

    def step_backward(self, keys: Array, values: Array, window: Any, now: slice, rows: ConcatRows,
                      drows: ConcatGradientRows, h: Array, dcontext: Array, dh: Array) -> None:
        cache = AttentionStepCache(rows.query[now][:, None], keys, values, rows.weights[now][:, None], self.v)
        dquery = drows.dquery[now]
        grads = self.kernels.attention.attention_step_backward(dcontext[:, None], cache, dquery=dquery[:, None],
                                                               dscore=drows.dscore[now][:, None])
        drows.dkeys[window] += grads.dkeys
        drows.dv[...] += grads.dv
        dh += attention_query_backward(dquery, self.W, self.v, h.shape[1])

    def dkeys(self, dscore: Array, h: Array, packing: Packing, drows: ConcatGradientRows) -> Array:
        return drows.dkeys

    def query_gradients(self, h: Array, drows: ConcatGradientRows, grads: Mapping[str, Array]) -> None:
        grads["attention.W"][: h.shape[1]] = self.kernels.product.product(h.T, drows.dquery)
        grads["attention.v"][...] = drows.dv


SCORES: dict[str, type[Dot]] = {"dot": Dot, "general": General, "concat": Concat, "location": Location}
