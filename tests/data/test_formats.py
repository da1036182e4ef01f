"""What a file is, is told by its content: packed text is read, and the rest is named with what makes text of it."""

import bz2
import gzip
import io
import lzma
import pickle
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib

import numpy as np
import pytest

from scratchnmt.data import formats
from scratchnmt.data.text import Text, read_lines, stream_lines
from scratchnmt.errors import InputError

LINES = [f"line {n} é" for n in range(60)]
TEXT = "".join(line + "\n" for line in LINES).encode()
PACKERS = {"gzip": gzip.compress, "xz": lzma.compress, "bzip2": bz2.compress}
packed = pytest.mark.parametrize("name", PACKERS)


def archive():
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        about = tarfile.TarInfo("text.en")
        about.size = len(TEXT)
        tar.addfile(about, io.BytesIO(TEXT))
    return content.getvalue()


def zipped():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("text.en", TEXT)
    return content.getvalue()


def array():
    content = io.BytesIO()
    np.save(content, np.arange(3))
    return content.getvalue()


def xz_that_asks_for_4_gb(text):
    """A small file whose header says that its dictionary is as large as can be."""
    data = bytearray(lzma.compress(text))
    assert data[12:16] == b"\x02\0\x21\1"  # of the block: its size, flags, the filter LZMA2, bytes of its properties
    data[16] = 40
    data[20:24] = zlib.crc32(data[12:20]).to_bytes(4, "little")
    return bytes(data)


def refused(path, *parts):
    """By each way of reading, in one sentence."""
    for read in (read_lines, Text, lambda path: list(stream_lines(path))):
        with pytest.raises(InputError) as error:
            read(path)
        assert "\n" not in str(error.value)
        for part in (str(path), *parts):
            assert part in str(error.value)
    return str(error.value)


@packed
@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".bz2"])
def test_what_is_packed_is_read_whatever_it_is_called(tmp_path, monkeypatch, name, suffix):
    path = tmp_path / f"text{suffix}"
    path.write_bytes(PACKERS[name](TEXT))
    assert read_lines(path) == list(Text(path)) == list(stream_lines(path)) == LINES
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    assert list(stream_lines("-")) == LINES


@packed
def test_several_streams_in_one_file_follow_each_other(tmp_path, name):
    pack = PACKERS[name]
    (tmp_path / "f").write_bytes(pack(b"a\n") + pack(b"") + pack(b"b") + (b"\0" * 4 if name == "xz" else b""))
    assert read_lines(tmp_path / "f") == ["a", "b"]
    (tmp_path / "large").write_bytes(pack(TEXT * 5000))  # of many chunks
    assert read_lines(tmp_path / "large") == LINES * 5000
    (tmp_path / "nothing").write_bytes(pack(b""))
    assert read_lines(tmp_path / "nothing", blank_ok=True) == []


