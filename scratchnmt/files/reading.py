"""Files that anybody may have made, read at a cost that their size bounds.

The rules, and where they are kept:

    a file is a regular one, never waited for              `open_regular`
    it has no more bytes than any of its kind              `read_limited`, TENSOR_HEADER
    what it is packed into does not unpack to more         `archive`
    what it holds takes a step or a few for each byte      `parse_json`, and interop/unpickle.py
    a letter of our own JSON that changed is noticed       `checksum_of`
    shapes are compared with what is expected, or with     whoever makes the arrays
    the bytes that are there, before memory is taken
    an error's message has a bounded length                InputError, of errors.py
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, Literal

from ..errors import InputError, printable
from .atomic import AnyPath

ZIP = b"PK\x03\x04"  # what an archive begins with
CHECKSUM = "sha256"  # the entry of our own JSON
DEEPEST = 50  # levels of JSON
TENSOR_HEADER = 1 << 26  # bytes of the header of a safetensors file; more is nothing that is written here


def open_regular(path: AnyPath, mode: Literal["rb", "ab+"] = "rb") -> BinaryIO:
    """An open file; InputError if it is a pipe or a device, which might be waited for without end."""
    def opener(path: str, flags: int) -> int:
        handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
        kind = os.fstat(handle).st_mode
        if stat.S_ISREG(kind) or stat.S_ISDIR(kind):  # of a folder, `open` tells itself
            return handle
        os.close(handle)
        raise InputError(f"{path} is not a regular file")

    return open(path, mode, opener=opener)  # noqa: SIM115, whoever asked closes it


def read_limited(path: AnyPath, limit: int) -> bytes:
    """The bytes of a file that has no more than `limit` of them; InputError if it has more, or is no regular file."""
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise InputError(f"{path} has more than {limit:,} bytes, which is more than is ever written there")
    return data


@contextmanager
def opened(path: AnyPath) -> Iterator[BinaryIO]:
    """A regular file, open to be read; InputError, naming it, for whatever the system says meanwhile."""
    try:
        with open_regular(path) as file:
            yield file
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def parse_json(data: bytes | str, path: AnyPath) -> Any:
    """The value; InputError, naming the file, if it is none, or nested so deep that whoever walks through it fails."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:  # of JSON or of UTF-8
        raise InputError(f"{path} is not JSON, or is damaged: {error}") from error
    if too_deep(value):
        raise InputError(f"{path} is damaged: its JSON is nested deeper than {DEEPEST} levels")
    return value


def too_deep(value: Any) -> bool:
    """Whether a value out of JSON is nested deeper than any that is read."""
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for one in level if isinstance(one, (dict, list))
                 for inner in (one.values() if isinstance(one, dict) else one)]
    return bool(level)


def check_tensor_header(path: AnyPath) -> None:
    """InputError if a safetensors file is no regular file, or its header longer than any that is written here."""
    with opened(path) as file:
        length = int.from_bytes(file.read(8), "little")
    if length > TENSOR_HEADER:
        raise InputError(f"{path} is damaged: its header would have {length:,} bytes")


class Archive:
    """A zip archive whose parts are stored, not compressed, and together no larger than the file."""

    def __init__(self, content: zipfile.ZipFile, file: BinaryIO, path: str):
        self.content, self.path, self.names = content, path, content.namelist()
        if len(set(self.names)) != len(self.names):
            raise InputError(f"{path} is damaged: it is an archive that holds a name twice")
        if sum(info.file_size for info in content.infolist()) > os.fstat(file.fileno()).st_size:
            raise InputError(f"{path} is damaged: its parts are larger than the file")

    def read(self, name: str, limit: int | None = None) -> bytes:
        """The bytes of a part; InputError if it is missing, compressed, or has more than `limit` of them."""
        try:
            info = self.content.getinfo(name)
        except KeyError as error:
            raise InputError(f"{self.path} is damaged: {printable(name)} is missing") from error
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise InputError(f"{self.path} is damaged: {printable(name)} is compressed, which neither PyTorch nor "
                             "Keras does")
        if limit is not None and info.file_size > limit:
            raise InputError(f"{self.path}: {printable(name)} has more than {limit:,} bytes, which is more than is "
                             "ever written there")
        return self.content.read(info)


@contextmanager
def archive(file: BinaryIO, path: AnyPath) -> Iterator[Archive]:
    """The archive that an open file holds; InputError, naming it, if it is damaged."""
    try:
        with zipfile.ZipFile(file) as content:
            yield Archive(content, file, str(path))
    except InputError:
        raise
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error, ValueError) as error:
        raise InputError(f"{path} is a damaged archive: {printable(str(error))}") from error


def checksum_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of all entries but the checksum, in whatever order they stand."""
    rest = {name: value for name, value in content.items() if name != CHECKSUM}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def bytes_with_checksum(content: Mapping[str, Any]) -> bytes:
    """The object as a file, with its checksum as the last entry."""
    rest = {name: value for name, value in content.items() if name != CHECKSUM}
    return (json.dumps({**rest, CHECKSUM: checksum_of(rest)}, indent=1) + "\n").encode()
