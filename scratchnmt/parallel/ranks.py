"""The processes of a run, on one machine or several: what they tell each other.

Each of them, a *rank*, goes through the same program.  In training each takes its part of every batch, the gradients
are added up, and from there on all do the same; what comes in pieces, such as sentences to translate, is dealt out.
The first rank reads, logs and writes.  A run of one process is a single rank, which has nobody to tell.

How they talk is a `Comm`: that of processes that `mpirun` started (mpi.py), of forks (team.py), or of both.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from itertools import islice
from typing import Any, Protocol

import numpy as np

from ..arrays import Array, array_module, core_count, own_cores
from ..errors import InputError, shown
from .machine import Cards, Machine, own_card
from .watchdog import Waits

_LEFT_OUT = "left out"  # of what one rank was told


class Comm(Protocol):
    """How some processes talk: all of them call each of these, in the same order."""

    rank: int
    size: int

    def bcast(self, value: Any) -> Any:
        """The first one's value, on all."""

    def gather(self, value: Any) -> list[Any]:
        """Everyone's value, in order, on the first one; on the others nothing."""

    def allgather(self, value: Any) -> list[Any]:
        """Everyone's value, in order, on all."""

    def add_up(self, vector: np.ndarray) -> None:
        """Put the sum over all in the place of each one's vector, the same bits on all."""

    def gather_parts(self, vector: np.ndarray, bounds: list[int]) -> None:
        """Put everyone's part of a vector, from one of the bounds to the next, into that of the first one."""

    def wait(self) -> None:
        """Until all are here, soon."""

    def wait_idly(self) -> None:
        """The same, however long it takes; the cores are left to whoever still works."""

    def of_machine(self) -> Comm:
        """Of those among them that run on this one's machine."""

    def of_machines(self) -> Comm | None:
        """Of the first ones of each machine, for these; None for the others, and if there is one machine."""


class Ranks:
    """comm: how they talk, or None for a single rank.  watchdog: who looks after this one.

    All ranks must call each of these, in the same order:

        from_first   the first rank works, all have what it returns
        on_first     the same, but it alone has that
        in_turn      all work, the first rank before the others
        each         some work is dealt out, all have all results
        same         a stream that only the first rank can read
        add_up       a sum of vectors, in place

    What goes wrong in the work of one of them is raised by all.
    """

    def __init__(self, comm: Comm | None = None, watchdog: Waits | None = None):
        self.comm, self.watchdog = comm, watchdog
        self.rank: int = 0 if comm is None else comm.rank
        self.size: int = 1 if comm is None else comm.size

    @cached_property
    def machine(self) -> Machine:
        """Those of them that run on this one's machine; all must ask for it first at the same time."""
        return Machine() if self.comm is None else Machine(self.comm.of_machine(), self.comm)

    @cached_property
    def cores(self) -> int:
        """How many this rank has, if those that may use the same ones divide them; all must ask first at the same time.

        mpirun may have divided them already.
        """
        own, comm = own_cores(), self.machine.comm
        return max(1, core_count() // (comm.allgather(own).count(own) if comm else 1))

    @cached_property
    def cards(self) -> Cards:
        """Their GPUs; all must ask for it first at the same time, each with its own the current one."""
        assert self.comm is not None  # a single rank has nothing to add up
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
            self.comm.add_up(array)
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
                error = sendable(raised)
        self.comm.wait_idly()
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
            error = sendable(raised)
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
            self.comm.wait()

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
                if values[0] != values[1] and (values[0] == values[0] or values[1] == values[1]):  # NaN is no other NaN
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
        """From now on there is something to go on with, should a rank fall."""
        if self.watchdog:
            self.watchdog.begin()


def sendable(error: Exception) -> Exception:
    """The error, or what it says where pickle cannot take it to another process."""
    try:
        pickle.loads(pickle.dumps(error))  # some fail only where they arrive
    except Exception:  # noqa: BLE001  of a class that is not ours
        return RuntimeError(repr(error))
    return error


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


