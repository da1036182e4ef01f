"""The backend of a model: the operations of which there are two versions, array code and kernels fused for a GPU.

A loop over time, or a model, takes a `Kernels` and calls `kernels.lstm_gates.lstm_gates_forward(...)`: the
module is the plain one of this folder or its twin of the same name in scratchnmt/kernels, which has the same functions
with the same arguments, results and cache.  The protocols say which; what each function does, and where it is from,
stands beside the plain one.  The kernels raise ValueError for a shape that does not fit; the plain functions leave that
to NumPy.

Next: kernels/lstm_gates.py, the twin of ops/lstm_gates.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..arrays import Array
from . import (
    attention,
    cross_entropy,
    dropout,
    embedding,
    layer_norm_gates,
    local,
    lstm_gates,
    product,
    r_drop,
    rows,
    soft_cross_entropy,
    tanh_dropout,
)
from .attention import AttentionStepCache, AttentionStepGradients
from .decoder_step import CombineCache, CombineGradients, DecoderLSTMCache, DecoderLSTMGradients
from .dropout import DropoutCache, DropoutGradients
from .embedding import EmbeddingCache, EmbeddingGradients
from .layer_norm_gates import LayerNormGains, LayerNormGatesCache, LayerNormGatesGradients
from .local import PredictPlaceCache, PredictPlaceGradients
from .lstm_gates import LSTMGatesCache, LSTMGatesGradients
from .packing import Packing
from .tanh_dropout import TanhDropoutCache, TanhDropoutGradients

if TYPE_CHECKING:
    from .recurrent_dropout import RecurrentMask


class Product(Protocol):
    """a b and a b.T: (..., m, n) from a (..., m, k) and b (..., k, n) or (..., n, k); see ops/product.py.

    out (..., m, n) is filled or, with add=True, added to.
    """

    def product(self, a: Array, b: Array, *, out: Array | None = None, add: bool = False) -> Array: ...

    def transposed_product(self, a: Array, b: Array, *, out: Array | None = None, add: bool = False) -> Array: ...


class LSTMGates(Protocol):
    """h, c (..., H) of a step from z (..., 4H) and c_prev (..., H); see ops/lstm_gates.py.

    Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000.  dc_prev may be dc itself.
    """

    def lstm_gates_forward(self, z: Array, c_prev: Array, *, h: Array | None = None, c: Array | None = None,
                           tanh_c: Array | None = None,
                           overwrite: bool = False) -> tuple[tuple[Array, Array], LSTMGatesCache]: ...

    def lstm_gates_backward(self, dh: Array, dc: Array, cache: LSTMGatesCache, *, dz: Array | None = None,
                            dc_prev: Array | None = None) -> LSTMGatesGradients: ...


class LSTMSteps(Protocol):
    """The loop over the steps of ops/lstm.py, its (2) and (3), for B sentences in N packed rows.

    Forward turns z (D, N, 4H) into the gates and fills h, r, c (D, B + N, H), in which the first states stand, and
    tanh_c (D, N, H); r is what the next step reads of h, see RecurrentMask.  Backward fills dz (D, N, 4H) from dh
    (D, B + N, H), to which it adds what comes through Wh, and dc (D, B, H), which becomes that of the first states.
    """

    def lstm_steps_forward(self, z: Array, Wh: Array, h: Array, r: Array, c: Array, tanh_c: Array,
                           recurrent: RecurrentMask, packing: Packing) -> None: ...

    def lstm_steps_backward(self, dh: Array, dc: Array, gates: Array, c: Array, tanh_c: Array, Wh: Array,
                            recurrent: RecurrentMask, packing: Packing, dz: Array) -> None: ...


class DecoderStep(Protocol):
    """The products of a decoder's step, each with what is pointwise beside it; see ops/decoder_step.py."""

    def decoder_lstm_forward(self, z: Array, x: Array, W: Array, c_prev: Array, *, h: Array | None = None,
                             c: Array | None = None, tanh_c: Array | None = None, overwrite: bool = False
                             ) -> tuple[tuple[Array, Array], DecoderLSTMCache]: ...

    def decoder_lstm_backward(self, dh: Array, dc: Array, cache: DecoderLSTMCache, *, dz: Array | None = None,
                              dx: Array | None = None) -> DecoderLSTMGradients: ...

    def combine_forward(self, x: Array, W: Array, mask: Array | None = None, *, p: Array | None = None,
                        o: Array | None = None, slope: Array | None = None) -> tuple[Array, CombineCache]: ...

    def combine_backward(self, do: Array, cache: CombineCache, *, dp: Array | None = None,
                         dx: Array | None = None) -> CombineGradients: ...


