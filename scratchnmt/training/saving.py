"""Where a training run is: saved in its folder with everything that the next step depends on, and read again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from .. import optim
from ..arrays import Array, array_module
from ..errors import END, InputError, WriteError, encodable, listed, printable, shown
from ..files.run_folder import BEST_STATE, MODEL, STATE, RunFolder
from ..parameters import Parameters
from .plan import NOT_YET, REFERENCES, TEACHERS_TEXT, TEXTS, Plan, TrainingData, TrainingOptions, why_not
from .progress import duration

_LATER = {"skipped", "skipped_in_a_row", "left_out", "processes"}  # fields that the first versions did not have
_EARLIER = "best_score"  # one that they had, which stands in the record of the best validation, too
_MEASURED = ("epoch", "seconds", "tokens", "valid_ppl", "valid_bleu", "learning_rate")  # by each validation
_REMEDIES = {STATE: f"put {BEST_STATE}, if there is one, in its place to go on from the best validation, or begin "
                    "again with overwrite=True",
             BEST_STATE: "remove it, and the run goes on from its last state"}


@dataclass
class State:
    """Where a run is: with weights, optimizer and average, all that the next step depends on."""

    step: int = 0
    epoch: int = 0  # finished ones
    position: int = 0  # batches of the present epoch that are done
    tokens: int = 0  # target tokens
    seconds: float = 0.0  # at the last save
    nats: float = 0.0  # training loss since the last validation
    nats_tokens: int = 0  # target tokens that it is of; of expected risk, sentences
    validated_step: int = 0
    best_step: int = 0
    misses: int = 0  # validations since the best one, or since the last reload
    trials: int = 0  # after which it went back to the best state
    decay: float = 1.0  # what the trials have left of the learning rate
    average_updates: int = 0
    skipped: int = 0  # steps that were not finite
    skipped_in_a_row: int = 0
    processes: int = 0  # that computed the last step; 0: it does not tell
    left_out: list[int] = field(default_factory=list)  # validation pairs that are not measured
    history: list[dict[str, Any]] = field(default_factory=list)  # the records of metrics.jsonl

    @classmethod
    def from_dict(cls, values: Any) -> State:
        """The state of `asdict`; InputError, saying what is wrong, if no run can have been in it."""
        if not isinstance(values, dict):
            raise InputError(f"its state is {shown(values)}")
        values = {name: value for name, value in values.items() if name != _EARLIER}
        known = {field.name for field in fields(cls)}
        if odd := (known - _LATER - values.keys()) | (values.keys() - known):
            raise InputError(f"its state has to be of other fields ({listed(sorted(odd))})")
        state = cls(**values)
        for name, first in asdict(cls()).items():
            value = getattr(state, name)
            if not _is_like(value, first):
                raise InputError(f"its {name} is {shown(value)}")
        if not all(map(_is_whole, state.left_out)):
            raise InputError(f"its left_out is {shown(state.left_out)}")
        if not 0 <= state.decay <= 1:
            raise InputError(f"its decay is {shown(state.decay)}, expected 0 to 1")
        for name in ("validated_step", "best_step"):
            if getattr(state, name) > state.step:
                raise InputError(f"its {name} is {shown(getattr(state, name))}, behind its step {state.step}")
        for record in state.history:
            if not _is_record(record) or record["step"] > state.step:
                raise InputError(f"a record of its history is {shown(record)}")
        return state

    @property
    def best(self) -> dict[str, Any] | None:
        """The record of the best validation so far."""
        return next((record for record in self.history if record["step"] == self.best_step), None)

    def note(self, record: dict[str, Any], metric: str) -> bool:
        """Add the record of a validation; whether it is the best one so far."""
        best = self.best
        self.history.append(record)
        self.validated_step = record["step"]
        if best and rank(record, metric) <= rank(best, metric):
            self.misses += 1
            return False
        self.best_step, self.misses = record["step"], 0
        return True


def rank(record: dict[str, Any], metric: str) -> tuple[float, ...]:
    """What is larger the better a validation is: the only place that compares two of them.

    BLEU in the two decimals that are shown, as it is 0.00, or the same by chance, while a model still learns or where
    few lines are validated; of equal ones the lower perplexity is better.
    """
    perplexity = record["valid_ppl"]
    return (round(record["valid_bleu"], 2), -perplexity) if metric == "bleu" else (-perplexity,)


def _is_like(value: Any, first: Any) -> bool:
    """Whether a field of a state, which was `first` in the beginning, can have this value."""
    if isinstance(first, list):
        return isinstance(value, list)
    if isinstance(first, int):
        return _is_whole(value)
    return _is_number(value)


def _is_whole(value: Any) -> bool:
    return _is_number(value) and isinstance(value, int) and value >= 0


def _is_number(value: Any) -> bool:
    return abs(value) < END if type(value) is int else isinstance(value, float) and isfinite(value)


def _is_record(value: Any) -> bool:
    """Whether it is what a validation adds to the history: numbers, and None for the loss of steps that none took."""
    if not isinstance(value, dict) or not _is_whole(value.get("step")) or not _is_whole(value.get("workers", 1)):
        return False
    return (all(_is_number(value.get(name)) for name in _MEASURED) and "train_loss" in value
            and all(one is None or _is_number(one) for one in value.values()))


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended; str() is the report for people."""

    reason: str
    interrupted: bool
    folder: Path
    step: int
    seconds: float
    best: dict[str, Any] | None  # the record of the best validation
    curves: Path | None = None  # the picture of the learning curves, if it could be drawn

    @property
    def model_is_there(self) -> bool:
        """Whether the model of the best validation is in the folder, from which somebody may have taken it."""
        return self.best is not None and os.path.isfile(self.folder / MODEL)

    def __str__(self) -> str:
        lines = [f"stopped at step {self.step} after {duration(self.seconds)}: {self.reason}"]
        if self.best:
            where = f"saved in {self.folder / MODEL}" if self.model_is_there else f"no longer in {self.folder}"
            lines.append(f"best validation: perplexity {self.best['valid_ppl']:.2f}, BLEU "
                         f"{self.best['valid_bleu']:.2f} (greedy) at step {self.best['step']}, epoch "
                         f"{self.best['epoch']:g}; that model is {where}")
        if self.interrupted:
            lines.append(f"everything is saved: --resume goes on from step {self.step}")
        return encodable("\n".join(lines))


