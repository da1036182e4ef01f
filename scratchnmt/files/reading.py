"""Files that are read whole: regular ones alone, and no more of them than is ever written there."""

from __future__ import annotations

import os
import stat
from typing import BinaryIO

from ..errors import InputError
from .atomic import AnyPath


def open_regular(path: AnyPath) -> BinaryIO:
    """A file opened to be read; InputError if it is a pipe or a device, which might be waited for without end."""
    no_wait = lambda path, flags: os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    file = open(path, "rb", opener=no_wait)  # noqa: SIM115, whoever asked closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise InputError(f"{path} is not a regular file")
    return file


def read_limited(path: AnyPath, limit: int) -> bytes:
    """The bytes of a file that has no more than `limit` of them; InputError if it has more, or is no regular file."""
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise InputError(f"{path} has more than {limit:,} bytes, which is more than is ever written there")
    return data