@packed
@pytest.mark.parametrize("spoil", [
    lambda data: data[:-5], lambda data: data[:14], lambda data: data + b"rubbish",
    lambda data: data[: len(data) // 2] + bytes(8) + data[len(data) // 2 + 8 :],
])
def test_what_is_damaged_is_named(tmp_path, name, spoil):
    (tmp_path / "f").write_bytes(spoil(PACKERS[name](TEXT)))
    refused(tmp_path / "f", f"is a damaged {name} file")


@pytest.mark.parametrize("suffix, name", [(".gz", "gzip"), (".xz", "xz"), (".bz2", "bzip2")])
def test_what_is_called_packed_has_to_be(tmp_path, suffix, name):
    (tmp_path / f"f{suffix}").write_bytes(TEXT)
    refused(tmp_path / f"f{suffix}", f"is a damaged {name} file: it does not begin as one")


@pytest.mark.parametrize("padding", [4, 1 << 16, 1 << 18])
def test_nothing_behind_the_padding_of_xz_is_left_out(tmp_path, padding):
    (tmp_path / "f").write_bytes(lzma.compress(b"one\n") + bytes(padding) + lzma.compress(b"two\n"))
    assert read_lines(tmp_path / "f") == ["one", "two"]


def test_xz_may_not_ask_for_more_memory_than_the_best_compression_needs(tmp_path, monkeypatch):
    (tmp_path / "best").write_bytes(lzma.compress(TEXT, preset=9 | lzma.PRESET_EXTREME))
    assert read_lines(tmp_path / "best") == LINES
    (tmp_path / "greedy").write_bytes(xz_that_asks_for_4_gb(TEXT))
    refused(tmp_path / "greedy", "takes more than 128 MB of memory to be unpacked", "xz -d")


def test_a_python_without_lzma_says_so(tmp_path, monkeypatch):
    (tmp_path / "f").write_bytes(lzma.compress(TEXT))
    monkeypatch.setitem(sys.modules, "lzma", None)
    with pytest.raises(InputError, match="this Python cannot unpack such files .*unpack it before"):
        read_lines(tmp_path / "f")


OTHERS = {
    "UTF-16": (TEXT.decode().encode("utf-16"), "is UTF-16,", "iconv"),
    "UTF-16BE": (b"\xfe\xff" + TEXT.decode().encode("utf-16-be"), "is UTF-16,", "iconv"),
    "UTF-16 of Chinese": ("狗跑了。\n".encode("utf-16"), "is UTF-16,", "iconv"),
    "UTF-16LE without a mark": (TEXT.decode().encode("utf-16-le"), "is UTF-16LE without a byte-order mark", "iconv"),
    "UTF-16BE without a mark": (TEXT.decode().encode("utf-16-be"), "is UTF-16BE without a byte-order mark", "iconv"),
    "UTF-32": (TEXT.decode().encode("utf-32"), "is UTF-32,", "iconv"),
    "zip": (zipped(), "is a zip archive or an office document", "unzip"),
    "tar": (archive(), "is a tar archive", "tar"),
    "tar of V7": (archive().replace(b"ustar", bytes(5)), "is a binary file", ""),
    "7z": (b"7z\xbc\xaf\x27\x1c\0\4", "is a 7z archive", ""),
    "zst": (b"\x28\xb5\x2f\xfd\x04\x00", "is a Zstandard file", ""),
    "PNG": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is a PNG image", ""),
    "JPEG": (b"\xff\xd8\xff\xe0\0\x10JFIF", "is a JPEG image", ""),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3", "is a PDF document", ""),
    "ELF": (b"\x7fELF\2\1\1" + bytes(9), "is a program", ""),
    "pickle": (pickle.dumps(LINES), "is a pickle", ""),
    "NumPy": (array(), "is a NumPy array", ""),
    "HDF5": (b"\x89HDF\r\n\x1a\n", "is an HDF5 file", ""),
    "SQLite": (b"SQLite format 3\0\x10\0", "is an SQLite database", ""),
    "zeros": (bytes(4000), "is a binary file", ""),
}


@pytest.mark.parametrize("content, sentence, program", OTHERS.values(), ids=OTHERS)
def test_other_formats_are_named_and_the_command_that_is_advised_works(tmp_path, content, sentence, program):
    path = tmp_path / "a file"
    path.write_bytes(content)
    message = refused(path, sentence, "expected UTF-8 text")
    if program and shutil.which(program):
        command = message.partition("a sentence a line: ")[2]
        assert command.startswith(program)
        subprocess.run(command, shell=True, check=True, cwd=tmp_path, stdout=subprocess.DEVNULL)
        (new,) = (one for one in tmp_path.iterdir() if one != path)
        assert read_lines(new) == (LINES if "狗" not in content.decode("utf-16", "ignore") else ["狗跑了。"])


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
@pytest.mark.parametrize("content, what", [
    (archive(), "a tar archive"), (TEXT.decode().encode("utf-16"), "UTF-16"), (lzma.compress(TEXT), "an? xz file"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
])
def test_what_is_packed_must_be_text_too(tmp_path, pack, content, what):
    path = tmp_path / "file"
    path.write_bytes(pack(content))
    with pytest.raises(InputError, match=f"is {what}, packed by .*expected UTF-8 text") as error:
        read_lines(path)
    if command := str(error.value).partition("a sentence a line: ")[2]:
        subprocess.run(command, shell=True, check=True, cwd=tmp_path)
        assert sorted(one.name for one in tmp_path.iterdir()) in (["file", "file.txt"], ["file", "text.en"])
        assert [read_lines(one) for one in tmp_path.iterdir() if one != path] == [LINES]


def test_standard_input_is_named(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(OTHERS["UTF-16"][0])))
    with pytest.raises(InputError, match="^standard input is UTF-16, .*: iconv -f UTF-16 -t UTF-8 FILE > FILE.txt$"):
        next(stream_lines("-"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(TEXT)[:-9])))
    with pytest.raises(InputError, match="^standard input is a damaged gzip file"):
        list(stream_lines("-"))
    with pytest.raises(InputError, match=r"^standard input \(-\) is read once"):
        Text("-")


@pytest.mark.parametrize("content", [
    b"\0\n", b"a\0b\nb\0a\n", b"BZh9 is a word\n", b"PK is one, too\n", b"PAR1 PAR2\n", "ﾱ ２\n".encode(), b"\x1fa\n",
    b"a\0" * 5 + b"\n", "\u0400\u0401\n".encode(), b"%PDF\n", b"{\\rt}\n",
])
def test_text_that_looks_a_little_like_something_else_is_text(tmp_path, content):
    (tmp_path / "f").write_bytes(content)
    assert read_lines(tmp_path / "f") == content.decode().split("\n")[:-1]


def test_how_far_a_file_is_read_is_told_in_its_own_bytes(tmp_path):
    for name, pack in {"plain": bytes, **PACKERS}.items():
        data = pack(TEXT)
        (tmp_path / name).write_bytes(data)
        with open(tmp_path / name, "rb") as file:
            text = formats.unpacked(file, tmp_path / name)
            assert text.read() == TEXT and formats.bytes_read(text) == len(data)
