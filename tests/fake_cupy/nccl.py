"""cupy/cuda/nccl: sums over the processes of an MPI job, each with a card of its own."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from .cuda import MACHINE, get_current_stream
from .recording import recorded

available = True
NCCL_SUM, NCCL_FLOAT32, NCCL_FLOAT64 = 0, 7, 8  # nccl.h
_C_TYPES = {NCCL_FLOAT32: ctypes.c_float, NCCL_FLOAT64: ctypes.c_double}


def get_unique_id() -> tuple[int, ...]:
    return tuple(range(-64, 64))


class NcclCommunicator:
    """All processes must make it at the same time, with the first one's name."""

    def __init__(self, ndev: int, commId: tuple[int, ...], rank: int):
        from mpi4py import MPI

        assert commId == get_unique_id() and (MPI.COMM_WORLD.size, MPI.COMM_WORLD.rank) == (ndev, rank)
        self._comm = MPI.COMM_WORLD.Dup()

    def allReduce(self, sendbuf: int, recvbuf: int, count: int, datatype: int, op: int, stream: int) -> None:
        assert op == NCCL_SUM and stream == get_current_stream().ptr
        all_reduce(self._comm, sendbuf, recvbuf, count, datatype)


@recorded
def all_reduce(comm: Any, sendbuf: int, recvbuf: int, count: int, datatype: int) -> None:
    if MACHINE.recording is not None:  # others may not be recording: it happens when the graph is launched
        return
    send, receive = (np.ctypeslib.as_array((_C_TYPES[datatype] * count).from_address(address))
                     for address in (sendbuf, recvbuf))
    total = np.empty_like(receive)
    comm.Allreduce(send, total)
    receive[...] = total
