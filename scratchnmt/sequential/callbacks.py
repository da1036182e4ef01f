"""What looks on while a network is trained, evaluated or asked: Keras' hooks, and its callbacks.

    fit       on_train_begin, then for each epoch on_epoch_begin, the batches, validation as below, on_epoch_end,
              at last on_train_end;  a batch: on_train_batch_begin and _end, which call on_batch_begin and _end
    evaluate  on_test_begin, on_test_batch_begin and _end, on_test_end
    predict   on_predict_begin, on_predict_batch_begin and _end, on_predict_end

logs hold the numbers of the progress line.  Those of on_epoch_end are one dictionary that all callbacks share in turn:
what one puts into it a later one can watch, and History keeps it.
"""

from __future__ import annotations

import csv
import inspect
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from math import inf
from typing import Any

from ..errors import InputError, look_up, shown, whole_number
from ..files.atomic import not_written
from ..files.reading import opened
from .layer import flag, number
from .losses import METRICS

MODES = dict.fromkeys(("auto", "min", "max"))
_HEAD = 1 << 16  # bytes of a file's first line
HOOKS = {f"on_{when}": arguments
         for arguments, of in ((("logs",), ("train", "test", "predict")), (("epoch", "logs"), ("epoch",)),
                               (("batch", "logs"), ("batch", "train_batch", "test_batch", "predict_batch")))
         for what in of for when in (f"{what}_begin", f"{what}_end")}


class Callback:
    """To be derived from; `model` is the one that is trained, model.stop_training = True ends it after the batch.

    params: {"epochs": ..., "steps": ..., "verbose": ...}.  Batches and epochs count from 0.  A method whose name
    begins with on_ and is no hook, or which cannot be called as its hook is, is an InputError.
    """

    model: Any = None
    params: Mapping[str, Any] = {}

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        check_hooks(cls.__name__, vars(cls))

    def set_model(self, model: Any) -> None:
        """Before anything else."""
        self.model = model

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Before anything else."""
        self.params = params

    def on_train_begin(self, logs: Any = None) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Any = None) -> None:
        """After the last epoch, also if an error ended the training."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Before an epoch."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """After an epoch; logs: loss, metrics, and with validation the same as val_loss and so on."""

    def on_batch_begin(self, batch: int, logs: Any = None) -> None:
        """The same as on_train_batch_begin."""

    def on_batch_end(self, batch: int, logs: Any = None) -> None:
        """The same as on_train_batch_end."""

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Before a step."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """After a step; logs: the mean of the epoch so far."""
        self.on_batch_end(batch, logs)

    def on_test_begin(self, logs: Any = None) -> None:
        """Before an evaluation, also that of an epoch's validation."""

    def on_test_end(self, logs: Any = None) -> None:
        """After an evaluation."""

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Before a batch is evaluated."""

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """After a batch is evaluated; logs: the mean so far."""

    def on_predict_begin(self, logs: Any = None) -> None:
        """Before a prediction."""

    def on_predict_end(self, logs: Any = None) -> None:
        """After a prediction."""

    def on_predict_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Before the outputs of a batch are computed."""

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        """After that; logs: {"outputs": ...}."""


def check_hooks(whose: str, methods: Mapping[str, Any], of_class: bool = True) -> None:
    """InputError for what is called like a hook and is none, or cannot be called as one."""
    for name, method in methods.items():
        if name.startswith("on_") and callable(method):
            self = ("self",) if of_class and inspect.isfunction(method) else ()
            arguments = (*self, *look_up(f"{whose}: hook", name, HOOKS))
            if not _takes(method, len(arguments)):
                raise InputError(f"{whose}: {name}{inspect.signature(method)} cannot be called as the hook "
                                 f"{name}({', '.join(arguments)})")