class Saving:
    """The weights, the optimizer and the moving average of a run, with its `State`.

    Only the first of several ranks writes; all read.  left_out: validation pairs that are not measured in any case.
    """

    def __init__(self, folder: RunFolder, plan: Plan, params: Parameters, optimizer: Any,
                 average: optim.Average | None, left_out: set[int]):
        self.folder, self.plan, self.params, self.optimizer, self.average = folder, plan, params, optimizer, average
        self.left_out = left_out
        self.saved_step: int | None = None  # of the state that it wrote or found
        self.best_step: int | None = None  # of the weights that it wrote or found

    def save(self, state: State) -> None:
        """Write all; WriteError if it cannot be, and what was saved before is then still there."""
        if self.average:
            state.average_updates = self.average.updates
        numbers = {name: value for name, value in self.optimizer.state().items() if not hasattr(value, "shape")}
        with self.noting("saved_step", state.step):
            self.folder.save_state(self._vectors(), {"state": asdict(state), "optimizer": numbers,
                                                     "fixed": self.plan.fixed()})

    @contextmanager
    def noting(self, name: str, step: int) -> Iterator[None]:
        """Inside `with` a file is written, of a step that is noted once the file is in its place."""
        try:
            yield
        except WriteError as error:
            if error.written:
                setattr(self, name, step)
            raise
        setattr(self, name, step)

    def load(self, name: str = STATE) -> State:
        """Put weights, optimizer and average back as they were.

        InputError, and nothing has moved, if that was with other data or options, or if the file is damaged.
        """
        expected = {name: (str(vector.dtype), vector.shape) for name, vector in self._vectors().items()}
        tensors, info = self.folder.read_state(name, expected,
                                               lambda info: _check_fixed(info, self.folder, self.plan, name))
        params, average = tensors.pop("params"), tensors.pop("average", None)
        with _told_of(self.folder / name):
            state = State.from_dict(info.get("state"))
            if state.position >= (batches := len(self.plan.batches(state.epoch))):
                raise InputError(f"its position is {state.position}, expected below {batches}")
            pairs = len(self.plan.valid.lengths())
            # only numbers that are known to be small go into a set: others can be chosen so that it takes long
            if not all(number < pairs for number in state.left_out) or len(self.left_out | {*state.left_out}) >= pairs:
                raise InputError(f"its left_out is {shown(state.left_out)}, expected some, not all, of the validation "
                                 "pairs")
            if not isinstance(numbers := info.get("optimizer"), dict):
                raise InputError(f"the optimizer's state is {shown(numbers)}")
            averaged = {} if average is None else {"average": average}
            for what, array in {"params": params, **averaged}.items():
                if not np.isfinite(array).all():
                    raise InputError(f"its {what} holds numbers that no run can have come to")
            self.optimizer.load_state({**tensors, **numbers})
        asarray = array_module(self.params.flat).asarray
        self.params.flat[...] = asarray(params)
        if self.average:
            self.average.flat[...] = asarray(average)
            self.average.updates = state.average_updates
        if name == STATE:
            self.saved_step = state.step
            # a run killed just behind its save has not written the best model of that very step
            self.best_step = state.best_step if state.best and state.best_step < state.step else None
        return state

    def load_best(self) -> bool:
        """Put weights, optimizer and average back as they were at the best validation, if that was kept.

        Earlier versions did not keep it while patience was 0.
        """
        if kept := self.folder.has(BEST_STATE):
            self.load(BEST_STATE)
        return kept

    def kept(self) -> str:
        """What of the run is safe, for an error's sentence."""
        if self.saved_step is None:
            return f"nothing was saved yet in {self.folder}"
        if not self.folder.keeps(STATE):
            return (f"the last good state, of step {self.saved_step}, was saved in {self.folder}, and is not to be "
                    "found there now")
        kept = self.best_step is not None and self.folder.keeps(MODEL)
        best = f", the best model is that of step {self.best_step}" if kept else ""
        return f"the last good state is kept in {self.folder}, of step {self.saved_step}{best}"

    def _vectors(self) -> dict[str, Array]:
        vectors = {name: value for name, value in self.optimizer.state().items() if hasattr(value, "shape")}
        return {"params": self.params.flat, **vectors, **({"average": self.average.flat} if self.average else {})}


