"""What is fixed before the first step: options, text, the order of the batches and the course of the learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from math import inf
from typing import Any

from .. import optim
from ..data.corpus import Corpus, LeftOut
from ..data.encode import encode_parallel
from ..data.epoch import Epoch
from ..data.vocab import Vocabulary
from ..errors import InputError, check_choice, shown, unknown_names
from .step import Recipe

_CHOICES = {"optimizer": ("adam", "sgd"), "schedule": ("constant", "luong", "linear", "cosine"),
            "batch_by": ("sentences", "tokens"), "metric": ("ppl", "bleu"), "on_nonfinite": ("stop", "skip")}
# name -> (whether whole numbers only, smallest, whether the smallest itself is allowed, largest)
_RANGES = {
    "learning_rate": (False, 0, False, inf), "momentum": (False, 0, True, 1), "warmup": (True, 0, True, inf),
    "halve_after": (True, 1, True, inf), "clip": (False, 0, True, inf), "batch_size": (True, 1, True, inf),
    "pool": (True, 1, True, inf), "accumulate": (True, 1, True, inf),
    "valid_every": (True, 0, True, inf), "valid_batch_size": (True, 1, True, inf),
    "patience": (True, 0, True, inf), "trials": (True, 1, True, inf), "lr_decay": (False, 0, False, 1),
    "average": (False, 0, True, 1), "max_epochs": (True, 1, True, inf), "max_steps": (True, 1, True, inf),
    "max_minutes": (False, 0, False, inf), "save_every": (True, 0, True, inf),
    "save_minutes": (False, 0, False, inf), "graphs": (True, 0, True, inf), "log_every": (True, 1, True, inf),
    "seed": (True, 0, True, 2**32),
}


@dataclass(frozen=True)
class TrainingOptions:
    """Options of a training run.  Raises InputError naming the option that is out of range.

    The validation that is not better than the best one before counts as a miss; at `patience` misses the
    rate is multiplied by `lr_decay` and the best state is loaded again; the `trials`-th time, training stops.
    """

    optimizer: str = "adam"  # or "sgd"
    learning_rate: float = 1e-3
    momentum: float = 0.0  # of sgd
    schedule: str = "constant"  # or "luong" (halved every epoch, in the end), "linear", "cosine" (to zero)
    warmup: int = 0  # steps over which the rate rises
    halve_after: int = 5  # epochs before the schedule "luong" halves the rate
    clip: float = 5.0  # the largest norm of a gradient, summed over tokens, averaged over sentences; 0: any
    batch_size: int = 32
    batch_by: str = "sentences"  # or "tokens": target tokens, padding included
    # Batches among which sentences of like length are brought together.  1, batches as chance makes them, learns
    # more from an epoch, and where padding is never computed, on a CPU, it takes no longer.
    pool: int = 1
    valid_every: int = 0  # steps between validations; 0: one at the end of each epoch
    valid_batch_size: int = 128
    metric: str = "ppl"  # or "bleu": what decides which validation is the best
    patience: int = 5  # 0: never give up
    trials: int = 5
    lr_decay: float = 0.5
    average: float = 0.0  # decay of a moving average of the weights, taken every ten steps; 0: none
    max_epochs: int | None = 30
    max_steps: int | None = None
    max_minutes: float | None = None
    save_every: int = 0  # steps between saves, besides those at validations; 0: by time alone
    save_minutes: float = 10.0
    graphs: int = 64  # on a GPU: steps of how many different sizes are recorded to be repeated; 0: none
    accumulate: int = 1  # parts of a batch that each process computes one after another, to save memory
    on_nonfinite: str = "stop"  # or "skip": what to do with a step whose loss or gradient is not finite
    log_every: int = 100  # steps between lines of the log, where there is no terminal
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            check_choice(name, getattr(self, name), allowed)
        for name in _RANGES:
            self._check_range(name)
        if self.schedule in ("linear", "cosine") and self.max_epochs is None and self.max_steps is None:
            raise InputError(f"schedule {self.schedule!r} ends at a known step: set max_epochs or max_steps")

    def _check_range(self, name: str) -> None:
        whole, low, low_allowed, high = _RANGES[name]
        value = getattr(self, name)
        if value is None and name.startswith("max_"):
            return
        kinds = int if whole else (int, float)
        right = isinstance(value, kinds) and not isinstance(value, bool)
        if not right or not low <= value < high or (value == low and not low_allowed):
            number = "a whole number" if whole else "a number"
            bounds = f"of at least {low}" if low_allowed else f"above {low}"
            below = f" and below {high}" if high < inf else ""
            raise InputError(f"{name} is {shown(value)}, expected {number} {bounds}{below}")

    def to_dict(self) -> dict[str, Any]:
        """Every option, in the types of JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingOptions:
        """The options of `to_dict`; what is left out has its default; InputError if a name is unknown."""
        if unknown := unknown_names(values, [field.name for field in fields(cls)]):
            raise InputError(f"unknown training options: {unknown}")
        return cls(**values)


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
        self._epochs: dict[int, Epoch] = {}  # the last two
        self.texts = {"the training text": data.train.fingerprint(), "the validation text": data.valid.fingerprint()}
        self.total_steps = self._total_steps()
        self.schedule = self._make_schedule()

    def batches(self, epoch: int) -> Epoch:
        """The batches of an epoch (from 0), as numbers of pairs, in the order of training.

        Those of the epoch before are kept: they are asked for again when the next has begun.
        """
        options = self.options
        if epoch not in self._epochs:
            self._epochs = {number: kept for number, kept in self._epochs.items() if number == epoch - 1}
            self._epochs[epoch] = Epoch(self.corpus, options.batch_size, options.batch_by, options.pool,
                                        [options.seed, _ORDER, epoch])
        return self._epochs[epoch]

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
