"""Processes of one machine without MPI: forked from the first one, to which each has a socket, as a star.

A fork has all that the first one has at that moment, model and text, and copies only what either of the two changes.
All go through the same work (see ranks.py); the forks end with it.  Nobody's core is kept busy by waiting.

They fall together.  The first one raises what another one raised, or says that it died; the others end when the first
one does.  Each has a thread that looks after the one before it, lest anybody waits for one that hangs.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, NoReturn
from weakref import WeakSet

import numpy as np

from ..errors import MachineError, WorkerError
from ..forks import no_fork
from ..streams import INTERRUPTED
from .ranks import sendable
from .watchdog import LOOK, Pulse, Waits, how_it_ended

_BEGUN = 0  # the place on the board of whether there is something to go on with; behind it one for each process
_PR_SET_PDEATHSIG = 1  # of Linux' prctl
_MOMENT = 0.3  # seconds that last words wait for a reader
_WORKS, _WAITS, _ENDED = range(3)  # what a process does, or that it was ended as it hung
_teams: WeakSet[Team] = WeakSet()  # of this process, and of those that it is a fork of


def _continued_at_the_end_of_its_parent() -> Callable[[], Any]:
    """What a fork calls so that it goes on when the first process is no more, and ends, even if it was stopped."""
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError, TypeError):  # not Linux
        return lambda: None
    return lambda: prctl(_PR_SET_PDEATHSIG, int(signal.SIGCONT))


class _Raised:
    """What a process sends instead of what the first one waits for."""

    def __init__(self, error: Exception, where: str):
        self.error, self.where = error, where

    def unpacked(self) -> Exception:
        """The error; where it was raised is told as its cause, since no traceback can be sent."""
        self.error.__cause__ = RuntimeError(self.where)
        return self.error


class Team(Waits):
    """One of `size` processes; a Comm, see ranks.py.

    begun, early, late: as of `Watchdog`.  above: a watchdog of the first one, which may wait for the others; it tells
    what becomes of the first one.
    """

    def __init__(self, size: int, early: str, late: str, above: Waits | None = None):
        super().__init__()
        self.rank, self.size, self.early, self.late, self.above = 0, size, early, late, above
        self.watched = above is not None
        self.pids = [os.getpid()]  # of the first and those that were forked before this one
        self.ended: set[int] = set()  # of those, for which the first one has waited
        self.board = mmap.mmap(-1, 1 + size)
        self.pairs: list[tuple[Connection, Connection]] = []
        _teams.add(self)
        try:
            for _ in range(size - 1):
                with no_fork:
                    self.pairs.append(Pipe())
        except OSError as error:  # of too many open files
            raise self._not_started(1 + len(self.pairs), error.strerror) from error
        self.over = threading.Event()

    # all of these are called by all, in the same order

    def gather(self, value: Any) -> list[Any]:
        """Everyone's value, in order, on the first one; on the others nothing."""
        with self.waiting():
            if self.rank:
                self._send(0, value)
                return []
            return [value, *map(self._receive, range(1, self.size))]

    def bcast(self, value: Any) -> Any:
        """The first one's value, on all."""
        with self.waiting():
            if self.rank:
                return self._receive(0)
            for rank in range(1, self.size):
                self._send(rank, value)
            return value

    def allgather(self, value: Any) -> list[Any]:
        """Everyone's value, in order, on all."""
        values: list[Any] = self.bcast(self.gather(value))
        return values

    def add_up(self, vector: np.ndarray) -> None:
        """Put the sum over all, in their order, in the place of each one's vector."""
        total, *others = self.gather(vector) or [vector]
        for other in others:
            total += other
        vector[...] = self.bcast(total)

    def wait(self) -> None:
        """Until all are here."""
        self.allgather(None)

    wait_idly = wait

    def gather_parts(self, vector: np.ndarray, bounds: list[int]) -> None:
        """Put everyone's part of a vector, from one of the bounds to the next, into that of the first one."""
        parts = self.gather(vector[bounds[self.rank] : bounds[self.rank + 1]])
        for part, start in zip(parts, bounds, strict=False):
            vector[start : start + len(part)] = part

    def of_machine(self) -> Team:
        return self

    def of_machines(self) -> None:
        """There is one."""

    # one of them alone

    @contextmanager
    def waiting(self) -> Iterator[None]:
        with super().waiting(), self.above.waiting() if self.above else nullcontext():
            yield

    def begin(self) -> None:
        self.begun = True
        self.board[_BEGUN] = True
        if self.above:
            self.above.begin()

    def _tell(self, waits: bool) -> None:
        self.board[1 + self.rank] = _WAITS if waits else _WORKS

    def _send(self, rank: int, value: Any) -> None:
        try:
            self._connection(rank).send(value)
        except OSError:  # it is gone, and may have said why
            self._receive(rank)

    def _receive(self, rank: int) -> Any:
        try:
            value = self._connection(rank).recv()
        except (EOFError, OSError):
            raise self._fallen(rank) from None
        if isinstance(value, _Raised):
            raise value.unpacked()
        return value

    def _connection(self, rank: int) -> Connection:
        return self.pairs[self.rank - 1][1] if self.rank else self.pairs[rank - 1][0]

    def _fallen(self, rank: int) -> WorkerError:
        if self.rank:
            self._end_without_first()
        self.ended.add(self.pids[rank])
        with suppress(ChildProcessError):
            if os.waitstatus_to_exitcode(os.waitpid(self.pids[rank], 0)[1]) == INTERRUPTED:
                raise KeyboardInterrupt from None
        return WorkerError(self.sentence(rank))

    def sentence(self, rank: int) -> str:
        """That a process is no more, and what is left of its work."""
        hung = self.board[1 + rank] == _ENDED
        return (f"worker {rank + 1} of {self.size} (process {self.pids[rank]}) {how_it_ended(hung)}; "
                f"{self.late if self.board[_BEGUN] else self.early}")

    def fork(self, work: Callable[[Team], Any]) -> None:
        """Start the others, which do the work and end; MachineError if the system allows no more processes."""
        not_left_stopped = _continued_at_the_end_of_its_parent()
        for rank in range(1, self.size):
            try:
                with warnings.catch_warnings():
                    # of Python 3.12: threads that hold a lock do not exist in a fork; it only computes, with locks
                    # that the libraries renew
                    warnings.simplefilter("ignore", DeprecationWarning)
                    pid = os.fork()
                if not pid:
                    self.rank = rank
                    not_left_stopped()
                    self._be_forked(work)
            except OSError as error:
                self.end()
                raise self._not_started(rank, error.strerror) from error
            finally:
                if os.getpid() != self.pids[0]:  # a fork that Ctrl-C met on its way
                    os._exit(INTERRUPTED)
            self.pids.append(pid)
        _close(theirs for _, theirs in self.pairs)
        if self.size > 1:
            self._look_after(self.size - 1)

    def _not_started(self, rank: int, why: object) -> MachineError:
        return MachineError(f"worker {rank + 1} of {self.size} cannot be started ({why}): choose fewer workers")

    def _be_forked(self, work: Callable[[Team], Any]) -> None:
        """Never returns: nothing of the program that was forked is this process' to end."""
        status = 1
        try:
            # also those of teams that other threads are starting: while a copy is open, nobody sees that a worker ended
            _close(end for team in _teams for ends in team.pairs for end in ends if end is not self._connection(0))
            self.above = None
            self._look_after(self.rank - 1)
            with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
                work(self)
            status = 0
        except KeyboardInterrupt:
            status = INTERRUPTED
        except Exception as error:  # noqa: BLE001  the first one raises it
            self._send_error(error)
        finally:
            os._exit(status)

    def _send_error(self, error: Exception) -> None:
        where = f"in worker {self.rank + 1} of {self.size}:\n{''.join(traceback.format_exception(error))}"
        with suppress(OSError):
            self._connection(0).send(_Raised(sendable(error), where))

    def join(self) -> None:
        """By the first one, when its work is done: until the others are, too; what one of them raised is raised."""
        with self.waiting():
            for rank in range(1, self.size):
                try:
                    raised = self._connection(rank).recv()  # only an error is ever left to be received
                except (EOFError, OSError):
                    continue  # it ended well
                raise raised.unpacked()
        self.end()

    def end(self) -> None:
        """By the first one: nothing is left of the others."""
        self.over.set()
        for pid in [pid for pid in self.pids[1:] if pid not in self.ended]:
            self.ended.add(pid)  # its number may be another's, later
            with suppress(ProcessLookupError, ChildProcessError):
                if os.waitpid(pid, os.WNOHANG) == (0, 0):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
        _close(firsts for firsts, _ in self.pairs)

    # a thread of each

    def _look_after(self, other: int) -> None:
        thread = threading.Thread(target=self._look, args=(other, Pulse(self.pids[other])), daemon=True,
                                  name="scratchnmt-lookout")
        try:
            thread.start()
        except RuntimeError as error:  # the system allows no more
            raise self._not_started(self.rank or other, error) from error

    def _look(self, other: int, pulse: Pulse) -> None:
        """End what hangs, but not the first one: whoever stops that wants all to stop, and they wait for it."""
        watched = {other: pulse} if other else {}
        while not self.over.wait(LOOK):
            for rank, pulse in list(watched.items()):
                gone = pulse.is_gone(self.board[1 + rank] == _WAITS)
                if not gone and pulse.hangs:
                    self.board[1 + rank] = _ENDED
                    os.kill(pulse.pid, signal.SIGKILL)
                    gone = True
                if gone:  # and looks after nobody any more
                    del watched[rank]
                    watched |= {before: Pulse(self.pids[before]) for before in range(1, rank) if before not in watched}
            if self.rank and os.getppid() != self.pids[0]:
                self._end_without_first()

    def _end_without_first(self) -> NoReturn:
        """The first one is no more, or it would have ended this one."""
        with self.lock:  # of two threads that come here
            if self.rank == 1 and not self.watched:
                _say(f"\n{self.sentence(0)}\n")
            os._exit(2)


def _close(ends: Iterable[Connection]) -> None:
    """No fork finds one half closed: its number may by then be that of another."""
    with no_fork:
        for end in ends:
            end.close()


def _say(text: str) -> None:
    """Write to standard error, if it takes anything within a moment: nobody may read it."""
    with suppress(OSError):
        if select.select([], [2], [], _MOMENT)[1]:
            os.write(2, text.encode(errors="backslashreplace"))
