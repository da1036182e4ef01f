"""Ranks that fall together: none is left to wait for one that is no more, and one of them says what happened."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .guard import FALLEN, Guard, speaks, sweep
from .ranks import Ranks

_PATIENCE = 2.0  # seconds that a rank which fell waits for the others to fall, too


@contextmanager
def together(ranks: Ranks, folder: str, stopped: str, resume: str = "") -> Iterator[None]:
    """Inside `with`, a rank that fails, dies or hangs takes all down, and one of them says who, why and how to go on.

    folder: on a disk that all ranks share.  stopped: what the sentence says then, if the rank itself cannot; resume: its
    end once `ranks.begin()` was called, before which there is nothing to go on with.  An error that all ranks meet
    ends them without a word of MPI's.
    """
    if ranks.comm is None:
        yield
        return
    if ranks.first:
        sweep(folder)
    mark = Path(folder, ranks.comm.bcast(f"{FALLEN}.{os.getpid()}-{time.time_ns()}"))
    name, aside = f"rank {ranks.rank} of {ranks.size}", ranks.comm.Dup()
    early = "; nothing was saved yet" if resume else ""
    guard = ranks.guard = Guard(mark, name, stopped + early, f"{stopped}; the last save is intact{resume}")
    try:
        yield
    except BaseException as error:
        status, all_fell = 130 if isinstance(error, KeyboardInterrupt) else 2, _all_fell(aside)
        why = str(error) or ("interrupted" if isinstance(error, KeyboardInterrupt) else type(error).__name__)
        sentence = f"{name}: {why}{resume if guard.begun else ''}"
        if ranks.first if all_fell else speaks(mark, sentence):
            print(sentence, file=sys.stderr, flush=True)
        guard.leave()
        if not all_fell:
            ranks.comm.Abort(status)
        raise SystemExit(status) from error
    guard.leave()


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
