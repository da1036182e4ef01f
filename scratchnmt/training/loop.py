"""Training: one pass after another over shuffled batches, with validation, stopping and resuming.

A step, as in Stanford's CS224N assignment 4: loss and gradient are summed over the target tokens of a
batch and divided by its number of sentences, the gradient is clipped by its global norm, then the
optimizer moves the weights.  A validation that is not better than the best one before is a miss;
`patience` misses in a row end a trial: the rate is decayed and the best state loaded again; after
`trials` of them training stops.

Order and dropout are drawn from generators made anew from (seed, epoch) and (seed, step), so the place in
the run is all there is to save about randomness, and a resumed run is the uninterrupted one, bit for bit
on the CPU with as many threads.
"""

from __future__ import annotations

import io
import time
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from .. import checkpoint, optim
from ..arrays import array_module
from ..data.batches import Batch
from ..errors import InputError, WriteError
from ..models.nmt import NMT
from ..parallel.ranks import Ranks, divide
from . import nonfinite, step
from .data import TrainingData
from .interrupts import Interrupted, Interrupts
from .nonfinite import NotFiniteError
from .options import TrainingOptions
from .plan import Plan
from .progress import Progress, duration
from .record import draw_curves, write_metrics
from .state import State, TrainingResult
from .validation import Validation

_AVERAGE_EVERY = 10  # steps
_SKIPS = 20  # steps in a row that are not finite: by then it is the weights


