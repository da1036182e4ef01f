"""Ctrl-C between two steps rather than in the middle of one."""

from __future__ import annotations

import signal
import threading
from contextlib import AbstractContextManager
from typing import Any


class Interrupted(Exception):
    """Somebody asked the program to stop, and now is a good moment."""


class Interrupts(AbstractContextManager["Interrupts"]):
    """Inside `with`, a first Ctrl-C (or SIGTERM) only makes `check` raise Interrupted; a second ends at once.

    In a thread other than the main one, which receives no signals, it does nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        self.requested = False
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: Any) -> None:
        self._restore()

    def check(self) -> None:
        """Raise Interrupted if it was asked for."""
        if self.requested:
            raise Interrupted

    def _note(self, *_: Any) -> None:
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
