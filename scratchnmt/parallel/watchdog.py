"""A small process beside each rank that tells how the rank ended if it cannot tell itself.

`mpirun` kills all ranks when one of them dies, so that none is left to say what happened and how to go on; and it does
not notice a rank that hangs.  The watchdog sees the end of a pipe when its rank is gone, and ends a rank that was
stopped, or has used no processor time, for PATIENCE seconds.  A rank that waits for other ranks does use it; one that
waits for something else, such as input, a disk or processes that it has started, says so and may wait.

When one rank falls all do, and all watchdogs see it.  So that only one of them speaks, each tries to make the same
file, the job's *mark*: it can be made once, and who makes it speaks.  This file runs as a program of its own, which
imports nothing else of the package.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

FALLEN = ".fallen"  # a mark begins with it
PATIENCE = 6.0  # seconds
LOOK = 0.5  # seconds between two looks at a process
_OLD = 60.0  # seconds, after which nobody is left who looks for a mark
_BEGUN, _BYE, _WAITS, _WORKS = b"+", b"-", b"w", b"."


class Waits:
    """Of a process that somebody looks after: whether it may wait, and whether there is something to go on with."""

    def __init__(self) -> None:
        self.begun, self.waits, self.lock = False, 0, threading.RLock()  # a progress bar has a thread of its own

    def begin(self) -> None:
        """From now on there is something to go on with."""
        self.begun = True

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Inside `with`, the process may wait for something that uses none of its time; it can be nested."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Inside `with`, within one of `waiting`, it may not wait."""
        self._count(-1)
        try:
            yield
        finally:
            self._count(1)

    def _count(self, more: int) -> None:
        with self.lock:
            before, self.waits = self.waits, self.waits + more
            if not before or not self.waits:
                self._tell(bool(self.waits))

    def _tell(self, waits: bool) -> None:
        """Have whoever looks after it know."""


class Watchdog(Waits):
    """Starts the process, which says `early` of its rank, or, after `begin`, `late`; `leave` tells it that all is
    well."""

    def __init__(self, mark: str | os.PathLike[str], name: str, early: str, late: str):
        super().__init__()
        command = [sys.executable, __file__, str(os.getpid()), os.path.abspath(mark), name, early, late]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, bufsize=0)

    def begin(self) -> None:
        super().begin()
        self._say(_BEGUN)

    def leave(self) -> None:
        self._say(_BYE)
        self.process.communicate()

    def _tell(self, waits: bool) -> None:
        self._say(_WAITS if waits else _WORKS)

    def _say(self, what: bytes) -> None:
        assert self.process.stdin is not None  # it was started with a pipe
        with suppress(OSError):  # it is gone
            self.process.stdin.write(what)


def endings(stopped: str, resume: str) -> tuple[str, str]:
    """How a sentence about a process that fell ends, before it began and after; before that, what a resumed run has
    saved is not known here."""
    return stopped + " before it took a step" * bool(resume), f"{stopped}; the last save is intact{resume}"


def speaks(mark: str | os.PathLike[str], sentence: str = "") -> bool:
    """Whether nobody has told yet why the ranks fell; from now on somebody has, and the mark holds the sentence."""
    try:
        file = os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        try:
            os.write(file, sentence.encode(errors="backslashreplace") + b"\n")
        finally:
            os.close(file)
    except FileExistsError:
        return False
    except OSError:
        pass  # the folder is not there, or no longer
    return True


def remove_marks(folder: str | os.PathLike[str], old: float = _OLD) -> None:
    """Remove the marks of jobs that fell so many seconds ago."""
    for mark in Path(folder).glob(f"{FALLEN}.*"):
        try:
            if time.time() - mark.stat().st_mtime > old:
                mark.unlink()
        except OSError:
            pass  # somebody else's, or gone


def watch(pid: int, mark: str, name: str, early: str, late: str) -> None:
    """Until the rank says good-bye, or is gone, or hangs."""
    stopped, may_wait, pulse = early, False, Pulse(pid)
    while True:
        if select.select([0], [], [], LOOK)[0]:
            message = os.read(0, 1)
            if message == _BYE:
                return
            if not message:
                break
            if message == _BEGUN:
                stopped = late
            else:
                may_wait = message == _WAITS
            pulse.quiet = 0.0
            continue  # all that was said before it is gone counts
        if pulse.is_gone(may_wait) or pulse.hangs:
            break
    sentence = f"{name} (process {pid}) {how_it_ended(pulse.hangs)}; {stopped}"
    tell = speaks(mark, sentence)
    if pulse.hangs:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if tell:  # last, as nobody may be left to read it, or who reads may be slow
        with suppress(OSError):
            print(sentence, file=sys.stderr, flush=True)


def how_it_ended(hung: bool) -> str:
    return f"hung for {PATIENCE:g} seconds and was ended" if hung else "died"


class Pulse:
    """Whether a process still lives, and works: it is looked at every LOOK seconds."""

    def __init__(self, pid: int):
        self.pid, self.used, self.quiet, self.last = pid, "", 0.0, time.monotonic()
        self.born = _state(pid).born

    def is_gone(self, may_wait: bool) -> bool:
        """Look at it."""
        before, self.last = self.last, time.monotonic()
        self.quiet += min(self.last - before, 2 * LOOK)  # no more: we may have been stopped, and it with us
        state = _state(self.pid)
        if state.letter in "XZ" or state.born != self.born:  # a child that it has forked may hold its pipe for longer
            return True
        if state.used != self.used or state.letter in "DR" or (may_wait and state.letter not in "Tt"):
            self.used, self.quiet = state.used, 0.0
        return False

    @property
    def hangs(self) -> bool:
        return self.quiet > PATIENCE


class _State(NamedTuple):
    letter: str  # D: waits for a disk, T or t: stopped, X or Z: gone
    used: str  # processor time
    born: str  # when it was started: a later process may have its number


def _state(pid: int) -> _State:
    """What /proc tells; where there is none, time goes on: the end of the pipe will tell, nothing else does."""
    if not os.path.exists("/proc/self/stat"):
        return _State("?", str(time.monotonic()), "")
    try:
        letter, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError, ValueError):  # empty, while it ends
        return _State("X", "", "")
    return _State(letter, f"{fields[10]} {fields[11]}", fields[18])  # the process' own time and the system's for it


def forget(mark: str, seconds: float = PATIENCE + 2) -> None:
    """Remove a mark that is in the temporary folder, where nobody keeps it, so many seconds from now.

    A process does it that nobody waits for: mpirun would, for whoever can still write to its terminal.
    """
    if not os.path.exists(mark) or os.path.dirname(mark) != tempfile.gettempdir() or os.fork():
        return
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    time.sleep(seconds)  # the other watchdogs look for it until then
    Path(mark).unlink(missing_ok=True)
    os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the rank's affair
    watch(int(sys.argv[1]), *sys.argv[2:6])
    forget(sys.argv[2])
