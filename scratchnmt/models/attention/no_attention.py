"""No attention: the decoder knows the source by the state that it starts from alone (Sutskever et al. 2014)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...arrays import Array, array_module
from ...ops.packing import Packing
from ...ops.plain import Kernels

if TYPE_CHECKING:
    from ..config import NMTConfig


class NoAttention:
    """See `Attention`.  A context has no columns."""

    def __init__(self, config: NMTConfig, params: Mapping[str, Array], h_enc: Array, mask: Array, kernels: Kernels):
        self.h_enc = h_enc

    @staticmethod
    def shapes(config: NMTConfig) -> dict[str, tuple[int, ...]]:
        return {}

    @staticmethod
    def context_size(config: NMTConfig) -> int:
        return 0

    @staticmethod
    def recordable(config: NMTConfig) -> bool:
        return True

    def select(self, sentences: Array) -> NoAttention:
        return self

    def step(self, h: Array, t: int) -> tuple[Array, tuple[int, int]]:
        return array_module(h).empty((*h.shape[:2], 0), h.dtype), h.shape[:2]

    def map(self, t: int, cache: tuple[int, int]) -> Array:
        return array_module(self.h_enc).zeros((*cache, len(self.h_enc)), self.h_enc.dtype)

    def rows(self, N: int, dtype: Any) -> None:
        return None

    def training_step(self, rows: None, h: Array, t: int, now: slice, context: Array) -> None:
        pass

    def gradient_rows(self, rows: None, dtype: Any) -> None:
        return None

    def step_backward(self, rows: None, drows: None, h: Array, t: int, now: slice, dcontext: Array, dh: Array) -> None:
        pass

    def backward(self, rows: None, drows: None, h: Array, dcontext: Array, packing: Packing,
                 grads: Mapping[str, Array]) -> Array:
        return array_module(dcontext).zeros(self.h_enc.shape, dcontext.dtype)
