"""Training: one pass after another over shuffled batches, with validation, stopping and resuming.

A step, as in Stanford's CS224N assignment 4: loss and gradient are summed over the target tokens of a
batch and divided by its number of sentences, the gradient is clipped by its global norm, then the
optimizer moves the weights.  A validation that is not better than the best one before is a miss;
`patience` misses in a row end a trial; after `trials` of them training stops, else the rate is decayed and
the best state loaded again before the next step.

Order and dropout are drawn from generators made anew from (seed, epoch) and (seed, step), so the place in
the run is all there is to save about randomness, and a resumed run is the uninterrupted one, bit for bit
on the CPU with as many threads.
"""

from __future__ import annotations

import io
import re
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from .. import optim
from ..arrays import array_module, device_of, to_device
from ..data.batches import Batch
from ..data.corpus import Sentences
from ..errors import InputError, WriteError, sentence
from ..files.run_folder import CONFIG, COVERAGE, CURVES, METRICS, NOT_FINITE, STATE, Run, RunFolder
from ..models.nmt import NMT
from ..parallel.ranks import Ranks, divide
from . import nonfinite
from .contention import Contention
from .nonfinite import NotFiniteError
from .plan import Plan, TrainingData, TrainingOptions
from .progress import LOSS, Interrupted, Interrupts, Progress, duration
from .saving import Saving, State, TrainingResult
from .step import Part, Place, Result, make_steps
from .validation import NoPairFitsError, Validation

_AVERAGE_EVERY = 10  # steps
_SKIPS = 20  # steps in a row that are not finite: by then it is the weights


