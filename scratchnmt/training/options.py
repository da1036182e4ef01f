"""What can be chosen about a training run, checked when it is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import inf
from typing import Any

from ..errors import InputError, expected_one_of, shown, unknown_names

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
            if getattr(self, name) not in allowed:
                value = getattr(self, name)
                raise InputError(f"{name} is {shown(value)}, {expected_one_of(value, allowed)}")
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
