"""How much of a text a vocabulary covers, counted while the text is encoded; and what one that it covers badly may be.

A model translates any text, and says as confidently what is wrong.  Text in upper case, not tokenised, in another
language or of the other side shows in two figures, u the unknown words of N (of subwords, characters, without spaces),
and T the tokens into which they are cut:

    share = u / N                  words in a WordVocabulary's sense; of subwords next to 0, even in another language
    cut   = T / N                  1 of words; of subwords 2 to 3 times that of the training text in such a case
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

from ..errors import END
from .vocab import Vocabulary

_MOST = {"words": 0.05, "characters": 0.01}  # shares; tokenised text that is like the training text has up to 0.04
_TIMES = 1.5  # the figures of the training text: where captions were learned, everyday sentences are cut so finely
_FEW, _FEW_TOKENS = 2, 10  # unknown ones, if they are not all, and tokens that say nothing: a name in a single line
_SWAPPED = 1.2  # how much worse than exchanged: what is right is about half as bad
_LOOK_AT = 1000  # pairs


class Coverage(NamedTuple):
    """The figures of a text, or of several."""

    unknown: int  # words, or, of subwords, characters
    total: int  # of the same, without spaces
    tokens: int

    @property
    def share(self) -> float:
        """Of what is unknown, from 0 to 1."""
        return self.unknown / max(self.total, 1)

    @property
    def cut(self) -> float:
        """Tokens of a word, or of a character."""
        return self.tokens / max(self.total, 1)

    def plus(self, other: Coverage) -> Coverage:
        """Of both texts together."""
        return Coverage(*(a + b for a, b in zip(self, other, strict=True)))

    def __str__(self) -> str:
        return f"{100 * self.share:.2f} %"


BothSides: TypeAlias = tuple[Coverage, Coverage]  # source and target


def read_coverage(stored: Any) -> BothSides | None:
    """As JSON has it; None of what is of an earlier version; ValueError or TypeError of what is none."""
    if stored is None:
        return None
    src, tgt = (Coverage(*map(operator.index, side)) for side in stored)
    if not all(0 <= number < END for number in (*src, *tgt)):
        raise ValueError("a number of words or tokens is none")
    return src, tgt


class CoverageCounter:
    """Counts the lines that are encoded by a vocabulary."""

    def __init__(self, vocabulary: Vocabulary):
        self.vocabulary = vocabulary
        self.unknown = self.total = self.tokens = 0

    def add(self, line: str, ids: list[int]) -> None:
        """A line and what `vocabulary.encode` made of it."""
        unknown, total = self.vocabulary.unknown(line, ids)
        self.unknown, self.total, self.tokens = self.unknown + unknown, self.total + total, self.tokens + len(ids)

    @property
    def coverage(self) -> Coverage:
        return Coverage(self.unknown, self.total, self.tokens)


def coverage_of(lines: Iterable[str], vocabulary: Vocabulary) -> Coverage:
    """The figures of some lines."""
    counter = CoverageCounter(vocabulary)
    for line in lines:
        counter.add(line, vocabulary.encode(line))
    return counter.coverage


def doubt(found: Coverage, vocabulary: Vocabulary, name: Any, side: str, usual: Coverage | None = None) -> str | None:
    """The fact that tells if `name` looks like no text that a model of this vocabulary can translate.

    side: of the vocabulary, "source" or "target"; usual: the coverage of the training text, if it is known.
    """
    most = max(_MOST[vocabulary.UNIT], _TIMES * usual.share if usual else 0)
    if found.unknown > most * found.total + min(_FEW, max(found.total - 1, 0)):
        before = "" if usual is None else f", in training {usual}"
        return (f"{found} of the {vocabulary.UNIT} of {name} are unknown to the {side} vocabulary "
                f"({found.unknown:,} of {found.total:,}{before})")
    if usual and usual.tokens and found.tokens > _TIMES * usual.cut * found.total + _FEW_TOKENS:
        return (f"{name} is cut into {found.cut / usual.cut:.1f} times as many {side} tokens a character as the "
                "training text")
    return None


def looks_swapped(src_lines: Sequence[str], tgt_lines: Sequence[str], src_vocab: Vocabulary, tgt_vocab: Vocabulary
                  ) -> bool:
    """Whether two files, of which the first pairs are looked at, would be covered better if they were exchanged."""
    src, tgt = src_lines[:_LOOK_AT], tgt_lines[:_LOOK_AT]

    def badness(*texts: tuple[Sequence[str], Vocabulary]) -> float:
        return sum(coverage.share + coverage.cut for coverage in (coverage_of(*text) for text in texts))

    return badness((src, src_vocab), (tgt, tgt_vocab)) > _SWAPPED * badness((tgt, src_vocab), (src, tgt_vocab))
