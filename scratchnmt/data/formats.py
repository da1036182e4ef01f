"""What a file is, told by how it begins: packed text is unpacked, what is no text is named, and a table is no text.

Read are gzip, xz and bzip2, whatever the file is called.  Of other formats the error names the command that makes
text of them.  Unpacking takes little memory, however the file was made: xz alone may ask for more, and is refused it.

Files that hold both sides of a corpus are tables: columns separated by tabs (TSV), or JSON lines.  A `Column` is one
side of such a file, and is opened, counted and named like a file of its own.  A table that is given where a sentence a
line is expected would be taken for text, tabs and all: `check_is_no_table` tells them apart.
"""

from __future__ import annotations

import gzip
import importlib
import io
import json
import os
import re
import shlex
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple, TypeAlias

from ..errors import InputError, did_you_mean, listed, printable
from ..files.atomic import AnyPath
from ..files.reading import open_regular, parse_json

ByteFile: TypeAlias = BinaryIO | gzip.GzipFile | io.BufferedReader  # open, to be read

STANDARD_INPUT = "standard input"  # as errors call it
UNPACKING_MEMORY = 1 << 27  # bytes that xz may take; `xz -9` needs half of it
_HEAD = 512  # bytes that tell what a file is: those of a tar archive's first header
_CHUNK = 1 << 16  # bytes that are read at a time
LOOKED_AT = 20  # lines that tell whether a file is a table
_FEWEST = 3  # of them; fewer may have tabs by chance


class DamagedFileError(OSError):
    """A packed file that cannot be unpacked; the message is the end of a sentence about it."""


class _Packed(NamedTuple):
    """A format that is unpacked while it is read."""

    name: str
    begins: re.Pattern[bytes]
    suffix: str
    unpack: Callable[[BinaryIO], ByteFile]
    command: str


class _Other(NamedTuple):
    """A format that is not read."""

    name: str
    begins: bytes
    command: str = ""  # that makes text of it; {0} stands for the file, {1} for a new one


def packing(head: bytes) -> _Packed | None:
    """How a file is packed that begins so, if it is."""
    return next((one for one in _PACKED if one.begins.match(head)), None)


def _packing_by_name(path: AnyPath) -> _Packed | None:
    """How a file of that name should be packed, if it should."""
    return next((one for one in _PACKED if os.fspath(path).endswith(one.suffix)), None)


def _packing_of(path: AnyPath) -> _Packed | None:
    """How a file is packed, if it is; of one that cannot be looked into, what its name says."""
    try:
        with open_regular(path) as file:
            return packing(file.read(_HEAD))
    except (OSError, InputError):
        return _packing_by_name(path)


def unpacked(file: BinaryIO, path: Any) -> ByteFile:
    """The text in an open file, whose first bytes tell whether it is packed; `path` is what an error calls it.

    InputError if it is known not to be text; OSError, EOFError or zlib.error, also in reading, if it is damaged.
    """
    if not hasattr(file, "peek"):
        file = io.BufferedReader(file)  # type: ignore[type-var]  # standard input that is no real file
    head = file.peek(_HEAD)[:_HEAD]
    packed = packing(head)
    if not packed:
        if called := _packing_by_name(path):
            raise DamagedFileError(f"is a damaged {called.name} file: it does not begin as one")
        _check_text(head, path)
        return file
    text = packed.unpack(file)
    _check_text(text.peek(_HEAD)[:_HEAD], path, packed)  # type: ignore[union-attr]  # all of them have it
    return text


def bytes_read(file: ByteFile) -> int:
    """How far an open file is read, in bytes of the file itself if it is packed."""
    raw = getattr(file, "raw", None)
    return (getattr(file, "fileobj", None) or getattr(raw, "packed", None) or file).tell()


class _Unpacking(io.RawIOBase):
    """One stream after the other of an open file, by decompressor objects as bz2 and lzma have them."""

    def __init__(self, packed: BinaryIO, name: str, start: Callable[[], Any], error: type[Exception]):
        self.packed, self.name, self.start, self.error = packed, name, start, error
        self.stream = start()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = b""
        while not data:
            rest = b""
            if self.stream.eof:
                rest = self.stream.unused_data.lstrip(b"\0")  # xz may pad
                while not rest and (more := self.packed.read(_CHUNK)):
                    rest = more.lstrip(b"\0")
                if not rest:
                    return 0
                self.stream = self.start()
            elif self.stream.needs_input and not (rest := self.packed.read(_CHUNK)):
                raise self._damaged("it ends too soon")
            try:
                data = self.stream.decompress(rest, len(buffer))
            except (self.error, EOFError) as error:
                raise self._damaged(error) from error
        buffer[: len(data)] = data
        return len(data)

    def _damaged(self, why: object) -> DamagedFileError:
        if "memory usage limit" in str(why).lower():
            return DamagedFileError(f"takes more than {UNPACKING_MEMORY >> 20} MB of memory to be unpacked: do it "
                                    "before, xz -d FILE")
        return DamagedFileError(f"is a damaged {self.name} file: {why}")