class LayerNormGates(Protocol):
    """The same with layer normalisation, from z (..., 12H), gains g (..., 9H) and b_c (..., H): Ba et al. 2016.

    See ops/layer_norm_gates.py; layer_norm_gains sums over all rows of a loop.
    """

    def layer_norm_gates_forward(self, z: Array, c_prev: Array, g: Array, b_c: Array, *, h: Array | None = None,
                                 c: Array | None = None, kept: Array | None = None, overwrite: bool = False
                                 ) -> tuple[tuple[Array, Array], LayerNormGatesCache]: ...

    def layer_norm_gates_backward(self, dh: Array, dc: Array, cache: LayerNormGatesCache, *, dz: Array | None = None,
                                  dc_prev: Array | None = None) -> LayerNormGatesGradients: ...

    def layer_norm_gains(self, dh: Array, dz: Array, z: Array, kept: Array) -> LayerNormGains: ...


class AttentionStep(Protocol):
    """context (B, Q, M) and weights (B, Q, S) from query (B, Q, A), keys (B, S, A), values (B, S, M), mask (B, S).

    Luong, Pham & Manning 2015, section 3.1; see ops/attention.py.  v (A,) is of the concat score, else None.  dquery
    is added to, if given; all other buffers are filled.
    """

    def attention_step_forward(self, query: Array, keys: Array, values: Array, mask: Array, v: Array | None = None, *,
                               context: Array | None = None,
                               weights: Array | None = None) -> tuple[Array, AttentionStepCache]: ...

    def attention_step_backward(self, dcontext: Array, cache: AttentionStepCache, *, dquery: Array | None = None,
                                dscore: Array | None = None) -> AttentionStepGradients: ...


class TanhDropout(Protocol):
    """o = tanh(p) mask and its slope, all (N, H): Luong et al. 2015, equation 5; see ops/tanh_dropout.py."""

    def tanh_dropout_forward(self, p: Array, mask: Array | None = None, *, o: Array | None = None,
                             slope: Array | None = None) -> tuple[Array, TanhDropoutCache]: ...

    def tanh_dropout_backward(self, do: Array, cache: TanhDropoutCache, *,
                              dp: Array | None = None) -> TanhDropoutGradients: ...


class CrossEntropy(Protocol):
    """Fill losses (n,) and replace logits z (n, V) by their gradient; targets (n,), which nobody checks.

    Label smoothing is that of Szegedy et al. 2016, section 7; see ops/cross_entropy.py.
    """

    def cross_entropy_in_place(self, z: Array, targets: Array, label_smoothing: float, losses: Array) -> None: ...


class RDrop(Protocol):
    """The same with both passes of each token in rows 2n and 2n + 1: Liang et al. 2021; see ops/r_drop.py."""

    def r_drop_in_place(self, z: Array, targets: Array, alpha: float, label_smoothing: float,
                        losses: Array) -> None: ...


class SoftCrossEntropy(Protocol):
    """The same with teachers' distributions beside the targets: Kim & Rush 2016; see ops/soft_cross_entropy.py.

    teacher_logits: an array (n, V) for each teacher, which is overwritten.
    """

    def soft_cross_entropy_in_place(self, z: Array, teacher_logits: Sequence[Array], targets: Array, weight: float,
                                    label_smoothing: float, losses: Array) -> None: ...


class Embedding(Protocol):
    """The rows (..., E) of W (V, E) at ids (...), and dW (V, E), which is added to, if given; see ops/embedding.py.

    IndexError if an id is outside the table; the kernel sees this of ids on the host alone.
    """

    def embedding_forward(self, ids: Array, W: Array, *,
                          tokens: tuple[Array, Array] | None = None) -> tuple[Array, EmbeddingCache]: ...

    def embedding_backward(self, dy: Array, cache: EmbeddingCache, *,
                           dW: Array | None = None) -> EmbeddingGradients: ...


