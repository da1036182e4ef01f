"""Text: UTF-8, one sentence a line; read whole, or refused with the reason.

A path may be "-", which is standard input, or a `Column` of a file that has several.  What is packed, and what is no
text, is told by the first bytes of a file (see formats.py); one that is called .gz, .xz or .bz2 has to be packed.

Only line feed, with or without a carriage return before it, ends a line.  (`str.splitlines` would also
break at U+0085, U+2028 and others, which occur inside sentences of crawled text: one such character in
one of two parallel files would shift every pair after it.)
"""

from __future__ import annotations

import gzip
import os
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeAlias

from ..errors import InputError
from .formats import LOOKED_AT, STANDARD_INPUT, ByteFile, Column, DamagedFileError, check_is_no_table, unpacked

LINE_LIMIT = 1 << 24  # bytes of a line
_WHOLE = 1 << 24, 100  # characters of a text that is wanted whole, or as many for each byte of its file
READ_ERRORS = OSError, EOFError, zlib.error  # of a file that is opened or read, for `unreadable`

TextPath: TypeAlias = "str | os.PathLike[str]"  # "-" is standard input


class CountedLines(Protocol):
    """Lines whose number is known and which can be gone through more than once: a list of them, or a `Text`."""

    def __iter__(self) -> Iterator[str]: ...

    def __len__(self) -> int: ...


def read_lines(path: TextPath, *, blank_ok: bool = False) -> list[str]:
    """The lines of a text file, without their ends; a byte-order mark at its start is dropped.

    Raises InputError, naming the file, if it is missing, a directory, unreadable, damaged, of a format that is not
    read, not UTF-8 (with the line), of more than 16 million characters and 100 for each byte of the file,
    which may be packed (of a pipe: of any length), or, unless `blank_ok`, without any text.
    """
    return list(each_line(path, blank_ok=blank_ok, limit=most_characters(path, *_WHOLE)))


def most_characters(path: TextPath, least: int, times: int) -> int | None:
    """Of a text that is wanted whole and may be packed: `least`, or `times` for each byte of its file.

    None where that is not known: of a pipe.
    """
    try:
        status = None if path == "-" else os.stat(path)
    except OSError:
        return None  # the error is the reader's
    return max(least, times * status.st_size) if status and stat.S_ISREG(status.st_mode) else None


def each_line(path: TextPath, *, blank_ok: bool = False, limit: int | None = None) -> Iterator[str]:
    """The lines of a text file one by one, so that not all are in memory: what is packed may be far more than its file.

    Errors as of `read_lines`, of more than `limit` characters if there is one.
    """
    count, size, blank = 0, 0, True
    for count, line in enumerate(_stream(path), start=1):  # noqa: B007  how many there were
        size += len(line) + 1
        if limit is not None and size > limit:
            raise InputError(f"{name_of(path)} has more than {limit:,} characters; if it is packed, unpack it")
        blank = blank and not line.strip()
        yield line
    if blank and not blank_ok:
        raise _without_text(path, count)


def read_parallel(src_path: TextPath, tgt_path: TextPath) -> tuple[list[str], list[str]]:
    """The lines of two files whose lines are translations of each other.

    Blank lines are kept, so that line numbers stay true: `encode_parallel` leaves such pairs out and
    counts them.  Raises InputError as `read_lines` does, for a table, and where the numbers of lines differ.
    """
    src, tgt = read_lines(src_path), read_lines(tgt_path)
    for path, lines in (src_path, src), (tgt_path, tgt):
        check_is_no_table(path, lines)
    check_parallel(src_path, len(src), tgt_path, len(tgt))
    return src, tgt


def check_parallel(src_path: TextPath, src_count: int, tgt_path: TextPath, tgt_count: int) -> None:
    """InputError if two files do not have as many lines."""
    if src_count != tgt_count:
        raise InputError(f"{name_of(src_path)} has {src_count} lines and {name_of(tgt_path)} has {tgt_count}:"
                         " line n of one must be the translation of line n of the other")


