"""The decoder one step at a time, for search: where its hypotheses stand, and a pass of one step.

Every sentence has K hypotheses; what was prepared of the source is shared by them, so that choosing other hypotheses
moves only the recurrent arrays.  The step is that of decoder.py, on B K rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ..arrays import Array, array_module
from ..ops.packing import steps, whole
from ..ops.plain import PLAIN, Kernels
from .attention import Attention, attention_class
from .config import NMTConfig
from .decoder import FirstState, decoder_rows, step_forward
from .encoder import State

Change = Callable[[Array], Array]


class SearchState(NamedTuple):
    """Where B sentences with K hypotheses each stand."""

    attention: Attention  # of the B sources
    first: FirstState  # what the next step begins with, (B, K, ...); see decoder.py
    t: int = 0  # steps taken

    def select(self, sentences: Array, beams: Array) -> SearchState:
        """Go on with `sentences` (B',), ascending, none twice, and in each with hypotheses `beams` (B', K')."""
        B = len(self.first.c[0])
        attention = self.attention.select(sentences) if len(sentences) < B else self.attention
        return SearchState(attention, _each(lambda array: array[sentences[:, None], beams], self.first), self.t)


def start_search(params: Mapping[str, Array], config: NMTConfig, h_enc: Array, mask: Array, states: list[State],
                 kernels: Kernels = PLAIN) -> SearchState:
    """One hypothesis per sentence, from h_enc (S, B, M), mask (S, B) and the decoder's first states (B, H)."""
    attention = attention_class(config)(config, params, h_enc, mask, kernels)
    return SearchState(attention, _each(lambda array: array[:, None], FirstState.of_the_first_word(config, states)))


def next_state(params: Mapping[str, Array], config: NMTConfig, state: SearchState, y: Array,
               kernels: Kernels = PLAIN) -> tuple[Array, Array, SearchState]:
    """o (B, K, H), attention (B, K, S), state after the embedded words y (B, K, E)."""
    B, K, _ = y.shape
    n = B * K
    flat: Change = lambda array: array.reshape(n, -1)
    stacked: Change = lambda array: array.reshape(B, K, -1)
    packing, first = whole(1, n), _each(flat, state.first)
    dtype = array_module(y).result_type(y, first.c[0])
    rows = decoder_rows(params, config, packing, flat(y), first, dtype, kernels=kernels)
    seen: list[Array] = []

    def attend(h: Array, t: int, now: slice, context: Array) -> None:
        found, cache = state.attention.step(stacked(h), t)
        context[...] = flat(found)
        seen.append(state.attention.map(t, cache))

    for step in steps(packing):
        step_forward(rows, state.t, step, attend, kernels)
    o = stacked(rows.readout.outputs(rows.top, packing, rows.readout_rows))
    top = rows.top[n:]
    last = FirstState(top, h=[layer.h[n:] for layer in rows.layers[:-1]], c=[layer.c[n:] for layer in rows.layers],
                      fed=first.fed)
    return o, seen[0], SearchState(state.attention, _each(stacked, last), state.t + 1)


def _each(change: Change, first: FirstState) -> FirstState:
    """The same with each of its arrays changed."""
    top, fed = (None if array is None else change(array) for array in (first.top, first.fed))
    return FirstState(top, [change(h) for h in first.h], [change(c) for c in first.c], fed)


def rows_times(x: Array, W: Array, kernels: Kernels) -> Array:
    """x (B, K, I) times W as one product over all B K rows; a stack of B small ones is far slower."""
    return kernels.product.product(x.reshape(-1, x.shape[-1]), W).reshape(*x.shape[:-1], W.shape[1])
