"""What is fixed before the first step: options, text, the order of the batches and the course of the learning rate.

Every option that is not in the table FIXED may change when a run is resumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from math import fsum, inf
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from .. import optim
from ..arrays import to_device
from ..data.corpus import Corpus, Epoch, LeftOut, Sentences
from ..data.distillation import Distillation
from ..data.encode import encode_parallel
from ..data.subword_sampling import Sampler
from ..data.vocab import Vocabulary
from ..errors import END, InputError, check_choice, shown, unknown_names
from ..files.run_folder import MODEL, RunFolder
from ..metrics import TOKENIZERS, check_tokenizer, tokenizer_for
from ..models.config import DROPOUTS, NMTConfig
from ..models.nmt import NMT, Teachers
from ..parallel.workers import MOST
from .minimum_risk import MinimumRisk
from .step import Recipe

_CHOICES = {"optimizer": ("adam", "sgd"), "schedule": ("constant", "luong", "linear", "cosine"),
            "batch_by": ("sentences", "tokens"), "metric": ("ppl", "bleu"), "tokenize": TOKENIZERS,
            "on_nonfinite": ("stop", "skip"), "minimum_risk": ("none", "bleu", "chrf"),
            "risk_candidates": ("with-reference", "samples")}
# what a run had that does not tell, as it was no option yet
EARLIER = {"tokenize": "13a", "subword_sampling": 0.0, "distill_weight": 0.5, "minimum_risk": "none",
           "teacher_weight": 0.5, "risk_samples": 20, "risk_alpha": 0.005, "risk_candidates": "with-reference"}
REFERENCES, TEACHERS_TEXT, TEACHER = "the validation references", "the teacher's text", "teacher"
TEXTS = "; "  # between the fingerprints of several texts of teachers
NOT_YET: dict[str, Any] = {**EARLIER, TEACHERS_TEXT: "none", TEACHER: "none"}  # among what a state tells as fixed
# name -> (whether whole numbers only, smallest, whether the smallest itself is allowed, largest)
_RANGES = {
    "learning_rate": (False, 0, False, inf), "momentum": (False, 0, True, 1), "warmup": (True, 0, True, inf),
    "halve_after": (True, 1, True, inf), "clip": (False, 0, True, inf), "batch_size": (True, 1, True, inf),
    "pool": (True, 1, True, inf), "subword_sampling": (False, 0, True, 10), "distill_weight": (False, 0, False, 1),
    "teacher_weight": (False, 0, False, inf), "accumulate": (True, 1, True, 2**16), "workers": (True, 1, True, MOST),
    "valid_every": (True, 0, True, inf), "valid_batch_size": (True, 1, True, inf),
    "patience": (True, 0, True, inf), "trials": (True, 1, True, inf), "lr_decay": (False, 0, False, 1),
    "average": (False, 0, True, 1), "max_epochs": (True, 1, True, inf), "max_steps": (True, 1, True, inf),
    "max_minutes": (False, 0, False, inf), "save_every": (True, 0, True, inf),
    "save_minutes": (False, 0, False, inf), "keep": (True, 0, True, inf), "graphs": (True, 0, True, inf),
    "log_every": (True, 1, True, inf), "risk_samples": (True, 2, True, inf), "risk_alpha": (False, 0, False, inf),
    "seed": (True, 0, True, 2**32),
}


class Fixed(NamedTuple):
    """Options that a run keeps from its first step on, also when it is resumed."""

    options: str  # names, with spaces between
    why: str
    new_run: str  # what another run can do instead, from `instead`


_WITH_ITS_WEIGHTS = "start another run, to which --init-from {folder} gives the weights of this one"
_ANEW = "start another run"

_OF_THE_LOSS = (f"{' '.join(DROPOUTS)} label_smoothing r_drop minimum_risk risk_samples risk_alpha risk_candidates "
                "teacher teacher_weight")
_OF_THE_MODEL = " ".join(sorted({*NMTConfig.__dataclass_fields__, "dtype"} - {*_OF_THE_LOSS.split()}
                                - {"src_vocab_size", "tgt_vocab_size", "init"}))
FIXED = (
    Fixed("train_src train_tgt valid_src valid_tgt train_tsv valid_tsv columns distill",
          "it goes on with the text that it began with, wherever that lies", _WITH_ITS_WEIGHTS),
    Fixed("batch_size batch_by pool subword_sampling distill_weight seed",
          "an epoch is laid out by it, and the run may be in the middle of one", _WITH_ITS_WEIGHTS),
    Fixed("optimizer momentum", "the state of the optimizer is of it", _WITH_ITS_WEIGHTS),
    Fixed("average", "the moving average so far is of it", _WITH_ITS_WEIGHTS),
    Fixed("metric tokenize", "the best model so far was chosen by it", _WITH_ITS_WEIGHTS),
    Fixed("max_length", "the training text would be another one", _WITH_ITS_WEIGHTS),
    Fixed(_OF_THE_LOSS, "the loss would be another one", _WITH_ITS_WEIGHTS),
    Fixed("vocab vocab_size min_count joint_vocab normalization character_coverage user_symbol src_vocab tgt_vocab",
          "the embeddings are those of the tokens of its vocabularies", _ANEW),
    Fixed(_OF_THE_MODEL, "the weights are those of such a model", _ANEW),
    Fixed("init init_from src_embeddings tgt_embeddings", "only a new run has first weights", _ANEW),
)
_ROWS = {name: row for row in FIXED for name in row.options.split()}


def may_change(option: str) -> bool:
    """Whether a resumed run may have another value of this option."""
    return option not in _ROWS


def goes_with(option: str) -> bool:
    """Whether a run that is given the weights of another may have another value of this option."""
    return may_change(option) or _ROWS[option].new_run == _WITH_ITS_WEIGHTS


def why_not(option: str, folder: RunFolder) -> str:
    """The end of the sentence that refuses another value, or another text: why, and what can be done instead."""
    row = _ROWS.get(option, FIXED[0])
    new_run = row.new_run if folder.keeps(MODEL) else _ANEW  # before its first validation it has no model
    return f"{row.why}; leave it out, or {new_run.format(folder=folder)}"


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
    subword_sampling: float = 0.0  # alpha (see data/subword_sampling.py); 0: every epoch has the best segmentation
    # share of the sentences that have the teacher's translation, if there are some; of several teachers a list
    distill_weight: float | list[float] = 0.5
    teacher_weight: float = 0.5  # share of the teachers in the loss, if there are some
    valid_every: int = 0  # steps between validations; 0: one at the end of each epoch
    valid_batch_size: int = 128
    metric: str = "ppl"  # or "bleu", of equal ones perplexity: what decides which validation is the best
    tokenize: str = "auto"  # how sacreBLEU finds the words of BLEU; "auto": as fits the script of the references
    patience: int = 5  # 0: never give up
    trials: int = 5
    lr_decay: float = 0.5
    minimum_risk: str = "none"  # or "bleu", "chrf": the score of the model's own translations that is trained for
    risk_samples: int = 20  # translations that are drawn of each sentence
    risk_alpha: float = 0.005  # sharpness of the distribution over them
    risk_candidates: str = "with-reference"  # or "samples": whether the reference is among them
    average: float = 0.0  # decay of a moving average of the weights, taken every ten steps; 0: none
    max_epochs: int | None = 30
    max_steps: int | None = None
    max_minutes: float | None = None
    save_every: int = 0  # steps between saves, besides those at validations; 0: by time alone
    save_minutes: float = 10.0
    keep: int = 0  # models of the last validations that are kept besides the best one
    graphs: int = 64  # on a GPU: steps of how many different sizes are recorded to be repeated; 0: none
    workers: int = 1  # processes that share each batch, on the cores of the machine
    accumulate: int = 1  # parts of a batch that each process computes one after another, to save memory
    on_nonfinite: str = "stop"  # or "skip": what to do with a step whose loss or gradient is not finite
    log_every: int = 100  # steps between lines of the log, where there is no terminal
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            check_choice(name, getattr(self, name), allowed)
        for name in _RANGES:
            for value in self.distill_weights if name == "distill_weight" else [getattr(self, name)]:
                self._check_range(name, value)
        if self.teacher_weight > 1:
            raise InputError(f"teacher_weight is {self.teacher_weight}, expected a number above 0 and up to 1")
        if isinstance(weights := self.distill_weight, list) and not 0 < fsum(weights) <= 1:
            raise InputError(f"distill_weight is {shown(weights)}, expected a weight for each text of a teacher, with "
                             "a sum of at most 1: the references have the rest")
        if self.schedule in ("linear", "cosine") and self.max_epochs is None and self.max_steps is None:
            raise InputError(f"schedule {self.schedule!r} ends at a known step: set max_epochs or max_steps")

    def _check_range(self, name: str, value: Any) -> None:
        whole, low, low_allowed, high = _RANGES[name]
        if value is None and name.startswith("max_"):
            return
        if isinstance(value, int) and value >= END:
            high = min(high, END)
        kinds = int if whole else (int, float)
        right = isinstance(value, kinds) and not isinstance(value, bool)
        if not right or not low <= value < high or (value == low and not low_allowed):
            number = "a whole number" if whole else "a number"
            bounds = f"of at least {low}" if low_allowed else f"above {low}"
            below = f" and below {high}" if high < inf else ""
            raise InputError(f"{name} is {shown(value)}, expected {number} {bounds}{below}")

    @property
    def distill_weights(self) -> list[float]:
        """`distill_weight` of each teacher."""
        return self.distill_weight if isinstance(self.distill_weight, list) else [self.distill_weight]

    def to_dict(self) -> dict[str, Any]:
        """Every option, in the types of JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingOptions:
        """The options of `to_dict`, also of an earlier version; InputError if a name is unknown.

        What is left out has its default, or, if it was no option at first, the value that all runs had then.
        """
        if unknown := unknown_names(values, [field.name for field in fields(cls)]):
            raise InputError(f"unknown training options: {unknown}")
        return cls(**{**EARLIER, **values})


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
    distilled: tuple[Corpus, ...] = ()  # the training sources as teachers translate them (see data/distillation.py)
    teachers: tuple[NMT, ...] = ()  # whose distributions are learned from (see ops/soft_cross_entropy.py)

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

    def with_distilled(self, text: Corpus) -> TrainingData:
        """The same with the text of one more teacher."""
        return replace(self, distilled=(*self.distilled, text))


