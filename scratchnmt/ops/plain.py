"""The backend of a model: the operations of which there are two versions, array code and kernels fused for a GPU.

A loop over time, or a model, takes a `Kernels` and calls `kernels.lstm_gates.lstm_gates_forward(...)`: the
module is the plain one of this folder or its twin of the same name in scratchnmt/kernels, which has the same functions
with the same arguments, results and cache.  The protocols say which; what each function does stands beside the plain
one.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from ..arrays import Array
from . import attention, cross_entropy, dropout, embedding, lstm_gates, product, tanh_dropout
from .attention import AttentionStepCache, AttentionStepGradients
from .dropout import DropoutCache, DropoutGradients
from .embedding import EmbeddingCache, EmbeddingGradients
from .lstm_gates import LSTMGatesCache, LSTMGatesGradients
from .tanh_dropout import TanhDropoutCache, TanhDropoutGradients


class Product(Protocol):
    def product(self, a: Array, b: Array, *, out: Array | None = None, add: bool = False) -> Array: ...

    def transposed_product(self, a: Array, b: Array, *, out: Array | None = None, add: bool = False) -> Array: ...


class LSTMGates(Protocol):
    def lstm_gates_forward(self, z: Array, c_prev: Array, *, h: Array | None = None, c: Array | None = None,
                           tanh_c: Array | None = None,
                           overwrite: bool = False) -> tuple[tuple[Array, Array], LSTMGatesCache]: ...

    def lstm_gates_backward(self, dh: Array, dc: Array, cache: LSTMGatesCache, *, dz: Array | None = None,
                            dc_prev: Array | None = None) -> LSTMGatesGradients: ...


class AttentionStep(Protocol):
    def attention_step_forward(self, query: Array, keys: Array, values: Array, mask: Array, v: Array | None = None, *,
                               context: Array | None = None,
                               weights: Array | None = None) -> tuple[Array, AttentionStepCache]: ...

    def attention_step_backward(self, dcontext: Array, cache: AttentionStepCache, *, dquery: Array | None = None,
                                dscore: Array | None = None) -> AttentionStepGradients: ...


class TanhDropout(Protocol):
    def tanh_dropout_forward(self, p: Array, mask: Array | None = None, *, o: Array | None = None,
                             slope: Array | None = None) -> tuple[Array, TanhDropoutCache]: ...

    def tanh_dropout_backward(self, do: Array, cache: TanhDropoutCache, *,
                              dp: Array | None = None) -> TanhDropoutGradients: ...


class CrossEntropy(Protocol):
    def cross_entropy_in_place(self, z: Array, targets: Array, label_smoothing: float, losses: Array) -> None: ...


class Embedding(Protocol):
    def embedding_forward(self, ids: Array, W: Array, *,
                          tokens: tuple[Array, Array] | None = None) -> tuple[Array, EmbeddingCache]: ...

    def embedding_backward(self, dy: Array, cache: EmbeddingCache, *,
                           dW: Array | None = None) -> EmbeddingGradients: ...


class Dropout(Protocol):
    def dropout_mask(self, shape: tuple[int, ...], rate: float, rng: Any, dtype: Any = "float32") -> Array: ...

    def dropout_forward(self, x: Array, rate: float, *, rng: Any = None,
                        mask: Array | None = None) -> tuple[Array, DropoutCache]: ...

    def dropout_backward(self, dy: Array, cache: DropoutCache) -> DropoutGradients: ...


class Kernels(NamedTuple):
    """A module, or an object, for each such operation."""

    product: Product
    lstm_gates: LSTMGates
    attention: AttentionStep
    tanh_dropout: TanhDropout
    cross_entropy: CrossEntropy
    embedding: Embedding
    dropout: Dropout


PLAIN = Kernels(product, lstm_gates, attention, tanh_dropout, cross_entropy, embedding, dropout)
