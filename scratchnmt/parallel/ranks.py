"""The processes of a run, on one machine or several: what they tell each other, by MPI (mpi4py).

Each of them, a *rank*, goes through the same program.  In training each takes its part of every batch, the gradients
are added up, and from there on all do the same; what comes in pieces, such as sentences to translate, is dealt out.
The first rank reads, logs and writes.  A run of one process is a single rank, which has nobody to tell.

They fall together, too (`together`): none is left to wait for one that is no more, and one of them says what happened.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr, redirect_stdout, suppress
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np

from ..arrays import Array, array_module, own_cores
from ..errors import TOLD, InputError, require, sentence, shown
from ..streams import Slow
from .machine import Cards, Machine, add_up, mpi, own_card
from .watchdog import FALLEN, Watchdog, remove_marks, speaks

# what the mpirun of MPICH, that of Open MPI, and srun tell a process
_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
_RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID")
_LEFT_OUT = "left out"  # of what one rank was told
_SOON = 0.001  # seconds
_PATIENCE = 2.0  # seconds that a rank which fell waits for the others to fall, too
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # ours, NumPy's


class Ranks:
    """comm: MPI's, or None for a single rank.

    All ranks must call each of these, in the same order:

        from_first   the first rank works, all have what it returns
        on_first     the same, but it alone has that
        in_turn      all work, the first rank before the others
        each         some work is dealt out, all have all results
        same         a stream that only the first rank can read
        add_up       a sum of vectors, in place

    What goes wrong in the work of one of them is raised by all.
    """

    def __init__(self, comm: Any = None):
        self.comm = comm
        self.rank: int = 0 if comm is None else comm.Get_rank()
        self.size: int = 1 if comm is None else comm.Get_size()
        self.watchdog: Watchdog | None = None  # while they are `together`

    @cached_property
    def machine(self) -> Machine:
        """Those of them that run on this one's machine; all must ask for it first at the same time."""
        return Machine(self.comm and self.comm.Split_type(mpi().COMM_TYPE_SHARED))

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
        told = np.array([interrupted, seconds if self.first else 0.0])  # one sum for both
        self.add_up(told)
        return bool(told[0]), float(told[1])

    def from_first(self, work: Callable[[], Any]) -> Any:
        """What the first rank returns or raises, on all."""
        if self.comm is None:
            return work()
        result = error = None
        if self.first:
            try:
                with self.waiting():
                    result = work()
            except Exception as raised:  # noqa: BLE001  all ranks raise it
                error = raised
        self._wait_idly()
        result, error = self.comm.bcast((result, error))
        if error is not None:
            raise error
        return result

    def each(self, items: Sequence[Any], work: Callable[[Any], Any]) -> list[Any]:
        """What `work` returns for each item, on all ranks, each of which did some; or what one of them raised.

        Items that get larger or smaller from first to last are shared out evenly.
        """
        if self.comm is None:
            return [work(item) for item in items]
        turns = _turns(len(items), self.size)
        done, error = [], None
        try:
            done = [work(item) for item, turn in zip(items, turns, strict=True) if turn == self.rank]
        except Exception as raised:  # noqa: BLE001  all ranks raise it
            error = raised
        told = self.comm.allgather((done, error))
        if error := error or next((error for _, error in told if error is not None), None):
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

    def _wait_idly(self) -> None:
        """Until all ranks are here, who leave the cores to the first one's work; MPI alone would keep them busy."""
        all_are_here, soon = self.comm.Ibarrier(), time.monotonic() + _SOON
        while not all_are_here.Test():
            if time.monotonic() > soon:
                time.sleep(_SOON)

    def on_first(self, work: Callable[[], Any]) -> Any:
        """What the first rank returns, there alone; what it raises, on all."""
        kept: list[Any] = []
        self.from_first(lambda: kept.append(work()))
        return kept[0] if kept else None

    def first_writes(self, work: Callable[[], Any]) -> None:
        """The first rank works, which may wait for a disk; the others go on."""
        if self.first:
            with self.waiting():
                work()

    def in_turn(self, work: Callable[[], Any]) -> Any:
        """What `work` returns, on each rank, the first one before the others, who find what it has written.

        Each may wait for a disk meanwhile.
        """
        result = self.on_first(work)
        if self.first:
            return result
        with self.waiting():
            return work()

    def check_alike(self, what: Mapping[str, Any]) -> None:
        """InputError on all ranks, naming the first thing that differs and where, unless all have the same."""
        if self.comm is None:
            return
        told = self.comm.allgather(dict(what))
        for rank, theirs in enumerate(told):
            for name in {**told[0], **theirs}:
                values = [one.get(name, _LEFT_OUT) for one in (told[0], theirs)]
                if values[0] != values[1]:
                    first, other = (value if value is _LEFT_OUT else shown(value) for value in values)
                    raise InputError(f"{name} is {first} on rank 0 and {other} on rank {rank}: all ranks need the same "
                                     "files and options")

    def waiting(self) -> AbstractContextManager[None]:
        """Inside `with`, this rank may wait for input, a disk or other processes; nobody takes it for hung."""
        return self.watchdog.waiting() if self.watchdog else nullcontext()

    def passed_on(self, items: Iterable[Any], take: Callable[[Iterator[Any]], None]) -> None:
        """Have the items taken, to be written for example.

        Whoever takes them may wait whenever no item is made: before the first, for a file to be opened, and after the
        last, too.
        """
        with self.waiting():
            take(self._made(items))

    def _made(self, items: Iterable[Any]) -> Iterator[Any]:
        items, end = iter(items), object()
        while True:
            with self.watchdog.working() if self.watchdog else nullcontext():
                item = next(items, end)
            if item is end:
                return
            yield item

    def begin(self) -> None:
        """From now on there is something to go on with, should a rank fall (see together.py)."""
        if self.watchdog:
            self.watchdog.begin()


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
    ranks = Ranks(comm)
    _share_cores(ranks.machine)
    return ranks


