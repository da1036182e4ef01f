"""Pretrained word vectors: the text format of GloVe, word2vec and fastText (.vec), plain or gzip.

A line is a word and its numbers with spaces between; a first line may tell how many words and numbers there are.
Mikolov et al. 2013; Pennington, Socher & Manning 2014.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from .text import check_length, file_status, open_text, raw_lines, unreadable
from .vocab import SPECIALS, SentencePieceVocabulary, Vocabulary, composed

_NUMBER = re.compile(rb"\d{1,9}")
_BEGINS_A_WORD = "\u2581"  # the first letter of a piece that does


class Embeddings(NamedTuple):
    """The vectors of those tokens of a vocabulary that a file has."""

    ids: np.ndarray  # (n,) int64, ascending
    vectors: np.ndarray  # (n, E) float32


def read_embeddings(path: str | os.PathLike, vocabulary: Vocabulary, size: int) -> Embeddings:
    """The vectors of `size` numbers that a file has for the tokens of a vocabulary; of a word that is there twice, the
    first.

    Of subwords, the pieces that are whole words have the words' vectors, unless the file is one of pieces itself (some
    of its words begin with U+2581).  Raises InputError, naming the file and the line, if its vectors have another
    size or are none, and if it has no token of the vocabulary.
    """
    file_status(path)  # no pipe, which several processes would share
    tokens = {vocabulary.token(i): i for i in range(len(SPECIALS), len(vocabulary))}
    if not isinstance(vocabulary, SentencePieceVocabulary):
        return _embeddings(path, _vectors(path, tokens.keys(), size), tokens)
    words = {token.removeprefix(_BEGINS_A_WORD): i for token, i in tokens.items() if token.startswith(_BEGINS_A_WORD)}
    vectors = _vectors(path, tokens.keys() | words.keys(), size)
    of_pieces = any(word.startswith(_BEGINS_A_WORD) for word in vectors)
    return _embeddings(path, vectors, tokens if of_pieces else words)


def _embeddings(path: str | os.PathLike, vectors: dict[str, np.ndarray], ids: dict[str, int]) -> Embeddings:
    known = sorted((ids[word], word) for word in vectors if word in ids)
    if not known:
        raise InputError(f"{path} has no vector for any of the {len(ids):,} words of the vocabulary")
    return Embeddings(np.array([i for i, _ in known]), np.stack([vectors[word] for _, word in known]))


def _vectors(path: str | os.PathLike, wanted: AbstractSet[str], size: int) -> dict[str, np.ndarray]:
    """Word -> its vector, of the words that are wanted."""
    vectors: dict[str, np.ndarray] = {}
    for number, line in enumerate(_lines(path), start=1):
        if number == 1:
            columns = line.split(None, 2)
            alone = len(columns) == 2 and _NUMBER.fullmatch(columns[1])
            told = int(columns[1]) if alone else sum(1 for _ in re.finditer(rb"\S+", line)) - 1
            if told != size:
                raise InputError(f"{path} has vectors of {told} numbers, expected {size}: choose --embed-size {told}"
                                 if told > 1 else f"{path}, line 1: {_EXPECTED}")
            if len(columns) == 2:
                continue
        if not line or _word(line.partition(b" ")[0]) not in wanted:
            continue
        first, *numbers = line.rsplit(b" ", size)  # there are words with spaces in them
        word = _word(first)
        if word in wanted and word not in vectors:
            vectors[word] = _vector(numbers, size, f"{path}, line {number}")
    return vectors


_EXPECTED = "expected a word and its numbers, with spaces between, the text format of GloVe and word2vec"


def _vector(numbers: list[bytes], size: int, where: str) -> np.ndarray:
    try:
        vector = np.array(numbers, dtype=np.float32)
    except ValueError as error:
        raise InputError(f"{where}: {_EXPECTED}") from error
    if len(vector) != size or not np.isfinite(vector).all():
        raise InputError(f"{where} has {len(vector)} numbers, expected {size}" if len(vector) != size
                         else f"{where} has a number that is not finite")
    return vector


def _word(data: bytes) -> str:
    return composed(data.decode("utf-8", "replace"))


def _lines(path: str | os.PathLike) -> Iterator[bytes]:
    try:
        with open_text(path) as file:
            for number, line in enumerate(raw_lines(file), start=1):
                check_length(line, path, number)
                yield line.removeprefix(b"\xef\xbb\xbf").strip().replace(b"\t", b" ")
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from error
