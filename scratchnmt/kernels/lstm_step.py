"""The steps of an LSTM in one launch each, product and gates together: the loop of ops/lstm.py (see LSTMSteps)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import ArgumentError
from ..ops import lstm as plain
from ..ops.packing import Packing, steps, steps_back
from ..ops.recurrent_dropout import RecurrentMask
from .launch import LaunchConfig, launch, readable

EQUATIONS = plain
COMPUTES = (2, 3)
TWINS = {"lstm_step_forward": plain.lstm_forward, "lstm_step_backward": plain.steps_backward}
UNITS, ROWS, THREADS = 8, 8, 256  # those of lstm_tile.h


def lstm_steps_forward(z: Array, Wh: Array, h: Array, r: Array, c: Array, tanh_c: Array, recurrent: RecurrentMask,
                       packing: Packing) -> None:
    """See LSTMSteps.  ValueError if z, h, r, c and tanh_c are not of one dtype."""
    B, _ = packing.sentences, one_dtype(z=z, h=h, r=r, c=c, tanh_c=tanh_c)
    recurrent.forward(h[:, :B], r[:, :B])
    Wh, m, masked = weights_and_mask(Wh, recurrent, tanh_c)
    for now, before, after in steps(packing):
        step_forward(z[:, now], r[:, before], Wh, m, c[:, before], h[:, after], r[:, after], c[:, after],
                     tanh_c[:, now], masked)


def step_forward(z: Array, x: Array, W: Array, m: Array, c_prev: Array, h: Array, r: Array, c: Array, tanh_c: Array,
                 masked: Any) -> None:
    """z (D, N, 4H) += x W, which becomes the gates, and the states from it; x (D, N, K), W (D, K, 4H).

    All of one dtype.  Unless it is masked, m and r are neither read nor written.
    """
    D, N, H = (1, *tanh_c.shape)[-3:]
    launch("lstm_step", "lstm_step_forward", tanh_c.dtype, tiles(H, N, D), z, x, W, m, c_prev, h, r, c, tanh_c,
           np.int32(N), np.int32(H), np.int32(x.shape[-1]), masked)


def lstm_steps_backward(dh: Array, dc: Array, gates: Array, c: Array, tanh_c: Array, Wh: Array,
                        recurrent: RecurrentMask, packing: Packing, dz: Array) -> None:
    """See LSTMSteps.  ValueError if the arrays are not of one dtype."""
    D, B, H = dc.shape
    dtype = one_dtype(dh=dh, dc=dc, gates=gates, c=c, tanh_c=tanh_c, dz=dz)
    Wh, m, masked = weights_and_mask(Wh, recurrent, tanh_c)
    following, N_next = slice(0, 1), 0  # the rows of the step after: at first none, and nothing is read there
    for now, before, after in steps_back(packing):
        N = now.stop - now.start
        launch("lstm_step", "lstm_step_backward", dtype, tiles(H, N, D), dz[:, following], Wh, m, dh[:, after],
               dc[:, :N], gates[:, now], c[:, before], tanh_c[:, now], dz[:, now], np.int32(N_next), np.int32(N),
               np.int32(H), masked, np.int32(1))
        following, N_next = now, N
    first = slice(0, B)  # the states that the first step starts from have no gates
    launch("lstm_step", "lstm_step_backward", dtype, tiles(H, B, D), dz[:, following], Wh, m, dh[:, first],
           dc, gates[:, first], c[:, first], tanh_c[:, first], dz[:, first], np.int32(N_next), np.int32(B), np.int32(H),
           masked, np.int32(0))


def one_dtype(**arrays: Array) -> np.dtype:
    """The dtype of all, which kernels write into where they lie; ValueError if there are several."""
    (name, first), *others = arrays.items()
    for other, array in others:
        if array.dtype != first.dtype:
            raise ArgumentError(f"lstm_steps: {other} is {array.dtype}, expected {first.dtype} as {name}")
    return first.dtype


def weights_and_mask(Wh: Array, recurrent: RecurrentMask, like: Array) -> tuple[Array, Array, Any]:
    """Wh and the mask as the kernels read them, and whether there is a mask; what stands for none is not read."""
    m = recurrent.m
    return readable(Wh, like.dtype), like if m is None else readable(m, like.dtype), np.int32(m is not None)


def tiles(units: int, N: int, D: int = 1, of: int = UNITS) -> LaunchConfig:
    """A block for `of` units and ROWS rows of each direction."""
    return LaunchConfig((-(-units // of), -(-N // ROWS), D), (THREADS,))
