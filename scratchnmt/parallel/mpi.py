"""Ranks that `mpirun` started, on one machine or several, which talk by MPI (mpi4py).

They fall together (`together`): none is left to wait for one that is no more, and one of them says what happened.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np

from ..errors import TOLD, InputError, require, sentence
from ..streams import Slow
from .ranks import Ranks
from .watchdog import FALLEN, Watchdog, endings, remove_marks, speaks

# what the mpirun of MPICH, that of Open MPI, and srun tell a process
_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
_RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID")
_SOON = 0.001  # seconds
_PATIENCE = 2.0  # seconds that a rank which fell waits for the others to fall, too
_SLICE = 1 << 20  # elements added up at a time: what fits a cache takes a third of the time of all at once


def mpi() -> Any:
    """Importing it starts MPI, which ends with the process."""
    from mpi4py import MPI

    return MPI


class Mpi:
    """A communicator of mpi4py as a Comm, see ranks.py."""

    def __init__(self, comm: Any):
        self.comm = comm
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        self.bcast, self.allgather, self.wait = comm.bcast, comm.allgather, comm.Barrier

    def gather(self, value: Any) -> list[Any]:
        return self.comm.gather(value) or []

    def add_up(self, vector: np.ndarray) -> None:
        for start in range(0, len(vector), _SLICE):
            self.comm.Allreduce(mpi().IN_PLACE, vector[start : start + _SLICE])

    def gather_parts(self, vector: np.ndarray, bounds: list[int]) -> None:
        if self.rank == 0:
            self.comm.Gatherv(mpi().IN_PLACE, [vector, np.diff(bounds)])
        else:
            self.comm.Gatherv(vector[bounds[self.rank] : bounds[self.rank + 1]], None)

    def wait_idly(self) -> None:
        """MPI alone would keep the cores busy."""
        all_are_here, soon = self.comm.Ibarrier(), time.monotonic() + _SOON
        while not all_are_here.Test():
            if time.monotonic() > soon:
                time.sleep(_SOON)

    def of_machine(self) -> Mpi:
        return Mpi(self.comm.Split_type(mpi().COMM_TYPE_SHARED))

    def of_machines(self) -> Mpi | None:
        first = self.of_machine().rank == 0
        firsts = self.comm.Split(0 if first else mpi().UNDEFINED)
        return Mpi(firsts) if first and firsts.Get_size() > 1 else None


def processes() -> int:
    """How many `mpirun` started, of which this is one; 1 without it."""
    return next((int(os.environ[name]) for name in _SIZES if os.environ.get(name, "").isdigit()), 1)


def speaks_first() -> bool:
    """Whether this is the process that says what all of them meet before they are `world`."""
    return processes() == 1 or next((os.environ[name] for name in _RANKS if name in os.environ), "0") == "0"


def world() -> Ranks:
    """All processes that `mpirun` started, which divide the cores of their machine, or this one alone.

    InputError if there are several and mpi4py is missing, finds no MPI, or one that this mpirun is not of.
    """
    size = processes()
    if size == 1:
        return Ranks()
    require("mpi4py", extra="mpi")
    try:
        comm = mpi().COMM_WORLD
    except (ImportError, RuntimeError) as error:
        raise InputError(f"mpi4py cannot load MPI ({str(error).splitlines()[0]}): pip install mpich, or the system's "
                         "package of MPICH or Open MPI") from error
    if comm.Get_size() != size:
        raise InputError(f"mpirun started {size} processes, and mpi4py knows of {comm.Get_size()}: they are of two "
                         "different MPIs; use the mpirun of the MPI that mpi4py loads")
    ranks = Ranks(Mpi(comm))
    _ = ranks.cores  # which they must learn together; from now on one may ask alone
    return ranks


@contextmanager
def together(ranks: Ranks, folder: str, stopped: str, resume: str = "",
             worded: Callable[[str], str] = str) -> Iterator[None]:
    """Inside `with`, a rank that fails, dies or hangs takes all down, and one of them says who, why and how to go on.

    folder: on a disk that all ranks share.  stopped: what the sentence says then, if the rank itself cannot; resume:
    its end once `ranks.begin()` was called, before which there is nothing to go on with.  worded: an error's sentence
    in the words of the command.  An error that all ranks meet ends them without a word of MPI's.
    """
    if ranks.comm is None:
        yield
        return
    comm = cast(Mpi, ranks.comm).comm
    aside = comm.Dup()  # the ranks' own may be in the middle of something when one falls
    mark, watchdog = Path(folder, ranks.comm.bcast(f"{FALLEN}.{os.getpid()}-{time.time_ns()}")), None
    name = f"rank {ranks.rank} of {ranks.size}"
    try:
        if ranks.first:
            remove_marks(folder)
        watchdog = ranks.watchdog = Watchdog(mark, name, *endings(stopped, resume))
        with _slow_readers(ranks):
            yield
        watchdog.leave()
    except BaseException as error:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one would leave the others behind
        all_fell = _all_fell(aside)
        why = _why(error, worded)  # of a worker that is gone with how to go on
        says_how = why.endswith(resume) or "resume it" in why
        told = f"{name}: {why}{resume if watchdog and watchdog.begun and not says_how else ''}"
        # if all did, the first one speaks, else whoever makes the mark: the rank that fell, or a watchdog
        if ranks.first if all_fell else speaks(mark, told):
            with suppress(OSError):
                print(told, file=sys.stderr, flush=True)
        if watchdog:
            watchdog.leave()
        status = 130 if isinstance(error, KeyboardInterrupt) else 2
        if not all_fell:
            comm.Abort(status)
        raise SystemExit(status) from error


@contextmanager
def _slow_readers(ranks: Ranks) -> Iterator[None]:
    """Inside `with`, a rank may wait for whoever reads its output and its messages."""
    with (redirect_stdout(cast(TextIO, Slow(sys.stdout, ranks.waiting))),
          redirect_stderr(cast(TextIO, Slow(sys.stderr, ranks.waiting)))):
        yield


def _why(error: BaseException, worded: Callable[[str], str]) -> str:
    if isinstance(error, TOLD):
        return worded(sentence(error))
    if isinstance(error, KeyboardInterrupt):
        return str(error) or "interrupted"
    return "".join(traceback.format_exception(error)).strip()


def _all_fell(comm: Any) -> bool:
    """Whether all ranks come here, soon."""
    deadline = time.monotonic() + _PATIENCE
    try:
        all_are_here = comm.Ibarrier()
        while not all_are_here.Test():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
    except RuntimeError:  # MPI's, of a rank that is no more
        return False
    return True
