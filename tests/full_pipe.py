"""Pipes that nobody reads."""

import os
from contextlib import suppress


def full_pipe():
    """The ends of one that nobody reads, and into which nothing more goes."""
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writes, b"x" * 4096)
    with suppress(BlockingIOError):
        while True:
            os.write(writes, b"x")
    os.set_blocking(writes, True)
    return reads, writes
