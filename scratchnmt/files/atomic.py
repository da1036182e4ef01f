"""Files and folders that are there as a whole or not at all, whoever writes them.

All is written under a name of its own beside the one that it replaces, flushed to the disk, and then renamed.  At any
moment, even after a crash, the old file or the whole new one is there; of a folder that is not empty neither may be,
as systems exchange no two folders in one step.  Of several writers at once the last one wins.
"""

from __future__ import annotations

import errno
import math
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeAlias

from ..errors import WriteError

AnyPath: TypeAlias = "str | os.PathLike[str]"
_OPEN = re.compile(r"/dev/(fd/)?[^/]+|/proc/.+/fd/[^/]+")
_MOST_LINKS = 40  # one after the other, as Linux has it
NAME = 50  # characters of a name that a temporary name repeats: names of 255 bytes are the most there can be
_PERHAPS_WRITTEN = 3600  # seconds after which nobody writes a temporary file any more
_THERE = (errno.ENOTEMPTY, errno.EEXIST)  # a folder that is not empty is where another one was to go
_NO_FLUSH = (errno.EACCES, errno.EINVAL)  # of a folder that we may not read, or a file system that flushes none


@contextmanager
def replace_file(path: AnyPath, *, like: AnyPath | Access | None = None,
                 salvage: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """Inside `with`, the path of a new empty file, which takes the place of `path` at the end.

    Mode and owner are those of the file that is replaced; if there is none, those that `like` is, or those of the file
    `like`.  Meanwhile nobody can read the new file who cannot read it in the end.  A link stays one: the file that it
    leads to is replaced.  What is no regular file, such as a device or a pipe, is written directly.  Raises WriteError
    if the file cannot be written.  After an error nothing has changed; `salvage` is called with the new file before
    that is removed, also if it was whole and could not take its place.
    """
    path = Path(path)
    if not is_replaced(path):
        with _told(path):
            yield path
        return
    path = Path(os.path.realpath(path))
    with _told(path), _beside(path) as new:
        access = access_of(path) or (like if isinstance(like, Access) else like and access_of(like))
        # given at the end: until then it is of another group
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600 if access else 0o666))
        access = access or access_of(new)  # a library may put a file of its own in its place
        try:
            yield new
            give(new, access)
            _move(new, path)
        except BaseException:
            if salvage:
                with suppress(OSError):  # it may be gone
                    give(new, access)
                salvage(new)
            raise
        _keep_name(path)


def is_replaced(path: AnyPath) -> bool:
    """Whether `replace_file` gives a path another file: it does not with devices, pipes, or what may lead to them."""
    return not _is_open(Path(os.path.abspath(path))) and (os.path.isfile(path) or not os.path.exists(path))


def _is_open(path: Path) -> bool:
    """Whether an absolute path is, or a link to, one of the names that a process's open files have, such as
    /dev/stdout and /dev/fd/1: that may be a file, in the middle of which the process writes."""
    for _ in range(_MOST_LINKS):
        if _OPEN.fullmatch(str(path)):
            return True
        if not os.path.islink(path):
            break
        path = Path(os.path.abspath(path.parent / os.readlink(path)))
    return False


def write_atomically(path: AnyPath, data: bytes | Iterable[bytes], *, like: AnyPath | Access | None = None) -> None:
    """Write bytes, or parts of them as they come, as `replace_file` does; if the parts end in an error, nothing."""
    with replace_file(path, like=like) as new, open(new, "wb") as file:
        file.writelines([data] if isinstance(data, bytes) else data)


def copy_file(path: AnyPath, to: AnyPath) -> None:
    """A second name for a file that is only ever replaced as a whole; a copy where links are unknown, or where `to` is
    there with another mode or owner, which it keeps."""
    path, to = Path(os.path.realpath(path)), Path(os.path.realpath(to))
    with _told(to):
        if access_of(to) in (None, access_of(path)):
            with suppress(OSError), _beside(to) as new:
                os.link(path, new)
                _move(new, to)
                return _keep_name(to)
        with replace_file(to, like=path) as new:
            try:
                shutil.copyfile(path, new)
            except OSError as error:
                if isinstance(error, FileNotFoundError | PermissionError) and error.filename == str(path):
                    raise WriteError(f"{to} cannot be written: {path} cannot be read: {error.strerror}") from error
                raise not_written(to, error) from error  # whichever of the two it tells: of a full disk, the first


def put_file(made: AnyPath, new: Path) -> None:
    """A file that is made already, to the place of the new one of `replace_file`: at no moment may more people read it.
    """
    shutil.copymode(new, made)
    shutil.move(made, new)


@contextmanager
def folder_beside(path: AnyPath) -> Iterator[Path]:
    """An empty folder beside a file, ours alone, for one `with`; `remove_temporaries` knows it.

    Raises WriteError as `replace_file` does, also for what is written in it.
    """
    with _told(Path(path)), _beside(Path(os.path.realpath(path))) as new:
        new.mkdir(0o700)
        yield new


@contextmanager
def replace_folder(folder: AnyPath, *, overwrite: bool = False, like: AnyPath | None = None) -> Iterator[Path]:
    """Inside `with`, the path of a new empty folder, which takes the place of `folder` at the end.

    What was there is removed if `overwrite`; else it must be empty.  Its mode and owner stay, or are those of the
    folder `like` if there is none.  Files in the new folder are flushed by whoever writes them.  Raises WriteError as
    `replace_file` does.
    """
    folder = Path(os.path.realpath(folder))
    with _told(folder), _beside(folder) as new:
        access = access_of(folder)
        if access and not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        access = access or (access_of(like) if like else None)
        new.mkdir(0o700 if access else 0o777, parents=True)
        yield new
        give(new, access)
        if overwrite:
            _take_place(new, folder)
        else:
            os.replace(new, folder)
        _keep_name(folder)


