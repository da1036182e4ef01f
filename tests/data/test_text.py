import gzip
import os
import subprocess
import sys

import pytest

from scratchnmt.data.text import decode_lines, read_lines, read_parallel
from scratchnmt.errors import InputError, WriteError
from scratchnmt.files.atomic import write_atomically


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "content, lines",
    [
        (b"a\nb\n", ["a", "b"]),
        (b"a\nb", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"\n\na\n\n", ["", "", "a", ""]),
        (b"\xef\xbb\xbfa\nb\n", ["a", "b"]),
        ("caf\u00e9\u2028x\u0085y\x0b\x0cz\nb\n".encode(), ["caf\u00e9\u2028x\u0085y\x0b\x0cz", "b"]),
        (b"a\rb\n", ["a\rb"]),
        (b" a\t\r\n", [" a\t"]),
    ],
)
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_only_line_feeds_end_lines(tmp_path, content, lines, compress):
    assert read_lines(write(tmp_path / "f", compress(content))) == lines


def test_gzip_is_told_by_content_and_may_have_several_members(tmp_path):
    path = write(tmp_path / "f.txt", gzip.compress(b"a\n") + gzip.compress(b"b\n"))
    assert read_lines(path) == ["a", "b"]


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "is empty"),
        (b"\n \n\t\r\n", "only blank lines"),
        (gzip.compress(b""), "is empty"),
        (b"good\ncaf\xe9\n", "line 2: byte 0xe9 is not UTF-8"),
        (gzip.compress(b"a\nb\nc\xff"), "line 3: byte 0xff is not UTF-8"),
        (b"\xff", "line 1: byte 0xff is not UTF-8"),
        (gzip.compress(b"a\n" * 1000)[:-9], "damaged gzip"),
        (gzip.compress(b"a\n")[:4] + b"\xff" * 20, "damaged gzip"),
        (gzip.compress(b"a\n") + b"rubbish", "damaged gzip"),
    ],
)
def test_a_bad_file_is_named(tmp_path, content, message):
    path = write(tmp_path / "corpus.en", content)
    with pytest.raises(InputError, match=message) as error:
        read_lines(path)
    assert "corpus.en" in str(error.value)


def test_blank_files_may_be_wanted(tmp_path):
    assert read_lines(write(tmp_path / "f", b"\n\n"), blank_ok=True) == ["", ""]
    assert read_lines(write(tmp_path / "g", b""), blank_ok=True) == []


def test_missing_and_directory(tmp_path):
    with pytest.raises(InputError, match="nowhere does not exist"):
        read_lines(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is a directory"):
        read_lines(tmp_path)


def test_standard_input_is_named():
    with pytest.raises(InputError, match="standard input, line 1"):
        decode_lines(b"\xff\n", "standard input")


def test_parallel_counts_must_agree(tmp_path):
    src, tgt = write(tmp_path / "t.en", b"a\n\nc\n"), write(tmp_path / "t.fr", b"x\ny\nz\n")
    assert read_parallel(src, tgt) == (["a", "", "c"], ["x", "y", "z"])
    tgt.write_bytes(b"x\ny\n")
    with pytest.raises(InputError, match=r"t\.en has 3 lines and .*t\.fr has 2"):
        read_parallel(src, tgt)


def test_writing_replaces_the_whole_file_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "f"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(WriteError, match="f cannot be written: disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["f"]
    monkeypatch.undo()
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["f"]


def test_a_link_is_followed(tmp_path):
    for there in (b"old", None):
        target, link = tmp_path / f"target {there}", tmp_path / f"link {there}"
        if there:
            target.write_bytes(there)
        link.symlink_to(target)
        write_atomically(link, b"new")
        assert link.is_symlink() and target.read_bytes() == b"new"


def test_what_is_no_file_is_written_to_and_stays_what_it_is(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(pipe, b"text")
    assert os.read(reader, 9) == b"text" and pipe.is_fifo() and os.listdir(tmp_path) == ["pipe"]
    os.close(reader)


def test_the_folder_is_flushed_after_the_file(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(os.path.realpath(f"/proc/self/fd/{handle}")))
    write_atomically(tmp_path / "f", b"x")
    assert len(flushed) == 2 and flushed[1] == os.path.realpath(tmp_path)


def test_standard_output_is_not_replaced_by_another_file(tmp_path):
    code = "from scratchnmt.files.atomic import write_atomically; write_atomically('/dev/stdout', b'text')"
    with open(tmp_path / "f", "wb") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True)
        assert os.fstat(file.fileno()).st_size == 4
