"""Text as it is found: every line gets its translation, whatever is in it, and a pipe may close or never end."""

import gzip
import os
import subprocess
import sys

import pytest

from scratchnmt.cli import main
from scratchnmt.data import text
from scratchnmt.data.text import lines_of, read_lines, stream_lines
from scratchnmt.errors import InputError
from scratchnmt.files.atomic import write_atomically
from scratchnmt.translate import Translator

pytest.importorskip("sacrebleu")
pytest.importorskip("sentencepiece")

LINES = [
    "plain words", "a\x00b NUL", "\ufeffmark inside \ufeff", "one\u2028line", "next\u0085line",
    "\x0bvertical\x0c feed\x1c\x1d\x1e", "e\u0301 combining \u0301\u0302\u0303",
    "\u202eright \u05e9\u05dc\u05d5\u05dd to left \u0645\u0631\u062d\u0628\u0627\u202c",
    "zero\u200bwidth\u200d joiner\ufe0f", "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U00020000",
    "\ud7ff\ue000\uffff\ufffe\U0010ffff", "a\rcarriage", "tab\there", "  spaces  ", "<s> </s> <pad> <unk>",
    "\u00a0\u2007\u202f", "", "%s {0} \\n $(x) `x`", "a" * 5000, "w " * 3000,
]


@pytest.fixture(scope="module", params=["word", "unigram"])
def trained(request, tmp_path_factory):
    """A run on such lines, as source and as target."""
    folder = tmp_path_factory.mktemp("hostile")
    src, tgt = folder / "src", folder / "tgt"
    src.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(LINES * 4).encode() + b"\r\n")
    tgt.write_bytes("\n".join(line[::-1] for line in LINES * 4).encode() + b"\n")
    valid = folder / "valid"
    valid.write_text("\n".join(LINES[:10]), encoding="utf-8", newline="")
    arguments = ["train", "--train-src", src, "--train-tgt", tgt, "--valid-src", valid, "--valid-tgt", valid, "--out",
                 folder / "run", "--vocab", request.param, "--vocab-size", 300, "--embed-size", 8, "--hidden-size", 8,
                 "--max-steps", 3, "--max-length", 50, *(["--min-count", 1] if request.param == "word" else [])]
    assert main(list(map(str, arguments))) == 0
    return folder / "run"


def test_every_line_has_a_translation_of_its_own(trained):
    translator = Translator.load(trained)
    short = [line for line in LINES if len(line) < 1000]
    together = translator.translate(short, beam_size=2)
    assert len(together) == len(short)
    for line, found in zip(short, together, strict=True):
        assert translator.translate([line], beam_size=2) == [found] and "\n" not in found
        assert bool(translator.src_vocab.encode(line)) or found == ""


@pytest.mark.parametrize("long, much", [("a" * 1_000_000, "tokens"), ("w " * 500_000, "500,000 tokens")])
def test_a_line_of_a_million_characters_is_translated_or_named(trained, long, much):
    translator = Translator.load(trained)
    if translator.src_vocab.encode(long) == [3]:  # one unknown word
        assert len(translator.translate([long], beam_size=2)) == 1
        return
    with pytest.raises(InputError, match=f"line 2 has .*{much if 'w' in long else 'tokens'}.*attention weights"):
        translator.translate(["a", long], beam_size=2)


def command(*arguments, **options):
    return subprocess.Popen([sys.executable, "-m", "scratchnmt", *map(str, arguments)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, **options)


def test_a_reader_that_has_enough_ends_the_translation(trained, tmp_path):
    (tmp_path / "long").write_text("a b c\n" * 20_000)
    process = command("translate", "--model", trained, "--input", tmp_path / "long", "--beam", 1, "--read-ahead", 1)
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 141 and process.stderr.read() == b""
    process.stderr.close()


def test_an_input_that_never_ends_is_answered_line_by_line(trained):
    process = command("translate", "--model", trained, "--beam", 1, "--read-ahead", 1, stdin=subprocess.PIPE)
    for _ in range(50):
        process.stdin.write(b"plain words\n")
        process.stdin.flush()
        assert process.stdout.readline().endswith(b"\n")
    process.kill()
    process.communicate()


def test_a_line_that_never_ends_is_refused_and_not_collected(monkeypatch, tmp_path):
    monkeypatch.setattr(text, "LINE_LIMIT", 1000)

    class Endless:
        taken = 0

        def readline(self, size):
            self.taken += size
            return b"x" * size

    endless = Endless()
    with pytest.raises(InputError, match="standard input, line 1 has more than 1,000 bytes"):
        next(lines_of(endless, "standard input"))
    assert endless.taken == 1001
    (tmp_path / "f").write_bytes(b"ok\n" + b"y" * 999 + b"\n" + b"z" * 1001)
    with pytest.raises(InputError, match="f, line 3 has more than 1,000 bytes"):
        next(stream_lines(tmp_path / "f"))


def test_a_file_is_looked_through_before_its_first_line_is_translated(tmp_path):
    (tmp_path / "f").write_bytes(b"good\n" * 1000 + b"caf\xe9\n")
    with pytest.raises(InputError, match="f, line 1001: byte 0xe9 is not UTF-8"):
        next(stream_lines(tmp_path / "f"))
    with pytest.raises(InputError, match="nowhere does not exist"):
        next(stream_lines(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="is a directory"):
        next(stream_lines(tmp_path))


def test_lines_one_by_one_are_those_of_the_whole_file(tmp_path):
    data = "\r\n".join(LINES).encode() + b"\n\n\nlast"
    for name, content in (("plain", b"\xef\xbb\xbf" + data), ("f.gz", gzip.compress(data)), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
        assert list(stream_lines(tmp_path / name)) == read_lines(tmp_path / name, blank_ok=True)


def test_a_pipe_is_read_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = subprocess.Popen(["sh", "-c", f"printf 'a\\nb\\n' > {tmp_path}/pipe"])
    assert list(stream_lines(tmp_path / "pipe")) == ["a", "b"]
    writer.wait()


def test_a_file_is_written_as_its_parts_come_and_replaced_when_all_are_there(tmp_path):
    (tmp_path / "out").write_bytes(b"old")

    def parts(fail):
        yield b"first\n"
        assert (tmp_path / "out").read_bytes() == b"old"
        if fail:
            raise KeyboardInterrupt
        yield b"second\n"

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "out", parts(True))
    assert (tmp_path / "out").read_bytes() == b"old" and os.listdir(tmp_path) == ["out"]
    write_atomically(tmp_path / "out", parts(False))
    assert (tmp_path / "out").read_bytes() == b"first\nsecond\n"
