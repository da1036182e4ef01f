"""Where a training run is: saved in its folder with everything that the next step depends on, and read again."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .. import optim
from ..arrays import Array, array_module
from ..errors import InputError, encodable
from ..files.run_folder import BEST_STATE, MODEL, STATE, RunFolder
from ..parameters import Parameters
from .plan import Plan
from .progress import duration


@dataclass
class State:
    """Where a run is: with weights, optimizer and average, all that the next step depends on."""

    step: int = 0
    epoch: int = 0  # finished ones
    position: int = 0  # batches of the present epoch that are done
    tokens: int = 0  # target tokens
    seconds: float = 0.0  # at the last save
    nats: float = 0.0  # training loss since the last validation
    nats_tokens: int = 0  # target tokens that it is of
    validated_step: int = 0
    best_step: int = 0
    best_score: float | None = None
    misses: int = 0  # validations since the best one, or since the last reload
    trials: int = 0
    decay: float = 1.0  # what the trials have left of the learning rate
    average_updates: int = 0
    skipped: int = 0  # steps that were not finite
    skipped_in_a_row: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)  # the records of metrics.jsonl

    @property
    def best(self) -> dict[str, Any] | None:
        """The record of the best validation so far."""
        return next((record for record in self.history if record["step"] == self.best_step), None)


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended; str() is the report for people."""

    reason: str
    interrupted: bool
    folder: Path
    step: int
    seconds: float
    best: dict[str, Any] | None  # the record of the best validation

    def __str__(self) -> str:
        lines = [f"stopped at step {self.step} after {duration(self.seconds)}: {self.reason}"]
        if self.best:
            lines.append(f"best validation: perplexity {self.best['valid_ppl']:.2f}, BLEU "
                         f"{self.best['valid_bleu']:.2f} (greedy) at step {self.best['step']}, epoch "
                         f"{self.best['epoch']:g}; that model is saved in {self.folder / MODEL}")
        if self.interrupted:
            lines.append(f"everything is saved: the same command with --resume goes on from step {self.step}")
        return encodable("\n".join(lines))


class Saving:
    """The weights, the optimizer and the moving average of a run, with its `State`.

    Only the first of several ranks writes; all read.
    """

    def __init__(self, folder: RunFolder, plan: Plan, params: Parameters, optimizer: Any,
                 average: optim.Average | None):
        self.folder, self.plan, self.params, self.optimizer, self.average = folder, plan, params, optimizer, average
        self.saved_step: int | None = None  # by this process
        self.best_step: int | None = None  # of the weights that it wrote or found

    def save(self, state: State) -> None:
        """Write all; WriteError if it cannot be, and what was saved before is then still there."""
        if self.average:
            state.average_updates = self.average.updates
        numbers = {name: value for name, value in self.optimizer.state().items() if not hasattr(value, "shape")}
        self.folder.save_state(self._vectors(), {"state": asdict(state), "optimizer": numbers,
                                                 "fixed": self.plan.fixed()})
        self.saved_step = state.step

    def load(self, name: str = STATE) -> State:
        """Put weights, optimizer and average back as they were; InputError if that was with other data or options."""
        expected = {name: (str(vector.dtype), vector.shape) for name, vector in self._vectors().items()}
        tensors, info = self.folder.read_state(name, expected, self._check_fixed)
        params = self.params.flat
        asarray = array_module(params).asarray
        params[...] = asarray(tensors.pop("params"))
        if self.average:
            self.average.flat[...] = asarray(tensors.pop("average"))
            self.average.updates = info["state"]["average_updates"]
        self.optimizer.load_state({**tensors, **info["optimizer"]})
        state = State(**info["state"])
        self.best_step = state.best_step if state.best else None
        return state

    def load_best(self) -> None:
        """Weights, optimizer and average of the best validation, if that was kept: not if patience was 0 until then."""
        if self.folder.has(BEST_STATE):
            self.load(BEST_STATE)

    def kept(self) -> str:
        """What of the run is safe, for an error's sentence."""
        if not self.folder.has(STATE):
            return f"nothing was saved yet in {self.folder}"
        step = "" if self.saved_step is None else f", of step {self.saved_step}"
        kept = self.best_step is not None and self.folder.has(MODEL)
        best = f", the best model is that of step {self.best_step}" if kept else ""
        return f"the last good state is kept in {self.folder}{step}{best}"

    def _vectors(self) -> dict[str, Array]:
        vectors = {name: value for name, value in self.optimizer.state().items() if hasattr(value, "shape")}
        return {"params": self.params.flat, **vectors, **({"average": self.average.flat} if self.average else {})}

    def _check_fixed(self, info: dict[str, Any]) -> None:
        """InputError if a state is of other data or options than these."""
        for what, value in self.plan.fixed().items():
            before = info.get("fixed", {}).get(what)
            if before != value and before != self.plan.first_texts(what):
                raise InputError(f"cannot go on with {self.folder}: {what} was {before}, is now {value}")
