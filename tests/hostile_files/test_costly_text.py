"""Text and lists of words that are whole and made to cost more than their size."""

import bz2
import gzip
import json
import lzma
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("safetensors")
pytest.importorskip("sentencepiece")
from data.test_formats import xz_that_asks_for_4_gb
from hostile_files.bounds import bounded, cost
from test_stress import fuzz  # the script

from scratchnmt.data.formats import Column
from scratchnmt.data.text import Text, read_lines, stream_lines
from scratchnmt.data.vocab import WordVocabulary, load_vocabulary, read_vocabulary, split_words
from scratchnmt.errors import InputError
from scratchnmt.interop import read_cs224n_vocabularies
from scratchnmt.unknown import read_dictionary


def test_text_that_unpacks_to_far_more_than_its_file(tmp_path):
    for name, pack in ("gzip", gzip.compress), ("xz", lzma.compress), ("bzip2", bz2.compress):
        (tmp_path / name).write_bytes(pack(b"x" * 40_000_000))
        for load in (read_lines, Text, lambda path: list(stream_lines(path))):
            bounded(load, tmp_path / name)
    (tmp_path / "wide").write_bytes(xz_that_asks_for_4_gb(b"x" * 1000))
    bounded(read_lines, tmp_path / "wide")
    deep = "[" * 1_000_000 + "]" * 1_000_000
    (tmp_path / "deep").write_text(f'{{"a": {deep}}}\n' * 3)
    bounded(read_lines, Column(str(tmp_path / "deep"), "a"))
    bounded(Text, tmp_path / "deep")


@pytest.mark.parametrize("write", [
    lambda text: {"format": "scratchnmt words", "version": 1, "words": [text]},
    lambda text: {side: {**{token: n for n, token in enumerate(("<pad>", "<s>", "</s>", "<unk>"))}, text: 4}
                  for side in ("src_word2id", "tgt_word2id")},
])
def test_a_word_of_accents_is_read_in_time(write, tmp_path):
    """Unicode's composition takes the square of a run of them."""
    (tmp_path / "file").write_text(json.dumps(write("a" + "\u0300\u0316" * 500_000)))
    load = load_vocabulary if "words" in write("") else read_cs224n_vocabularies
    for _ in range(3):  # another process may keep the caches of this core busy for a while
        ended, seconds, _ = cost(lambda: load(tmp_path / "file"))
        if fuzz.within(1, seconds):
            break
    assert ended == fuzz.NAMES[fuzz.NOT_SEALED] and fuzz.within(1, seconds)


def test_a_line_of_accents_is_encoded_in_time():
    ended, seconds, _ = cost(lambda: WordVocabulary(["a"]).encode("a " + "\u0300\u0316" * 500_000))
    assert ended == fuzz.NAMES[fuzz.NOT_SEALED] and fuzz.within(1, seconds)


def test_long_lines_are_split_into_the_words_of_short_ones():
    rng = np.random.default_rng(0)
    letters = ["a", "e", "\u0301", "\u0316", "\u00e9", " ", "\t", "\u2000", "\u2028", "\u1f71", "\ufb33", "\u0958"]
    words = ["".join(rng.choice(letters, 8)) for _ in range(400)]
    long = " ".join(words)
    assert len(long) > 1000 and split_words(long) == [one for word in words for one in split_words(word)]
    lengths = [len(split_words(long[:n])) for n in range(900, 1100)]
    assert all(after - before in (0, 1) for before, after in pairwise(lengths))
    again = WordVocabulary(dict.fromkeys(split_words(long + " " + "e\u0301" * 800)))
    assert "<unk>" not in again.tokens(long)


@pytest.mark.parametrize("read", [read_vocabulary, read_dictionary])
def test_a_packed_list_of_one_word_again_and_again(read, tmp_path):
    pack = gzip.compress if read is read_vocabulary else bz2.compress  # of which it is known how they begin
    (tmp_path / "f").write_bytes(pack(b"a\tb\n" * 1_200_000))
    base = fuzz.child(lambda: fuzz.REFUSED)[2]
    ended, _, memory = cost(lambda: read(tmp_path / "f"))
    assert ended in (fuzz.NAMES[fuzz.REFUSED], fuzz.NAMES[fuzz.NOT_SEALED]) and memory - base < 50
    if read is read_vocabulary:  # which is no longer than words are
        with pytest.raises(InputError, match="f has more than 1,048,576 characters"):
            read(tmp_path / "f")


def test_a_packed_dictionary_of_many_long_words(tmp_path):
    words = "".join(f"{'x' * 1000}{n}\tb\n" for n in range(2000))
    (tmp_path / "f").write_bytes(lzma.compress(words.encode()))
    with pytest.raises(InputError, match="f has more than 1,048,576 characters"):
        read_dictionary(tmp_path / "f")


def test_packed_text_that_is_wanted_whole(tmp_path):
    (tmp_path / "f").write_bytes(bz2.compress((b"a" * 99 + b"\n") * 200_000))
    bounded(read_lines, tmp_path / "f")
    with pytest.raises(InputError, match="f has more than 16,777,216 characters"):
        read_lines(tmp_path / "f")
    lines = [f"{n} the same words in each line" for n in range(3000)]
    (tmp_path / "f").write_bytes(gzip.compress("\n".join(lines).encode()))
    assert read_lines(tmp_path / "f") == lines
