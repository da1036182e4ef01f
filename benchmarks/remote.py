"""An object in a process of its own, whose methods are called through a pipe; it sleeps until one is."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from typing import Any
from unittest import mock


class Remote:
    """make(*arguments) there, with these variables of the environment; all must be picklable."""

    def __init__(self, make: Callable[..., Any], *arguments: Any, **environment: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        with mock.patch.dict(os.environ, environment):
            self.process.start()
        theirs.close()

    def send(self, method: str, *arguments: Any) -> None:
        self.pipe.send((method, arguments))

    def receive(self) -> Any:
        """What the method that was sent last returns; EOFError if the process has ended, having said why."""
        return self.pipe.recv()

    def call(self, method: str, *arguments: Any) -> Any:
        self.send(method, *arguments)
        return self.receive()

    def close(self) -> None:
        self.pipe.close()
        self.process.join()


def _serve(pipe: Any, make: Callable[..., Any], arguments: tuple) -> None:
    made = make(*arguments)
    while True:
        try:
            method, arguments = pipe.recv()
        except EOFError:
            return
        pipe.send(getattr(made, method)(*arguments))