def _xz(file: BinaryIO) -> io.BufferedReader:
    lzma = _module("lzma")
    start = lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=UNPACKING_MEMORY)
    return io.BufferedReader(_Unpacking(file, "xz", start, lzma.LZMAError), _CHUNK)


def _bzip2(file: BinaryIO) -> io.BufferedReader:
    return io.BufferedReader(_Unpacking(file, "bzip2", _module("bz2").BZ2Decompressor, OSError), _CHUNK)


def _module(name: str) -> Any:
    """lzma or bz2, which a Python that was built without their libraries lacks."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"this Python cannot unpack such files ({error}): unpack it before") from error


_PACKED = (
    _Packed(name="gzip", begins=re.compile(b"\x1f\x8b"), suffix=".gz",
            unpack=lambda file: gzip.GzipFile(fileobj=file), command="gzip -dc {0}"),
    _Packed(name="xz", begins=re.compile(b"\xfd7zXZ\0"), suffix=".xz", unpack=_xz, command="xz -dc {0}"),
    _Packed(name="bzip2", begins=re.compile(b"BZh[1-9](1AY&SY|\x17rE8P\x90)"), suffix=".bz2", unpack=_bzip2,
            command="bzip2 -dc {0}"),
)
_UTF16, _UTF32 = "iconv -f UTF-16 -t UTF-8 {0} > {1}", "iconv -f UTF-32 -t UTF-8 {0} > {1}"
_TAR = _Other("a tar archive", b"", "tar -xf {0}")
_OTHERS = (
    _Other("a Zstandard file", b"\x28\xb5\x2f\xfd", "zstd -d {0}"),
    _Other("an LZ4 file", b"\x04\x22\x4d\x18", "lz4 -d {0}"),
    _Other("a file of compress", b"\x1f\x9d", "gzip -d {0}"),
    _Other("a zip archive or an office document", b"PK\x03\x04", "unzip {0}"),
    _Other("a 7z archive", b"7z\xbc\xaf\x27\x1c", "7z x {0}"),
    _Other("a RAR archive", b"Rar!\x1a\x07", "unrar x {0}"),
    _Other("UTF-32", b"\xff\xfe\0\0", _UTF32),
    _Other("UTF-32", b"\0\0\xfe\xff", _UTF32),
    _Other("UTF-16", b"\xff\xfe", _UTF16),
    _Other("UTF-16", b"\xfe\xff", _UTF16),
    _Other("a PDF document", b"%PDF-", "pdftotext {0} {1}"),
    _Other("an RTF document", b"{\\rtf"),
    _Other("an office document", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
    _Other("a PNG image", b"\x89PNG\r\n\x1a\n"),
    _Other("a JPEG image", b"\xff\xd8\xff"),
    _Other("a GIF image", b"GIF89a"),
    _Other("a program", b"\x7fELF"),
    _Other("an SQLite database", b"SQLite format 3\0"),
    _Other("a Parquet file", b"PAR1\x15"),
    _Other("an Arrow file", b"ARROW1\0\0"),
    _Other("an HDF5 file", b"\x89HDF\r\n\x1a\n"),
    _Other("a NumPy array", b"\x93NUMPY"),
    *(_Other("a pickle", b"\x80" + bytes([version])) for version in range(2, 6)),
)


def _check_text(head: bytes, path: Any, packed: _Packed | None = None) -> None:
    """InputError if a file that begins so, when it is unpacked, is known not to be text."""
    if other := _what(head):
        within = f", packed by {packed.name}" if packed else ""
        raise InputError(f"{path} is {other.name}{within}, expected UTF-8 text, a sentence a line"
                         + _remedy(other, path, packed))


def _what(head: bytes) -> _Other | None:
    if other := next((one for one in _OTHERS if head.startswith(one.begins)), None):
        return other
    if inner := packing(head):  # of a file that is packed twice
        return _Other(f"a {inner.name} file", b"", inner.command + " > {1}")
    even, odd = head[::2].count(0), head[1::2].count(0)
    if len(head) >= 16 and min(even, odd) == 0 and max(even, odd) > 0.4 * len(head):  # NULs for half of all bytes
        order = "UTF-16LE" if odd else "UTF-16BE"
        return _Other(f"{order} without a byte-order mark", b"", _UTF16.replace("UTF-16", order))
    if len(head) == _HEAD and _is_tar(head):
        return _TAR
    return _Other("a binary file", b"") if len(head) >= 16 and even + odd > 0.3 * len(head) else None


def _is_tar(header: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        return True
    except tarfile.HeaderError:
        return False


def _remedy(other: _Other, path: Any, packed: _Packed | None) -> str:
    """The end of the sentence: the command that makes text of the file."""
    name = "FILE" if path == STANDARD_INPUT else os.fspath(path)
    file, new = shlex.quote(name), shlex.quote(f"{name}.txt")
    command = other.command.format(file, new)
    if packed and other is not _TAR:  # only a filter can stand behind the command that unpacks
        command = f"{packed.command.format(file)} | {other.command.format('-', new)}" if "{1}" in other.command else ""
    return f": {command}" if command else ""


@dataclass(frozen=True)
class Column(os.PathLike):
    """A column of a file: by its number, from 1, where tabs separate them, or by its key in JSON lines.

    Of nested objects a key may be a path, "translation.en".  Tabs are not quoted: a line has a column more than tabs.
    """

    path: str
    name: str

    def __fspath__(self) -> str:
        return self.path

    def __str__(self) -> str:
        return self.path

    def of(self, line: str, number: int) -> str:
        """The column's text in line `number`; InputError, naming both, if there is none.  Of a blank line it is ""."""
        if not line.strip():
            return ""
        return self._cell(line, number) if self._is_number() else self._value(line, number)

    def command(self) -> str:
        """What one types to have the column alone."""
        key = self.name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", self.name) else json.dumps(self.name)
        filter_ = f"cut -f{self.name}" if self._is_number() else f"jq -r {shlex.quote(f'.{key}')}"
        file = shlex.quote(self.path)
        packed = _packing_of(self.path)
        return f"{packed.command.format(file)} | {filter_}" if packed else f"{filter_} {file}"

    def _is_number(self) -> bool:
        return re.fullmatch("0*[1-9][0-9]{,8}", self.name) is not None

    def _cell(self, line: str, number: int) -> str:
        cells = line.split("\t")
        if int(self.name) > len(cells):
            hint = "; the columns of JSON lines are keys, such as en,de" if line.startswith("{") else ""
            raise InputError(f"{self.path}, line {number} has {len(cells)} column{'s' * (len(cells) > 1)} separated by "
                             f"tabs, and column {self.name} was asked for{hint}")
        return cells[int(self.name) - 1]

    def _value(self, line: str, number: int) -> str:
        where = f"{self.path}, line {number}"
        if not line.lstrip().startswith("{"):
            raise InputError(f"{where} is not a JSON object with the key {self.name}; columns separated by tabs are "
                             "named by their numbers, such as 1,2")
        value: Any = parse_json(line, where)
        for key in [self.name] if self.name in value else self.name.split("."):
            if not isinstance(value, dict) or key not in value:
                known = list(value) if isinstance(value, dict) else []
                only = f", only {listed(known)}{did_you_mean(key, known)}" if known else ""
                raise InputError(f"{where} has no key {self.name}{only}")
            value = value[key]
        if not isinstance(value, str) or any("\ud800" <= letter <= "\udfff" for letter in value):
            raise InputError(f"{where}: the value of {self.name} is not text")
        return value.replace("\n", " ")  # it has to be one line


def check_is_no_table(path: os.PathLike | str, lines: Sequence[str]) -> None:
    """InputError if the first lines of a text are those of a table, with what reads it."""
    lines = [line for line in lines[:LOOKED_AT] if line.strip()]
    if isinstance(path, Column) or len(lines) < _FEWEST:
        return
    name, first = ("standard input", Column("FILE", "1")) if path == "-" else (path, Column(os.fspath(path), "1"))
    tabs = {line.count("\t") for line in lines}
    if len(tabs) == 1 and tabs != {0}:
        what, example = f"{tabs.pop() + 1} columns separated by tabs", "1,2"
    elif all(line.startswith('{"') and line.rstrip().endswith("}") for line in lines):
        keys = list(parse_json(lines[0], f"{name}, line 1"))
        what, example = f"JSON lines with the keys {listed(keys)}", shlex.quote(printable(",".join(keys[:2])))
        first = Column(first.path, keys[0])
    else:
        return
    raise InputError(f"{name} has {what}, expected a sentence a line: train reads it by --train-tsv FILE "
                     f"--columns {example}; for other commands, take a column out: {first.command()}")
