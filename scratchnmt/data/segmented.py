"""Text that was segmented elsewhere, before training: its words are parts of words, which are joined again here.

Two marks are in use.  subword-nmt (Sennrich et al. 2016) ends each part but a word's last in "@@":

    "low@@ er c@@ ost"  ->  "lower cost"

SentencePiece (Kudo & Richardson 2018) writes U+2581 in the place of spaces, and a space between all parts:

    "▁low er ▁c ost"    ->  "lower cost"
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ..errors import InputError
from .vocab import SentencePieceVocabulary, Vocabulary

WORD_BEGINS, WORD_GOES_ON = "\u2581", "@@"


def joined_by_end(text: str) -> str:
    """A line without the marks of subword-nmt; one at its end is dropped, too."""
    return re.sub(f"{WORD_GOES_ON}( |$)", "", text)


def joined_by_begin(text: str) -> str:
    """A line without the marks of SentencePiece."""
    return text.replace(" ", "").replace(WORD_BEGINS, " ").strip(" ")


def joiner(vocab: Vocabulary) -> Callable[[str], str]:
    """The function that joins the parts that a vocabulary's words are; InputError if they are no parts."""
    if isinstance(vocab, SentencePieceVocabulary):
        raise InputError("remove_bpe is for text that was segmented elsewhere (train --vocab word): the pieces of this "
                         "model's own vocabulary are joined anyhow")
    words = [vocab.token(id) for id in range(len(vocab))]
    if any(word.startswith(WORD_BEGINS) for word in words):
        return joined_by_begin
    if any(word.endswith(WORD_GOES_ON) for word in words):
        return joined_by_end
    raise InputError(f'remove_bpe: no word of the target vocabulary ends in "{WORD_GOES_ON}" or begins with '
                     f'"{WORD_BEGINS}": this model\'s text was not segmented, leave it out')
