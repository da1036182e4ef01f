"""The GPUs of the ranks, one each: gradients are added up from card to card by NCCL.

What the ranks tell each other besides goes by MPI; so do gradients, through the memory of the hosts, where CuPy comes
without NCCL.
"""

from __future__ import annotations

from typing import Any

from ..arrays import Array, array_module, device_module
from ..errors import InputError, require
from .machine import Machine, add_up


class Cards:
    """comm: MPI's, of the ranks, the current card of each of which is its own."""

    def __init__(self, comm: Any):
        self.comm, nccl = comm, _nccl()
        # a sum by NCCL is a launch as any other, which a CUDA graph can hold; one by MPI is the host's
        self.recordable = all(comm.allgather(nccl is not None))
        self.nccl = None
        if self.recordable:
            name = comm.bcast(nccl.get_unique_id() if comm.Get_rank() == 0 else None)
            self.nccl = nccl.NcclCommunicator(comm.Get_size(), name, comm.Get_rank())
            self.types = {"float32": nccl.NCCL_FLOAT32, "float64": nccl.NCCL_FLOAT64}
            self.sum = nccl.NCCL_SUM

    def add_up(self, array: Array) -> None:
        """Put the sum over all ranks in the place of each one's vector, on the current stream."""
        if self.nccl is None:
            host = array.get()
            add_up(self.comm, host)
            array.set(host)
            return
        address, stream = array.data.ptr, array_module(array).cuda.get_current_stream().ptr
        self.nccl.allReduce(address, address, array.size, self.types[str(array.dtype)], self.sum, stream)


def own_card(machine: Machine) -> str:
    """"cuda:N", of which no other rank of the machine has the same; InputError if there are too few cards."""
    cupy = device_module("cuda")
    card = machine.rank % cupy.cuda.runtime.getDeviceCount()  # a launcher may show each rank another one as its only
    names = machine.comm.allgather(cupy.cuda.Device(card).pci_bus_id)
    if len(set(names)) < len(names):
        raise InputError(f"{len(names)} processes on a machine of {len(set(names))} cards: each needs a card of its "
                         f"own, mpirun -n {len(set(names))}")
    return f"cuda:{card}"


def _nccl() -> Any:
    """CuPy's module, or None: its wheels bring it, but not the library."""
    require("cupy", extra="cuda12")
    try:
        # cupy need not be there, and has no types
        from cupy.cuda import nccl  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        return None
    return nccl if nccl.available else None
