"""What encoder and decoder ask of a recurrent cell: an object for each kind.

    lstm               states h, c    ops/lstm.py for a sequence, ops/lstm_gates.py for a step
    layer-norm-lstm    states h, c    ops/layer_norm_lstm.py, ops/layer_norm_gates.py

A step's pre-activations z (n, 4H), of some cells more, are made of products, of the inputs with rows of Wx and of
h_prev with Wh, in blocks of H columns.  A cell says which columns each of the two is added to; what they become is its
own affair.

The textbook computes the same for one sentence, in the lines of `lstm_cell` and `lstm_cell_backward`.  Next:
models/encoder.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from ..arrays import Array
from ..ops.layer_norm_gates import LayerNormGatesCache
from ..ops.layer_norm_lstm import layer_norm_lstm_backward, layer_norm_lstm_forward
from ..ops.lstm import lstm_backward, lstm_forward
from ..ops.lstm_gates import LSTMGatesCache
from ..ops.packing import Packing, Step
from ..ops.plain import DecoderStep, Kernels
from .initialization import lstm_bias

if TYPE_CHECKING:
    from .decoder import LayerRows


class Columns(NamedTuple):
    """Of z (N, 4H): those that a product is added to."""

    of_input: slice
    of_state: slice


class Cell(Protocol):
    """B sentences, N packed rows, n of them in a step; layers of H units, or of G in each direction of an encoder."""

    states: tuple[str, ...]  # what goes on from step to step: "h", then what is carried beside it
    weight_blocks: int  # of H columns, in Wx and in Wh,
    z_blocks: int  # in z,
    bias_blocks: int  # in b
    gain_blocks: int  # and in the gains g; 0: it has none

    def columns(self, H: int) -> Columns: ...

    def first_bias(self, shape: tuple[int, ...]) -> np.ndarray:
        """What training starts the bias from, unless all weights are drawn from one range."""

    def sequence(self, x: Array, lengths: Array | Packing, weights: dict[str, Array], *, m: Array | None,
                 backwards: bool, kernels: Kernels) -> tuple[tuple[Array, ...], Any]:
        """(y, then the last one of each state), cache; see ops/lstm.py.  m: the mask of recurrent dropout."""

    def sequence_backward(self, dy: Array, dlast: list[Array], cache: Any) -> Any:
        """dx, the gradients of the weights, and more."""

    def inputs(self, x: Array, Wx: Array, b: Array, z: Array, kernels: Kernels) -> None:
        """Fill z (n, .) with what is known before h_prev: x Wx + b."""

    def kept(self, N: int, H: int, like: Array) -> Array | None:
        """Room for what the steps keep for their way back beside z, which holds the gates then, and the states."""

    def step(self, layer: LayerRows, step: Step, kernels: Kernels) -> None:
        """From z and the states before to the states after."""

    def at_once(self, kernels: Kernels) -> DecoderStep | None:
        """What makes a step in one launch with a product that it lacks, of the backends that have this; None: none."""

    def step_backward(self, layer: LayerRows, step: Step, dz: Array, dh: Array, dcarried: list[Array],
                      kernels: Kernels) -> None:
        """Fill dz (n, .) from dh[after]; what reaches h before without a product is added to dh[before].

        dh (B + N, H); dcarried: (B, H) of each state beside h, of the step after, to become that of the step before.
        """

    def bias_gradients(self, layer: LayerRows, dz: Array, dh: Array, db: Array, dg: Array | None,
                       kernels: Kernels) -> None:
        """Fill db and, if there are gains, dg from all rows, dz (N, .) and dh (B + N, H)."""


class LSTMCell:
    """See `Cell`; all of z is added to by either product, and c is carried."""

    states: tuple[str, ...] = ("h", "c")
    weight_blocks = z_blocks = bias_blocks = 4
    gain_blocks = 0

    def columns(self, H: int) -> Columns:
        return Columns(slice(None), slice(None))

    def first_bias(self, shape: tuple[int, ...]) -> np.ndarray:
        return lstm_bias(shape)

    def sequence(self, x: Array, lengths: Array | Packing, weights: dict[str, Array], *, m: Array | None,
                 backwards: bool, kernels: Kernels) -> tuple[tuple[Array, ...], Any]:
        return lstm_forward(x, lengths, **weights, m=m, backwards=backwards, kernels=kernels)

    def sequence_backward(self, dy: Array, dlast: list[Array], cache: Any) -> Any:
        dh_last, dc_last = dlast
        return lstm_backward(dy, dh_last, dc_last, cache)

    def inputs(self, x: Array, Wx: Array, b: Array, z: Array, kernels: Kernels) -> None:
        kernels.product.product(x, Wx, out=z)
        kernels.rows.add(z, b)

    def kept(self, N: int, H: int, like: Array) -> Array | None:
        return np.empty_like(like, shape=(N, H))  # tanh(c)

    def at_once(self, kernels: Kernels) -> DecoderStep | None:
        return kernels.decoder_step

    def step(self, layer: LayerRows, step: Step, kernels: Kernels) -> None:
        now, before, after = step
        (c,) = layer.carried
        kernels.lstm_gates.lstm_gates_forward(layer.z[now], c[before], h=layer.h[after], c=c[after],
                                              tanh_c=layer.kept[now], overwrite=True)

    def step_backward(self, layer: LayerRows, step: Step, dz: Array, dh: Array, dcarried: list[Array],
                      kernels: Kernels) -> None:
        now, before, after = step
        dc, (c,) = dcarried[0][: len(dz)], layer.carried
        gates = LSTMGatesCache(layer.z[now], c[before], layer.kept[now])
        kernels.lstm_gates.lstm_gates_backward(dh[after], dc, gates, dz=dz, dc_prev=dc)

    def bias_gradients(self, layer: LayerRows, dz: Array, dh: Array, db: Array, dg: Array | None,
                       kernels: Kernels) -> None:
        kernels.rows.sum_rows(dz, out=db)


class LayerNormLSTMCell:
    """See `Cell`; z is x Wx, h_prev Wh and b side by side, and what a step is fed is an input."""

    states: tuple[str, ...] = ("h", "c")
    weight_blocks = 4
    z_blocks = 12
    bias_blocks = 5
    gain_blocks = 9

    def columns(self, H: int) -> Columns:
        return Columns(slice(0, 4 * H), slice(4 * H, 8 * H))

    def first_bias(self, shape: tuple[int, ...]) -> np.ndarray:
        H = shape[-1] // 5
        return np.concatenate([lstm_bias((*shape[:-1], 4 * H)), np.zeros((*shape[:-1], H))], axis=-1)

    def sequence(self, x: Array, lengths: Array | Packing, weights: dict[str, Array], *, m: Array | None,
                 backwards: bool, kernels: Kernels) -> tuple[tuple[Array, ...], Any]:
        return layer_norm_lstm_forward(x, lengths, **weights, m=m, backwards=backwards, kernels=kernels)

    def sequence_backward(self, dy: Array, dlast: list[Array], cache: Any) -> Any:
        dh_last, dc_last = dlast
        return layer_norm_lstm_backward(dy, dh_last, dc_last, cache)

    def inputs(self, x: Array, Wx: Array, b: Array, z: Array, kernels: Kernels) -> None:
        H = len(b) // 5
        kernels.product.product(x, Wx, out=z[:, : 4 * H])
        kernels.rows.put(z, (slice(None), slice(4 * H, 8 * H)), 0)
        kernels.rows.put(z, (slice(None), slice(8 * H, None)), b[: 4 * H])

    def kept(self, N: int, H: int, like: Array) -> Array | None:
        return np.empty_like(like, shape=(N, 3 * H + 3))

    def at_once(self, kernels: Kernels) -> DecoderStep | None:
        return None

    def step(self, layer: LayerRows, step: Step, kernels: Kernels) -> None:
        now, before, after = step
        (c,), H = layer.carried, layer.h.shape[1]
        kernels.layer_norm_gates.layer_norm_gates_forward(
            layer.z[now], c[before], layer.g, layer.b[4 * H :], h=layer.h[after], c=c[after], kept=layer.kept[now],
            overwrite=True)

    def step_backward(self, layer: LayerRows, step: Step, dz: Array, dh: Array, dcarried: list[Array],
                      kernels: Kernels) -> None:
        now, before, after = step
        dc, (c,) = dcarried[0][: len(dz)], layer.carried
        cache = LayerNormGatesCache(layer.z[now], c[before], layer.kept[now], layer.g)
        kernels.layer_norm_gates.layer_norm_gates_backward(dh[after], dc, cache, dz=dz, dc_prev=dc)

    def bias_gradients(self, layer: LayerRows, dz: Array, dh: Array, db: Array, dg: Array | None,
                       kernels: Kernels) -> None:
        gains = kernels.layer_norm_gates.layer_norm_gains(dh[-len(dz) :], dz, layer.z, layer.kept)
        kernels.rows.put(db, ..., gains.db)
        kernels.rows.put(dg, ..., gains.dg)


LSTM = LSTMCell()
CELLS: dict[str, Cell] = {"lstm": LSTM, "layer-norm-lstm": LayerNormLSTMCell()}
