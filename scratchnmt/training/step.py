"""One training step, from a batch to moved weights: at once, or on a GPU without waiting for it.

`Steps` is what a training loop needs of both.  `StepAtOnce`, below, reads loss and norm before it moves the weights;
`StepAhead` (step_ahead.py) is for fused kernels, but not for minimum risk training, whose draws the host waits for.

A step whose loss or gradient is not finite moves nothing, neither weights nor moments, but counts as one.  With
`stop`, nor do the steps behind it that were sent before anybody knew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any, NamedTuple, Protocol

import numpy as np

from .. import optim
from ..arrays import Array
from ..data.batches import Batch
from ..models.nmt import NMT, Teachers
from ..ops.plain import PLAIN
from ..parallel.ranks import Ranks
from ..parameters import Parameters
from .minimum_risk import MinimumRisk


class Place(NamedTuple):
    """A step in its run."""

    step: int  # from 1
    epoch: int  # from 1
    tokens: int  # target tokens
    position: int = 0  # of its batch in the epoch


class Result(NamedTuple):
    place: Place
    nats: float
    norm: float  # of the gradient, summed over tokens, averaged over sentences

    @property
    def finite(self) -> bool:
        return isfinite(self.nats) and isfinite(self.norm)


class Part(NamedTuple):
    """Of a step's batch, what is computed at once, and by which rank (see parallel/ranks.py)."""

    number: int  # from 0
    batch: Batch | None  # None: nothing, if there are more parts than sentences


class Recipe(NamedTuple):
    """What a step does besides the gradient."""

    clip: float  # 0: not at all
    seed: int  # of dropout
    graphs: int  # steps of how many different sizes are recorded, at most
    generator: Callable[[int, int], Any]  # step and part from 0 -> the generator of its dropout masks
    stop: bool = True  # at a step that is not finite
    risk: MinimumRisk | None = None  # what is made small instead of the cross-entropy
    teachers: Teachers | None = None  # who have a share in the cross-entropy


class Steps(Protocol):
    """What takes steps, for a training loop."""

    model: NMT
    optimizer: Any  # of the module optim, or its fused twin
    grads: Parameters

    def take(self, parts: Sequence[Part], sentences: int, place: Place, rate: float) -> None:
        """Move the weights along the gradient of a batch of `sentences`, of which `parts` are this rank's."""

    def gradient(self, batch: Batch, place: Place, part: int = 0) -> Array:
        """The loss of a batch, or of a part of it, whose gradient is then in `grads`; nothing moves."""

    def results(self, wait: bool = False) -> list[Result]:
        """What is known of the steps since the last call; with `wait`, of all of them."""

    def drain(self) -> None:
        """Wait for all steps that are on the way."""

    def gather(self) -> None:
        """Have the first rank's optimizer whole, as it is saved."""

    def close(self) -> None:
        """Give back what only steps need."""


def make_steps(model: NMT, optimizer: Callable[[Any], Any], recipe: Recipe, ranks: Ranks | None = None) -> Steps:
    """The way to take steps that fits the model's kernels.

    optimizer: makes one, of the module optim or its fused twin.  ranks: of whom each takes its parts.
    """
    if model.kernels is PLAIN or recipe.risk:
        return StepAtOnce(model, optimizer, recipe, ranks)
    from ..kernels import KERNELS
    from .step_ahead import StepAhead

    return StepAhead(model, optimizer(KERNELS["optim"]), recipe, ranks)


class StepAtOnce(Steps):
    """A step that ends before the next begins."""

    def __init__(self, model: NMT, optimizer: Callable[[Any], Any], recipe: Recipe, ranks: Ranks | None = None):
        self.model, self.recipe, self.ranks = model, recipe, ranks or Ranks()
        self.machine = self.ranks.machine.share(model)
        self.part = self.machine.part(model.params.flat.size)  # of the vector, what this rank moves
        self.optimizer = optimizer(optim)
        self.gradients = self.machine.gradients(model.params, self.ranks.add_up)
        self.grads = self.gradients.own
        self.sum: Parameters | None = None  # of the gradients of several parts, once there were some
        self.done: list[Result] = []

    def take(self, parts: Sequence[Part], sentences: int, place: Place, rate: float) -> None:
        """Move the weights along the gradient of a batch of `sentences`, of which `parts` are this rank's."""
        clip = self.recipe.clip
        nats = self._add_up(parts, place)
        total = self.gradients.total
        norm = optim.norm_by_parts(total, self.part, self.machine.add_up)
        result = Result(place, nats, norm / sentences)
        self.done.append(result)
        self.optimizer.learning_rate = rate
        if result.finite:
            factor = optim.clip_factor(result.norm, clip) if clip else 1.0
            self.optimizer.step(total, factor / sentences, self.part)
        else:
            self.optimizer.step_count += 1
        self.machine.wait()  # the next gradient is written where others may still read this one

    def _add_up(self, parts: Sequence[Part], place: Place) -> float:
        """The loss of all parts on all ranks; their gradient is then the total."""
        nats, batches = 0.0, [(part.number, part.batch) for part in parts if part.batch]
        for number, batch in batches:
            nats += float(self.gradient(batch, place, number))
            if len(batches) > 1:
                self._collect(first=number == batches[0][0])
        if len(batches) != 1:
            self.grads.flat[...] = self.sum.flat if self.sum and batches else 0
        total = np.array([nats])
        self.gradients.add_up()
        self.ranks.add_up(total)
        return float(total[0])

    def _collect(self, first: bool) -> None:
        if self.sum is None:
            self.sum = self.model.params.like()
        if first:
            self.sum.flat[...] = self.grads.flat
        else:
            self.sum.flat[...] += self.grads.flat

    def gradient(self, batch: Batch, place: Place, part: int = 0) -> Array:
        """The loss of a batch, or of a part of it, whose gradient is then in `grads`."""
        rng, risk = self.recipe.generator(place.step - 1, part), self.recipe.risk
        if risk:
            return risk.gradient(self.model, batch, place.step - 1, part, rng, self.grads)
        loss, cache = self.model.forward(batch.src, batch.src_lengths, batch.tgt, rng, out=self.grads,
                                         teachers=self.recipe.teachers)
        self.model.backward(cache, out=self.grads)
        return loss

    def results(self, wait: bool = False) -> list[Result]:
        """Those of the steps since the last call."""
        results, self.done = self.done, []
        return results

    def drain(self) -> None:
        """Nothing is on the way."""

    def gather(self) -> None:
        """Have the first rank's optimizer whole, as it is saved."""
        for value in self.optimizer.state().values():
            if hasattr(value, "shape"):
                self.machine.gather(value)

    def close(self) -> None:
        """Nothing is kept."""