def remove_folder(folder: AnyPath) -> None:
    """Remove a folder as a whole: no part of it is left under its name.  Raises WriteError if that is impossible."""
    folder = Path(folder)
    with _told(folder), _beside(folder) as old:
        os.replace(folder, old)


def remove_temporaries(path: AnyPath, *, folders: bool = False) -> None:
    """Remove what killed writers of `path` have left, a short plain name, in which * stands for a number; nobody may be
    writing it.  folders: it is a folder, and a file of its name would be somebody else's.

    Beside what a link leads to others may be writing: there, what was written in the last hour stays.
    """
    path, until = Path(path), math.inf
    name = re.escape(path.name).replace(r"\*", r"\d+")
    if path.is_symlink():
        path, until = Path(os.path.realpath(path)), time.time() - _PERHAPS_WRITTEN
        name = re.escape(path.name[:NAME])
    ours = re.compile(rf"\.{name}(\.\d+(-[0-9a-f]+)?)?\.tmp")  # the number that `_beside` adds; earlier versions less
    for left in filter(lambda left: ours.fullmatch(left.name), path.parent.glob(".*.tmp")):
        with _told(left), suppress(FileNotFoundError, PermissionError):  # it is gone meanwhile, or another user's
            if _written(left) < until and (left.is_dir() or not folders):
                _remove(left)


def _written(path: Path) -> float:
    """When a file, or a folder or a file in it, was written last."""
    return max(os.lstat(one).st_mtime for one in (path, *(path.iterdir() if path.is_dir() else ())))


def flush_to_disk(path: AnyPath) -> None:
    """Wait until a file, or a folder's list of files, is on the disk."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # nobody may be writing a pipe
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """An error of the system as the sentence that the path cannot be written, also of a file within a new folder.

    Other files' errors pass: while this one is written, others may be read and written.
    """
    try:
        yield
    except OSError as error:
        if not _is_of(path, error.filename):
            raise
        raise not_written(path, error) from error
    except WriteError as error:
        if not error.path or not isinstance(error.__cause__, OSError) or not _is_of(path, error.path):
            raise
        raise not_written(path, error.__cause__) from error.__cause__


def not_written(path: AnyPath, error: OSError) -> WriteError:
    """The system's error as a sentence, also of a link that leads nowhere, where a folder was to be made."""
    why = error.strerror or error
    for link in (Path(path), *Path(path).parents) if isinstance(error, FileExistsError) else ():
        if os.path.islink(link) and not os.path.exists(link):
            why = f"{link} is a link to {os.readlink(link)}, which is not there"
    return WriteError(f"{path} cannot be written: {why}", str(path))


def _is_of(path: Path, where: object) -> bool:
    """Whether an error that tells of a file, or of none, as when the disk is full, is of writing the path."""
    if not isinstance(where, str | bytes):
        return True
    path, where = Path(os.path.realpath(path)), Path(os.path.realpath(os.fsdecode(where)))
    beside = [one.name for one in (where, *where.parents) if one.parent == path.parent]
    return path.is_relative_to(where) or any(name == path.name or name.startswith(_hidden(path)) for name in beside)


def _hidden(path: Path) -> str:
    """How the names of its temporary files begin."""
    return f".{path.name[:NAME]}."


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A path in the same folder that nobody else has; what is there at the end is removed."""
    new = path.with_name(f"{_hidden(path)}{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        yield new
    finally:
        _remove(new)


class Access(NamedTuple):
    """Who may do what with a file or folder."""

    mode: int
    owner: int
    group: int


def access_of(path: AnyPath) -> Access | None:
    """None if there is nothing."""
    try:
        about = os.stat(path)
    except FileNotFoundError:
        return None
    return Access(stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid)


def give(new: Path, access: Access | None) -> None:
    """Let those who may do something with it be those of `access`, if that is known."""
    if access:
        for owner, group in ((access.owner, -1), (-1, access.group)):
            with suppress(OSError):  # only the superuser may give a file away; its owner may, to a group of his own
                os.chown(new, owner, group)
        new.chmod(access.mode)


def _move(new: Path, path: Path) -> None:
    """A file, as a whole, to its place."""
    flush_to_disk(new)
    os.replace(new, path)


def _take_place(new: Path, folder: Path) -> None:
    """A folder to its place, whatever is there; after an error or Ctrl-C the one that was there is there again."""
    while True:
        with _beside(folder) as old:
            try:
                with suppress(FileNotFoundError):  # there is none, or another writer is about to put his there
                    os.replace(folder, old)
                os.replace(new, folder)
                return
            except BaseException as error:
                if isinstance(error, OSError) and error.errno in _THERE:  # another writer was faster
                    continue
                if not folder.exists():
                    with suppress(FileNotFoundError):
                        os.replace(old, folder)
                raise


def _keep_name(path: Path) -> None:
    """Wait until what took its place is on the disk under its name."""
    try:
        flush_to_disk(path.parent)
    except OSError as error:
        if error.errno not in _NO_FLUSH:
            raise WriteError(f"{path} was written, but may be gone after a crash of the machine: "
                             f"{error.strerror or error}", written=True) from None  # `_told` would say it was not


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
