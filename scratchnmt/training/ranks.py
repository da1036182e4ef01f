"""The processes of a run, on one machine or several: what they tell each other, by MPI (mpi4py).

Each of them, a *rank*, has all weights and takes its part of every batch; the gradients are added up, and from there on
all do the same.  The first rank validates, logs and writes the run's folder.  A run of one process is a single rank,
which has nobody to tell.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoint import CONFIG
from ..errors import InputError, require
from .guard import FALLEN, Guard, speaks
from .machine import Machine, add_up

_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")  # what MPICH's and Open MPI's mpirun tell a process
_PATIENCE = 2.0  # seconds that another rank leaves the first one to tell what all of them met


class Ranks:
    """comm: MPI's, or None for a single rank."""

    def __init__(self, comm: Any = None):
        self.comm = comm
        self.rank, self.size = (0, 1) if comm is None else (comm.Get_rank(), comm.Get_size())
        self.machine = Machine(comm and comm.Split_type(_mpi().COMM_TYPE_SHARED))

    @property
    def first(self) -> bool:
        return self.rank == 0

    def add_up(self, array: np.ndarray) -> None:
        """Put the sum over all ranks in the place of each one's vector, the same bits on all."""
        if self.comm is not None:
            add_up(self.comm, array)

    def agree(self, interrupted: bool, seconds: float) -> tuple[bool, float]:
        """Whether any rank was interrupted, and the seconds of the first one."""
        if self.comm is None:
            return interrupted, seconds
        told = np.array([interrupted, seconds if self.first else 0.0])
        self.add_up(told)
        return bool(told[0]), float(told[1])

    def from_first(self, work: Callable[[], Any]) -> Any:
        """What the first rank returns or raises, on all."""
        if self.comm is None:
            return work()
        found = error = None
        if self.first:
            try:
                found = work()
            except Exception as raised:  # noqa: BLE001  all ranks raise it
                error = raised
        found, error = self.comm.bcast((found, error))
        if error is not None:
            raise error
        return found

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.comm is not None:
            self.comm.Barrier()

    def in_turn(self, work: Callable[[], Any]) -> Any:
        """What `work` returns, on each rank, the first one before the others, who find what it has written."""
        if self.first:
            found = work()
        self.wait()
        return found if self.first else work()

    def check_alike(self, what: Mapping[str, Any]) -> None:
        """InputError on all ranks, naming what differs and where, unless all have the same."""
        if self.comm is None:
            return
        told = self.comm.allgather(dict(what))
        for rank, theirs in enumerate(told):
            for name, value in theirs.items():
                if value != told[0][name]:
                    raise InputError(f"rank {rank} has another {name} than rank 0 ({value} and {told[0][name]}): all ranks "
                                     "need the same files and options")

    @contextmanager
    def together(self, folder: str, resume: str) -> Iterator[None]:
        """Inside `with`, a rank that fails, dies or hangs takes all down, and one of them says who, why and how to go on.

        folder: the run's, on a disk that all ranks share.  resume: the end of the sentence.
        """
        if self.comm is None:
            yield
            return
        mark = Path(folder, self.comm.bcast(f"{FALLEN}.{os.getpid()}-{time.time_ns()}"))
        guard = Guard(mark, f"rank {self.rank} of {self.size}", resume)
        try:
            yield
        except BaseException as error:
            self._take_down(error, guard, mark, resume)
            raise
        guard.leave()

    def _take_down(self, error: BaseException, guard: Guard, mark: Path, resume: str) -> None:
        if not self.first:
            time.sleep(_PATIENCE)
        if speaks(mark):
            why, begun = str(error) or type(error).__name__, (mark.parent / CONFIG).exists()
            print(f"rank {self.rank} of {self.size}: {why}{resume if begun else ''}", file=sys.stderr, flush=True)
        guard.leave()
        status = 130 if isinstance(error, KeyboardInterrupt) else 2
        self.comm.Abort(status)
        os._exit(status)


def world() -> Ranks:
    """All processes that `mpirun` started, or this one alone; InputError if there are several and mpi4py is missing."""
    size = next((int(os.environ[name]) for name in _SIZES if os.environ.get(name, "").isdigit()), 1)
    if size == 1:
        return Ranks()
    require("mpi4py", extra="mpi")
    return Ranks(_mpi().COMM_WORLD)


def _mpi() -> Any:
    """Importing it starts MPI, which ends with the process."""
    from mpi4py import MPI

    return MPI


def divide(indices: np.ndarray, lengths: np.ndarray, parts: int) -> list[np.ndarray]:
    """A batch in parts of like size and length: its pairs by length, dealt out one by one; lengths (B, 2) of `indices`."""
    if parts == 1:
        return [indices]
    order = np.lexsort((lengths[:, 0], lengths[:, 1]))[::-1]
    return [indices[order[part::parts]] for part in range(parts)]
