"""What of a text is probably not meant, in sentences for `warn`: unknown words, sides exchanged, useless BLEU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..data.coverage import BothSides, Coverage, doubt, looks_swapped
from ..data.vocab import Vocabulary
from ..metrics import unfit_tokenizer
from ..training import TrainingData, TrainingOptions

Lines = tuple[Sequence[str], Sequence[str]]
_SIDES = ("source", "target")
_LEAVES_FEWER_OUT = {
    "words": "is it tokenised?  A larger --vocab-size or a smaller --min-count leaves fewer out, subwords (--vocab "
             "unigram) none",
    "characters": "are they of the language?  --character-coverage 1 leaves none out"}
_MAY_BE = "is it in upper case, not tokenised as in training, in another language or domain, or of the other side?"


def of_side(coverage: Coverage, vocabulary: Vocabulary, name: Any, usual: BothSides | None, side: str = "source"
            ) -> Iterator[str]:
    """A text that the vocabulary of a side covers badly; usual: as the vocabularies cover the training text."""
    if fact := doubt(coverage, vocabulary, name, side, usual[_SIDES.index(side)] if usual else None):
        yield f"{fact}: {_MAY_BE}"


def of_pairs(coverage: BothSides | None, lines: Lines, vocabularies: tuple[Vocabulary, Vocabulary],
             names: Sequence[Any], usual: BothSides | None) -> Iterator[str]:
    """The same of both sides, by the coverage of each; or that they are in each other's place."""
    if looks_swapped(*lines, *vocabularies):
        yield f"{names[0]} and {names[1]} look swapped: the vocabulary of the other side covers each better"
        return
    for one, vocabulary, name, side in zip(coverage or (), vocabularies, names, _SIDES, strict=False):
        yield from of_side(one, vocabulary, name, usual, side)


def of_tokenizer(tokenize: str, references: Sequence[str], name: Any) -> Iterator[str]:
    """BLEU that looks for words where the references have none."""
    if fitting := unfit_tokenizer(references, tokenize):
        yield (f"BLEU with --tokenize {tokenize} looks for words between spaces, and {name} has none there: it says "
               f"little; --tokenize {fitting} fits, for a new run or for evaluate")


def of_first_weights(options: TrainingOptions, told: Mapping[str, Any]) -> Iterator[str]:
    """Minimum risk training of a model that cannot translate yet; told: what the run was started with."""
    if options.minimum_risk != "none" and not told.get("init_from"):
        yield ("--minimum-risk is to fine-tune a model that translates (--init-from), and this one begins with random "
               "weights: it learns from its own translations, which are noise yet")


def of_run(data: TrainingData, valid_lines: Lines, names: Sequence[Any], tokenize: str, told: Mapping[str, Any]
           ) -> Iterator[str]:
    """All of the text of a run; names: of its four files; told: what it was started with, perhaps vocabularies."""
    vocabularies, usual = (data.src_vocab, data.tgt_vocab), data.train.coverage
    for one, vocabulary, name, side in zip(usual or (), vocabularies, names, _SIDES, strict=False):
        if fact := doubt(one, vocabulary, name, side):
            from_elsewhere = ("init_from", "teacher", "src_vocab" if side == "source" else "tgt_vocab")
            given = any(told.get(option) for option in from_elsewhere)
            yield f"{fact}: {_MAY_BE if given else _LEAVES_FEWER_OUT[vocabulary.UNIT]}"
    yield from of_pairs(data.valid.coverage, valid_lines, vocabularies, names[2:], usual)
    yield from of_tokenizer(tokenize, data.valid_references, names[3])
