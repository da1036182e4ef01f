"""Text files: UTF-8, one sentence a line, plain or gzip; read whole, or refused with the reason.

Only line feed, with or without a carriage return before it, ends a line.  (`str.splitlines` would also
break at U+0085, U+2028 and others, which occur inside sentences of crawled text: one such character in
one of two parallel files would shift every pair after it.)
"""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

from ..errors import InputError

_GZIP_MAGIC = b"\x1f\x8b"


def read_lines(path: str | os.PathLike, *, blank_ok: bool = False) -> list[str]:
    """The lines of a text file, without their ends; a byte-order mark at its start is dropped.

    Raises InputError, naming the file, if it is missing, a directory, unreadable, a damaged gzip file,
    not UTF-8 (with the line), or, unless `blank_ok`, without any text.
    """
    lines = decode_lines(_read_bytes(path), str(path))
    if not blank_ok and not any(line.strip() for line in lines):
        raise InputError(f"{path} " + ("has only blank lines" if lines else "is empty"))
    return lines


def read_parallel(src_path: str | os.PathLike, tgt_path: str | os.PathLike) -> tuple[list[str], list[str]]:
    """The lines of two files whose lines are translations of each other.

    Blank lines are kept, so that line numbers stay true: `encode_parallel` leaves such pairs out and
    counts them.  Raises InputError as `read_lines` does, and where the numbers of lines differ.
    """
    src, tgt = read_lines(src_path), read_lines(tgt_path)
    if len(src) != len(tgt):
        raise InputError(
            f"{src_path} has {len(src)} lines and {tgt_path} has {len(tgt)}:"
            " line n of one must be the translation of line n of the other"
        )
    return src, tgt


def decode_lines(data: bytes, name: str) -> list[str]:
    """The lines of UTF-8 bytes; `name` is what an error calls them (a path, "standard input")."""
    lines = decode_utf8(data, name).removeprefix("\ufeff").split("\n")
    if not lines[-1]:
        lines.pop()  # what follows the last line end is not a line
    return [line.removesuffix("\r") for line in lines]


def decode_utf8(data: bytes, name: str, first_line: int = 1) -> str:
    """The text of UTF-8 bytes of which the first is in line `first_line`; InputError with the line if not."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + first_line
        byte = data[error.start]
        raise InputError(f"{name}, line {number}: byte 0x{byte:02x} is not UTF-8 ({error.reason})") from error


def write_atomically(path: str | os.PathLike, data: bytes) -> None:
    """Write a file so that at any moment, even after a crash, the old one or the whole new one is there.

    A link stays one: the file that it leads to is written.  So is what is no file, such as a device or a
    pipe, but not atomically.
    """
    path = Path(path)
    if path.parent == Path("/dev") or path.exists() and not path.is_file():  # /dev/stdout may lead to a file
        path.write_bytes(data)
        return
    path = Path(os.path.realpath(path))
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    flush_to_disk(path.parent)


def flush_to_disk(path: str | os.PathLike) -> None:
    """Wait until a file, or a folder's list of files, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_bytes(path: str | os.PathLike) -> bytes:
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a directory, expected a text file") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if not data.startswith(_GZIP_MAGIC):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is a damaged gzip file: {error}") from error
