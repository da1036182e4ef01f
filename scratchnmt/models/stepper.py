"""The decoder one step at a time, for search: the equations of decoder.py on (sentences, beams).

Every sentence has K hypotheses; what was encoded (the memory) is shared by them, so that choosing
other beams moves only the recurrent arrays.
"""

from __future__ import annotations

from typing import NamedTuple

from ..arrays import Array, array_module
from ..ops.attention import attention_query
from ..ops.plain import PLAIN, Kernels
from .config import NMTConfig, layer_name
from .decoder import Memory, memorize
from .encoder import State


class SearchState(NamedTuple):
    """Where B sentences with K hypotheses each stand."""

    memory: Memory  # (B, ...)
    layers: list[State]  # h, c of each layer, (B, K, H)
    fed: Array  # (B, K, F) what is fed back: o, a or nothing

    def select(self, sentences: Array, beams: Array) -> SearchState:
        """Go on with `sentences` (B',) and, in each of them, with hypotheses `beams` (B', K')."""
        pick = lambda array: array[sentences[:, None], beams]
        memory = self.memory
        if len(sentences) < len(memory.mask):
            memory = Memory(*(array[sentences] for array in memory))
        return SearchState(memory, [(pick(h), pick(c)) for h, c in self.layers], pick(self.fed))


def first_state(params, config: NMTConfig, h_enc: Array, mask: Array, states: list[State],
                kernels: Kernels = PLAIN) -> SearchState:
    """One hypothesis per sentence, from h_enc (S, B, M), mask (S, B) and the decoder's first states (B, H)."""
    xp = array_module(h_enc)
    fed = xp.zeros((h_enc.shape[1], 1, config.fed_size), h_enc.dtype)
    if config.feed == "start":
        fed = states[0][0][:, None]
    return SearchState(memorize(params, h_enc, mask, kernels), [(h[:, None], c[:, None]) for h, c in states], fed)


def next_state(params, config: NMTConfig, state: SearchState, y: Array,
               kernels: Kernels = PLAIN) -> tuple[Array, Array, SearchState]:
    """o (B, K, H), attention (B, K, S), state after the embedded words y (B, K, E)."""
    xp = array_module(y)
    times = lambda x, W: rows_times(x, W, kernels)
    layers = []
    x = y
    for l, (h, c) in enumerate(state.layers):
        name = layer_name("decoder", l)
        before = xp.concatenate([h, state.fed], axis=-1) if l == 0 else h
        z = times(x, params[f"{name}.Wx"]) + params[f"{name}.b"]  # (1)
        z += times(before, params[f"{name}.Wh"])  # (2)
        (h, c), _ = kernels.lstm_gates.lstm_gates_forward(z, c, overwrite=True)  # (3)
        layers.append((h, c))
        x = h
    context, weights = _attend(params, config, state.memory, h, kernels)  # (4)
    o = h
    if config.readout == "output":
        o = xp.tanh(times(xp.concatenate([context, h], axis=-1), params["combine.W"]))  # (5)
    fed = {"output": o, "context": context}.get(config.feed, state.fed)
    return o, weights, SearchState(state.memory, layers, fed)


def _attend(params, config: NMTConfig, memory: Memory, h: Array, kernels: Kernels) -> tuple[Array, Array]:
    """Context (B, K, M) and weights (B, K, S) for h (B, K, H); without attention no column, and zeros."""
    if not config.attends:
        xp = array_module(h)
        return xp.empty((*h.shape[:2], 0), h.dtype), xp.zeros((*h.shape[:2], memory.mask.shape[1]), h.dtype)
    W, v = params.get("attention.W"), params.get("attention.v")
    context, cache = kernels.attention.attention_step_forward(attention_query(h, W, v), *memory, v)
    return context, cache.weights


def rows_times(x: Array, W: Array, kernels: Kernels) -> Array:
    """x (B, K, I) times W as one product over all B K rows; a stack of B small ones is far slower."""
    return kernels.product.product(x.reshape(-1, x.shape[-1]), W).reshape(*x.shape[:-1], W.shape[1])
