"""The decoder one step at a time, for search: the equations of decoder.py on (sentences, beams).

Every sentence has K hypotheses; what was encoded (the memory) is shared by them, so that choosing
other beams moves only the recurrent arrays.
"""

from __future__ import annotations

from typing import NamedTuple

from ..arrays import Array, array_module
from ..ops.plain import PLAIN, Kernels
from .attending import Memory, attend, attention_map, memorize
from .config import NMTConfig, layer_name
from .encoder import State


class SearchState(NamedTuple):
    """Where B sentences with K hypotheses each stand."""

    memory: Memory  # (B, ...)
    layers: list[State]  # h, c of each layer, (B, K, H)
    fed: Array  # (B, K, F) what is fed back: o, a or nothing
    t: int = 0  # steps taken

    def select(self, sentences: Array, beams: Array) -> SearchState:
        """Go on with `sentences` (B',) and, in each of them, with hypotheses `beams` (B', K')."""
        pick = lambda array: array[sentences[:, None], beams]
        memory = self.memory
        if len(sentences) < len(memory.mask):
            memory = memory.of(sentences)
        return SearchState(memory, [(pick(h), pick(c)) for h, c in self.layers], pick(self.fed), self.t)


def first_state(params, config: NMTConfig, h_enc: Array, mask: Array, states: list[State],
                kernels: Kernels = PLAIN) -> SearchState:
    """One hypothesis per sentence, from h_enc (S, B, M), mask (S, B) and the decoder's first states (B, H)."""
    xp = array_module(h_enc)
    fed = xp.zeros((h_enc.shape[1], 1, config.fed_size), h_enc.dtype)
    if config.feed == "start":
        fed = states[0][0][:, None]
    memory = memorize(params, config, h_enc, mask, kernels)
    return SearchState(memory, [(h[:, None], c[:, None]) for h, c in states], fed)


def next_state(params, config: NMTConfig, state: SearchState, y: Array,
               kernels: Kernels = PLAIN) -> tuple[Array, Array, SearchState]:
    """o (B, K, H), attention (B, K, S), state after the embedded words y (B, K, E)."""
    xp = array_module(y)
    times = lambda x, W: rows_times(x, W, kernels)
    layers, fed, x = [], state.fed, y
    if config.asks_before:
        context, weights = _attend(params, config, state, state.layers[-1][0], kernels)  # (4)
        fed = context if config.feed == "context" else fed
    for l, (h, c) in enumerate(state.layers):
        name = layer_name("decoder", l)
        before = xp.concatenate([h, fed], axis=-1) if l == 0 else h
        z = times(x, params[f"{name}.Wx"]) + params[f"{name}.b"]  # (1)
        z += times(before, params[f"{name}.Wh"])  # (2)
        (h, c), _ = kernels.lstm_gates.lstm_gates_forward(z, c, overwrite=True)  # (3)
        layers.append((h, c))
        x = h
    if not config.asks_before:
        context, weights = _attend(params, config, state, h, kernels)  # (4)
    o = h
    if config.readout == "output":
        o = xp.tanh(times(xp.concatenate([context, h], axis=-1), params["combine.W"]))  # (5)
    fed = {"output": o, "context": context}.get(config.feed, fed)
    return o, weights, SearchState(state.memory, layers, fed, state.t + 1)


def _attend(params, config: NMTConfig, state: SearchState, h: Array, kernels: Kernels) -> tuple[Array, Array]:
    """Context (B, K, M) and weights (B, K, S) for h (B, K, H); without attention no column, and zeros."""
    if not config.attends:
        xp = array_module(h)
        return xp.empty((*h.shape[:2], 0), h.dtype), xp.zeros((*h.shape[:2], state.memory.mask.shape[1]), h.dtype)
    context, seen = attend(params, config, state.memory, h, state.t, kernels)
    return context, attention_map(config, state.memory, state.t, seen)


def rows_times(x: Array, W: Array, kernels: Kernels) -> Array:
    """x (B, K, I) times W as one product over all B K rows; a stack of B small ones is far slower."""
    return kernels.product.product(x.reshape(-1, x.shape[-1]), W).reshape(*x.shape[:-1], W.shape[1])
