"""The ranks of one machine keep one copy of the weights between them, of which each moves its part.

Every rank reads all weights and moves them once in each of its steps.  In memory of its own, each would do the same
work on the same numbers; in memory that they share, each does its part, and the others see it.  What an optimizer keeps
of the gradients is a rank's own and right in its part alone; before a save `gather` brings the parts together.

With GPUs each rank has a card of its own, and its weights there: gradients are added up from card to card by NCCL.
What the ranks tell each other besides goes by MPI; so do gradients, through the memory of the hosts, where CuPy comes
without NCCL.
"""

from __future__ import annotations

import mmap
import os
from typing import Any

import numpy as np

from ..arrays import Array, array_module, device_module
from ..errors import InputError, require
from ..optim import ROW

_SLICE = 1 << 20  # elements added up at a time: what fits a cache takes a third of the time of all at once


class Machine:
    """The ranks of a machine; comm: MPI's, or None for a rank that has its weights alone."""

    def __init__(self, comm: Any = None):
        self.comm = comm
        self.rank: int = 0 if comm is None else comm.Get_rank()
        self.size: int = 1 if comm is None else comm.Get_size()

    def share(self, model: Any) -> Machine:
        """Put the weights of an NMT, the same on all ranks, into one place; else each keeps its own."""
        if self.size == 1 or array_module(model.params.flat) is not np:
            return Machine()
        flat = model.params.flat
        file = _reserve(flat) if self.rank == 0 else None
        shared = _attach(self.comm.bcast(None if file is None else f"/proc/{os.getpid()}/fd/{file}"), flat)
        attached = all(self.comm.allgather(shared is not None))
        if file is not None:
            os.close(file)
        if not attached:
            return Machine()
        model.params = model.params.like(shared)
        return self

    def part(self, size: int) -> slice:
        """What this rank moves of a vector: whole rows of the norm's partial sums."""
        return slice(*self._bounds(size)[self.rank : self.rank + 2])

    def add_up(self, vector: np.ndarray) -> None:
        """Put the sum over the machine in the place of each rank's vector."""
        if self.comm is not None:
            add_up(self.comm, vector)

    def gather(self, vector: np.ndarray) -> None:
        """Put everyone's part of a vector into that of the first rank."""
        if self.comm is not None:
            bounds = self._bounds(vector.size)
            if self.rank == 0:
                self.comm.Gatherv(mpi().IN_PLACE, [vector, np.diff(bounds)])
            else:
                self.comm.Gatherv(vector[self.part(vector.size)], None)

    def wait(self) -> None:
        """Until all ranks of the machine are here."""
        if self.comm is not None:
            self.comm.Barrier()

    def _bounds(self, size: int) -> list[int]:
        rows = -(-size // ROW)
        return [min(rows * rank // self.size * ROW, size) for rank in range(self.size + 1)]


def add_up(comm: Any, vector: np.ndarray) -> None:
    """Put the sum over all ranks in the place of each one's vector, the same bits on all."""
    for start in range(0, len(vector), _SLICE):
        comm.Allreduce(mpi().IN_PLACE, vector[start : start + _SLICE])


def mpi() -> Any:
    """Importing it starts MPI, which ends with the process."""
    from mpi4py import MPI

    return MPI


def _reserve(flat: np.ndarray) -> int | None:
    """A file in memory that holds the vector and is gone with the last process that has it open."""
    try:
        file = os.memfd_create("scratchnmt")
    except (AttributeError, OSError):  # not Linux
        return None
    try:
        os.posix_fallocate(file, 0, flat.nbytes)
    except OSError:  # there is not so much
        os.close(file)
        return None
    np.frombuffer(mmap.mmap(file, flat.nbytes), flat.dtype)[...] = flat
    return file


def _attach(path: str | None, flat: np.ndarray) -> np.ndarray | None:
    """The memory of another process' file, if it holds the same vector; in another container it may be another one."""
    try:
        file = os.open(path or "", os.O_RDWR)
    except OSError:
        return None
    try:
        shared = np.frombuffer(mmap.mmap(file, flat.nbytes), flat.dtype)
    except (OSError, ValueError):
        return None
    finally:
        os.close(file)
    return shared if np.array_equal(shared, flat) else None


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
