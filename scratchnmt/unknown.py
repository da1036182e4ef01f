"""Unknown words: what the translation says <unk> for is taken from the source, where the attention looked.

A vocabulary of words holds the frequent ones; for all others a model can only say <unk>.  For every y_t = <unk> of a
translation, with a[t] the attention weights of the step that gave it and x_1 ... x_S the source words,

    s(t) = argmax_s a[t, s]                                                                            (1)
    y_t  = dictionary[x_s(t)], or x_s(t) itself where the dictionary has no entry                      (2)

Luong, Sutskever et al. (2015, "Addressing the Rare Word Problem in Neural Machine Translation") train a model without
attention to point at a word and then do (2); Jean et al. (2015) and Luong, Pham & Manning (2015) point by the
attention, (1).  That needs no other training; of names and numbers the copy is often right.

Nothing else changes: the search, its order and its scores are those of the translation with <unk>.

Sizes: T target steps, S source words.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from .data.text import each_line, most_characters
from .data.vocab import UNK, WORDS, SentencePieceVocabulary, Vocabulary, joiner, split_words
from .errors import ArgumentError, InputError
from .search import Hypothesis
from .search.model import attends

Writer: TypeAlias = Callable[[str, Hypothesis], str]  # of the source line and the hypothesis for it


def writer(model: Any, src_vocab: Vocabulary, tgt_vocab: Vocabulary, replace_unknown: bool,
           dictionary: Mapping[str, str] | None, pieces: bool = False, remove_bpe: bool = False) -> Writer:
    """How a translation becomes text: as the vocabulary decodes it, with its unknown words replaced, or as its tokens.

    remove_bpe: then its words, which are parts of words, are joined (see data/vocab.py).

    Raises InputError for a dictionary that would not be used, a model without attention, vocabularies of pieces, words
    that are no parts, and tokens with their unknown words replaced or joined.
    """
    if remove_bpe:
        if pieces:
            raise InputError("pieces and remove_bpe exclude each other: what is joined is no token")
        write, join = writer(model, src_vocab, tgt_vocab, replace_unknown, dictionary), joiner(tgt_vocab)
        return lambda line, hypothesis: join(write(line, hypothesis))
    if pieces and replace_unknown:
        raise InputError("pieces and replace_unknown exclude each other: what replaces an <unk> is no token")
    if not replace_unknown:
        if dictionary is not None:
            raise InputError("dictionary needs replace_unknown: it is for the words that replace <unk>")
        if pieces:
            return lambda line, hypothesis: " ".join(map(tgt_vocab.token, hypothesis.value))
        return lambda line, hypothesis: tgt_vocab.decode(hypothesis.value)
    if not attends(model):
        raise InputError("replace_unknown needs a model with attention: with score 'none' nothing tells which source "
                         "word an <unk> stands for")
    if any(isinstance(vocab, SentencePieceVocabulary) for vocab in (src_vocab, tgt_vocab)):
        raise InputError("replace_unknown needs vocabularies of words (train --vocab word): SentencePiece spells rare "
                         "words in pieces, without <unk>, and a piece is no word to look up")
    return lambda line, hypothesis: " ".join(replaced(hypothesis, src_vocab.tokens(line), tgt_vocab, dictionary or {}))


def replaced(found: Hypothesis, src_tokens: list[str], tgt_vocab: Vocabulary,
             dictionary: Mapping[str, str]) -> list[str]:
    """The words of a translation, each <unk> replaced by (1) and (2); found.attention (T, S) or more rows."""
    words, attention = [tgt_vocab.token(i) for i in found.value], found.attention
    for t in (t for t, i in enumerate(found.value) if i == UNK):
        if attention is None:
            raise ArgumentError("a translation with unknown words has no attention, which tells what they stand for")
        if not attention[t].any():  # local attention behind the end of the source
            continue
        word = src_tokens[int(np.argmax(attention[t]))]  # (1)
        words[t] = dictionary.get(word, word)  # (2)
    return words


def read_dictionary(path: str | os.PathLike) -> dict[str, str]:
    """A file of lines `source word, tab, translation`, UTF-8, plain or packed; of several entries the first counts.

    A translation may be several words.  As in a WordVocabulary, an accent composed with its letter and one that
    follows it are the same; capitals differ from small letters.

    Raises InputError as `read_lines` does, and naming file and line for a line of another form.
    """
    entries: dict[str, str] = {}
    for number, line in enumerate(each_line(path, limit=most_characters(path, *WORDS)), start=1):
        fields = [split_words(field) for field in line.split("\t")]
        if len(fields) != 2 or len(fields[0]) != 1 or not fields[1]:
            raise InputError(f"{path}, line {number}: expected one source word, a tab and its translation, not "
                             f"{reprlib.repr(line)}")
        (source,), target = fields
        entries.setdefault(source, " ".join(target))
    return entries