def check_saved(folder: RunFolder, data: TrainingData, options: TrainingOptions) -> None:
    """InputError if what is saved in a folder, if anything, is damaged or of other data or options.

    Of several texts of teachers the data may lack the last ones, which are still to be read.
    """
    if folder.has(STATE):
        plan = Plan(data, options)
        folder.read_state(STATE, None, lambda info: _check_fixed(info, folder, plan, texts=len(data.distilled)))


def _check_fixed(info: dict[str, Any], folder: RunFolder, plan: Plan, name: str = STATE,
                 texts: int | None = None) -> None:
    """InputError if a state is of other data or options than the plan's; texts: of teachers, if not all are there."""
    before, now = info.get("fixed"), plan.fixed()
    earlier = NOT_YET | {REFERENCES: now[REFERENCES]}  # of a state that does not tell
    with _told_of(folder / name):
        if not isinstance(before, dict) or now.keys() - (earlier | before).keys():
            raise InputError(f"fixed is {shown(before)}, expected an object with {', '.join(now)}")
    before = earlier | before
    if texts is not None:
        before[TEACHERS_TEXT] = TEXTS.join(str(before[TEACHERS_TEXT]).split(TEXTS)[:texts]) or NOT_YET[TEACHERS_TEXT]
    for what, value in now.items():
        if before[what] not in (value, plan.first_texts(what) or value):
            raise InputError(f"cannot go on with {folder}: {what} was {printable(str(before[what]))}, is now {value}: "
                             f"{why_not(what, folder)}")


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """What is wrong with the content of a file, with its path and what to do about it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path} is damaged: {error}; {_REMEDIES[path.name]}") from error
