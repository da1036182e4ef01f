"""What looks on while `fit` trains: once an epoch, with the numbers of the progress line."""

from __future__ import annotations

import os
from typing import Any

from ..errors import InputError, look_up

MODES = dict.fromkeys(("auto", "min", "max"))


class History:
    """What `fit` returns: history["loss"], history["val_accuracy"] ..., a number for each epoch."""

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def add(self, epoch: int, logs: dict[str, float]) -> None:
        """Take in the numbers of an epoch, counted from 0."""
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)


class Callback:
    """To be derived from; `model` is the one that is trained, model.stop_training = True ends it."""

    model: Any = None

    def on_train_begin(self) -> None:
        """Before the first epoch."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """After an epoch, counted from 0; logs: loss, metrics, and with validation the same as val_loss and so on."""

    def on_train_end(self) -> None:
        """After the last epoch."""


class _Watch(Callback):
    """Knows whether the number `monitor` is the best so far."""

    def __init__(self, monitor: str, min_delta: float, mode: str):
        look_up("mode", mode, MODES)
        self.monitor = monitor
        self.sign = -1 if mode == "max" or (mode == "auto" and "acc" in monitor) else 1
        self.min_delta = abs(min_delta)

    def on_train_begin(self) -> None:
        self.best = float("inf")

    def improved(self, logs: dict[str, float]) -> bool:
        if self.monitor not in logs:
            raise InputError(f"{type(self).__name__} watches {self.monitor!r}, but there are only "
                             f"{', '.join(logs)}: val_ names need validation_data or validation_split")
        value = self.sign * logs[self.monitor]
        if not value < self.best - self.min_delta:  # nor if it is no number
            return False
        self.best = value
        return True


class EarlyStopping(_Watch):
    """End when `monitor` has not improved by more than min_delta for `patience` epochs."""

    def __init__(self, monitor: str = "val_loss", min_delta: float = 0.0, patience: int = 0, *, mode: str = "auto",
                 restore_best_weights: bool = False):
        super().__init__(monitor, min_delta, mode)
        self.patience, self.restore_best_weights = patience, restore_best_weights

    def on_train_begin(self) -> None:
        super().on_train_begin()
        self.waited, self.weights = 0, None

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        if self.improved(logs):
            self.waited, self.weights = 0, self.model.params.flat.copy() if self.restore_best_weights else None
            return
        self.waited += 1
        if self.waited >= max(1, self.patience):
            self.model.stop_training = True

    def on_train_end(self) -> None:
        if self.weights is not None:
            self.model.params.flat[...] = self.weights


class ModelCheckpoint(_Watch):
    """Save the model to `filepath` after each epoch, or after those that are the best so far."""

    def __init__(self, filepath: str | os.PathLike, monitor: str = "val_loss", *, save_best_only: bool = False,
                 mode: str = "auto"):
        super().__init__(monitor, 0.0, mode)
        self.filepath, self.save_best_only = os.fspath(filepath), save_best_only

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        if not self.save_best_only or self.improved(logs):
            self.model.save(self.filepath.format(epoch=epoch + 1, **logs))