class Trainer:
    """A run in its folder, from its first step or, if the folder is to resume, from the saved one on.

    Making it writes nothing; `run` trains, `step` takes a step alone.
    """

    def __init__(self, model: NMT, data: TrainingData, options: TrainingOptions, folder: RunFolder,
                 ranks: Ranks | None = None, progress: Progress | None = None):
        self.model, self.data, self.options, self.folder = model, data, options, folder
        self.ranks = ranks or Ranks()
        self.parts = self.ranks.size * options.accumulate
        self.by_risk = options.minimum_risk != "none"  # of whole sentences, and no nats of tokens
        self.batch: Batch | None = None  # the one at hand
        self.curves: Path | None = None  # the picture, once it is drawn
        self.plan = Plan(data, options, model.config.longest)
        self._check_ranks()
        recipe = self.plan.recipe(array_module(model.params.flat))
        self.steps = make_steps(model, self._make_optimizer, recipe, self.ranks)
        self.optimizer = self.steps.optimizer
        self.average = optim.Average(model.params, options.average) if options.average else None
        self.interrupts, self.contention = Interrupts(), Contention()
        self.on_cores = device_of(model.params.flat) == "cpu"
        self.validation = Validation(data, options.valid_batch_size, self.interrupts.check, self.ranks,
                                     longest=model.config.longest, tokenize=self.plan.tokenize)
        self.saving = Saving(folder, self.plan, model.params, self.optimizer, self.average, self.validation.left_out)
        with self.ranks.waiting():  # for a disk
            before = folder.read() if folder.resume else None
            self.options_before = TrainingOptions.from_dict(before.training) if before else options
            self.state = self._resumed(before) if before else State()
            if before and self.ranks.size > 1:  # and nobody writes before all have read
                self._check_ranks_resumed()
        self.first_step = self.state.step  # with which it goes on
        self.validation.leave_out(self.state.left_out)
        self.batches = self.plan.batches(self.state.epoch)
        self.last_finite: Place | None = None  # the last step that was
        self.seconds_before = self.state.seconds  # of the run, when the clock was started
        self.clock = time.perf_counter()
        self.now = self.state.seconds  # seconds of the run, the same on all ranks
        self.progress = progress if progress and self.ranks.first else self._make_progress()

    def _make_optimizer(self, module: Any) -> Any:
        """Of the module `optim`, or of its fused twin."""
        options, params = self.options, self.model.params
        if options.optimizer == "adam":
            return module.Adam(params, options.learning_rate)
        return module.SGD(params, options.learning_rate, options.momentum)

    def _make_progress(self) -> Progress:
        limit, state = self.options.max_minutes, self.state
        return Progress(total_steps=self.plan.total_steps, step=state.step,
                        minutes_left=None if limit is None else limit - state.seconds / 60,
                        log_every=self.options.log_every, stream=None if self.ranks.first else io.StringIO())

    def _check_ranks(self) -> None:
        """InputError unless all ranks have the same model, options and text."""
        model, data = self.model, self.data
        self.ranks.check_alike({**model.config.to_dict(), "dtype": str(model.params.flat.dtype),
                                "device": re.sub(r":\d+", "", model.computing), **self.options.to_dict(),
                                **self.plan.texts, "vocabularies": [data.src_vocab.digest(), data.tgt_vocab.digest()]})

    def _check_ranks_resumed(self) -> None:
        """InputError unless all ranks go on from the same state."""
        if not self.ranks.first:  # only the first one hears of the best models that it writes
            self.saving.best_step = None
        self.ranks.check_alike({"the step of the saved state": self.state.step,
                                "the checksum of its weights": zlib.crc32(to_device(self.model.params.flat, "cpu"))})

    def _resumed(self, run: Run) -> State:
        """Where the run is; InputError if it is of another model, data or options."""
        if run.config != self.model.config:
            raise InputError(f"cannot resume {self.folder}: its {CONFIG} describes another model")
        if run.dtype != (dtype := str(self.model.params.flat.dtype)):  # else weights that config.json does not fit
            raise InputError(f"cannot resume {self.folder}: its weights are {run.dtype}, the model's {dtype}")
        for side in ("src", "tgt"):
            theirs, ours = (getattr(one, f"{side}_vocab") for one in (run, self.data))
            if theirs.digest() != ours.digest():
                raise InputError(f"cannot resume {self.folder}: its {run.vocabularies[side][0]} is another vocabulary "
                                 f"than the data's {side}_vocab: give the data that of the run")
        if not self.folder.has(STATE):  # killed before its first save
            if not self.model.params.flat.any():  # the weights were to come from it
                raise InputError(f"cannot resume {self.folder}: its {STATE} has vanished")
            return State()
        state = self.saving.load()
        before = self.options_before
        if state.trials >= before.trials and state.best_step < state.validated_step == state.step and not state.misses:
            # earlier versions counted the last trial, after which they stopped, as if it had gone back
            state.trials, state.misses = state.trials - 1, before.patience
        return state

    # the loop

    def run(self) -> TrainingResult:
        """Train until there is a reason to stop."""
        state, interrupted = self.state, False
        self.seconds_before, self.clock = state.seconds, time.perf_counter()
        self._begin()
        try:
            with self._told_what_is_kept(), self.interrupts:
                try:
                    self.save()
                    self.ranks.wait()  # until there is something to go on with
                    self.ranks.begin()
                    reason = self._train()
                except Interrupted:
                    reason, interrupted = "interrupted", True
                    self.save()
        finally:
            self.progress.close()
        if self.state.history:
            self.ranks.first_writes(self._draw_curves)
        return TrainingResult(reason=reason, interrupted=interrupted, folder=self.folder.path, step=state.step,
                              seconds=state.seconds, best=state.best, curves=self.curves)

    @contextmanager
    def _told_what_is_kept(self) -> Iterator[None]:
        """Inside `with`, an error of a disk that cannot be written also says where the run stands."""
        try:
            yield
        except WriteError as error:
            raise WriteError(f"{error}: training stopped; {self.kept()}; when that is mended, resume it") from error

    def _begin(self) -> None:
        """Have the folder ready for what will be written."""
        self.ranks.first_writes(self._go_on if self.folder.resume else self._start)
        self.ranks.wait()  # until the folder is there

    def _start(self) -> None:
        data = self.data
        self.folder.start(self.model, data.src_vocab, data.tgt_vocab, self.options.to_dict(),
                          {**data.origin, COVERAGE: data.train.coverage})

    def _go_on(self) -> None:
        """Have all files as they were at the last save, even if the run was killed just behind it."""
        state = self.state
        with self._told_what_is_kept():
            self.folder.sweep()
            self.folder.forget_models(after=state.step)
            self.folder.write_metrics(state.history)
            if state.step == state.best_step and state.history:
                self._write_best()
            if state.history and state.history[-1]["step"] == state.step:  # it was validated, and that was finite
                self._keep_model()
            self._say_if_the_rate_jumps()
            self._say_if_others_compute()
            self.folder.update_config(self.options.to_dict(), self.data.origin)

    def _say_if_the_rate_jumps(self) -> None:
        step, state = self.state.step, self.state
        # the end of a trial lowers the rate before the next step
        old, new = (options.learning_rate * state.decay * self.plan.schedule_of(options)(step)
                    * (options.lr_decay if self._trial_is_over(options) else 1)
                    for options in (self.options_before, self.options))
        if step and old != new:
            self.progress.say(f"the learning rate of the next step is {new:.3g}; with the options of before it would "
                              f"be {old:.3g}")

    def _say_if_others_compute(self) -> None:
        now, state = self.ranks.size, self.state
        before = state.processes or (state.history[-1].get("workers", 1) if state.history else now)
        each, each_before = self.options.accumulate, self.options_before.accumulate
        parts_before = before * each_before
        if state.step and order_of_sums(now, each) != order_of_sums(before, each_before):  # else numbers are the same
            who = (f"{now} {'process computes' if now == 1 else 'processes compute'} now what {before} did"
                   if now != before else f"a batch has {self.parts} parts now, where it had {parts_before}")
            masks = " and dropout masks are others" if self.parts != parts_before else ""
            self.progress.say(f"{who}: sums are rounded in another order{masks}, so that the numbers are not those of "
                              "a run that was never interrupted")

    def _train(self) -> str:
        """Take steps, validate and save when it is time; the reason to stop."""
        while True:
            if self._validation_is_due():
                self._validate()
            interrupted, self.now = self.ranks.agree(self.interrupts.requested, self._seconds())
            if interrupted:
                raise Interrupted
            if reason := self._reason_to_stop():
                break
            if self._trial_is_over():
                self._go_back()
            self.step()
            if self._save_is_due() and not (self._validation_is_due() or self._reason_to_stop()):  # else first
                self.save()
        if self.state.validated_step < self.state.step or not self.state.history:
            self._validate()
        return reason

    def step(self) -> None:
        """Move the weights by the next batch, as far as it is known now; a GPU may still be at it."""
        options, state = self.options, self.state
        indices, sentences = self.batches[state.position], self.batches.sentences
        lengths = sentences.lengths(indices)
        parts = self._parts(indices, lengths, sentences)
        place = Place(state.step + 1, state.epoch + 1, int(lengths[:, 1].sum()), state.position)
        began = time.perf_counter()
        self.steps.take(parts, len(indices), place,
                        options.learning_rate * state.decay * self.plan.schedule(state.step))
        if self.on_cores and (told := self.contention.note(time.perf_counter() - began, place.tokens)):
            self.progress.say(told)
        state.step, state.processes = state.step + 1, self.ranks.size
        state.tokens += place.tokens
        if self.average and state.step % _AVERAGE_EVERY == 0:
            self.average.update()
        self._note_results()
        state.position += 1
        if state.position == len(self.batches):
            state.epoch, state.position = state.epoch + 1, 0
            self.batches = self.plan.batches(state.epoch)

    def _parts(self, indices: np.ndarray, lengths: np.ndarray, sentences: Sentences) -> list[Part]:
        """What this rank computes of a batch; lengths as `sentences` gives them."""
        divided, each = divide(indices, lengths, self.parts), self.options.accumulate
        mine = range(self.ranks.rank * each, (self.ranks.rank + 1) * each)
        parts = [Part(part, sentences.batch(divided[part]) if len(divided[part]) else None) for part in mine]
        self.batch = parts[0].batch
        return parts

    def _batch_of(self, place: Place) -> tuple[np.ndarray, Sentences]:
        """The pairs of a step that was taken, and what has their tokens."""
        epoch = self.plan.batches(place.epoch - 1)
        return epoch[place.position], epoch.sentences

    def _note_results(self, wait: bool = False) -> None:
        """Count and show what is known of the steps; with `wait`, of all that were taken."""
        for result in self.steps.results(wait):
            place, nats, _ = result
            if not result.finite:
                self._not_finite(result)
                continue
            self.last_finite = place
            self.state.skipped_in_a_row = 0
            self.state.nats += nats
            sentences = len(self._batch_of(place)[0]) if self.by_risk else 0
            self.state.nats_tokens += sentences or place.tokens
            self.progress.update(place.step, place.epoch, nats, place.tokens, sentences)

    def _not_finite(self, result: Result) -> None:
        """Tell which step, tensors and sentences, and stop or go on."""
        state = self.state
        state.skipped, state.skipped_in_a_row = state.skipped + 1, state.skipped_in_a_row + 1
        told = self._told(result)
        if self.options.on_nonfinite == "stop" or state.skipped_in_a_row >= _SKIPS:
            so_far = f", the last of {_SKIPS} in a row" if self.options.on_nonfinite == "skip" else ""
            raise self._ruined(told + so_far)
        self.progress.say(f"{told}: skipped, {state.skipped} so far")

    def _told(self, result: Result) -> str:
        """What is not finite, in a sentence; all of it is noted in the folder."""
        indices, sentences = self._batch_of(result.place)
        self.steps.drain()  # on all ranks, as computing the gradient does it on the first

        def report() -> dict[str, Any]:
            parts = divide(indices, sentences.lengths(indices), self.parts)
            report = nonfinite.report(result, self.steps, parts, self.data, sentences)
            self.folder.add_not_finite(report)
            return report

        return nonfinite.sentence(self.ranks.from_first(report))

    def _ruined(self, what: str) -> NotFiniteError:
        return NotFiniteError(f"{what}: training stopped; {self.kept()}; resume it with a lower learning_rate or clip; "
                              f"more in {self.folder / NOT_FINITE}")

    def kept(self) -> str:
        """What of the run is safe, for an error's sentence."""
        return self.saving.kept()

    def _reason_to_stop(self) -> str | None:
        options, state = self.options, self.state
        if options.patience and (trials := state.trials + self._trial_is_over()) >= options.trials:
            return f"{trials} {'trial' if trials == 1 else 'trials'} ended without a better validation"
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
        """Measure, record and keep the best; nothing changes if interrupted."""
        options, state, model = self.options, self.state, self._validated()
        self._note_results(wait=True)
        try:
            ppl, bleu = self._figures(model)
        except NotFiniteError:
            if state.step != self.first_step or self._reason_to_stop():
                raise
            state.validated_step = state.step  # else a resume, at whatever rate, would never come to a step
            self.progress.say(f"the validation perplexity at step {state.step} is not finite: the run goes on from "
                              "there without it")
            return
        epoch = round(state.epoch + state.position / len(self.batches), 3)
        mean = state.nats / state.nats_tokens if state.nats_tokens else None
        trained = {"train_loss": None, "train_risk": mean} if self.by_risk else {"train_loss": mean}
        record = {"step": state.step, "epoch": epoch, "seconds": round(self._seconds(), 3),
                  "tokens": state.tokens, **trained,
                  "valid_ppl": ppl, "valid_bleu": bleu, "learning_rate": self.optimizer.learning_rate,
                  "workers": self.ranks.size}
        better = state.note(record, options.metric)
        state.nats, state.nats_tokens = 0.0, 0
        what, loss = LOSS[self.by_risk], "none, all skipped" if mean is None else f"{mean:.3f}"
        self.progress.say(f"epoch {epoch:g}, step {state.step}, {duration(record['seconds'])}: training {what} "
                          f"{loss}, validation perplexity {ppl:.2f}, BLEU {bleu:.2f}"
                          + (" (best)" if better else ""))
        self.ranks.first_writes(lambda: self.folder.write_metrics(state.history))
        self.save()
        if better:  # only now: a model on the disk is never ahead of the state
            self.ranks.first_writes(self._write_best)
        self.ranks.first_writes(self._keep_model)
        self.progress.pause()

    def _validated(self) -> NMT:
        """What is validated, and kept if it is the best."""
        return self.model.with_params(self.model.params.like(self.average.flat)) if self.average else self.model

    def _figures(self, model: NMT) -> tuple[float, float]:
        """Perplexity and BLEU, of the same pairs; where memory is too small for all ranks, the state is saved first."""
        validation = self.validation
        try:
            while True:
                known = len(validation.left_out)
                figures = self._perplexity(model), validation.bleu(model)
                if len(validation.left_out) == known:
                    return figures
        except MemoryError as error:
            # saving is work of all ranks, and another MemoryError may be met by one of them alone
            if self.ranks.size == 1 or isinstance(error, NoPairFitsError):
                with suppress(MemoryError):
                    self.save()
            raise
        finally:
            for line in validation.news():
                self.progress.say(line)
            self.state.left_out = sorted(validation.left_out)

    def _perplexity(self, model: NMT) -> float:
        ppl, state = self.validation.perplexity(model), self.state
        if not isfinite(ppl):
            # of the saved state itself, as after Ctrl-C in the last validation: a resume would take no step
            ended = self._reason_to_stop() if state.step == self.saving.saved_step else None
            longer = f", and, as {ended}, with a larger max_steps, max_epochs, max_minutes or trials" if ended else ""
            raise NotFiniteError(f"the validation perplexity is {ppl} at step {state.step}, epoch {state.epoch + 1}: "
                                 f"training stopped; {self.kept()}; resume it with a lower learning_rate or clip"
                                 f"{longer}")
        return ppl

    def _write_best(self) -> None:
        """The state just saved is that of the best validation, to which the end of a trial goes back."""
        with self.saving.noting("best_step", self.state.step):
            self.folder.save_weights(self._validated().params)
        self.folder.keep_best_state()

    def _keep_model(self) -> None:
        if self.options.keep:
            self.folder.keep_model(self.state.step, self._validated().params, self.options.keep)

    def _trial_is_over(self, options: TrainingOptions | None = None) -> bool:
        return 0 < (options or self.options).patience <= self.state.misses

    def _go_back(self) -> None:
        """Begin the next trial; only with the next step, so that a run which stopped can go on with other limits."""
        options, state = self.options, self.state
        state.trials, state.misses = state.trials + 1, 0
        state.decay *= options.lr_decay
        self.ranks.wait()  # until the first one has written it
        with self.ranks.waiting():
            back = f"back to step {state.best_step}, " if self.saving.load_best() else ""
        self.progress.say(f"no better validation for {options.patience}: {back}at {state.decay:g} of the rate "
                          f"(trial {state.trials + 1} of {options.trials})")

    def _draw_curves(self) -> None:
        from ..plots import learning_curves

        try:
            self.folder.check_place()
            learning_curves(self.folder / METRICS, self.folder / CURVES)
            self.curves = self.folder / CURVES
        except Exception as error:  # noqa: BLE001  a picture is not worth a failure after hours of training
            self.progress.say(f"no learning curves drawn: {sentence(error)}")

    # saving

    def _save_is_due(self) -> bool:
        every, seconds = self.options.save_every, self.now - self.state.seconds
        return bool(every and self.state.step % every == 0) or seconds >= 60 * self.options.save_minutes

    def save(self) -> None:
        """Write everything that the next step depends on; NotFiniteError if that is not worth keeping."""
        self._note_results(wait=True)
        self._check_good()
        _, self.state.seconds = self.ranks.agree(False, self._seconds())
        self.steps.gather()
        self.ranks.first_writes(lambda: self.saving.save(self.state))
        self.saving.saved_step = self.state.step

    def _check_good(self) -> None:
        """NotFiniteError if loss or gradient of the last batch are not finite any more, now that its step is taken.

        A finite step may have moved the weights to where no step can be taken; that must not replace the state before.
        """
        place, self.last_finite = self.last_finite, None
        if place is None:
            return
        result = self._measured(place)
        if not result.finite:
            raise self._ruined(f"with the weights that its step has made, {self._told(result)}")

    def _measured(self, place: Place) -> Result:
        """Loss and gradient of a step's batch by the weights as they are now."""
        (indices, sentences), total = self._batch_of(place), np.zeros(2)
        for part in self._parts(indices, sentences.lengths(indices), sentences):
            if part.batch:
                total[0] += float(self.steps.gradient(part.batch, place, part.number))
                total[1] += optim.global_norm(self.steps.grads)
        self.ranks.add_up(total)
        return Result(place, float(total[0]), float(total[1]) / len(indices))

    def _seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.clock


def order_of_sums(processes: int, each: int) -> tuple[int, int]:
    """Equal where a machine adds up gradients in the same order: N processes with a part each, one process with N."""
    return (processes, each) if each > 1 else (1, processes)
