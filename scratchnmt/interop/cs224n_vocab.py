"""CS224N's vocab.json, both languages in one file, and our two vocabularies.

    {"src_word2id": {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "la": 4, ...}, "tgt_word2id": {...}}

The course numbers the four special tokens as we do.  A file that numbers them otherwise is read, too: `order` then says
which of its ids, that is, which rows of its embeddings, become our 0, 1, 2, ...
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..data.vocab import SPECIALS, VOCABULARY_LIMIT, Vocabulary, WordVocabulary, composed
from ..errors import InputError, shown
from ..files.atomic import write_atomically
from ..files.reading import parse_json, read_limited

SIDES = ("src_word2id", "tgt_word2id")
_SPACE = "\u2423"  # an open box


class Words(NamedTuple):
    """One language of a vocab.json."""

    vocabulary: WordVocabulary
    order: np.ndarray  # (V,) the file's id of each of our ids: W[order] are an embedding's rows as we count them
    changed: dict[str, str]  # the file's word -> ours, where they differ


def read_cs224n_vocabularies(path: str | os.PathLike) -> tuple[Words, Words]:
    """Source and target of a vocab.json.

    Our words are what stands between spaces, in Unicode's NFC.  A word of the file that is not (the course once split
    at spaces alone, so a word may hold a tab, or nothing) keeps its id: it is composed, and a space in it, or its
    being empty, is shown as U+2423.  Raises InputError, naming the file, if it is missing or not of this form: a
    special token missing, ids that are not 0, 1, 2, ... each once, two words that become one.
    """
    content = _read(path)
    src, tgt = (_words(content[side], f"{path}, {side}") for side in SIDES)
    return src, tgt


def write_cs224n_vocabularies(path: str | os.PathLike, src_vocab: Vocabulary, tgt_vocab: Vocabulary) -> None:
    """Write a vocab.json, atomically; of SentencePiece's vocabularies the pieces are the words.

    In ASCII, since the course's code opens it with the locale's encoding.
    """
    both = zip(SIDES, (src_vocab, tgt_vocab), strict=True)
    content = {side: {vocab.token(i): i for i in range(len(vocab))} for side, vocab in both}
    write_atomically(path, json.dumps(content, indent=2).encode("ascii"))


def _read(path: str | os.PathLike) -> dict[str, Any]:
    try:
        content = parse_json(read_limited(path, VOCABULARY_LIMIT), path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(side), dict) for side in SIDES):
        raise InputError(f"{path} is not a vocab.json of CS224N: it has no {' and '.join(SIDES)}")
    return content


def _words(ids: Mapping[str, Any], name: str) -> Words:
    if missing := [token for token in SPECIALS if token not in ids]:
        raise InputError(f"{name}: {' '.join(missing)} is missing")
    if not all(type(i) is int for i in ids.values()) or sorted(ids.values()) != list(range(len(ids))):
        raise InputError(f"{name}: the ids of {len(ids)} words are not 0 to {len(ids) - 1}, each once")
    if len(ids) == len(SPECIALS) or not _is_text("".join(ids)):
        raise InputError(f"{name}: there is no word" if len(ids) == len(SPECIALS) else f"{name}: a word is no text")
    in_order = sorted(ids.keys() - set(SPECIALS), key=ids.__getitem__)
    words = {word: _one_word(word) for word in in_order}
    ours = dict(zip(SPECIALS, SPECIALS, strict=True))
    for word, ours_of_it in words.items():
        if ours_of_it in ours:
            raise InputError(f"{name}: {shown(ours[ours_of_it])} and {shown(word)} are one word here, "
                             f"{shown(ours_of_it)}")
        ours[ours_of_it] = word
    order = np.array([ids[word] for word in (*SPECIALS, *in_order)])
    changed = {word: other for word, other in words.items() if word != other}
    return Words(WordVocabulary(words.values()), order, changed)


def _one_word(word: str) -> str:
    """The word as our vocabulary can hold it."""
    return "".join(_SPACE if letter.isspace() else letter for letter in composed(word)) or _SPACE


def _is_text(words: str) -> bool:
    """Not with half a surrogate pair, which JSON can write and UTF-8 cannot."""
    return not any("\ud800" <= letter <= "\udfff" for letter in words)
