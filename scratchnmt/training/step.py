"""One training step, from a batch to moved weights: at once, or on a GPU without waiting for it.

Both have the same functions: `take` does a step, `results` tells what is known of the steps since it was
last asked, `gradient` computes that of a batch and moves nothing.  `StepAtOnce` reads loss and norm before it moves the
weights.  `StepAhead` is for fused kernels: the host lays batches out and sends them ahead, one copy each; loss and
norm stay on the GPU, where clipping needs them, and come back a few steps late; what a step launches is recorded and
repeated (see kernels/graph.py).

A step whose loss or gradient is not finite moves nothing, neither weights nor moments, but counts as one.  With
`stop`, nor do the steps behind it that were sent before anybody knew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any, NamedTuple

import numpy as np

from .. import optim
from ..arrays import Array, array_module, device_of
from ..data.batches import Batch
from ..models import inputs
from ..models.attention import attention_class
from ..models.inputs import Bucket
from ..models.nmt import NMT
from ..models.parameters import Parameters
from ..ops.lstm import shut
from ..ops.plain import PLAIN
from ..parallel.ranks import Ranks

AHEAD = 4  # steps that the host may be ahead of the GPU
_COURSE = {"step": (1,), "course": (3,)}  # beside a batch: whose dropout; what the optimizer's `advance` returned


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


def make(model: NMT, optimizer: Callable[[Any], Any], recipe: Recipe, ranks: Ranks | None = None
         ) -> StepAtOnce | StepAhead:
    """The way to take steps that fits the model's kernels.

    optimizer: makes one, of the module optim or its fused twin.  ranks: of whom each takes its parts.
    """
    if model.kernels is PLAIN:
        return StepAtOnce(model, optimizer, recipe, ranks)
    from ..kernels import KERNELS

    return StepAhead(model, optimizer(KERNELS["optim"]), recipe, ranks)


class StepAtOnce:
    """A step that ends before the next begins."""

    def __init__(self, model: NMT, optimizer: Callable[[Any], Any], recipe: Recipe, ranks: Ranks | None = None):
        self.model, self.recipe, self.ranks = model, recipe, ranks or Ranks()
        self.machine = self.ranks.machine.share(model)
        self.part = self.machine.part(model.params.flat.size)  # of the vector, what this rank moves
        self.optimizer = optimizer(optim)
        self.grads = model.params.like()
        self.sum: Parameters | None = None  # of the gradients of several parts, once there were some
        self.found: list[Result] = []

    def take(self, parts: Sequence[Part], sentences: int, place: Place, rate: float) -> None:
        """Move the weights along the gradient of a batch of `sentences`, of which `parts` are this rank's."""
        clip = self.recipe.clip
        nats = self._add_up(parts, place)
        norm = optim.norm_by_parts(self.grads, self.part, self.machine.add_up)
        result = Result(place, nats, norm / sentences)
        self.found.append(result)
        self.optimizer.learning_rate = rate
        if result.finite:
            factor = optim.clip_factor(result.norm, clip) if clip else 1.0
            self.optimizer.step(self.grads, factor / sentences, self.part)
            self.machine.wait()
        else:
            self.optimizer.step_count += 1

    def _add_up(self, parts: Sequence[Part], place: Place) -> float:
        """The loss of all parts on all ranks; their gradient is then in `grads`."""
        nats, batches = 0.0, [(part.number, part.batch) for part in parts if part.batch]
        several = None if len(batches) == 1 else self._empty_sum()
        for number, batch in batches:
            nats += float(self.gradient(batch, place, number))
            if several is not None:
                several.flat[...] += self.grads.flat
        if several is not None:
            self.grads.flat[...] = several.flat
        total = np.array([nats])
        self.ranks.add_up(self.grads.flat)
        self.ranks.add_up(total)
        return float(total[0])

    def _empty_sum(self) -> Parameters:
        if self.sum is None:
            self.sum = self.model.params.like()
        self.sum.flat[...] = 0
        return self.sum

    def gradient(self, batch: Batch, place: Place, part: int = 0) -> Array:
        """The loss of a batch, or of a part of it, whose gradient is then in `grads`."""
        rng = self.recipe.generator(place.step - 1, part)
        loss, cache = self.model.forward(batch.src, batch.src_lengths, batch.tgt, rng, out=self.grads)
        self.model.backward(cache, out=self.grads)
        return loss

    def results(self, wait: bool = False) -> list[Result]:
        """Those of the steps since the last call."""
        found, self.found = self.found, []
        return found

    def drain(self) -> None:
        """Nothing is on the way."""

    def gather(self) -> None:
        """Have the first rank's optimizer whole, as it is saved."""
        for value in self.optimizer.state().values():
            if hasattr(value, "shape"):
                self.machine.gather(value)

    def close(self) -> None:
        """Nothing is kept."""