def _takes(function: Callable, count: int) -> bool:
    """Whether a function can be called with so many arguments."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # of C: it does not tell
        return True
    return True


class Callbacks:
    """Several, called in turn: tell("on_epoch_begin", epoch, {})."""

    def __init__(self, given: Any, model: Any, **params: Any):
        self.each = list(given) if isinstance(given, (list, tuple)) else [given] if given else []
        for callback in self.each:
            if not isinstance(callback, Callback):
                what = f"the class {callback.__name__}" if isinstance(callback, type) else f"{shown(callback)}"
                raise InputError(f"callbacks hold {what}, expected objects of classes derived from "
                                 "scratchnmt.sequential.Callback")
            check_hooks(type(callback).__name__, vars(callback), of_class=False)
        for callback in self.each:
            callback.set_model(model)
            callback.set_params(params)

    def __call__(self, hook: str, *arguments: Any) -> None:
        for callback in self.each:
            getattr(callback, hook)(*arguments)


class History(Callback):
    """What `fit` returns: history["loss"], history["val_accuracy"] ..., a number for each epoch."""

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[Any]] = {}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)


class LambdaCallback(Callback):
    """Functions as hooks: LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs["loss"]))."""

    def __init__(self, **hooks: Callable | None):
        given = {name: function for name, function in hooks.items() if function is not None}
        for name, function in given.items():
            look_up("LambdaCallback: hook", name, HOOKS)
            if not callable(function):
                raise InputError(f"LambdaCallback: {name} is {shown(function)}, expected a function")
            setattr(self, name, function)
        check_hooks("LambdaCallback", given, of_class=False)


class _Watch(Callback):
    """Knows whether the number `monitor` is the best so far."""

    def __init__(self, monitor: str, min_delta: float, mode: str, verbose: int):
        look_up("mode", mode, MODES)
        self.monitor, self.verbose = monitor, verbose
        of_training = str(monitor).removeprefix("val_")
        if mode == "auto" and of_training not in (*METRICS, "loss"):
            raise InputError(f"{type(self).__name__} watches {shown(monitor)}, of which it is not known whether more "
                             "or less is better: choose mode='max' or mode='min'")
        self.sign = -1 if mode == "max" or mode == "auto" and of_training in METRICS else 1
        self.min_delta = abs(number("min_delta", min_delta))
        self.best: float | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        self.best = None

    def value(self, logs: Mapping[str, float]) -> float:
        if self.monitor not in logs:
            raise InputError(f"{type(self).__name__} watches {self.monitor!r}, but there are only "
                             f"{', '.join(logs)}: val_ names need validation_data or validation_split")
        return logs[self.monitor]

    def better(self, value: float, than: float | None) -> bool:
        """By more than min_delta; what is no number is never better."""
        return self.sign * value < (inf if than is None else self.sign * than) - self.min_delta

    def improved(self, logs: Mapping[str, float]) -> bool:
        value = self.value(logs)
        if not self.better(value, self.best):
            return False
        self.best = value
        return True

    def say(self, text: str) -> None:
        if self.verbose:
            print(text)


class EarlyStopping(_Watch):
    """End when `monitor` has not improved by more than min_delta for `patience` epochs.

    baseline: what is to be reached within `patience` epochs; start_from_epoch: the first that is looked at.
    """

    def __init__(self, monitor: str = "val_loss", min_delta: float = 0.0, patience: int = 0, verbose: int = 0,
                 mode: str = "auto", baseline: float | None = None, restore_best_weights: bool = False,
                 start_from_epoch: int = 0):
        super().__init__(monitor, min_delta, mode, verbose)
        self.patience, self.baseline = whole_number("EarlyStopping: patience", patience, least=0), baseline
        self.start_from_epoch = whole_number("EarlyStopping: start_from_epoch", start_from_epoch, least=0)
        self.restore_best_weights = flag("EarlyStopping: restore_best_weights", restore_best_weights)
        self.wait = self.best_epoch = self.stopped_epoch = 0
        self.best_weights: Any = None  # of the whole network, as one vector

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin()
        self.wait = self.best_epoch = self.stopped_epoch = 0
        self.best_weights = None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch < self.start_from_epoch:
            return
        self.wait += 1
        if self.improved(logs):
            self.best_epoch = epoch
            self.best_weights = self.model.params.flat.copy() if self.restore_best_weights else None
            if self.baseline is None or self.better(self.value(logs), self.baseline):
                self.wait = 0
        elif self.wait >= max(1, self.patience):
            self.stopped_epoch, self.model.stop_training = epoch, True

    def on_train_end(self, logs: Any = None) -> None:
        if self.best_weights is not None:
            self.model.params.flat[...] = self.best_weights  # first: nobody may be there to whom it can be said
        if self.stopped_epoch:
            self.say(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.best_weights is not None:
            self.say(f"Restoring model weights from the end of the best epoch: {self.best_epoch + 1}.")


class ModelCheckpoint(_Watch):
    """Save the model to `filepath` after each epoch, or after those that are the best so far.

    filepath: may hold names, as in "{epoch:02d}-{val_loss:.2f}.keras"; its ending chooses the format as in `save`, or
    with save_weights_only as in `save_weights`.  initial_value_threshold: what the first must be better than.
    """

    def __init__(self, filepath: str | os.PathLike, monitor: str = "val_loss", verbose: int = 0,
                 save_best_only: bool = False, save_weights_only: bool = False, mode: str = "auto",
                 save_freq: str = "epoch", initial_value_threshold: float | None = None):
        super().__init__(monitor, 0.0, mode, verbose)
        look_up("ModelCheckpoint: save_freq", save_freq, {"epoch": None})
        self.filepath, self.save_best_only = os.fspath(filepath), flag("ModelCheckpoint: save_best_only",
                                                                       save_best_only)
        self.save_weights_only = flag("ModelCheckpoint: save_weights_only", save_weights_only)
        if initial_value_threshold is not None and not self.save_best_only:
            raise InputError("ModelCheckpoint: initial_value_threshold needs save_best_only=True")
        self.best = initial_value_threshold

    def on_train_begin(self, logs: Any = None) -> None:
        from .saving import writer

        # `best` stays what it was: a second `fit` does not replace the best model of the first by a worse one
        writer(self.filepath, self.save_weights_only)  # tells now what it would miss after the first epoch

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.save_best_only and not self.improved(logs):
            return
        path = self._path(epoch, logs)
        with suppress(OSError):  # whoever writes the file says so
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        (self.model.save_weights if self.save_weights_only else self.model.save)(path)
        improved = f"{self.monitor} improved to {self.best:.6g}, " if self.save_best_only else ""
        self.say(f"Epoch {epoch + 1}: {improved}saved {path}")

    def _path(self, epoch: int, logs: Mapping[str, float]) -> str:
        try:
            return self.filepath.format(**{**logs, "epoch": epoch + 1})
        except (KeyError, IndexError, ValueError) as error:
            raise InputError(f"ModelCheckpoint: filepath {self.filepath!r} cannot be filled in ({error}): the names "
                             f"are epoch, {', '.join(logs)}") from error


def _rate(what: str, rate: Any) -> float:
    return number(what, rate, lambda rate: 0 <= rate < inf, "a number of at least 0")


class LearningRateScheduler(Callback):
    """At the beginning of each epoch the rate is schedule(epoch, rate), or schedule(epoch)."""

    def __init__(self, schedule: Callable, verbose: int = 0):
        if not callable(schedule) or not (_takes(schedule, 2) or _takes(schedule, 1)):
            raise InputError(f"LearningRateScheduler: schedule is {shown(schedule)}, expected a function of (epoch, "
                             "learning_rate)")
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        optimizer = self.model.optimizer
        now = (epoch, optimizer.learning_rate) if _takes(self.schedule, 2) else (epoch,)
        optimizer.learning_rate = _rate("LearningRateScheduler: what schedule returned", self.schedule(*now))
        if self.verbose:
            print(f"Epoch {epoch + 1}: LearningRateScheduler sets the learning rate to "
                  f"{optimizer.learning_rate:.6g}.")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs["learning_rate"] = self.model.optimizer.learning_rate


class ReduceLROnPlateau(_Watch):
    """Multiply the rate by `factor` when `monitor` has not improved by more than min_delta for `patience` epochs.

    cooldown: epochs after that in which nothing is counted; min_lr: the rate goes no lower.
    """

    def __init__(self, monitor: str = "val_loss", factor: float = 0.1, patience: int = 10, verbose: int = 0,
                 mode: str = "auto", min_delta: float = 1e-4, cooldown: int = 0, min_lr: float = 0.0):
        super().__init__(monitor, min_delta, mode, verbose)
        self.factor = number("ReduceLROnPlateau: factor", factor, lambda factor: 0 < factor < 1,
                             "a number above 0 and below 1")
        self.patience = whole_number("ReduceLROnPlateau: patience", patience, least=0)
        self.cooldown = whole_number("ReduceLROnPlateau: cooldown", cooldown, least=0)
        self.min_lr = _rate("ReduceLROnPlateau: min_lr", min_lr)
        self.wait = self.cooldown_counter = 0

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin()
        self.wait = self.cooldown_counter = 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        improved = self.improved(logs)
        optimizer = self.model.optimizer
        logs["learning_rate"] = optimizer.learning_rate
        if self.cooldown_counter:
            self.cooldown_counter -= 1
            self.wait = 0
        if improved:
            self.wait = 0
        elif not self.cooldown_counter:
            self.wait += 1
            if self.wait >= self.patience and optimizer.learning_rate > self.min_lr:
                optimizer.learning_rate = max(optimizer.learning_rate * self.factor, self.min_lr)
                self.cooldown_counter, self.wait = self.cooldown, 0
                self.say(f"Epoch {epoch + 1}: ReduceLROnPlateau reduces the learning rate to "
                         f"{optimizer.learning_rate:.6g}.")


class CSVLogger(Callback):
    """A line for each epoch, with a header of names; append: after what is in the file already."""

    def __init__(self, filename: str | os.PathLike, separator: str = ",", append: bool = False):
        if not isinstance(separator, str) or len(separator) != 1:
            raise InputError(f"CSVLogger: separator is {shown(separator)}, expected one character")
        self.filename, self.separator = os.fspath(filename), separator
        self.append = flag("CSVLogger: append", append)
        self.keys: list[str] | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        self.keys = None
        if not self.append:
            self._write([], "w")
        elif os.path.exists(self.filename):
            with opened(self.filename) as file:
                head = file.readline(_HEAD)
                file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
                whole = file.read() in (b"", b"\n")
            header = [""]
            with suppress(csv.Error):  # lines that end in CR alone
                header = next(csv.reader([head.decode(errors="replace")], delimiter=self.separator))
            half = len(head) < _HEAD and not head.endswith(b"\n")
            if half and (header[:1] == ["epoch"] or len(head) > 1 and b"epoch".startswith(head)):
                return self._write([], "w")  # half of a header, which a full disk has left
            if head and header[:1] != ["epoch"]:
                raise InputError(f"{self.filename} does not begin with a line of names, which CSVLogger with append "
                                 "goes on with: choose another file")
            self.keys = header[1:] or None
            if not whole:  # half a line, which a full disk has left, spoils no other
                self._write([[]], "a")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        rows: list[Iterable[Any]] = []
        if self.keys is None:
            self.keys = sorted(logs)
            rows.append(["epoch", *self.keys])
        if unknown := logs.keys() - set(self.keys):
            warnings.warn(f"{self.filename} has no column for {', '.join(sorted(unknown))}", stacklevel=2)
        self._write([*rows, [epoch, *(logs.get(key, "NA") for key in self.keys)]], "a")

    def _write(self, rows: list[Iterable[Any]], mode: str) -> None:
        try:
            with open(self.filename, mode, newline="", encoding="utf-8") as file:
                csv.writer(file, delimiter=self.separator, lineterminator="\n").writerows(rows)
        except OSError as error:
            raise not_written(self.filename, error) from error