def check_distilled(texts: int, options: TrainingOptions) -> None:
    """InputError unless each of so many texts of teachers, if there are some, has its weight."""
    if texts and texts != len(options.distill_weights):
        raise InputError(f"distill_weight is {options.distill_weight}, expected a weight for each text of a teacher: "
                         f"there are {texts}")


def fingerprint(teachers: Sequence[NMT]) -> str:
    """What tells one set of teachers from another: of the names and the numbers of all weights."""
    checksum = 0
    for model in teachers:
        checksum = crc32(to_device(model.params.flat, "cpu").data, crc32(" ".join(model.params).encode(), checksum))
    return f"{len(teachers)} with checksum {checksum:08x}" if teachers else "none"


_ORDER, _DROPOUT, _SUBWORDS, _TEACHER, _DRAWS = range(1, 6)  # which stream of random numbers
_FIXED = tuple(option.name for option in fields(TrainingOptions) if not may_change(option.name))


class Plan:
    """A function of the text and the options alone, so that a resumed run finds it again.

    longest: tokens of the longest source that the model knows, if it knows no longer ones.
    """

    def __init__(self, data: TrainingData, options: TrainingOptions, longest: int | None = None):
        self.options = options
        self.corpus, self.valid, self.tgt_vocab = data.train, data.valid, data.tgt_vocab
        self.teachers = Teachers(data.teachers, options.teacher_weight) if data.teachers else None
        self.sampler = self._sampler(data, longest) if options.subword_sampling else None
        self.distillation = self._distillation(data)
        self._epochs: dict[int, Epoch] = {}  # the last two
        references = "\n".join(data.valid_references).encode("utf-8", "surrogatepass")
        self.texts = {"the training text": data.train.fingerprint(), "the validation text": data.valid.fingerprint(),
                      REFERENCES: f"{len(data.valid_references)} lines with checksum {crc32(references):08x}",
                      TEACHERS_TEXT: TEXTS.join(text.fingerprint() for text in data.distilled) or "none",
                      TEACHER: fingerprint(data.teachers)}
        self.tokenize = tokenizer_for(data.valid_references, options.tokenize)
        check_tokenizer(self.tokenize)
        self.epoch_steps = len(self.batches(0))  # by tokens, later epochs have about as many as the first
        self.total_steps = self._total_steps(options)
        self.schedule = self.schedule_of(options)

    def batches(self, epoch: int) -> Epoch:
        """The batches of an epoch (from 0), as numbers of pairs, in the order of training.

        Those of the epoch before are kept: they are asked for again when the next has begun.
        """
        options = self.options
        if epoch not in self._epochs:
            self._epochs = {number: kept for number, kept in self._epochs.items() if number == epoch - 1}
            self._epochs[epoch] = Epoch(self.corpus, options.batch_size, options.batch_by, options.pool,
                                        [options.seed, _ORDER, epoch], self._sentences(epoch))
        return self._epochs[epoch]

    def _sentences(self, epoch: int) -> Sentences:
        """The training text as an epoch has it."""
        seed = self.options.seed
        text = self.distillation.epoch([seed, _TEACHER, epoch]) if self.distillation else self.corpus
        return self.sampler.epoch([seed, _SUBWORDS, epoch], text) if self.sampler else text

    def _sampler(self, data: TrainingData, longest: int | None) -> Sampler:
        """What draws the segmentations of all epochs."""
        most = inf if data.train.max_length is None else data.train.max_length
        known = [longest, *(teacher.config.longest for teacher in data.teachers)]
        return Sampler(data.train, (data.src_vocab, data.tgt_vocab), self.options.subword_sampling,
                       limits=(min([most, *(one for one in known if one is not None)]), most))

    def _distillation(self, data: TrainingData) -> Distillation | None:
        return Distillation(data.train, data.distilled, self.options.distill_weights) if data.distilled else None

    def recipe(self, xp: Any) -> Recipe:
        """What a step does besides the gradient; what is random is a function of the seed, the step and the part."""
        options = self.options
        def generator(step: int, part: int, stream: int = _DROPOUT, xp: Any = xp) -> Any:
            return xp.random.default_rng([options.seed, stream, step, *[part] * bool(part)])

        risk = None if options.minimum_risk == "none" else MinimumRisk(
            vocab=self.tgt_vocab, metric=options.minimum_risk, tokenize=self.tokenize, samples=options.risk_samples,
            alpha=options.risk_alpha, with_reference=options.risk_candidates == "with-reference",
            generator=partial(generator, stream=_DRAWS, xp=np))
        return Recipe(clip=options.clip, seed=options.seed, graphs=options.graphs, stop=options.on_nonfinite == "stop",
                      generator=generator, risk=risk, teachers=self.teachers)

    def fixed(self) -> dict[str, Any]:
        """What must be the same when a run is resumed, by name."""
        return {**self.texts, **{name: getattr(self.options, name) for name in _FIXED}, "tokenize": self.tokenize}

    def first_texts(self, what: str) -> str | None:
        """What a run of the first version notes of a text."""
        texts = {"the training text": self.corpus, "the validation text": self.valid}
        return texts[what].first_fingerprint() if what in texts else None

    def _total_steps(self, options: TrainingOptions) -> int | None:
        """As far as steps and epochs limit them."""
        limits = [options.max_steps, options.max_epochs and options.max_epochs * self.epoch_steps]
        return min((limit for limit in limits if limit is not None), default=None)

    def schedule_of(self, options: TrainingOptions) -> optim.Schedule:
        """The course of the rate with other limits and schedules, too, as a run may be resumed with."""
        if options.schedule == "constant":
            return optim.constant(options.warmup)
        if options.schedule == "luong":
            return optim.luong(options.halve_after * self.epoch_steps, self.epoch_steps, options.warmup)
        total_steps = self._total_steps(options)
        assert total_steps is not None, "TrainingOptions wants max_epochs or max_steps beside these schedules"
        course = {"linear": optim.linear, "cosine": optim.cosine}[options.schedule]
        return course(total_steps, options.warmup)
