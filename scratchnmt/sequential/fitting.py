"""What a program gives to `fit`, `evaluate` and `predict`, the loop of `fit`, and its progress line."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..arrays import Array, array_module, to_device
from ..errors import InputError, listed, shown
from ..optim import global_norm
from ..parameters import Parameters
from ..streams import Output
from . import losses
from .callbacks import Callbacks, History
from .layer import finite, number

if TYPE_CHECKING:
    from .model import Sequential

VERBOSE = {"auto": 1, "0": 0, "1": 1, "2": 2, "False": 0, "True": 1}
ON_NONFINITE, MOST_SKIPPED = ("stop", "skip"), 20  # as in `scratchnmt train`
BAR, MARKS = 20, "━─"  # characters


def host_array(what: str, given: Any) -> np.ndarray:
    """The numbers on the host; InputError if there are others, or rows of several lengths.

    NumPy, CuPy, pandas, lists: whatever has `to_numpy`, as a DataFrame or a Series, is asked for its array.  A list of
    one batch is that batch, since Keras takes a list of inputs.
    """
    if isinstance(given, (list, tuple)) and len(given) == 1 and len(getattr(given[0], "shape", ())) > 1:
        given = given[0]
    if isinstance(given, Mapping) or hasattr(given, "__next__"):
        raise InputError(f"{what} is a {type(given).__name__}, expected an array")
    if np.ma.is_masked(given):
        raise InputError(f"{what} is an array with masked numbers, expected one without: filled(...) makes one")
    try:
        array = (given.to_numpy() if hasattr(given, "to_numpy") else to_device(given, "cpu") if hasattr(given, "dtype")
                 else np.asarray(given))
    except ValueError as error:
        raise InputError(f"{what} holds arrays or lists of several lengths, expected one array: pad them, or if they "
                         "are several inputs, join them: a network here takes one") from error
    if array.dtype.kind == "O" and array.size and all(isinstance(one, Real) for one in array.flat):
        array = array.astype("float64")  # columns of several kinds
    if array.dtype.kind not in "fiub":
        raise InputError(f"{what} is {array.dtype} {array.shape}, expected numbers{_other_columns(given)}")
    return array


def _other_columns(table: Any) -> str:
    """The columns of a DataFrame that hold no numbers."""
    kinds = zip(getattr(table, "columns", ()), getattr(table, "dtypes", ()), strict=False)
    others = [f"{name} ({kind})" for name, kind in kinds if getattr(kind, "kind", "O") not in "fiub"]
    return f": these columns hold others: {listed(others)}" if others else ""


def class_weights(given: Any, labels: np.ndarray, classes: int) -> np.ndarray:
    """What each example, or step of it, counts: given[its class], 1 for a class that is not named."""
    if not isinstance(given, Mapping):
        raise InputError(f"class_weight is {shown(given)}, expected a dictionary of numbers, {{0: 1.0, 1: 5.0}}; "
                         "dict(enumerate(weights)) makes one of a list")
    weights = np.ones(labels.shape)
    for label, weight in given.items():
        if label not in range(classes):
            raise InputError(f"class_weight holds class {shown(label)}, expected whole numbers from 0 to {classes - 1}")
        weights[labels == label] = number(f"class_weight of class {label}", weight, lambda weight: 0 <= weight < np.inf,
                                          "a number of at least 0")
    return weights


class Data(NamedTuple):
    """Examples along the first axis, on the host."""

    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray

    def take(self, which: Any) -> Data:
        return Data(*(array[which] for array in self))


class Plan(NamedTuple):
    """How `fit` goes through the examples; all have been checked."""

    batch_size: int
    initial_epoch: int
    epochs: int  # the number of the last one, counted from 1
    verbose: int
    shuffle: bool
    on_nonfinite: str


def fit(model: Sequential, data: Data, valid: Data | None, plan: Plan, callbacks: Any) -> History:
    """See Sequential.fit."""
    history, model.stop_training = History(), False
    told = Callbacks(callbacks, model, epochs=plan.epochs, steps=_steps(data, plan.batch_size), verbose=plan.verbose)
    told.each.append(history)  # at last: it keeps what the others put into the logs
    model.history = history
    told("on_train_begin", {})
    logs: dict[str, float] = {}
    try:
        guard = _Guard(plan.on_nonfinite)
        for epoch in range(plan.initial_epoch, plan.epochs):
            told("on_epoch_begin", epoch, {})
            logs = _epoch(model, data, valid, epoch, plan, guard, told)
            told("on_epoch_end", epoch, logs)
            if model.stop_training:
                break
    finally:
        told("on_train_end", logs)
    return history


def _epoch(model: Sequential, data: Data, valid: Data | None, epoch: int, plan: Plan, guard: _Guard,
           told: Callbacks) -> dict[str, float]:
    line, mean = _Line(epoch, plan.epochs, _steps(data, plan.batch_size), plan.verbose), _Mean(model)
    order = model.shuffler.permutation(len(data.x)) if plan.shuffle else np.arange(len(data.x))
    with _kept(model, epoch):
        for step, at in enumerate(range(0, len(order), plan.batch_size)):
            part = data.take(order[at : at + plan.batch_size])
            told("on_train_batch_begin", step, {})
            logs, count, grads = loss_and_gradients(model, part, model.dropper)
            if guard.allows(logs["loss"], grads, f"epoch {epoch + 1}, step {step + 1}"):
                model.step(grads)
                mean.add(len(part.x), count, logs)
                line.step(step + 1, logs)
            told("on_train_batch_end", step, mean.logs())
            if model.stop_training:
                break
    epoch_logs = mean.logs()
    if valid is not None:
        epoch_logs |= {f"val_{name}": value for name, value in evaluate(model, valid, plan.batch_size, told).items()}
    line.end(epoch_logs)
    return epoch_logs


def evaluate(model: Sequential, data: Data, batch_size: int, told: Callbacks) -> dict[str, float]:
    """Loss and metrics, averaged over the examples."""
    mean = _Mean(model)
    told("on_test_begin", {})
    for step, at in enumerate(range(0, len(data.x), batch_size)):
        told("on_test_batch_begin", step, {})
        part = data.take(slice(at, at + batch_size))
        output, _ = model.forward(model.there(part.x))
        logs, count, _ = judged(model, output, part)
        mean.add(len(part.x), count, logs)
        told("on_test_batch_end", step, mean.logs())
    told("on_test_end", mean.logs())
    return mean.logs()


def _steps(data: Data, batch_size: int) -> int:
    return -(-len(data.x) // batch_size)


def loss_and_gradients(model: Sequential, part: Data, rng: Any = None):
    """{"loss": ..., "accuracy": ...} of one batch, how many outputs that is the mean of, and the gradients."""
    output, cache = model.forward(model.there(part.x), rng)
    logs, count, dy = judged(model, output, part)
    return logs, count, model.backward(dy, cache)


def judged(model: Sequential, output: tuple[Array, Array | None], part: Data) -> tuple[dict[str, float], int, Array]:
    """Loss and metrics of a batch's output, how many outputs are no padding, and the loss' gradient."""
    y, weight = model.there(part.y), model.there(part.weight)
    value, dp = weighted_loss(model, output, y, weight)
    logs, (p, mask) = {"loss": float(value)}, output
    for name in model.metrics:
        right = losses.accuracy(model.loss, p, y)
        logs[name] = float((right * _counts(right, mask)).sum())
    outputs = mask.sum() if mask is not None and mask.shape == p.shape[:-1] else np.prod(p.shape[:-1])
    return logs, int(outputs), dp


def weighted_loss(model: Sequential, output: tuple[Array, Array | None], y: Array, weight: Array) -> tuple[Any, Array]:
    """The mean over examples, and over their steps that are no padding, each times its weight; and its gradient."""
    (p, mask), loss = output, losses.LOSSES[model.loss]
    values, cache = loss.forward(p, y)
    share = _counts(values, mask) * weight.reshape(*weight.shape, *[1] * (values.ndim - weight.ndim))
    return (values * share).sum(), loss.backward(share, cache)


def _counts(values: Array, mask: Array | None) -> Array:
    """What each number counts in the mean, together 1; nothing at padding."""
    counts = array_module(values).ones(values.shape, "float64" if values.dtype.kind == "b" else values.real.dtype)
    if mask is not None and mask.shape == values.shape:
        counts *= mask
    return counts / max(float(counts.sum()), 1.0)


class _Guard:
    """Lets no step move anything whose loss or gradient is not finite: it is skipped, or ends the training."""

    def __init__(self, on_nonfinite: str):
        self.most = 1 if on_nonfinite == "stop" else MOST_SKIPPED
        self.in_a_row = 0

    def allows(self, loss: float, grads: Parameters, where: str) -> bool:
        wrong = _not_finite(loss, grads)
        self.in_a_row = self.in_a_row + 1 if wrong else 0
        if self.in_a_row == self.most:
            row = f", the last of {self.most} in a row" if self.most > 1 else ""
            raise InputError(f"{wrong} at {where}{row}: try a smaller learning rate, and make the network anew, as the "
                             "steps before may have spoilt its weights")
        return not wrong


@contextmanager
def _kept(model: Sequential, epoch: int) -> Iterator[None]:
    """An InputError if an epoch leaves weights that are not finite: they, and what the optimizer keeps, are then again
    what they were before it."""
    optimizer, before = model.optimizer, model.params.flat.copy()
    kept = {name: value.copy() if hasattr(value, "copy") else value for name, value in optimizer.state().items()}
    try:
        yield
        if not _finite(model.params.flat):  # of its last step: the next one would have told
            raise InputError(f"the weights are not finite after epoch {epoch + 1}: try a smaller learning rate; that "
                             "epoch is undone")
    finally:
        if not _finite(model.params.flat):
            model.params.flat[...] = before
            optimizer.load_state({**kept, "learning_rate": optimizer.learning_rate})


def _not_finite(loss: float, grads: Parameters) -> str:
    """What of a step is not finite, in words; "" if all is, and the gradient's squares, which optimizers keep, are."""
    if not np.isfinite(loss):
        return f"the loss is {loss}"
    if np.isfinite(global_norm(grads)):
        return ""
    wrong = [name for name, array in grads.items() if not _finite(array)]
    return f"the gradient of {listed(wrong)} is not finite" if wrong else "the gradient's norm is not finite"