class _Slot:
    """Pinned memory of the host for one step on its way: the GPU copies from and to it while the host goes on."""

    def __init__(self, cupy: Any):
        self.cupy, self.memory = cupy, np.empty(0, "int64")
        self.event = cupy.cuda.Event(disable_timing=True)
        self.found = self._pinned(2, "float64")  # loss, norm

    def vector(self, size: int) -> np.ndarray:
        """Room for `size` whole numbers."""
        if len(self.memory) < size:
            self.memory = self._pinned(size, "int64")
        return self.memory[:size]

    def _pinned(self, size: int, dtype: str) -> np.ndarray:
        memory = self.cupy.cuda.alloc_pinned_memory(size * np.dtype(dtype).itemsize)
        return np.frombuffer(memory, dtype, size)


class StepAhead:
    """Steps on a GPU, for models of fused kernels; the host is up to AHEAD steps further."""

    def __init__(self, model: NMT, optimizer: Any, recipe: Recipe, ranks: Ranks | None = None):
        from ..kernels.graph import Graphs

        self.model, self.optimizer, self.recipe, self.ranks = model, optimizer, recipe, ranks or Ranks()
        self.xp = array_module(model.params.flat)
        self.grads = model.params.like()
        self.sum: Parameters | None = None  # of the gradients of several parts, once there were some
        recordable = attention_class(model.config).recordable(model.config) and (
            self.ranks.size == 1 or self.ranks.cards.recordable)
        self.graphs = Graphs(recipe.graphs if recordable else 0)
        # what is kept for good must not come from the pool of what is made on the way
        shut(self.xp, device_of(model.params.flat), model.config.encoder_size, model.params.flat.dtype)
        self.there: dict[Bucket | None, Array] = {}  # where on the GPU a bucket's batch lies
        self.found = self.xp.zeros(2, "float64")  # loss, norm of the gradient
        self.stopped = self.xp.zeros(1, "float64")  # with `stop`, not finite from the first such step on
        self.free = deque(_Slot(self.xp) for _ in range(AHEAD))
        # on the way; None: a part before the last; of how many sentences
        self.sent: deque[tuple[_Slot, Place | None, int]] = deque()
        self.done: list[Result] = []

    def take(self, parts: Sequence[Part], sentences: int, place: Place, rate: float) -> None:
        """Send the step that moves the weights along the gradient of a batch of `sentences`, of which `parts` are
        this rank's, one after another.

        Waits if AHEAD others are on the way.
        """
        self.optimizer.learning_rate = rate
        course = self.optimizer.advance(1 / sentences)
        if len(parts) > 1 and self.sum is None:
            self.sum = self.model.params.like()
        for number, part in enumerate(parts, start=1):
            self._send(part, place, course, sentences, first=number == 1, last=number == len(parts))

    def _send(self, part: Part, place: Place, course: np.ndarray, sentences: int, *, first: bool, last: bool) -> None:
        if not self.free:
            self._receive()
        slot = self.free.popleft()
        bucket = part.batch and Bucket.of(part.batch.src, part.batch.tgt)
        host, there = self._lay_out(part, bucket, place, course, slot)
        with self.graphs.turn():
            self.there[bucket].set(host)
            self.graphs.run((bucket, first, last), lambda: self._work(there, bucket, first, last))
            if last:
                self.found.get(out=slot.found, blocking=False)
            slot.event.record()
        self.sent.append((slot, place if last else None, sentences))

    def gradient(self, batch: Batch, place: Place, part: int = 0) -> Array:
        """The loss of a step, computed once more, whose gradient is then in `grads`; first all on the way come back.

        By the weights as they are then: with `stop` those of the step; else those of up to AHEAD steps later.
        """
        self.drain()
        bucket = Bucket.of(batch.src, batch.tgt)
        host, there = self._lay_out(Part(part, batch), bucket, place, np.zeros(3), self.free[0])
        self.there[bucket].set(host)
        return self._gradient(there, bucket)

    def _lay_out(self, part: Part, bucket: Bucket | None, place: Place, course: np.ndarray,
                 slot: _Slot) -> tuple[np.ndarray, dict[str, Array]]:
        """The vector of a part on the host, in the slot's memory, and views of the one on the GPU that it goes to."""
        shapes, config = _COURSE | (inputs.fields(bucket) if bucket else {}), self.model.config
        host = slot.vector(sum(int(np.prod(shape)) for shape in shapes.values()))
        here = inputs.views(host, shapes)
        if bucket and (batch := part.batch):
            inputs.fill(here, bucket, (config.src_vocab_size, config.tgt_vocab_size), batch.src, batch.src_lengths,
                        batch.tgt, config.longest)
        here["step"][0] = place.step - 1 | part.number << 32  # each part has masks of its own
        here["course"].view("float64")[...] = course
        if bucket not in self.there:
            self.there[bucket] = self.xp.empty(len(host), "int64")
        return host, inputs.views(self.there[bucket], shapes)

    def results(self, wait: bool = False) -> list[Result]:
        """Those that have come back since the last call; with `wait`, of all steps.

        Of several ranks, which send as many parts each, all have the same after the same step, whichever card is the
        first to be done.
        """
        alone = self.ranks.size == 1
        while self.sent and (wait or (alone and self.sent[0][0].event.done)):
            self._receive()
        found, self.done = self.done, []
        return found

    def drain(self) -> None:
        """Wait for all steps that are on the way, whose results come with the next ones."""
        while self.sent:
            self._receive()

    def gather(self) -> None:
        """Every rank has all."""

    def close(self) -> None:
        """Give back what only steps need."""
        self.graphs.close()

    def _work(self, there: dict[str, Array], bucket: Bucket | None, first: bool, last: bool) -> None:
        """All launches of a part, the last of which ends the step; nothing here may depend on what is in the batch
        but through `there`."""
        if bucket:
            loss = self._gradient(there, bucket)
        else:
            loss, self.grads.flat[...] = 0.0, 0
        if first:
            self.found[0] = loss
        else:
            self.found[0] += loss
        total = self.grads
        if not (first and last):
            assert self.sum is not None  # made by `take`, before anything is recorded
            total = self.sum
            if first:
                total.flat[...] = self.grads.flat
            else:
                total.flat += self.grads.flat
        if last:
            self._move(total, there)

    def _move(self, total: Parameters, there: dict[str, Array]) -> None:
        """What follows the gradient of all parts: those of all ranks are added up, the weights are moved."""
        from ..kernels.optim import global_norm

        self.ranks.add_up(total.flat)
        self.ranks.add_up(self.found[:1])
        norm = global_norm(total)
        self.found[1:] = norm
        norm = norm + 0 * self.found[:1]  # not finite if one of the two is not
        if self.recipe.stop:  # the norm, or NaN for good
            self.stopped *= 0
            self.stopped += norm
            norm = self.stopped
        self.optimizer.update(total, there["course"].view("float64"), norm, self.recipe.clip or np.inf)

    def _gradient(self, there: dict[str, Array], bucket: Bucket) -> Array:
        from ..kernels.philox import Masks

        masks = Masks(self.recipe.seed, there["step"].view("uint64"))
        loss, cache = self.model.forward_inputs(inputs.laid_out(there, bucket), masks, out=self.grads)
        self.model.backward(cache, out=self.grads)
        return loss

    def _receive(self) -> None:
        """Wait for the oldest step that is on the way."""
        slot, place, sentences = self.sent.popleft()
        slot.event.synchronize()
        self.free.append(slot)
        if place:
            loss, norm = map(float, slot.found)
            self.done.append(Result(place, loss, norm / sentences))
