"""What the decoder attends to, and how: a class for each way, each in a file of its own.

An attention is made for one batch of sources and holds what does not change from step to step.  All have the same
methods (`Attention`); the decoder calls them and knows nothing else.  A further way is a further class and a line of
ATTENTIONS.  How a state is compared with a source word is a second small object, the score (see scores.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ...arrays import Array
from ...ops.packing import Packing
from ...ops.plain import Kernels
from .global_attention import GlobalAttention
from .monotonic import MonotonicAttention
from .multi_head import MultiHeadAttention
from .no_attention import NoAttention
from .predictive import PredictiveAttention

if TYPE_CHECKING:
    from ..config import NMTConfig

__all__ = ["ATTENTIONS", "Attention", "attention_class"]


class Attention(Protocol):
    """Sizes: n sentences still decoded, Q queries of each (1 in training, a search's hypotheses), N packed rows."""

    def __init__(self, config: NMTConfig, params: Mapping[str, Array], h_enc: Array, mask: Array, kernels: Kernels): ...

    @staticmethod
    def shapes(config: NMTConfig) -> dict[str, tuple[int, ...]]:
        """Its weights."""

    @staticmethod
    def context_size(config: NMTConfig) -> int:
        """Columns of a context, C."""

    @staticmethod
    def recordable(config: NMTConfig) -> bool:
        """Whether a GPU can record its steps (kernels/graph.py): it can if all products are those of `kernels`."""

    def select(self, sentences: Array) -> Attention:
        """The same for these sentences (B',) alone."""

    def step(self, h: Array, t: int) -> tuple[Array, Any]:
        """Context (n, Q, C), cache, for the queries h (n, Q, H) of step t."""

    def map(self, t: int, cache: Any) -> Array:
        """(n, Q, S): how much of each source word is in the contexts of step t, for people."""

    def rows(self, N: int, dtype: Any) -> Any:
        """Room for what training keeps of each step, packed."""

    def training_step(self, rows: Any, h: Array, t: int, now: slice, context: Array) -> None:
        """Fill context (n, C) for h (n, H), and the rows `now`."""

    def gradient_rows(self, rows: Any, dtype: Any) -> Any:
        """Room for what its backward pass leaves to be summed after the loop."""

    def step_backward(self, rows: Any, drows: Any, h: Array, t: int, now: slice, dcontext: Array, dh: Array) -> None:
        """Add to dh (n, H) what dcontext (n, C) says; fill the rows `now` of `drows`."""

    def backward(self, rows: Any, drows: Any, h: Array, dcontext: Array, packing: Packing,
                 grads: Mapping[str, Array]) -> Array:
        """dh_enc (S, B, M) in sorted order, of all steps at once; h (N, H) that asked, dcontext (N, C).

        The gradients of the attention's own weights go into `grads`.
        """


ATTENTIONS: dict[str, type[Attention]] = {
    "global": GlobalAttention,
    "local-m": MonotonicAttention,
    "local-p": PredictiveAttention,
    "multi-head": MultiHeadAttention,
}


def attention_class(config: NMTConfig) -> type[Attention]:
    """The way of attending that a configuration chooses."""
    return ATTENTIONS[config.attention] if config.attends else NoAttention
