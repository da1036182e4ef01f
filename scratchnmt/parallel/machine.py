"""The ranks of one machine keep one copy of the weights between them, of which each moves its part.

Every rank reads all weights and moves them once in each of its steps.  In memory of its own, each would do the same
work on the same numbers; in memory that they share, each does its part, and the others see it.  Gradients lie in such
memory, too, one beside the other: each rank adds up its part of them.  What an optimizer keeps of the gradients is a
rank's own and right in its part alone; before a save `gather` brings the parts together.

With GPUs each rank has a card of its own, and its weights there: gradients are added up from card to card by NCCL.
What the ranks tell each other besides goes as it does without; so do gradients, through the memory of the hosts, where
CuPy comes without NCCL.
"""

from __future__ import annotations

import mmap
import os
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import Array, array_module, device_module
from ..errors import InputError, require
from ..optim import ROW
from ..parameters import Parameters

if TYPE_CHECKING:
    from .ranks import Comm

_SLICE = 1 << 16  # elements added up at a time, which fit a cache


class Machine:
    """The ranks of a machine; comm: how they talk, all: how they do with those of other machines, too.

    Without either, a rank that has its weights alone.
    """

    def __init__(self, comm: Comm | None = None, all: Comm | None = None):
        self.comm, self.all = comm, all
        self.rank: int = 0 if comm is None else comm.rank
        self.size: int = 1 if comm is None else comm.size
        self.several_machines = all is not None and all.size > self.size

    def share(self, model: Any) -> Machine:
        """Put the weights of an NMT, the same on all ranks, into one place; else each keeps its own."""
        flat = model.params.flat
        if self.all is None or self.all.size == 1 or array_module(flat) is not np:
            return Machine()
        shared = self._memory(flat.size, flat.dtype, "weights and gradients")
        if shared is None:
            return Machine()
        if self.rank == 0:
            shared[...] = flat
        self.wait()
        model.params.look_into(shared)
        return self

    def gradients(self, params: Parameters, add_up: Callable[[Array], None]) -> Gradients:
        """Room for those of this rank, and for their sum; add_up: puts that of all ranks in the place of each one's."""
        rows = self._memory(self.size * params.flat.size, params.flat.dtype, "gradients")
        if rows is None:
            return Gradients(params.like(), add_up)
        return SharedGradients(params, rows.reshape(self.size, -1), self)

    def _memory(self, size: int, dtype: Any, what: str) -> np.ndarray | None:
        """A vector that all ranks of the machine see; None unless each machine has one, as all add up in one way."""
        if self.comm is None or self.all is None:
            return None
        memory = share_memory(self.comm, size, dtype) if self.size > 1 else np.zeros(size, dtype)
        if memory is None and self.rank == 0:
            who = "each, on all machines," if self.several_machines else "each"
            warnings.warn(f"the processes of this machine cannot have memory in common, or not enough: {who} keeps "
                          f"{what} of its own, which takes more memory and time", stacklevel=3)
        return memory if all(self.all.allgather(memory is not None)) else None

    def part(self, size: int) -> slice:
        """What this rank moves of a vector: whole rows of the norm's partial sums."""
        return slice(*self._bounds(size)[self.rank : self.rank + 2])

    def add_up(self, vector: np.ndarray) -> None:
        """Put the sum over the machine in the place of each rank's vector."""
        if self.comm is not None:
            self.comm.add_up(vector)

    def gather(self, vector: np.ndarray) -> None:
        """Put everyone's part of a vector into that of the first rank."""
        if self.comm is not None:
            self.comm.gather_parts(vector, self._bounds(vector.size))

    def wait(self) -> None:
        """Until all ranks of the machine are here."""
        if self.comm is not None:
            self.comm.wait()

    def _bounds(self, size: int) -> list[int]:
        rows = -(-size // ROW)
        return [min(rows * rank // self.size * ROW, size) for rank in range(self.size + 1)]


class Gradients:
    """The gradient that a rank computes, its `own`, and the `total` of all, which is right in what the rank moves."""

    def __init__(self, own: Parameters, add_up: Callable[[Array], None]):
        self.own = self.total = own
        self.sum = add_up

    def add_up(self) -> None:
        """Put the sum of all ranks' own into the total."""
        self.sum(self.own.flat)


class SharedGradients(Gradients):
    """The rows of common memory, one for each rank of the machine; the total is the first one."""

    def __init__(self, params: Parameters, rows: np.ndarray, machine: Machine):
        self.own = params.like(rows[machine.rank])
        self.total = params.like(rows[0])
        self.rows, self.machine = rows, machine
        self.between = machine.all.of_machines() if machine.all and machine.several_machines else None
        self.part = machine.part(params.flat.size)

    def add_up(self) -> None:
        """Put the sum of all ranks' own into the total: each adds up its part, in the order of the ranks."""
        self.machine.wait()
        for start in range(self.part.start, self.part.stop, _SLICE):
            some = slice(start, min(start + _SLICE, self.part.stop))
            for row in self.rows[1:]:
                self.rows[0, some] += row[some]
        if self.machine.several_machines:
            self.machine.wait()
            if self.between is not None:
                self.between.add_up(self.rows[0])
            self.machine.wait()


def share_memory(comm: Comm, size: int, dtype: Any) -> np.ndarray | None:
    """A vector, of zeros at first, that all see; None if that cannot be had, or not by all."""
    bytes, mark = size * np.dtype(dtype).itemsize, os.urandom(16) if comm.rank == 0 else b""
    file = _reserve(bytes, mark) if comm.rank == 0 else None
    path, mark = comm.bcast((None if file is None else f"/proc/{os.getpid()}/fd/{file}", mark))
    memory = _attach(path, bytes, mark)
    attached = all(comm.allgather(memory is not None))
    if file is not None:
        os.close(file)
    if memory is None or not attached:
        return None
    vector = np.frombuffer(memory, dtype, size)
    if comm.rank == 0:
        vector.view("uint8")[: len(mark)] = 0  # by now all have seen it
    comm.wait()
    return vector


def _reserve(bytes: int, mark: bytes) -> int | None:
    """A file in memory, which begins with the mark and is gone with the last process that has it open."""
    try:
        file = os.memfd_create("scratchnmt")
    except (AttributeError, OSError):  # not Linux
        return None
    try:
        os.posix_fallocate(file, 0, max(bytes, len(mark)))
        os.pwrite(file, mark, 0)
    except OSError:  # there is not so much
        os.close(file)
        return None
    return file


def _attach(path: str | None, bytes: int, mark: bytes) -> mmap.mmap | None:
    """The memory of another process' file, if it has the mark; in another container it may be another one."""
    try:
        file = os.open(path or "", os.O_RDWR)
    except OSError:
        return None
    try:
        memory = mmap.mmap(file, max(bytes, len(mark)))
    except (OSError, ValueError):
        return None
    finally:
        os.close(file)
    return memory if memory[: len(mark)] == mark else None


class Cards:
    """comm: how the ranks talk, the current card of each of which is its own."""

    def __init__(self, comm: Comm):
        self.comm, nccl = comm, _nccl()
        # a sum by NCCL is a launch as any other, which a CUDA graph can hold; one by MPI is the host's
        self.recordable = all(comm.allgather(nccl is not None))
        self.nccl = None
        if self.recordable:
            name = comm.bcast(nccl.get_unique_id() if comm.rank == 0 else None)
            self.nccl = nccl.NcclCommunicator(comm.size, name, comm.rank)
            self.types = {"float32": nccl.NCCL_FLOAT32, "float64": nccl.NCCL_FLOAT64}
            self.sum = nccl.NCCL_SUM

    def add_up(self, array: Array) -> None:
        """Put the sum over all ranks in the place of each one's vector, on the current stream."""
        if self.nccl is None:
            host = array.get()
            self.comm.add_up(host)
            array.set(host)
            return
        address, stream = array.data.ptr, array_module(array).cuda.get_current_stream().ptr
        self.nccl.allReduce(address, address, array.size, self.types[str(array.dtype)], self.sum, stream)


def own_card(machine: Machine) -> str:
    """"cuda:N", of which no other rank of the machine has the same; InputError if there are too few cards."""
    cupy = device_module("cuda")
    card = machine.rank % cupy.cuda.runtime.getDeviceCount()  # a launcher may show each rank another one as its only
    assert machine.comm is not None  # there are several ranks
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
