"""One run in a folder: a lock that the system takes back when its process ends, however it ends."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ..errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = ".lock"


class FolderLock(AbstractContextManager):
    """Inside `with`, no other process of this kind is in the folder, which is made if it is not there.

    Raises InputError, naming the other process, if one is; and if the folder cannot be made or written.  Where the
    system or the file system knows no locks, nobody is kept out.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)

    def __enter__(self) -> FolderLock:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = open(self.folder / LOCK, "a+", encoding="utf-8")  # its content stays until it is ours
        except OSError as error:
            raise InputError(f"{self.folder} cannot be written: {error.strerror}") from error
        try:
            if fcntl:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.seek(0)
            who = self._file.read().strip()
            self._file.close()
            raise InputError(f"{self.folder} is in use by another run" + (f" (process {who})" if who else "")
                             + ": wait until it ends, or choose another folder") from error
        except OSError:
            pass  # a file system without locks
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()  # the file stays: if it were removed, a third process could lock one of the same name