class Dropout(Protocol):
    """x mask, with masks of 0 and 1 / (1 - rate) of any shape: Srivastava et al. 2014; see ops/dropout.py.

    ValueError unless 0 <= rate < 1; dropout_forward takes either rng or mask, ValueError otherwise.
    """

    def dropout_mask(self, shape: tuple[int, ...], rate: float, rng: Any, dtype: Any = "float32") -> Array: ...

    def dropout_forward(self, x: Array, rate: float, *, rng: Any = None,
                        mask: Array | None = None) -> tuple[Array, DropoutCache]: ...

    def dropout_backward(self, dy: Array, cache: DropoutCache) -> DropoutGradients: ...


class Rows(Protocol):
    """Rows moved, added up and masked: what a model computes between the operations; see ops/rows.py."""

    def take(self, x: Array, index: Any) -> Array: ...

    def put(self, out: Array, index: Any, x: Any) -> None: ...

    def add(self, out: Array, x: Array) -> None: ...

    def add_rows(self, out: Array, index: Any, x: Array) -> None: ...

    def multiply(self, x: Array, mask: Array, *, out: Array | None = None) -> Array: ...

    def sum_rows(self, x: Array, *, axis: int = 0, out: Array | None = None) -> Array: ...

    def contiguous(self, x: Array) -> Array: ...

    def by_sentence(self, rows: Array, packing: Packing) -> Array: ...


class LocalAttention(Protocol):
    """The windows of local attention: Luong, Pham & Manning 2015, section 3.2; see ops/local.py."""

    def padded(self, array: Array, D: int) -> Array: ...

    def inside(self, around: Array, D: int, axis: int = 1) -> Array: ...

    def token_counts(self, mask: Array, dtype: Any) -> Array: ...

    def window_at(self, t: int, n: int, P: int, D: int) -> tuple[slice, slice]: ...

    def windows_around(self, p: Array, P: int, D: int, queries: int = 1) -> Array: ...

    def through(self, window: tuple[slice, slice] | Array, around: Array) -> Array: ...

    def spread(self, rows: Array, first: Array, P: int) -> Array: ...

    def centre(self, p: Array) -> Array: ...

    def predict_place_forward(self, q: Array, tokens: Array, v: Array) -> tuple[Array, PredictPlaceCache]: ...

    def predict_place_backward(self, dp: Array, cache: PredictPlaceCache) -> PredictPlaceGradients: ...

    def gaussian(self, p: Array, D: int) -> tuple[Array, Array]: ...

    def times_gaussian(self, values: Array, g: Array) -> Array: ...

    def gaussian_backward(self, dcontext: Array, weights: Array, values: Array, slope: Array) -> Array: ...


Beside = Callable[..., None]  # takes work and its arguments


class Branches(Protocol):
    """Work beside other work; see ops/branches.py."""

    def branch(self) -> AbstractContextManager[Beside]: ...

    def directions(self, D: int) -> list[slice]: ...


class Kernels(NamedTuple):
    """A module, or an object, for each such operation.

    lstm_steps: None where ops/lstm.py makes the steps itself.  decoder_step: None where the decoder's step is made of
    the other parts.  branches: None where everything comes in its turn.
    """

    product: Product
    lstm_gates: LSTMGates
    attention: AttentionStep
    tanh_dropout: TanhDropout
    cross_entropy: CrossEntropy
    embedding: Embedding
    dropout: Dropout
    rows: Rows
    local: LocalAttention
    layer_norm_gates: LayerNormGates
    r_drop: RDrop
    soft_cross_entropy: SoftCrossEntropy
    lstm_steps: LSTMSteps | None = None
    branches: Branches | None = None
    decoder_step: DecoderStep | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """For deepcopy and pickle, which know no modules: each goes by its name."""
        return _backend, tuple(part.__name__ if isinstance(part, ModuleType) else part for part in self)


def _backend(*parts: Any) -> Kernels:
    made = Kernels(*(import_module(part) if isinstance(part, str) else part for part in parts))
    return PLAIN if made == PLAIN else made  # there is one, which some ask for by `is`


PLAIN = Kernels(product=product, lstm_gates=lstm_gates, attention=attention, tanh_dropout=tanh_dropout,
                cross_entropy=cross_entropy, embedding=embedding, dropout=dropout, rows=rows, local=local,
                layer_norm_gates=layer_norm_gates, r_drop=r_drop, soft_cross_entropy=soft_cross_entropy)
