"""What the vocabulary is read from: equation (5) of the decoder, one class for each way.

    output    o[t] = tanh_dropout([a[t]; h[t]] W_combine)        the attentional output (Luong et al. 2015, eq. 5)
    state     o[t] = dropout(h[t])                               the state itself

Both work on the rows [a; h; o] of `top`, see decoder.py; of a state there is no column o.

The textbook computes the same for one sentence, in the lines of `a_and_h` and `o[t]`.  Next:
models/attention/scores.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from ..arrays import Array
from ..ops.decoder_step import CombineCache
from ..ops.packing import Packing, Step
from ..ops.plain import DecoderStep, Kernels
from ..ops.tanh_dropout import TanhDropoutCache

if TYPE_CHECKING:
    from .config import NMTConfig


class Readout(Protocol):
    """B sentences, N packed rows; n of them in a step."""

    def __init__(self, config: NMTConfig, params: Mapping[str, Array], kernels: Kernels): ...

    @staticmethod
    def columns(config: NMTConfig) -> int:
        """Of o in `top`."""

    def rows(self, top: Array, packing: Packing, mask: Array | None) -> Any:
        """Room for what the steps keep; mask (N, H) of dropout, or None."""

    def step(self, step: Step, rows: Any) -> None:
        """(5) of one step, into its columns of `top`."""

    def outputs(self, top: Array, packing: Packing, rows: Any) -> Array:
        """o (N, H) of all steps."""

    def start_backward(self, do: Array, dtop: Array, packing: Packing, rows: Any) -> Any:
        """Write do (N, H) into the columns that the outputs were read from; room for what the steps leave."""

    def step_backward(self, step: Step, rows: Any, drows: Any) -> None:
        """Add to the columns of `dtop` what (5) read in one step."""

    def weight_gradients(self, top: Array, packing: Packing, drows: Any, grads: Mapping[str, Array]) -> None:
        """Of all steps at once."""


class Read(NamedTuple):
    """Something that (5) reads, or the gradient of it."""

    columns: Array  # (B + N, .) of `top`
    W: Array  # the rows of W_combine for them, or their gradient
    place: attrgetter[Any]  # which rows of a step: BEFORE or AFTER


BEFORE, AFTER = attrgetter("before"), attrgetter("after")


class AttentionalRows(NamedTuple):
    p: Array  # (B, H) what tanh is taken of, of one step
    mask: Array | None  # (N, H) dropout
    slope: Array  # (N, H) do/dp
    reads: list[Read]
    o: Array  # (B + N, H) the columns of o


class AttentionalGradientRows(NamedTuple):
    dp: Array  # (N, H)
    reads: list[Read]
    o: Array  # (B + N, H) the columns of do


class AttentionalOutput:
    """See `Readout`."""

    def __init__(self, config: NMTConfig, params: Mapping[str, Array], kernels: Kernels):
        self.M, self.H, self.asks_before = config.context_size, config.hidden_size, config.asks_before
        self.W, self.kernels = params["combine.W"], kernels

    @staticmethod
    def columns(config: NMTConfig) -> int:
        return config.hidden_size

    def rows(self, top: Array, packing: Packing, mask: Array | None) -> AttentionalRows:
        return AttentionalRows(p=np.empty_like(top, shape=(packing.sentences, self.H)), mask=mask,
                               slope=np.empty_like(top, shape=(packing.offsets[-1], self.H)),
                               reads=self._reads(top, self.W), o=top[:, self.M + self.H :])

    def _reads(self, top: Array, W: Array) -> list[Read]:
        """[a; h] stand side by side, unless the state before has asked for a: then a stands in its row."""
        M, H = self.M, self.H
        if self.asks_before:
            return [Read(top[:, :M], W[:M], BEFORE), Read(top[:, M : M + H], W[M:], AFTER)]
        return [Read(top[:, : M + H], W, AFTER)]

    def step(self, step: Step, rows: AttentionalRows) -> None:
        if self.kernels.decoder_step is not None:
            return self._step_at_once(self.kernels.decoder_step, step, rows)
        now = step.now
        p = rows.p[: now.stop - now.start]
        for k, (columns, W, place) in enumerate(rows.reads):
            self.kernels.product.product(columns[place(step)], W, out=p, add=k > 0)  # (5)
        self.kernels.tanh_dropout.tanh_dropout_forward(p, None if rows.mask is None else rows.mask[now],
                                                       o=rows.o[step.after], slope=rows.slope[now])  # (5)

    def _step_at_once(self, at_once: DecoderStep, step: Step, rows: AttentionalRows) -> None:
        """`step`, the last product of which ends in tanh."""
        now, p = step.now, None
        *others, last = rows.reads
        for columns, W, place in others:  # of which there is one at most
            p = self.kernels.product.product(columns[place(step)], W, out=rows.p[: now.stop - now.start])
        at_once.combine_forward(last.columns[last.place(step)], last.W, None if rows.mask is None else rows.mask[now],
                                p=p, o=rows.o[step.after], slope=rows.slope[now])  # (5)

    def outputs(self, top: Array, packing: Packing, rows: AttentionalRows) -> Array:
        return top[packing.sentences :, self.M + self.H :]

    def start_backward(self, do: Array, dtop: Array, packing: Packing,
                       rows: AttentionalRows) -> AttentionalGradientRows:
        o = dtop[:, self.M + self.H :]
        self.kernels.rows.put(o, slice(packing.sentences, None), do)
        return AttentionalGradientRows(np.empty_like(do), self._reads(dtop, self.W), o=o)

    def step_backward(self, step: Step, rows: AttentionalRows, drows: AttentionalGradientRows) -> None:
        if self.kernels.decoder_step is not None:
            return self._step_backward_at_once(self.kernels.decoder_step, step, rows, drows)
        dp = drows.dp[step.now]
        # in the forward pass this was (5) o = tanh_dropout(p),  p = [a; h] W_combine
        self.kernels.tanh_dropout.tanh_dropout_backward(drows.o[step.after], TanhDropoutCache(rows.slope[step.now]),
                                                        dp=dp)
        for dcolumns, W, place in drows.reads:
            self.kernels.product.transposed_product(dp, W, out=dcolumns[place(step)], add=True)

    def _step_backward_at_once(self, at_once: DecoderStep, step: Step, rows: AttentionalRows,
                               drows: AttentionalGradientRows) -> None:
        dp = drows.dp[step.now]
        *others, last = drows.reads
        # in the forward pass this was (5), what ended in tanh
        at_once.combine_backward(drows.o[step.after], CombineCache(rows.slope[step.now], last.W), dp=dp,
                                 dx=last.columns[last.place(step)])
        for dcolumns, W, place in others:
            self.kernels.product.transposed_product(dp, W, out=dcolumns[place(step)], add=True)

    def weight_gradients(self, top: Array, packing: Packing, drows: AttentionalGradientRows,
                         grads: Mapping[str, Array]) -> None:
        rows = {BEFORE: packing.previous, AFTER: slice(packing.sentences, None)}
        for columns, dW, place in self._reads(top, grads["combine.W"]):
            self.kernels.product.product(self.kernels.rows.take(columns, rows[place]).T, drows.dp, out=dW)


class StateOutput:
    """See `Readout`; what it keeps is the mask of dropout."""

    def __init__(self, config: NMTConfig, params: Mapping[str, Array], kernels: Kernels):
        self.M, self.kernels = config.context_size, kernels

    @staticmethod
    def columns(config: NMTConfig) -> int:
        return 0

    def rows(self, top: Array, packing: Packing, mask: Array | None) -> Array | None:
        return mask

    def step(self, step: Step, rows: Array | None) -> None:
        pass

    def outputs(self, top: Array, packing: Packing, rows: Array | None) -> Array:
        h = top[packing.sentences :, self.M :]
        return h if rows is None else self.kernels.rows.multiply(h, rows)  # (5)

    def start_backward(self, do: Array, dtop: Array, packing: Packing, rows: Array | None) -> None:
        # in the forward pass this was (5) o = dropout(h)
        dh = do if rows is None else self.kernels.rows.multiply(do, rows)
        self.kernels.rows.put(dtop, (slice(packing.sentences, None), slice(self.M, None)), dh)

    def step_backward(self, step: Step, rows: Array | None, drows: None) -> None:
        pass

    def weight_gradients(self, top: Array, packing: Packing, drows: None, grads: Mapping[str, Array]) -> None:
        pass


READOUTS: dict[str, type[Readout]] = {"output": AttentionalOutput, "state": StateOutput}
