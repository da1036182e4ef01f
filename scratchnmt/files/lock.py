"""One run in a folder: a lock that the system takes back when its process ends, however it ends."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, TextIO

from ..errors import InputError, WriteError
from .atomic import AnyPath

LOCK = ".lock"


class FolderLock(AbstractContextManager["FolderLock"]):
    """Inside `with`, nobody else is in the folder, neither a process nor another lock of this one; it is made if it is
    not there.

    Raises InputError, naming the other process, if one is; and WriteError if the folder cannot be made or written.
    Where the system or the file system knows no locks, nobody is kept out.
    """

    def __init__(self, folder: AnyPath):
        self.folder = Path(folder)
        self.made = False
        self.file: TextIO | None = None  # while it is held

    def __enter__(self) -> FolderLock:
        try:
            self.made = not self.folder.exists()
            self.folder.mkdir(parents=True, exist_ok=True)
            self.file = self._locked()
        except OSError as error:
            raise WriteError(f"{self.folder} cannot be written: {error.strerror}") from error
        with suppress(OSError):  # who holds it is a courtesy
            self.file.truncate(0)
            self.file.write(f"{os.getpid()}\n")
            self.file.flush()
        return self

    def __exit__(self, *_: Any) -> None:
        file, self.file = self.file, None
        assert file is not None, "it was entered"
        with suppress(OSError):
            (self.folder / LOCK).unlink()  # while it is still ours
            if self.made:
                self.folder.rmdir()  # if nothing else was written there
        with suppress(OSError):
            file.close()

    def _locked(self) -> TextIO:
        """The file, locked; tried again if the one that was opened has been removed by its last holder."""
        while True:
            # its content stays until it is ours
            file = open(self.folder / LOCK, "a+", encoding="utf-8")  # noqa: SIM115, it is held for as long as we are
            try:
                _lock(file)
            except BlockingIOError as error:
                raise self._taken(file) from error
            except OSError:
                pass  # a file system without locks
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), os.stat(self.folder / LOCK)):
                    return file
            file.close()

    def _taken(self, file: TextIO) -> InputError:
        with file:
            file.seek(0)
            pid = file.read().strip()
        who = "" if not pid else " of this process" if pid == str(os.getpid()) else f" (process {pid})"
        return InputError(f"{self.folder} is in use by another run{who}: wait until it ends, or choose another folder")


def _lock(file: TextIO) -> None:
    """Without waiting; BlockingIOError if somebody else has it, another OSError of a file system without locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
