"""One run in a folder: a lock that the system takes back when its process ends, however it ends."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, TextIO

from ..errors import InputError

LOCK = ".lock"
_held: set[Path] = set()  # folders that this process has locked


class FolderLock(AbstractContextManager):
    """Inside `with`, no other process of this kind is in the folder, which is made if it is not there.

    Raises InputError, naming the other process, if one is; and if the folder cannot be made or written.  Where the
    system or the file system knows no locks, nobody is kept out.  Whoever holds a folder may lock it once more.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)

    def __enter__(self) -> FolderLock:
        self.again = self.folder.resolve() in _held
        if self.again:
            return self
        try:
            self.made = not self.folder.exists()
            self.folder.mkdir(parents=True, exist_ok=True)
            self.file = self._locked()
        except OSError as error:
            raise InputError(f"{self.folder} cannot be written: {error.strerror}") from error
        with suppress(OSError):  # who holds it is a courtesy
            self.file.truncate(0)
            self.file.write(f"{os.getpid()}\n")
            self.file.flush()
        _held.add(self.folder.resolve())
        return self

    def __exit__(self, *_: Any) -> None:
        if self.again:
            return
        _held.discard(self.folder.resolve())
        with suppress(OSError):
            (self.folder / LOCK).unlink()  # while it is still ours
            if self.made:
                self.folder.rmdir()  # if nothing else was written there
        with suppress(OSError):
            self.file.close()

    def _locked(self) -> TextIO:
        """The file, locked; tried again if the one that was opened has been removed by its last holder."""
        while True:
            # its content stays until it is ours
            file = open(self.folder / LOCK, "a+", encoding="utf-8")  # noqa: SIM115, it is held for as long as we are
            try:
                _lock(file)
            except BlockingIOError as error:
                file.seek(0)
                who = file.read().strip()
                file.close()
                raise InputError(f"{self.folder} is in use by another run" + (f" (process {who})" if who else "")
                                 + ": wait until it ends, or choose another folder") from error
            except OSError:
                pass  # a file system without locks
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), os.stat(self.folder / LOCK)):
                    return file
            file.close()


def _lock(file: TextIO) -> None:
    """Without waiting; BlockingIOError if somebody else has it, another OSError of a file system without locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