def _finite(array: Array) -> bool:
    return bool(array_module(array).isfinite(array).all())


class _Mean:
    """Over batches: of the loss by examples, as Keras does, of metrics by outputs."""

    def __init__(self, model: Sequential) -> None:
        self.totals, self.batches = dict.fromkeys(("loss", *model.metrics), 0), 0
        self.sums = dict.fromkeys(self.totals, 0.0)

    def add(self, examples: int, outputs: int, logs: dict[str, float]) -> None:
        self.batches += 1
        for name, value in logs.items():
            share = examples if name == "loss" else outputs
            self.totals[name] += share
            self.sums[name] += share * value

    def logs(self) -> dict[str, float]:
        """So far; of no batch, as where all steps are skipped, no number."""
        if not self.batches:
            return dict.fromkeys(self.sums, float("nan"))
        return {name: total / max(self.totals[name], 1) for name, total in self.sums.items()}


def split(data: Data, share: Any) -> tuple[Data, Data | None]:
    """The examples to train on, and those from the end to validate on."""
    share = number("validation_split", share, lambda share: 0 <= share < 1, "a number of at least 0 and below 1")
    if not share:
        return data, None
    at = int(len(data.x) * (1 - share))
    if not 0 < at < len(data.x):
        raise InputError(f"validation_split {share} of {len(data.x)} examples leaves none on one side")
    return data.take(slice(None, at)), data.take(slice(at, None))


