"""Ranks that fall together: none is left to wait for one that is no more, and one of them says what happened."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import TOLD, sentence
from .ranks import Ranks
from .watchdog import FALLEN, Watchdog, remove_marks, speaks

_PATIENCE = 2.0  # seconds that a rank which fell waits for the others to fall, too


@contextmanager
def together(ranks: Ranks, folder: str, stopped: str, resume: str = "") -> Iterator[None]:
    """Inside `with`, a rank that fails, dies or hangs takes all down, and one of them says who, why and how to go on.

    folder: on a disk that all ranks share.  stopped: what the sentence says then, if the rank itself cannot; resume:
    its end once `ranks.begin()` was called, before which there is nothing to go on with.  An error that all ranks meet
    ends them without a word of MPI's.
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
        yield
        watchdog.leave()
    except BaseException as error:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one would leave the others behind
        all_fell = _all_fell(aside)
        told = f"{name}: {_why(error)}{resume if watchdog and watchdog.begun else ''}"
        # if all did, the first one speaks, else whoever makes the mark: the rank that fell, or a watchdog
        if ranks.first if all_fell else speaks(mark, told):
            print(told, file=sys.stderr, flush=True)
        if watchdog:
            watchdog.leave()
        status = 130 if isinstance(error, KeyboardInterrupt) else 2
        if not all_fell:
            ranks.comm.Abort(status)
        raise SystemExit(status) from error


def _why(error: BaseException) -> str:
    if isinstance(error, TOLD):
        return sentence(error)
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
