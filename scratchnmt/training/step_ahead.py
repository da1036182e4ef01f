"""Training steps on a GPU that the host does not wait for.

The host lays batches out and sends them ahead, one copy each; loss and norm stay on the GPU, where clipping needs
them, and come back a few steps late; what a step launches is recorded and repeated (see kernels/graph.py).  Several
parts of a step, and the gradients of several ranks, are added up on the GPU, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import Array, array_module
from ..data.batches import Batch
from ..models import inputs
from ..models.inputs import Bucket
from ..models.nmt import NMT
from ..parallel.ranks import Ranks
from ..parameters import Parameters
from .step import Part, Place, Recipe, Result, Steps

AHEAD = 4  # steps that the host may be ahead of the GPU
_COURSE = {"step": (1,), "course": (3,)}  # beside a batch: whose dropout; what the optimizer's `advance` returned


class _Slot:
    """Pinned memory of the host for one step on its way: the GPU copies from and to it while the host goes on."""

    def __init__(self, cupy: Any):
        self.cupy, self.memory = cupy, np.empty(0, "int64")
        self.event = cupy.cuda.Event(disable_timing=True)
        self.loss_norm = self._pinned(2, "float64")  # loss, norm

    def vector(self, size: int) -> np.ndarray:
        """Room for `size` whole numbers."""
        if len(self.memory) < size:
            self.memory = self._pinned(size, "int64")
        return self.memory[:size]

    def _pinned(self, size: int, dtype: str) -> np.ndarray:
        memory = self.cupy.cuda.alloc_pinned_memory(size * np.dtype(dtype).itemsize)
        return np.frombuffer(memory, dtype, size)


class StepAhead(Steps):
    """Steps on a GPU, for models of fused kernels; the host is up to AHEAD steps further."""

    def __init__(self, model: NMT, optimizer: Any, recipe: Recipe, ranks: Ranks | None = None):
        from ..kernels.graph import Graphs

        self.model, self.optimizer, self.recipe, self.ranks = model, optimizer, recipe, ranks or Ranks()
        self.xp = array_module(model.params.flat)
        self.grads = model.params.like()
        self.sum: Parameters | None = None  # of the gradients of several parts, once there were some
        models = [model, *(recipe.teachers.models if recipe.teachers else ())]
        recordable = (all(one.recordable for one in models)
                      and (self.ranks.size == 1 or self.ranks.cards.recordable))
        self.graphs = Graphs(recipe.graphs if recordable else 0)
        for one in models:
            one.warm_up()
        self.there: dict[Bucket | None, Array] = {}  # where on the GPU a bucket's batch lies
        self.loss_norm = self.xp.zeros(2, "float64")  # loss, norm of the gradient
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
        bucket = part.batch and Bucket.of(part.batch.src, part.batch.tgt, self.model.config.passes)
        host, there = self._write(part, bucket, place, course, slot)
        with self.graphs.turn():
            self.there[bucket].set(host)
            self.graphs.run((bucket, first, last), lambda: self._work(there, bucket, first, last))
            if last:
                self.loss_norm.get(out=slot.loss_norm, blocking=False)
            slot.event.record()
        self.sent.append((slot, place if last else None, sentences))

    def gradient(self, batch: Batch, place: Place, part: int = 0) -> Array:
        """The loss of a step, computed once more, whose gradient is then in `grads`; first all on the way come back.

        By the weights as they are then: with `stop` those of the step; else those of up to AHEAD steps later.
        """
        self.drain()
        bucket = Bucket.of(batch.src, batch.tgt, self.model.config.passes)
        host, there = self._write(Part(part, batch), bucket, place, np.zeros(3), self.free[0])
        self.there[bucket].set(host)
        return self._gradient(there, bucket)

    def _write(self, part: Part, bucket: Bucket | None, place: Place, course: np.ndarray,
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
        results, self.done = self.done, []
        return results

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
            self.loss_norm[0] = loss
        else:
            self.loss_norm[0] += loss
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
        self.ranks.add_up(self.loss_norm[:1])
        norm = global_norm(total)
        self.loss_norm[1:] = norm
        norm = norm + 0 * self.loss_norm[:1]  # not finite if one of the two is not
        if self.recipe.stop:  # the norm, or NaN for good
            self.stopped *= 0
            self.stopped += norm
            norm = self.stopped
        self.optimizer.update(total, there["course"].view("float64"), norm, self.recipe.clip or np.inf)

    def _gradient(self, there: dict[str, Array], bucket: Bucket) -> Array:
        from ..kernels.dropout import Masks

        masks = Masks(self.recipe.seed, there["step"].view("uint64"))
        loss, cache = self.model.forward_inputs(inputs.read_inputs(there, bucket), masks, out=self.grads,
                                                teachers=self.recipe.teachers)
        self.model.backward(cache, out=self.grads)
        return loss

    def _receive(self) -> None:
        """Wait for the oldest step that is on the way."""
        slot, place, sentences = self.sent.popleft()
        slot.event.synchronize()
        self.free.append(slot)
        if place:
            loss, norm = map(float, slot.loss_norm)
            self.done.append(Result(place, loss, norm / sentences))
