"""What is fixed before the first step: the text, the order of the batches and the course of the learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import optim
from ..data.corpus import Corpus, LeftOut
from ..data.encode import encode_parallel
from ..data.epoch import Epoch
from ..data.vocab import Vocabulary
from ..errors import InputError
from .options import TrainingOptions
from .step import Recipe

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


_ORDER, _DROPOUT = 1, 2  # which stream of random numbers
_FIXED = ("seed", "batch_size", "batch_by", "pool", "optimizer", "momentum", "average", "metric")


class Plan:
    """A function of the text and the options alone, so that a resumed run finds it again."""

    def __init__(self, data: TrainingData, options: TrainingOptions):
        self.options = options
        self.corpus, self.valid = data.train, data.valid
        self.texts = {"the training text": data.train.fingerprint(), "the validation text": data.valid.fingerprint()}
        self.total_steps = self._total_steps()
        self.schedule = self._make_schedule()

    def batches(self, epoch: int) -> Epoch:
        """The batches of an epoch (from 0), as numbers of pairs, in the order of training."""
        options = self.options
        return Epoch(self.corpus, options.batch_size, options.batch_by, options.pool, [options.seed, _ORDER, epoch])

    def recipe(self, xp: Any) -> Recipe:
        """What a step does besides the gradient; dropout is a function of the seed and the step alone."""
        options = self.options
        def generator(step: int, part: int) -> Any:
            return xp.random.default_rng([options.seed, _DROPOUT, step, *[part] * bool(part)])

        return Recipe(clip=options.clip, seed=options.seed, graphs=options.graphs, stop=options.on_nonfinite == "stop",
                      generator=generator)

    def fixed(self) -> dict[str, Any]:
        """What must be the same when a run is resumed, by name."""
        return {**self.texts, **{name: getattr(self.options, name) for name in _FIXED}}

    def first_texts(self, what: str) -> str | None:
        """What a run of the first version notes of a text."""
        texts = {"the training text": self.corpus, "the validation text": self.valid}
        return texts[what].first_fingerprint() if what in texts else None

    def _total_steps(self) -> int | None:
        """As far as steps and epochs limit them; by tokens, later epochs have about as many as the first."""
        options = self.options
        self.epoch_steps = len(self.batches(0))
        limits = [options.max_steps, options.max_epochs and options.max_epochs * self.epoch_steps]
        return min((limit for limit in limits if limit is not None), default=None)

    def _make_schedule(self) -> optim.Schedule:
        options = self.options
        if options.schedule == "constant":
            return optim.constant(options.warmup)
        if options.schedule == "luong":
            return optim.luong(options.halve_after * self.epoch_steps, self.epoch_steps, options.warmup)
        assert self.total_steps is not None, "TrainingOptions wants max_epochs or max_steps beside these schedules"
        course = {"linear": optim.linear, "cosine": optim.cosine}[options.schedule]
        return course(self.total_steps, options.warmup)
