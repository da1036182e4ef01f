"""Text files: UTF-8, one sentence a line, plain or gzip; read whole, or refused with the reason.

What is a gzip file is told by its first bytes; one that is called .gz has to be one.

Only line feed, with or without a carriage return before it, ends a line.  (`str.splitlines` would also
break at U+0085, U+2028 and others, which occur inside sentences of crawled text: one such character in
one of two parallel files would shift every pair after it.)
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias

from ..errors import InputError

LINE_LIMIT = 1 << 24  # bytes of a line, where lines are read one by one
_GZIP_MAGIC = b"\x1f\x8b"

ByteFile: TypeAlias = BinaryIO | gzip.GzipFile  # open, to be read


class CountedLines(Protocol):
    """Lines whose number is known and which can be gone through more than once: a list of them, or a `Text`."""

    def __iter__(self) -> Iterator[str]: ...

    def __len__(self) -> int: ...


def read_lines(path: str | os.PathLike, *, blank_ok: bool = False) -> list[str]:
    """The lines of a text file, without their ends; a byte-order mark at its start is dropped.

    Raises InputError, naming the file, if it is missing, a directory, unreadable, a damaged gzip file,
    not UTF-8 (with the line), or, unless `blank_ok`, without any text.
    """
    lines = decode_lines(_read_bytes(path), str(path))
    if not blank_ok and not any(line.strip() for line in lines):
        raise _without_text(path, len(lines))
    return lines


def read_parallel(src_path: str | os.PathLike, tgt_path: str | os.PathLike) -> tuple[list[str], list[str]]:
    """The lines of two files whose lines are translations of each other.

    Blank lines are kept, so that line numbers stay true: `encode_parallel` leaves such pairs out and
    counts them.  Raises InputError as `read_lines` does, and where the numbers of lines differ.
    """
    src, tgt = read_lines(src_path), read_lines(tgt_path)
    check_parallel(src_path, len(src), tgt_path, len(tgt))
    return src, tgt


def check_parallel(src_path: str | os.PathLike, src_count: int, tgt_path: str | os.PathLike, tgt_count: int) -> None:
    """InputError if two files do not have as many lines."""
    if src_count != tgt_count:
        raise InputError(f"{src_path} has {src_count} lines and {tgt_path} has {tgt_count}:"
                         " line n of one must be the translation of line n of the other")


class Text:
    """The lines of a file, which can be gone through more than once and are never in memory as a whole.

    Raises InputError as `read_lines` does.
    """

    def __init__(self, path: str | os.PathLike):
        self.path, self.count, blank = path, 0, True
        if Path(path).exists() and not Path(path).is_file() and not Path(path).is_dir():
            raise InputError(f"{path} is not a regular file, expected a text file that can be read more than once")
        for line in stream_lines(path, checked=Path(path).is_file()):
            self.count += 1
            blank = blank and not line.strip()
        if blank:
            raise _without_text(path, self.count)

    def __iter__(self) -> Iterator[str]:
        return stream_lines(self.path, checked=True)

    def __len__(self) -> int:
        return self.count


def stream_lines(path: str | os.PathLike, *, checked: bool = False) -> Iterator[str]:
    """The lines of a text file one by one, however many there are; blank ones too.

    A file, unlike a pipe, is first read through, so that InputError, as of `read_lines`, comes at once; not if it
    was `checked` before.
    """
    if checked:
        return _stream(path)
    if Path(path).is_file():
        for _ in _stream(path):
            pass
    elif not Path(path).exists() or Path(path).is_dir():
        read_lines(path)  # which says so
    return _stream(path)


def _stream(path: str | os.PathLike) -> Iterator[str]:
    try:
        with open_text(path) as file:
            yield from lines_of(file, str(path))
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from error


def lines_of(file: ByteFile, name: str) -> Iterator[str]:
    """The lines of an open file as they come, under the same rules; none may have more than LINE_LIMIT bytes."""
    for number, data in enumerate(raw_lines(file), start=1):
        yield clean_line(data, name, number)


def raw_lines(file: ByteFile) -> Iterator[bytes]:
    """The lines of an open file with their ends; of one that is too long as much as shows it."""
    return iter(lambda: file.readline(LINE_LIMIT + 1), b"")


def clean_line(data: bytes, name: str, number: int) -> str:
    """A line as text, without its end; InputError if it is too long or not UTF-8."""
    if len(data) > LINE_LIMIT:
        raise InputError(f"{name}, line {number} has more than {LINE_LIMIT:,} bytes")
    line = decode_utf8(data, name, number)
    line = line.removeprefix("\ufeff") if number == 1 else line
    return line.removesuffix("\n").removesuffix("\r")


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


def _read_bytes(path: str | os.PathLike) -> bytes:
    try:
        with open_text(path) as file:
            return file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from error


@contextmanager
def open_text(path: str | os.PathLike) -> Iterator[ByteFile]:
    """The file, or what is in it if it is a gzip file."""
    with open(path, "rb") as file:
        compressed = file.peek(2).startswith(_GZIP_MAGIC)
        if not compressed and os.fspath(path).endswith(".gz"):
            raise gzip.BadGzipFile("it does not begin as one")
        yield gzip.GzipFile(fileobj=file) if compressed else file


def _without_text(path: str | os.PathLike, count: int) -> InputError:
    return InputError(f"{path} " + ("has only blank lines" if count else "is empty"))


def unreadable(path: str | os.PathLike, error: Exception) -> InputError:
    """The sentence for what went wrong when a text file was opened or read."""
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path} does not exist")
    if isinstance(error, IsADirectoryError):
        return InputError(f"{path} is a directory, expected a text file")
    if isinstance(error, gzip.BadGzipFile) or not isinstance(error, OSError):
        return InputError(f"{path} is a damaged gzip file: {error}")
    return InputError(f"{path} cannot be read: {error.strerror}")