class Trainer:
    """A run in its folder, from its first step or from a saved one on."""

    def __init__(self, model: NMT, data: TrainingData, options: TrainingOptions, folder: Path,
                 ranks: Ranks | None = None):
        self.model, self.data, self.options, self.folder = model, data, options, folder
        self.ranks, self.xp = ranks or Ranks(), array_module(model.params.flat)
        self.parts = self.ranks.size * options.accumulate
        self.batch: Batch | None = None  # the one at hand
        self.saved_step: int | None = None
        self.digest: str | None = None  # of the model, for the files that are written for it
        self.state = State()
        self.plan = Plan(data, options)
        self.steps = step.make(model, self._make_optimizer, self.plan.recipe(self.xp), self.ranks)
        self.optimizer = self.steps.optimizer
        self.average = optim.Average(model.params, options.average) if options.average else None
        self.batches = self.plan.batches(0)
        self.interrupts = Interrupts()
        self.validation = Validation(data, options.valid_batch_size, self.interrupts.check, self.ranks)

    def _make_optimizer(self, module: Any) -> Any:
        """Of the module `optim`, or of its fused twin."""
        options, params = self.options, self.model.params
        if options.optimizer == "adam":
            return module.Adam(params, options.learning_rate)
        return module.SGD(params, options.learning_rate, options.momentum)

    # the loop

    def run(self, progress: Progress | None = None) -> TrainingResult:
        """Train until there is a reason to stop."""
        options, state = self.options, self.state
        self.clock = time.perf_counter() - state.seconds
        minutes_left = None if options.max_minutes is None else options.max_minutes - state.seconds / 60
        self.progress = progress or Progress(total_steps=self.plan.total_steps, step=state.step,
                                             minutes_left=minutes_left, log_every=options.log_every,
                                             stream=None if self.ranks.first else io.StringIO())
        interrupted = False
        self.digest = checkpoint.model_digest(self.folder)
        try:
            try:
                with self.interrupts:
                    self.save()
                    reason = self._train()
            except Interrupted:
                reason, interrupted = "interrupted", True
                self.save()
        except WriteError as error:
            raise WriteError(f"{error}: training stopped; {self.kept()}; when that is mended, resume it") from error
        finally:
            self.progress.close()
        if self.state.history and self.ranks.first:
            draw_curves(self.folder, self.progress.say)
        return TrainingResult(reason=reason, interrupted=interrupted, folder=self.folder, step=state.step,
                              seconds=state.seconds, best=state.best)

    def _train(self) -> str:
        """Take steps and validate when it is time; the reason to stop."""
        while True:
            if self._validation_is_due():
                self._validate()
            interrupted, self.now = self.ranks.agree(self.interrupts.requested, self._seconds())
            if interrupted:
                raise Interrupted
            if reason := self._reason_to_stop():
                break
            self._step()
            if self._save_is_due():
                self.save()
        if self.state.validated_step < self.state.step or not self.state.history:
            self._validate()
        return reason

    def _step(self) -> None:
        options, state = self.options, self.state
        indices = self.batches[state.position]
        parts, tokens = self._parts(indices)
        rate = options.learning_rate * state.decay * self.plan.schedule(state.step)
        place = step.Place(state.step + 1, state.epoch + 1, tokens, state.position)
        self.steps.take(parts, len(indices), place, rate)
        state.step += 1
        state.tokens += tokens
        if self.average and state.step % _AVERAGE_EVERY == 0:
            self.average.update()
        self._note_results()
        state.position += 1
        if state.position == len(self.batches):
            state.epoch, state.position = state.epoch + 1, 0
            self.batches = self.plan.batches(state.epoch)

    def _parts(self, indices: np.ndarray) -> tuple[list[step.Part], int]:
        """What this rank computes of a batch, and the target tokens of all of it."""
        lengths, each = self.data.train.lengths(indices), self.options.accumulate
        divided = divide(indices, lengths, self.parts)
        mine = range(self.ranks.rank * each, (self.ranks.rank + 1) * each)
        parts = [step.Part(part, self.data.train.batch(divided[part]) if len(divided[part]) else None) for part in mine]
        self.batch = parts[0].batch
        return parts, int(lengths[:, 1].sum())

    def _note_results(self, wait: bool = False) -> None:
        """Count and show what is known of the steps; with `wait`, of all that were taken."""
        for result in self.steps.results(wait):
            place, nats, _ = result
            if not result.finite:
                self._not_finite(result)
                continue
            self.state.skipped_in_a_row = 0
            self.state.nats += nats
            self.state.nats_tokens += place.tokens
            self.progress.update(place.step, place.epoch, nats, place.tokens)

    def _not_finite(self, result: step.Result) -> None:
        """Tell which step, tensors and sentences, and stop or go on."""
        state, place = self.state, result.place
        batches = self.batches if place.epoch == state.epoch + 1 else self.plan.batches(place.epoch - 1)
        self.steps.drain()  # on all ranks, as computing the gradient does it on the first
        found = self.ranks.from_first(lambda: self._report(result, batches[place.position]))
        state.skipped, state.skipped_in_a_row = state.skipped + 1, state.skipped_in_a_row + 1
        if self.options.on_nonfinite == "stop" or state.skipped_in_a_row >= _SKIPS:
            so_far = f", the last of {_SKIPS} in a row" if self.options.on_nonfinite == "skip" else ""
            raise NotFiniteError(f"{nonfinite.sentence(found)}{so_far}: training stopped; {self.kept()}; resume it "
                                 f"with a lower learning_rate or clip; more in {self.folder / checkpoint.NOT_FINITE}")
        self.progress.say(f"{nonfinite.sentence(found)}: skipped, {state.skipped} so far")

    def _report(self, result: step.Result, indices: np.ndarray) -> dict[str, Any]:
        parts = divide(indices, self.data.train.lengths(indices), self.parts)
        found = nonfinite.report(result, self.steps, parts, self.data)
        nonfinite.note(self.folder, found)
        return found

    def kept(self) -> str:
        """What of the run is safe, for an error's sentence."""
        if self.saved_step is None and not (self.folder / checkpoint.STATE).exists():
            return f"nothing was saved yet in {self.folder}"
        step = "" if self.saved_step is None else f", of step {self.saved_step}"
        best = f", the best model is that of step {self.state.best_step}" if self.state.best else ""
        return f"the last good state is kept in {self.folder}{step}{best}"

    def _reason_to_stop(self) -> str | None:
        options, state = self.options, self.state
        if options.patience and state.trials >= options.trials:
            return f"no better validation in {options.trials} trials of {options.patience}"
        if options.max_steps is not None and state.step >= options.max_steps:
            return f"{options.max_steps} steps are done"
        if options.max_epochs is not None and state.epoch >= options.max_epochs:
            return f"{options.max_epochs} epochs are done"
        if options.max_minutes is not None and self.now >= 60 * options.max_minutes:
            return f"{options.max_minutes:g} minutes are over"
        return None

    # validation

    def _validation_is_due(self) -> bool:
        every, state = self.options.valid_every, self.state
        moment = state.step % every == 0 if every else state.position == 0
        return moment and state.validated_step < state.step

    def _validate(self) -> None:
        """Measure, record, keep the best, and decide whether to decay; nothing changes if interrupted."""
        options, state, model = self.options, self.state, self.model
        self._note_results(wait=True)
        if self.average:
            model = model.with_params(model.params.like(self.average.flat))
        ppl, bleu = self._perplexity(model), self.validation.bleu(model)
        epoch = round(state.epoch + state.position / len(self.batches), 3)
        record = {"step": state.step, "epoch": epoch, "seconds": round(self._seconds(), 3),
                  "tokens": state.tokens, "train_loss": state.nats / state.nats_tokens if state.nats_tokens else None,
                  "valid_ppl": ppl, "valid_bleu": bleu, "learning_rate": self.optimizer.learning_rate}
        state.history.append(record)
        state.validated_step, state.nats, state.nats_tokens = state.step, 0.0, 0
        better = self._keep_if_best(bleu if options.metric == "bleu" else -ppl, model)
        loss = "none, all skipped" if record["train_loss"] is None else f"{record['train_loss']:.3f}"
        self.progress.say(f"epoch {epoch:g}, step {state.step}, {duration(record['seconds'])}: training loss "
                          f"{loss}, validation perplexity {ppl:.2f}, BLEU {bleu:.2f}"
                          + (" (best)" if better else ""))
        if options.patience and state.misses >= options.patience:
            self._end_trial()
        if self.ranks.first:
            write_metrics(self.folder, state.history)
        self.save()
        if better:
            self._keep_state()
        self.progress.pause()

    def _perplexity(self, model: NMT) -> float:
        ppl, state = self.validation.perplexity(model), self.state
        if not isfinite(ppl):
            raise NotFiniteError(f"the validation perplexity is {ppl} at step {state.step}, epoch {state.epoch + 1}: "
                                 f"training stopped; {self.kept()}; resume it with a lower learning_rate or clip")
        return ppl

    def _keep_if_best(self, score: float, model: NMT) -> bool:
        state = self.state
        if state.best_score is not None and score <= state.best_score:
            state.misses += 1
            return False
        state.best_score, state.best_step, state.misses = score, state.step, 0
        if self.ranks.first:
            checkpoint.save_weights(self.folder, model.params, self.digest)
        return True

    def _keep_state(self) -> None:
        """The state just saved is that of the best validation, to which the end of a trial goes back."""
        if self.options.patience and self.ranks.first:
            checkpoint.copy_file(self.folder / checkpoint.STATE, self.folder / checkpoint.BEST_STATE)

    def _end_trial(self) -> None:
        options, state = self.options, self.state
        state.trials, state.misses = state.trials + 1, 0
        if state.trials >= options.trials:
            return
        state.decay *= options.lr_decay
        self.ranks.wait()  # until the first one has written it
        if (self.folder / checkpoint.BEST_STATE).exists():  # it is not if patience was 0 until a resume
            self._load(checkpoint.BEST_STATE)
        self.progress.say(f"no better validation for {options.patience}: back to step {state.best_step}, at "
                          f"{state.decay:g} of the rate (trial {state.trials + 1} of {options.trials})")

    # saving and resuming

    def _save_is_due(self) -> bool:
        every, seconds = self.options.save_every, self.now - self.state.seconds
        return bool(every and self.state.step % every == 0) or seconds >= 60 * self.options.save_minutes

    def save(self) -> None:
        """Write everything that the next step depends on."""
        self._note_results(wait=True)
        state = self.state
        _, state.seconds = self.ranks.agree(False, self._seconds())
        if self.average:
            state.average_updates = self.average.updates
        numbers = {key: value for key, value in self.optimizer.state().items() if not hasattr(value, "shape")}
        info = {"state": asdict(state), "optimizer": numbers, "fixed": self.plan.fixed(),
                "config": self.digest}
        self.steps.gather()
        if self.ranks.first:
            checkpoint.write_tensors(self.folder / checkpoint.STATE, self._tensors(), info)
        self.saved_step = state.step

    def resume(self) -> None:
        """Go on from the folder's training state; InputError if it is of other data or options."""
        if checkpoint.load_run(self.folder).config != self.model.config:
            raise InputError(f"cannot resume {self.folder}: its {checkpoint.CONFIG} describes another model")
        if (self.folder / checkpoint.STATE).exists():  # else it was killed before its first save
            self.state = State(**self._load(checkpoint.STATE)["state"])
        state = self.state
        self.batches = self.plan.batches(state.epoch)
        self.ranks.wait()
        if not self.ranks.first:
            return
        write_metrics(self.folder, state.history)
        if state.step == state.best_step and state.history:
            self._keep_state()  # in case it was killed just before
        checkpoint.update_options(self.folder, self.options.to_dict())

    def _tensors(self) -> dict[str, Any]:
        """The vectors that the next step depends on."""
        arrays = {key: value for key, value in self.optimizer.state().items() if hasattr(value, "shape")}
        return {"params": self.model.params.flat, **arrays, **({"average": self.average.flat} if self.average else {})}

    def _check_fixed(self, info: dict[str, Any]) -> None:
        """InputError if a state is of other data or options than these."""
        for what, value in self.plan.fixed().items():
            before = info.get("fixed", {}).get(what)
            if before != value and before != self.plan.first_texts(what):
                raise InputError(f"cannot go on with {self.folder}: {what} was {before}, is now {value}")

    def _load(self, name: str) -> dict[str, Any]:
        """Weights, optimizer and average from a state file, the rest of which is returned."""
        path = self.folder / name
        expected = {name: (str(array.dtype), array.shape) for name, array in self._tensors().items()}
        tensors, info = checkpoint.read_tensors(path, expected, check=self._check_fixed)
        checkpoint.check_config(path, info)
        self.model.params.flat[...] = self.xp.asarray(tensors.pop("params"))
        if self.average:
            self.average.flat[...] = self.xp.asarray(tensors.pop("average"))
            self.average.updates = info["state"]["average_updates"]
        self.optimizer.load_state({**tensors, **info["optimizer"]})
        return info

    def _seconds(self) -> float:
        return time.perf_counter() - self.clock
