"""The processes of a run, on one machine or several: what they tell each other, by MPI (mpi4py).

Each of them, a *rank*, goes through the same program.  In training each takes its part of every batch, the gradients
are added up, and from there on all do the same; what comes in pieces, such as sentences to translate, is dealt out.
The first rank reads, logs and writes.  A run of one process is a single rank, which has nobody to tell.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Array, array_module
from ..checkpoint import CONFIG
from ..errors import InputError, require
from .cards import Cards, own_card
from .guard import FALLEN, Guard, speaks, sweep
from .machine import Machine, add_up

# what the mpirun of MPICH, that of Open MPI, and srun tell a process
_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
_PATIENCE = 2.0  # seconds that another rank leaves the first one to tell what all of them met


class Ranks:
    """comm: MPI's, or None for a single rank."""

    def __init__(self, comm: Any = None):
        self.comm = comm
        self.rank, self.size = (0, 1) if comm is None else (comm.Get_rank(), comm.Get_size())

    @cached_property
    def machine(self) -> Machine:
        """Those of them that run on this one's machine; all must ask for it first at the same time."""
        return Machine(self.comm and self.comm.Split_type(_mpi().COMM_TYPE_SHARED))

    @cached_property
    def cards(self) -> Cards:
        """Their GPUs; all must ask for it first at the same time, each with its own the current one."""
        return Cards(self.comm)

    def device(self, wanted: str) -> str:
        """Where this rank computes: a card of its own where "cuda" is wanted; InputError if there is none."""
        if self.size == 1 or wanted == "cpu":
            return wanted
        if wanted != "cuda":
            raise InputError(f'device is "{wanted}", and there are {self.size} processes: with "cuda" each takes a '
                             "card of its own")
        return own_card(self.machine)

    @property
    def first(self) -> bool:
        return self.rank == 0

    def add_up(self, array: Array) -> None:
        """Put the sum over all ranks in the place of each one's vector, the same bits on all.

        On a GPU it is the current stream's work.
        """
        if self.comm is not None and array_module(array) is np:
            add_up(self.comm, array)
        elif self.comm is not None:
            self.cards.add_up(array)

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

    def each(self, items: Sequence[Any], work: Callable[[Any], Any]) -> list[Any]:
        """What `work` returns for each item, on all ranks, each of which did some; or what one of them raised.

        Items that get larger or smaller from first to last are shared out evenly.
        """
        if self.comm is None:
            return [work(item) for item in items]
        turns = _turns(len(items), self.size)
        done, error = [], None
        try:
            done = [work(item) for item, turn in zip(items, turns) if turn == self.rank]
        except Exception as raised:  # noqa: BLE001  all ranks raise it
            error = raised
        told = self.comm.allgather((done, error))
        if error := next((error for _, error in told if error is not None), None):
            raise error
        results = [iter(done) for done, _ in told]
        return [next(results[turn]) for turn in turns]

    def same(self, items: Iterable[Any], at_a_time: int) -> Iterator[Any]:
        """The first rank's items, on all; as many are read before the first is passed on."""
        if self.comm is None:
            yield from items
            return
        items = iter(items)
        while some := self.from_first(lambda: list(islice(items, at_a_time))):
            yield from some

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
    def together(self, folder: str, stopped: str, resume: str = "") -> Iterator[None]:
        """Inside `with`, a rank that fails, dies or hangs takes all down, and one of them says who, why and how to go on.

        folder: on a disk that all ranks share.  stopped, resume: what the sentence says then; a rank that can tell
        its error by itself has said so much, and adds `resume` alone, if there is a run in the folder.
        """
        if self.comm is None:
            yield
            return
        if self.first:
            sweep(folder)
        mark = Path(folder, self.comm.bcast(f"{FALLEN}.{os.getpid()}-{time.time_ns()}"))
        guard = Guard(mark, f"rank {self.rank} of {self.size}", stopped + resume)
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
    """All processes that `mpirun` started, or this one alone.

    InputError if there are several and mpi4py is missing, finds no MPI, or one that this mpirun is not of.
    """
    size = next((int(os.environ[name]) for name in _SIZES if os.environ.get(name, "").isdigit()), 1)
    if size == 1:
        return Ranks()
    require("mpi4py", extra="mpi")
    try:
        comm = _mpi().COMM_WORLD
    except (ImportError, RuntimeError) as error:
        raise InputError(f"mpi4py cannot load MPI ({str(error).splitlines()[0]}): pip install mpich, or the system's "
                         "package of MPICH or Open MPI") from error
    if comm.Get_size() != size:
        raise InputError(f"mpirun started {size} processes, and mpi4py knows of {comm.Get_size()}: they are of two "
                         "different MPIs; use the mpirun of the MPI that mpi4py loads")
    return Ranks(comm)


def _mpi() -> Any:
    """Importing it starts MPI, which ends with the process."""
    from mpi4py import MPI

    return MPI


def divide(indices: np.ndarray, lengths: np.ndarray, parts: int) -> list[np.ndarray]:
    """A batch in parts of like size and length: its pairs by length, dealt out; lengths (B, 2) of `indices`."""
    if parts == 1:
        return [indices]
    order, turns = np.lexsort((lengths[:, 0], lengths[:, 1]))[::-1], _turns(len(indices), parts)
    return [indices[order[turns == part]] for part in range(parts)]


def _turns(count: int, size: int) -> np.ndarray:
    """Who gets each of `count` things that are dealt out: one to each, then the same backwards, and so on, so that
    nobody has the larger one of every round."""
    turns = np.arange(count) % (2 * size)
    return np.minimum(turns, 2 * size - 1 - turns)
