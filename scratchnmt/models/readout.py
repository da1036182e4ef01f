"""What the vocabulary is read from: equation (5) of the decoder, one class for each way.

    output    o[t] = tanh_dropout([a[t]; h[t]] W_combine)        the attentional output (Luong et al. 2015, eq. 5)
    state     o[t] = dropout(h[t])                               the state itself

Both work on the rows [a; h; o] of `top`, see decoder.py; of a state there is no column o.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..arrays import Array, array_module
from ..ops.packing import Packing, Step
from ..ops.plain import Kernels
from ..ops.tanh_dropout import TanhDropoutCache

if TYPE_CHECKING:
    from .config import NMTConfig


class Readout(Protocol):
    """B sentences, N packed rows; n of them in a step."""

    columns: int  # of o in `top`

    def __init__(self, config: NMTConfig, params: Mapping[str, Array], kernels: Kernels): ...

    def rows(self, top: Array, packing: Packing, mask: Array | None) -> Any:
        """Room for what the steps keep; mask (N, H) of dropout, or None."""

    def step(self, top: Array, step: Step, rows: Any) -> None:
        """(5) of one step, into its columns of `top`."""

    def outputs(self, top: Array, packing: Packing, rows: Any) -> Array:
        """o (N, H) of all steps."""

    def start_backward(self, do: Array, dtop: Array, packing: Packing, rows: Any) -> Array:
        """Write do (N, H) into the columns that the outputs were read from; room for what the steps leave, (N, H)."""

    def step_backward(self, dtop: Array, step: Step, rows: Any, dp: Array) -> None:
        """Add to the columns of `dtop` what (5) read in one step."""

    def weight_gradients(self, top: Array, packing: Packing, dp: Array, grads: Mapping[str, Array]) -> None:
        """Of all steps at once."""


class AttentionalRows(NamedTuple):
    p: Array  # (B, H) what tanh is taken of, of one step
    mask: Array | None  # (N, H) dropout
    slope: Array  # (N, H) do/dp


class AttentionalOutput:
    """See `Readout`."""

    def __init__(self, config: NMTConfig, params: Mapping[str, Array], kernels: Kernels):
        self.M, self.H, self.asks_before = config.context_size, config.hidden_size, config.asks_before
        self.columns, self.W, self.kernels = config.hidden_size, params["combine.W"], kernels

    def rows(self, top: Array, packing: Packing, mask: Array | None) -> AttentionalRows:
        empty = array_module(top).empty
        return AttentionalRows(empty((packing.sentences, self.H), top.dtype), mask,
                               slope=empty((packing.offsets[-1], self.H), top.dtype))

    def _reads(self, top: Array, before: Any, after: Any) -> list[tuple[Array, slice]]:
        """What (5) reads, or its gradient: columns of rows of `top`, and the rows of W_combine for them.

        [a; h] stand side by side, unless the state before has asked for a: then a stands in its row.
        """
        if self.asks_before:
            return [(top[before, : self.M], slice(0, self.M)),
                    (top[after, self.M : self.M + self.H], slice(self.M, None))]
        return [(top[after, : self.M + self.H], slice(None))]

    def step(self, top: Array, step: Step, rows: AttentionalRows) -> None:
        now, before, after = step
        p = rows.p[: now.stop - now.start]
        for k, (columns, part) in enumerate(self._reads(top, before, after)):
            self.kernels.product.product(columns, self.W[part], out=p, add=k > 0)  # (5)
        self.kernels.tanh_dropout.tanh_dropout_forward(p, None if rows.mask is None else rows.mask[now],
                                                       o=top[after, self.M + self.H :], slope=rows.slope[now])  # (5)

    def outputs(self, top: Array, packing: Packing, rows: AttentionalRows) -> Array:
        return top[packing.sentences :, self.M + self.H :]

    def start_backward(self, do: Array, dtop: Array, packing: Packing, rows: AttentionalRows) -> Array:
        dtop[packing.sentences :, self.M + self.H :] = do
        return array_module(do).empty(do.shape, do.dtype)

    def step_backward(self, dtop: Array, step: Step, rows: AttentionalRows, dp: Array) -> None:
        now, before, after = step
        # in the forward pass this was (5) o = tanh_dropout(p),  p = [a; h] W_combine
        self.kernels.tanh_dropout.tanh_dropout_backward(dtop[after, self.M + self.H :],
                                                        TanhDropoutCache(rows.slope[now]), dp=dp[now])
        for columns, part in self._reads(dtop, before, after):
            self.kernels.product.transposed_product(dp[now], self.W[part], out=columns, add=True)

    def weight_gradients(self, top: Array, packing: Packing, dp: Array, grads: Mapping[str, Array]) -> None:
        for columns, part in self._reads(top, packing.previous, slice(packing.sentences, None)):
            self.kernels.product.product(columns.T, dp, out=grads["combine.W"][part])


class StateOutput:
    """See `Readout`; what it keeps is the mask of dropout."""

    def __init__(self, config: NMTConfig, params: Mapping[str, Array], kernels: Kernels):
        self.columns, self.M = 0, config.context_size

    def rows(self, top: Array, packing: Packing, mask: Array | None) -> Array | None:
        return mask

    def step(self, top: Array, step: Step, rows: Array | None) -> None:
        pass

    def outputs(self, top: Array, packing: Packing, rows: Array | None) -> Array:
        h = top[packing.sentences :, self.M :]
        return h if rows is None else h * rows  # (5)

    def start_backward(self, do: Array, dtop: Array, packing: Packing, rows: Array | None) -> Array:
        # in the forward pass this was (5) o = dropout(h)
        dtop[packing.sentences :, self.M :] = do if rows is None else do * rows
        return do

    def step_backward(self, dtop: Array, step: Step, rows: Array | None, dp: Array) -> None:
        pass

    def weight_gradients(self, top: Array, packing: Packing, dp: Array, grads: Mapping[str, Array]) -> None:
        pass


READOUTS: dict[str, type[Readout]] = {"output": AttentionalOutput, "state": StateOutput}
