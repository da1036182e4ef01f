"""The ranks of one machine keep one copy of the weights between them, of which each moves its part.

Every rank reads all weights and moves them once in each of its steps.  In memory of its own, each would do the same
work on the same numbers; in memory that they share, each does its part, and the others see it.  What an optimizer keeps
of the gradients is a rank's own and right in its part alone; before a save `gather` brings the parts together.
"""

from __future__ import annotations

import mmap
import os
from typing import Any

import numpy as np

from ..arrays import array_module
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
