"""What a training run reads: encoded sentence pairs, and the raw references to score against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..data.corpus import Corpus, LeftOut
from ..data.encode import encode_parallel
from ..data.vocab import Vocabulary
from ..errors import InputError

Lines = Sequence[str]


@dataclass(frozen=True)
class TrainingData:
    """Sentence pairs as ids, the raw target lines of the validation pairs, and the vocabularies."""

    train: Corpus
    valid: Corpus
    valid_references: list[str]
    src_vocab: Vocabulary
    tgt_vocab: Vocabulary
    left_out: LeftOut = LeftOut(0, 0)  # of the training pairs
    origin: dict[str, Any] = field(default_factory=dict)  # where the text came from: noted in config.json

    @classmethod
    def from_text(cls, train: tuple[Lines, Lines], valid: tuple[Lines, Lines], src_vocab: Vocabulary,
                  tgt_vocab: Vocabulary, max_length: int | None = None) -> TrainingData:
        """Encode (source lines, target lines) of both sets; `max_length` tokens hold for training alone.

        Pairs with a blank side are left out.  Raises InputError if nothing is left of a set.
        """
        return cls.of(*encode_parallel(*train, src_vocab, tgt_vocab, max_length), valid, src_vocab, tgt_vocab)

    @classmethod
    def of(cls, train: Corpus, left_out: LeftOut, valid: tuple[Lines, Lines], src_vocab: Vocabulary,
           tgt_vocab: Vocabulary, origin: dict[str, Any] | None = None) -> TrainingData:
        """The same of a corpus that is encoded already, of which `left_out` was not."""
        try:
            encoded, _ = encode_parallel(*valid, src_vocab, tgt_vocab)
        except InputError as error:
            raise InputError(f"the validation text: {error}") from error
        references = [valid[1][encoded.line(number) - 1] for number in range(len(encoded))]
        return cls(train, encoded, references, src_vocab, tgt_vocab, left_out, origin or {})