class Text:
    """The lines of a file, which can be gone through more than once and are never in memory as a whole.

    Raises InputError as `read_lines` does, and for a table.
    """

    def __init__(self, path: TextPath):
        self.path, self.count, blank = path, 0, True
        file_status(path)
        for line in _sentences(path):
            self.count += 1
            blank = blank and not line.strip()
        if blank:
            raise _without_text(path, self.count)

    def __iter__(self) -> Iterator[str]:
        return _stream(self.path)

    def __len__(self) -> int:
        return self.count


def file_status(path: TextPath) -> os.stat_result:
    """The status of a text file that can be read more than once; InputError if it is none."""
    expected = "expected a text file that can be read more than once"
    if path == "-":
        raise InputError(f"standard input (-) is read once, {expected}")
    try:
        status = os.stat(path)
    except OSError as error:
        raise unreadable(path, error) from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{path} is a directory, expected a text file")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path} is not a regular file, {expected}")
    return status


def stream_lines(path: TextPath) -> Iterator[str]:
    """The lines of a text one by one, however many there are; blank ones too.

    A file, unlike a pipe, is first read through, so that InputError, as of `read_parallel`, comes at once.
    """
    if Path(path).is_file():
        for _ in _sentences(path):
            pass
    elif path != "-" and (not Path(path).exists() or Path(path).is_dir()):
        file_status(path)  # which says so
    return _sentences(path)


def _sentences(path: TextPath) -> Iterator[str]:
    """The lines of a text, InputError at the end of the first ones if they are a table's."""
    first: list[str] = []
    for line in _stream(path):
        if len(first) < LOOKED_AT:
            first.append(line)
            if len(first) == LOOKED_AT:
                check_is_no_table(path, first)
        yield line
    check_is_no_table(path, first)


def _stream(path: TextPath) -> Iterator[str]:
    try:
        with open_text(path) as file:
            yield from lines_of(file, path)
    except READ_ERRORS as error:
        raise unreadable(path, error) from error


def lines_of(file: ByteFile, path: TextPath) -> Iterator[str]:
    """The lines of an open file as they come, under the same rules; none may have more than LINE_LIMIT bytes."""
    for number, data in enumerate(raw_lines(file), start=1):
        yield clean_line(data, path, number)


def raw_lines(file: ByteFile) -> Iterator[bytes]:
    """The lines of an open file with their ends; of one that is too long as much as shows it."""
    return iter(lambda: file.readline(LINE_LIMIT + 1), b"")


def clean_line(data: bytes, path: TextPath, number: int) -> str:
    """A line, or what it has in a `Column`, as text without its end; InputError if it is too long or not UTF-8."""
    check_length(data, path, number)
    line = decode_utf8(data, name_of(path), number)
    line = line.removeprefix("\ufeff") if number == 1 else line
    line = line.removesuffix("\n").removesuffix("\r")
    return path.of(line, number) if isinstance(path, Column) else line


def check_length(data: bytes, path: TextPath, number: int) -> None:
    """InputError if a line of `raw_lines` is too long, of which the rest would be taken for the next one."""
    if len(data) > LINE_LIMIT:
        raise InputError(f"{name_of(path)}, line {number} has more than {LINE_LIMIT:,} bytes")


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


@contextmanager
def open_text(path: TextPath) -> Iterator[ByteFile]:
    """The file, or what is in it if it is packed; InputError if it is known to be no text, READ_ERRORS otherwise."""
    if path == "-":
        yield unpacked(sys.stdin.buffer, STANDARD_INPUT)
        return
    with open(path, "rb") as file:
        yield unpacked(file, path)


def name_of(path: TextPath) -> str:
    """What an error calls it."""
    return STANDARD_INPUT if path == "-" else str(path)


def _without_text(path: TextPath, count: int) -> InputError:
    return InputError(f"{name_of(path)} " + ("has only blank lines" if count else "is empty"))


def unreadable(path: TextPath, error: Exception) -> InputError:
    """The sentence for what went wrong when a text file was opened or read."""
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path} does not exist")
    if isinstance(error, IsADirectoryError):
        return InputError(f"{path} is a directory, expected a text file")
    if isinstance(error, DamagedFileError):
        return InputError(f"{name_of(path)} {error}")
    if isinstance(error, gzip.BadGzipFile) or not isinstance(error, OSError):
        return InputError(f"{name_of(path)} is a damaged gzip file: {error}")
    return InputError(f"{name_of(path)} cannot be read: {error.strerror}")
