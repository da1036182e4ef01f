"""All steps of an LSTM in one launch each way, by clusters of blocks: the loop of ops/lstm.py (see LSTMSteps).

For H up to 256 in float32 on a GPU of compute capability 9.0 or later; other layers are left to lstm_persistent.py.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..arrays import Array, device_of, dtype_name
from ..ops import lstm as plain
from ..ops.packing import Packing
from ..ops.recurrent_dropout import RecurrentMask
from . import launch as launcher
from . import lstm_persistent
from .launch import WARP, LaunchConfig, launch
from .lstm_persistent import starts_of
from .lstm_step import ROWS, THREADS, one_dtype, weights_and_mask

EQUATIONS = plain
COMPUTES = (2, 3)
TWINS = {"lstm_cluster_forward": plain.lstm_forward, "lstm_cluster_backward": plain.steps_backward}
BLOCKS = 8  # of a cluster, that of lstm_cluster.cu
WARPS = THREADS // WARP


def lstm_steps_forward(z: Array, Wh: Array, h: Array, r: Array, c: Array, tanh_c: Array, recurrent: RecurrentMask,
                       packing: Packing) -> None:
    """See LSTMSteps.  ValueError if z, h, r, c and tanh_c are not of one dtype."""
    (D, B, H), dtype = (len(z), packing.sentences, tanh_c.shape[-1]), one_dtype(z=z, h=h, r=r, c=c, tanh_c=tanh_c)
    if not fits("lstm_cluster_forward", dtype_name(dtype), H, device_of(z)):
        return lstm_persistent.lstm_steps_forward(z, Wh, h, r, c, tanh_c, recurrent, packing)
    recurrent.forward(h[:, :B], r[:, :B])
    Wh, m, masked = weights_and_mask(Wh, recurrent, tanh_c)
    launch("lstm_cluster", "lstm_cluster_forward", dtype, config("lstm_cluster_forward", D, B, H, dtype), z, Wh, m, h,
           r, c, tanh_c, starts_of(packing, z), np.int32(B), np.int32(len(packing.counts)), np.int32(H), masked)


def lstm_steps_backward(dh: Array, dc: Array, gates: Array, c: Array, tanh_c: Array, Wh: Array,
                        recurrent: RecurrentMask, packing: Packing, dz: Array) -> None:
    """See LSTMSteps.  ValueError if the arrays are not of one dtype."""
    D, B, H = dc.shape
    dtype = one_dtype(dh=dh, dc=dc, gates=gates, c=c, tanh_c=tanh_c, dz=dz)
    if not fits("lstm_cluster_backward", dtype_name(dtype), H, device_of(dh)):
        return lstm_persistent.lstm_steps_backward(dh, dc, gates, c, tanh_c, Wh, recurrent, packing, dz)
    Wh, m, masked = weights_and_mask(Wh, recurrent, tanh_c)
    launch("lstm_cluster", "lstm_cluster_backward", dtype, config("lstm_cluster_backward", D, B, H, dtype), Wh, m, dh,
           dc, gates, c, tanh_c, dz, starts_of(packing, dh), np.int32(B), np.int32(len(packing.counts)), np.int32(H),
           masked)


def config(name: str, D: int, B: int, H: int, dtype: Any) -> LaunchConfig:
    """A cluster for each ROWS sentences of each direction, each of its blocks with its units' columns of Wh."""
    units = -(-H // BLOCKS)
    numbers = {"lstm_cluster_forward": 4 * units * H + 2 * ROWS * H + WARPS * ROWS * 4 * WARP,  # weights, states, sums
               "lstm_cluster_backward": 4 * units * H + 4 * units * ROWS + 2 * BLOCKS * ROWS * WARP}  # .., dz, inbox
    return LaunchConfig((BLOCKS, -(-B // ROWS), D), (THREADS,), numbers[name] * np.dtype(dtype).itemsize,
                        cluster=BLOCKS)


@lru_cache
def fits(name: str, dtype: str, H: int, device: str) -> bool:
    """Whether the GPU has clusters, and one of this size finds room."""
    if H > BLOCKS * WARP:
        return False
    return launcher.resident_blocks("lstm_cluster", name, dtype, config(name, 1, 1, H, dtype)) >= BLOCKS
