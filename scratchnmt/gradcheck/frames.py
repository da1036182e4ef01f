"""Tracebacks as the writer of a test wants them: the frames of the op, not those of the checker."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType


def hide_our_frames(error: BaseException) -> None:
    """Leave the op's frames in the tracebacks of the error and of those that led to it, the checker's out."""
    chain = [error]
    while (earlier := chain[-1].__cause__ or chain[-1].__context__) and earlier not in chain:
        chain.append(earlier)
    for link in chain:
        link.__traceback__ = _others(link.__traceback__)


def _others(traceback: TracebackType | None) -> TracebackType | None:
    """The traceback without the frames of this package."""
    kept = None
    for entry in reversed(list(_entries(traceback))):
        if entry.tb_frame.f_globals.get("__package__") != __package__:
            entry.tb_next, kept = kept, entry
    return kept


def _entries(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next
