"""Vectors in the text format of GloVe and word2vec, and what such files hold in practice."""

import gzip
import os
import tracemalloc

import numpy as np
import pytest

from scratchnmt.data.embeddings import read_embeddings
from scratchnmt.data.text import LINE_LIMIT
from scratchnmt.data.vocab import SentencePieceVocabulary, WordVocabulary
from scratchnmt.errors import InputError

WORDS = WordVocabulary(["dog", "cat", "caf\u00e9", ".", "1990"])


def read(tmp_path, content, size=3, vocabulary=WORDS, name="vectors.txt"):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_embeddings(tmp_path / name, vocabulary, size)


def test_words_that_are_there_have_their_vectors(tmp_path):
    ids, vectors = read(tmp_path, "house 9 9 9\ncat 1 -2.5 3e-1\ndog 4 5 6\n")
    assert ids.tolist() == [4, 5] and vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, np.float32([[4, 5, 6], [1, -2.5, 0.3]]))


@pytest.mark.parametrize("content, ids", [
    ("4 3\ncat 1 2 3\n", [5]),  # word2vec, fastText
    ("1990 3 4 5\n", [8]),  # a word that is a number, in no header
    ("cat 1 2 3\ncat 7 7 7\n", [5]),  # twice
    ("house 7 8 9\n. . . 1 2 3\n. 4 5 6\n", [7]),  # GloVe has words with spaces
    ("cafe\u0301 1 2 3\n", [6]),  # an accent that follows its letter
    ("\ufeffcat 1 2 3  \r\n\r\ndog 1 2 3\r\n", [4, 5]),
    ("cat\t1\t2\t3\n", [5]),
    (b"caf\xe9 1 2 3\ncat 1 2 3\n", [5]),  # bytes that are no UTF-8, in a word that nobody wants
    ("<s> 1 2 3\n<unk> 1 2 3\ncat 1 2 3\n", [5]),  # special tokens keep their first vectors
], ids=lambda value: "" if isinstance(value, list) else repr(value)[:12])
def test_what_files_hold(tmp_path, content, ids):
    found = read(tmp_path, content)
    assert found.ids.tolist() == ids
    if b". . ." in (content if isinstance(content, bytes) else content.encode()):
        assert found.vectors.tolist() == [[4, 5, 6]]
    if "7 7 7" in str(content):
        assert found.vectors.tolist() == [[1, 2, 3]]


def test_gzip(tmp_path):
    assert read(tmp_path, gzip.compress(b"cat 1 2 3\n"), name="v.gz").ids.tolist() == [5]


@pytest.mark.parametrize("content, words", [
    ("cat 1 2\n", "vectors of 2 numbers, expected 3: choose --embed-size 2"),
    ("9 300\ncat 1 2 3\n", "vectors of 300 numbers, expected 3: choose --embed-size 300"),
    ("house 1 2 3\ncat 1 2\n", "line 2 has 2 numbers, expected 3"),
    ("cat 1 2 x\n", "line 1: expected a word and its numbers"),
    ("cat 1 nan 3\n", "line 1 has a number that is not finite"),
    ("house 1 2 3\n", "has no vector for any of the 5 words"),
    ("9 " + "9" * 5000 + "\ncat 1 2 3\n", "line 1: expected a word and its numbers"),
    ("", "has no vector for any"), ("cat\n", "line 1: expected a word and its numbers"),
    (b"3 3\ncat \x00\x00\x80?\x00\x00\x80?\x00\x00\x80?\n", "vectors.txt, line 2"),  # word2vec's binary form
    (b"\x1f\x8b\x08\x00", "damaged gzip"),
])
def test_what_is_wrong_is_named(tmp_path, content, words):
    with pytest.raises(InputError, match=rf"vectors.txt.*{words}|{words}"):
        read(tmp_path, content)
    with pytest.raises(InputError, match="absent does not exist"):
        read_embeddings(tmp_path / "absent", WORDS, 3)


def test_a_line_that_is_too_long_is_refused_and_not_cut(tmp_path):
    cut = b"a" * (LINE_LIMIT + 1) + b"cat 1 2 3\n"
    with pytest.raises(InputError, match="line 2 has more than 16,777,216 bytes"):
        read(tmp_path, b"house 1 2 3\n" + cut)


def test_many_columns_in_a_small_packed_file_take_little_memory(tmp_path):
    packed = gzip.compress(b"cat" + b" 1" * 2_000_000 + b"\n")
    tracemalloc.start()
    with pytest.raises(InputError, match="vectors of 2000000 numbers"):
        read(tmp_path, packed, name="v.gz")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 40e6  # the line of 4 MB, some times


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe is not a regular file"):
        read_embeddings(tmp_path / "pipe", WORDS, 3)


def test_subwords_have_the_vectors_of_whole_words_or_of_pieces(tmp_path):
    pytest.importorskip("sentencepiece")
    vocabulary = SentencePieceVocabulary.train(["dog cat dogs cats", "cat dog"] * 9, 30)
    ids = {vocabulary.token(i): i for i in range(len(vocabulary))}
    assert "\u2581dog" in ids and "s" in ids
    found = read(tmp_path, "dog 1 2 3\ns 4 5 6\n", vocabulary=vocabulary)
    assert found.ids.tolist() == [ids["\u2581dog"]]  # "s" is no word here, but the end of one
    found = read(tmp_path, "\u2581dog 1 2 3\ns 4 5 6\n", vocabulary=vocabulary)
    assert found.ids.tolist() == sorted([ids["\u2581dog"], ids["s"]])
