"""All steps of an LSTM in one launch each way: the loop of ops/lstm.py (see LSTMSteps).

The blocks wait for each other, so all of them must be on the GPU at once.  Where they do not fit, each step is a launch
of its own (lstm_step.py), and a warning says so once.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

import numpy as np

from ..arrays import Array, array_module, device_of, dtype_name
from ..ops import lstm as plain
from ..ops.packing import Packing
from ..ops.recurrent_dropout import RecurrentMask
from . import launch as launcher
from . import lstm_step
from .launch import LaunchConfig, launch
from .lstm_step import THREADS, UNITS, one_dtype, weights_and_mask

EQUATIONS = plain
COMPUTES = (2, 3)
TWINS = {"lstm_persistent_forward": plain.lstm_forward, "lstm_persistent_backward": plain.steps_backward}


def lstm_steps_forward(z: Array, Wh: Array, h: Array, r: Array, c: Array, tanh_c: Array, recurrent: RecurrentMask,
                       packing: Packing) -> None:
    """See LSTMSteps.  ValueError if z, h, r, c and tanh_c are not of one dtype."""
    (D, B, H), dtype = (len(z), packing.sentences, tanh_c.shape[-1]), one_dtype(z=z, h=h, r=r, c=c, tanh_c=tanh_c)
    if not fits("lstm_persistent_forward", dtype_name(dtype), D, H, device_of(z)):
        return lstm_step.lstm_steps_forward(z, Wh, h, r, c, tanh_c, recurrent, packing)
    recurrent.forward(h[:, :B], r[:, :B])
    Wh, m, masked = weights_and_mask(Wh, recurrent, tanh_c)
    starts, arrived = starts_of(packing, z), array_module(z).zeros(D, "uint32")
    launch("lstm_persistent", "lstm_persistent_forward", dtype, config(D, H, dtype), z, Wh, m, h, r, c, tanh_c, starts,
           arrived, np.int32(B), np.int32(len(packing.counts)), np.int32(H), masked)


def lstm_steps_backward(dh: Array, dc: Array, gates: Array, c: Array, tanh_c: Array, Wh: Array,
                        recurrent: RecurrentMask, packing: Packing, dz: Array) -> None:
    """See LSTMSteps.  ValueError if the arrays are not of one dtype."""
    D, B, H = dc.shape
    dtype = one_dtype(dh=dh, dc=dc, gates=gates, c=c, tanh_c=tanh_c, dz=dz)
    if not fits("lstm_persistent_backward", dtype_name(dtype), D, H, device_of(dh)):
        return lstm_step.lstm_steps_backward(dh, dc, gates, c, tanh_c, Wh, recurrent, packing, dz)
    Wh, m, masked = weights_and_mask(Wh, recurrent, tanh_c)
    starts, arrived = starts_of(packing, dh), array_module(dh).zeros(D, "uint32")
    launch("lstm_persistent", "lstm_persistent_backward", dtype, config(D, H, dtype), Wh, m, dh, dc, gates, c, tanh_c,
           dz, starts, arrived, np.int32(B), np.int32(len(packing.counts)), np.int32(H), masked)


def config(D: int, H: int, dtype: Any) -> LaunchConfig:
    """A block for each UNITS units of each direction, with its part of Wh in shared memory."""
    # `fits` must have been asked: of a grid of one dimension, CuPy drops the blocks that do not fit, and only warns
    shared = 4 * UNITS * H * np.dtype(dtype).itemsize
    return LaunchConfig((-(-H // UNITS), D), (THREADS,), shared, cooperative=True)


@lru_cache
def fits(name: str, dtype: str, D: int, H: int, device: str) -> bool:
    """Whether all blocks of the kernel are on the GPU at once; a warning, once for each size, if they are not."""
    plan = config(D, H, dtype)
    blocks, most = plan.grid[0] * D, launcher.resident_blocks("lstm_persistent", name, dtype, plan)
    if blocks > most:
        warnings.warn(f"an LSTM of {H} units in {dtype} is {blocks} blocks of {plan.shared >> 10} KiB, of which "
                      f"{device} holds {most} at once: its steps go on one launch each, with the same results up to "
                      "rounding",
                      RuntimeWarning, stacklevel=3)
    return blocks <= most


def starts_of(packing: Packing, like: Array) -> Array:
    """(steps + 1,) where each step's rows begin, on the device of `like`."""
    if packing.starts is not None:
        return packing.starts
    return array_module(like).arange(len(packing.counts) + 1, dtype="int64") * packing.sentences
