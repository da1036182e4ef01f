"""The decoder one step at a time, for search: where its hypotheses stand, and a pass of one step.

Every sentence has K hypotheses; what was prepared of the source is shared by them, so that choosing other hypotheses
moves only the recurrent arrays.  The step is that of decoder.py, on B K rows: the hypotheses of the first sentence,
then those of the second, and so on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..arrays import Array, array_module
from ..ops.packing import steps, whole
from ..ops.plain import PLAIN, Kernels
from .attention import Attention, attention_class
from .config import NMTConfig
from .decoder import FirstState, decoder_rows, step_forward
from .encoder import State


class SearchState(NamedTuple):
    """Where B sentences with K hypotheses each stand."""

    attention: Attention  # of the B sources
    first: FirstState  # what the next step begins with, B K rows; see decoder.py
    K: int = 1
    t: int = 0  # steps taken

    def select(self, sentences: Array, beams: Array) -> SearchState:
        """Go on with `sentences` (B',), ascending, none twice, and in each with hypotheses `beams` (B', K')."""
        B = len(self.first.any_rows) // self.K
        attention = self.attention.select(sentences) if len(sentences) < B else self.attention
        rows = (sentences[:, None] * self.K + beams).ravel()
        return SearchState(attention, self.first.select(rows), beams.shape[1], self.t)


def start_search(params: Mapping[str, Array], config: NMTConfig, h_enc: Array, mask: Array, states: list[State],
                 kernels: Kernels = PLAIN) -> SearchState:
    """One hypothesis per sentence, from h_enc (S, B, M), mask (S, B) and the decoder's first states (B, H)."""
    attention = attention_class(config)(config, params, h_enc, mask, kernels)
    return SearchState(attention, FirstState.of_the_first_word(config, states))


def next_state(params: Mapping[str, Array], config: NMTConfig, state: SearchState, y: Array,
               kernels: Kernels = PLAIN) -> tuple[Array, Array, SearchState]:
    """o (B, K, H), attention (B, K, S), state after the embedded words y (B, K, E)."""
    B, K, E = y.shape
    packing, first = whole(1, B * K), state.first
    dtype = array_module(y).result_type(y, first.any_rows)
    rows = decoder_rows(params, config, packing, y.reshape(B * K, E), first, dtype, kernels=kernels)
    (step,) = steps(packing)
    seen: list[Array] = []

    def attend(h: Array, t: int, now: slice, context: Array) -> None:
        attended, cache = state.attention.step(h.reshape(B, K, -1), t)
        context[...] = attended.reshape(B * K, -1)
        seen.append(state.attention.map(t, cache))

    step_forward(rows, state.t, step, attend, kernels)
    o = rows.readout.outputs(rows.top, packing, rows.readout_rows).reshape(B, K, -1)
    last = FirstState(top=rows.top[step.after], h=[layer.h[step.after] for layer in rows.layers[:-1]],
                      carried=[[array[step.after] for array in layer.carried] for layer in rows.layers],
                      fed=first.fed)
    return o, seen[0], SearchState(state.attention, last, K, state.t + 1)


def rows_times(x: Array, W: Array, kernels: Kernels) -> Array:
    """x (B, K, I) times W as one product over all B K rows; a stack of B small ones is far slower."""
    return kernels.product.product(x.reshape(-1, x.shape[-1]), W).reshape(*x.shape[:-1], W.shape[1])