def _share_cores(machine: Machine) -> None:
    """As many threads for each rank as it has cores, unless its environment says how many: with more, all wait."""
    cores = own_cores()
    threads = max(1, len(cores) // machine.comm.allgather(cores).count(cores))  # mpirun may have divided them already
    if any(name in os.environ for name in _THREADS):
        return
    os.environ |= dict.fromkeys(_THREADS, str(threads))
    require("threadpoolctl", extra="train").threadpool_limits(threads, user_api="blas")


def divide(indices: np.ndarray, lengths: np.ndarray, parts: int) -> list[np.ndarray]:
    """A batch in parts of like size and length: its pairs by length, dealt out; lengths (B, 2) of `indices`."""
    if parts == 1:
        return [indices]
    order, turns = np.lexsort((lengths[:, 0], lengths[:, 1]))[::-1], _turns(len(indices), parts)
    return [indices[order[turns == part]] for part in range(parts)]


def _turns(count: int, size: int) -> np.ndarray:
    """Who gets each of `count` things that are dealt out, 0 1 2 2 1 0 0 1 2 ...: nobody has the larger ones."""
    turns = np.arange(count) % (2 * size)
    return np.minimum(turns, 2 * size - 1 - turns)


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
    aside = ranks.comm.Dup()  # the ranks' own may be in the middle of something when one falls
    mark, watchdog = Path(folder, ranks.comm.bcast(f"{FALLEN}.{os.getpid()}-{time.time_ns()}")), None
    name, early = f"rank {ranks.rank} of {ranks.size}", "; nothing was saved yet" if resume else ""
    try:
        if ranks.first:
            remove_marks(folder)
        watchdog = ranks.watchdog = Watchdog(mark, name, stopped + early, f"{stopped}; the last save is intact{resume}")
        with _slow_readers(ranks):
            yield
        watchdog.leave()
    except BaseException as error:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one would leave the others behind
        all_fell = _all_fell(aside)
        told = f"{name}: {_why(error, worded)}{resume if watchdog and watchdog.begun else ''}"
        # if all did, the first one speaks, else whoever makes the mark: the rank that fell, or a watchdog
        if ranks.first if all_fell else speaks(mark, told):
            with suppress(OSError):
                print(told, file=sys.stderr, flush=True)
        if watchdog:
            watchdog.leave()
        status = 130 if isinstance(error, KeyboardInterrupt) else 2
        if not all_fell:
            ranks.comm.Abort(status)
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
