"""A small process beside each rank that tells how the rank ended if it cannot tell itself.

`mpirun` kills all ranks when one of them dies, so that none is left to say what happened and how to go on; and it does
not notice a rank that hangs.  The guard sees the end of a pipe when its rank is gone, and ends a rank that was stopped,
or has used no processor time, for PATIENCE seconds: one that waits for others does use it, and one that waits for a
disk, a pipe, a terminal or processes that it has started may wait.

When one rank falls all do, and all guards see it.  So that only one of them speaks, each tries to make the same file,
the job's *mark*: it can be made once, and who makes it speaks.  This file runs as a program of its own, which imports
nothing else of the package.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

FALLEN = ".fallen"  # a mark begins with it
_MAY_WAIT = ("pipe", "tty", "write", "splice", "request_wait")  # in the name of what a process waits in
PATIENCE = 6.0  # seconds
_OLD = 60.0  # seconds, after which nobody is left who looks for a mark
_BEGUN, _BYE = b"+", b"-"


class Guard:
    """Starts the process, which says `early` of its rank, or, after `begin`, `late`; `leave` tells it that all is
    well."""

    def __init__(self, mark: str | os.PathLike, name: str, early: str, late: str):
        self.begun = False
        command = [sys.executable, __file__, str(os.getpid()), os.path.abspath(mark), name, early, late]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, bufsize=0)

    def begin(self) -> None:
        self.begun = True
        self._tell(_BEGUN)

    def leave(self) -> None:
        self._tell(_BYE)
        self.process.communicate()

    def _tell(self, what: bytes) -> None:
        assert self.process.stdin is not None  # it was started with a pipe
        with suppress(OSError):  # it is gone
            self.process.stdin.write(what)


def speaks(mark: str | os.PathLike, sentence: str = "") -> bool:
    """Whether nobody has told yet why the ranks fell; from now on somebody has, and the mark holds the sentence."""
    try:
        file = os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        try:
            os.write(file, sentence.encode() + b"\n")
        finally:
            os.close(file)
    except FileExistsError:
        return False
    except OSError:
        pass  # the folder is not there, or no longer
    return True


def sweep(folder: str | os.PathLike, old: float = _OLD) -> None:
    """Remove the marks of jobs that fell so many seconds ago."""
    for mark in Path(folder).glob(f"{FALLEN}.*"):
        try:
            if time.time() - mark.stat().st_mtime > old:
                mark.unlink()
        except OSError:
            pass  # somebody else's, or gone


def watch(pid: int, mark: str, name: str, early: str, late: str) -> None:
    """Until the rank says good-bye, or is gone, or hangs."""
    used, since, why, stopped = _used(pid), time.monotonic(), "", early
    while True:
        if select.select([0], [], [], 0.5)[0]:
            told = os.read(0, 1)
            if told == _BYE:
                return
            if not told:
                break
            stopped = late
        now = _used(pid)
        if now != used:
            used, since = now, time.monotonic()
        elif time.monotonic() - since > PATIENCE:
            why = f"hung for {PATIENCE:g} seconds and was ended"
            break
    sentence = f"{name} (process {pid}) {why or 'died'}; {stopped}"
    if speaks(mark, sentence):
        print(sentence, file=sys.stderr, flush=True)
    if why:
        os.kill(pid, signal.SIGKILL)


def _used(pid: int) -> tuple[str, ...]:
    """What changes as long as a process does anything, or waits for what it may wait for."""
    alive = (str(time.monotonic()),)
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if state not in "Tt" and (state == "D" or _may_wait(pid)):
            return alive
    except OSError:
        return alive  # the end of the pipe will tell; where there is no /proc nothing else does
    return fields[10], fields[11]  # processor time, the process' own and the system's for it


def _may_wait(pid: int) -> bool:
    where = Path(f"/proc/{pid}/wchan").read_text()
    children = sum(len(path.read_text().split()) for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return where == "0" or any(name in where for name in _MAY_WAIT) or children > 1  # one of them is the guard

def forget(mark: str, seconds: float = PATIENCE + 2) -> None:
    """Remove a mark that is in the temporary folder, where nobody keeps it, so many seconds from now.

    A process does it that nobody waits for: mpirun would, for whoever can still write to its terminal.
    """
    if not os.path.exists(mark) or os.path.dirname(mark) != tempfile.gettempdir() or os.fork():
        return
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    time.sleep(seconds)  # the other guards look for it until then
    Path(mark).unlink(missing_ok=True)
    os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the rank's affair
    watch(int(sys.argv[1]), *sys.argv[2:6])
    forget(sys.argv[2])