def weighted(model: Sequential, data: Data, class_weight: Any) -> Data:
    """The examples, which count as their classes do."""
    loss = losses.LOSSES[model.loss]
    assert model.output_shape is not None  # or there would be no data
    labels = losses.labels(data.y, loss.sparse)
    weight = class_weights(class_weight, labels, max(2, model.output_shape[-1] or 0))
    return data._replace(weight=finite("class_weight", weight, model.dtype))


class _Line:
    """The progress of one epoch; on a terminal one line that is written over again and again."""

    def __init__(self, epoch: int, epochs: int, steps: int, verbose: int):
        self.steps, self.verbose, self.start = steps, verbose, time.perf_counter()
        self.out = Output(sys.stdout)
        self.live, self.shown = verbose == 1 and self.out.isatty(), 0.0
        if verbose:
            print(f"Epoch {epoch + 1}/{epochs}", file=self.out)

    def step(self, done: int, logs: dict[str, float]) -> None:
        if self.live and time.perf_counter() - self.shown > 0.1:
            self.shown = time.perf_counter()
            print("\r" + self._text(done, logs) + "\x1b[K", end="", file=self.out, flush=True)

    def end(self, logs: dict[str, float]) -> None:
        if self.verbose:
            print(("\r\x1b[K" if self.live else "") + self._text(self.steps, logs), file=self.out, flush=True)

    def _text(self, done: int, logs: dict[str, float]) -> str:
        seconds = time.perf_counter() - self.start
        full = BAR * done // self.steps
        marks = MARKS if _shows(MARKS) else "=."
        bar = f" {marks[0] * full}{marks[1] * (BAR - full)}" if self.verbose == 1 else " -"
        numbers = " - ".join(f"{name}: {value:.4f}" for name, value in sorted(logs.items()))
        return f"{done}/{self.steps}{bar} {seconds:.0f}s {1e3 * seconds / done:.0f}ms/step - {numbers}"


def _shows(marks: str) -> bool:
    """Whether the terminal's encoding has these characters."""
    try:
        return bool(marks.encode(getattr(sys.stdout, "encoding", None) or "ascii"))
    except UnicodeEncodeError:
        return False
