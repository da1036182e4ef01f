"""The lock of a folder: nobody else is in it, until the process that holds it ends."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, TextIO

from ..errors import InputError
from .atomic import AnyPath, not_written

LOCK = ".lock"
_MOST_TIMES = 100  # that a folder or a file vanishes while the lock is taken


class FolderLock(AbstractContextManager["FolderLock"]):
    """Inside `with`, nobody else is in the folder, neither a process nor another lock of this one; it is made if it is
    not there.

    Raises InputError, naming the other process, if one is, or if a file of somebody else's has the lock's name; and
    WriteError if the folder cannot be made or written.  The system drops the lock when the process and those that it
    has forked have ended.  Where the system or the file system knows no locks, nobody is kept out.
    """

    def __init__(self, folder: AnyPath):
        self.folder = Path(folder)
        self.made, self.pid = False, os.getpid()
        self.file: TextIO | None = None  # while it is held

    def __enter__(self) -> FolderLock:
        try:
            self.file = self._locked()
        except OSError as error:
            path = self.folder / LOCK if os.path.isdir(self.folder) else self.folder
            raise not_written(path, error) from error
        with suppress(OSError, AttributeError):  # the folder's owner, whoever else made it, may be killed here
            about = os.stat(self.folder)
            os.fchown(self.file.fileno(), about.st_uid, about.st_gid)
        with suppress(OSError):  # who holds it is a courtesy
            self.file.truncate(0)
            self.file.write(f"{os.getpid()}\n")
            self.file.flush()
        return self

    def __exit__(self, *_: Any) -> None:
        file, self.file = self.file, None
        assert file is not None, "it was entered"
        with suppress(OSError):
            ours = os.getpid() == self.pid and os.path.samestat(os.fstat(file.fileno()), os.stat(self.folder / LOCK))
            if ours:  # not a forked child's, nor of a folder that took this one's name
                (self.folder / LOCK).unlink()
            if ours and self.made:
                self.folder.rmdir()  # if nothing else was written there
        with suppress(OSError):
            file.close()

    def _locked(self) -> TextIO:
        """The file, locked; tried again if its last holder has removed the one that was opened, or the folder."""
        failed = 0
        while True:
            self.made |= not self.folder.exists()
            self.folder.mkdir(parents=True, exist_ok=True)
            # its content stays until it is ours
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
            try:
                handle = os.open(self.folder / LOCK, flags, 0o666)
            except (FileNotFoundError, PermissionError) as error:
                failed += 1  # too often: it cannot be written at all
                if failed > _MOST_TIMES or isinstance(error, PermissionError) and not self._removed():
                    raise
                continue
            file = open(handle, "r+", encoding="ascii", errors="replace")  # noqa: SIM115
            try:
                _lock(file)
            except BlockingIOError as error:
                raise self._taken(file) from error
            except OSError:
                pass  # a file system without locks
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), os.stat(self.folder / LOCK)):
                    if (noted := self._noted(file)).isdecimal() or not noted:
                        return file
                    file.close()
                    raise InputError(f"{self.folder / LOCK} is not the lock of a run, which would be written there: "
                                     "move it, or choose another folder")
            file.close()

    def _removed(self) -> bool:
        """Whether there was a lock that another user's run left when it was killed, which we may read and remove."""
        path, flags = self.folder / LOCK, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        with suppress(OSError), open(os.open(path, flags), encoding="ascii", errors="replace") as file:
            try:
                _lock(file)
            except BlockingIOError as error:
                raise self._taken(file) from error
            if self._noted(file).isdecimal() and os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                path.unlink()
                return True
        return False

    def _taken(self, file: TextIO) -> InputError:
        with file:
            pid = self._noted(file)
        # it may be another process all the same: each container counts its own anew
        ours = ", which is this one's number, too" if pid == str(os.getpid()) else ""
        return in_use(self.folder, f" (process {pid}{ours})" if pid.isdecimal() else "")

    def _noted(self, file: TextIO) -> str:
        """The number of the process that has the lock or had it, if it is one of ours."""
        file.seek(0)
        return file.read(100).strip("\0 \n")


def in_use(folder: object, whose: str) -> InputError:
    """For whoever finds another run in a folder; whose: what is known of it."""
    return InputError(f"{folder} is in use by another run{whose}: wait until it ends, or choose another folder")


def _lock(file: TextIO) -> None:
    """Without waiting; BlockingIOError if somebody else has it, another OSError of a file system without locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
