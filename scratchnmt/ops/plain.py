"""The operations of which there are two versions: the array code of this folder, and kernels fused for a GPU.

A loop over time, or a model, takes a `Kernels` and calls `kernels.lstm_gates.lstm_gates_forward(...)`: the
module is the plain one or its twin of the same name in scratchnmt/kernels, which has the same functions with the
same arguments, results and cache.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from . import attention, cross_entropy, dropout, embedding, lstm_gates, product, tanh_dropout


class Kernels(NamedTuple):
    """A module for each such operation."""

    product: Any
    lstm_gates: Any
    attention: Any
    tanh_dropout: Any
    cross_entropy: Any
    embedding: Any
    dropout: Any


PLAIN = Kernels(product, lstm_gates, attention, tanh_dropout, cross_entropy, embedding, dropout)
