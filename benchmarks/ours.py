"""scratchnmt as a contestant: the training step of scratchnmt.training, on batches that are made here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from scratchnmt.arrays import array_module, limit_threads, to_device
from scratchnmt.data.batches import Batch, make_batch
from scratchnmt.models.nmt import NMT
from scratchnmt.parallel.ranks import Ranks, divide
from scratchnmt.parallel.team import Team
from scratchnmt.parallel.watchdog import endings
from scratchnmt.training import step

# Multi30k, 8,000 subwords a side: quantiles of the source lengths, and of how much longer the target is (</s> counted)
QUANTILES = (0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1)
MULTI30K_SRC = (4, 7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 20, 22, 28, 37, 46)
MULTI30K_MORE = (-13, -5, -3, -2, -1, 0, 1, 1, 2, 3, 3, 5, 6, 10, 14, 24)


class Contestant:
    """Owns a model and the way to take its steps."""

    name = "scratchnmt"

    def __init__(self, model: NMT, clip: float = 5.0, graphs: int = 64) -> None:
        self.model, self.count = model, 0
        xp = array_module(model.params.flat)
        recipe = step.Recipe(clip, seed=0, graphs=graphs, generator=lambda number, part: xp.random.default_rng(number))
        self.steps = self._steps(recipe)

    def _steps(self, recipe: step.Recipe) -> step.Steps:
        return step.make_steps(self.model, lambda module: module.Adam(self.model.params, learning_rate=1e-3), recipe)

    def loss_and_gradients(self, batch: Batch) -> tuple[float, Mapping[str, np.ndarray]]:
        """Loss and gradients, on the host, without dropout."""
        loss, cache = self.model.forward(batch.src, batch.src_lengths, batch.tgt)
        return float(loss), {name: to_device(gradient, "cpu") for name, gradient in self.model.backward(cache).items()}

    def step(self, batch: Batch) -> None:
        """Forward, backward, clip, update; on a GPU it may come back before that is done."""
        self._take(batch)
        self.steps.results()

    def close(self) -> None:
        """Give back what only steps need: the next contestant may need the memory."""
        self.steps.close()

    def step_loss(self, batch: Batch) -> float:
        """The same, waited for; the loss per sentence."""
        self._take(batch)
        return self.steps.results(wait=True)[-1].nats / len(batch.src_lengths)

    def _take(self, batch: Batch) -> None:
        self.count += 1
        place = step.Place(self.count, 1, int(batch.tgt_lengths.sum()))
        self.steps.take([step.Part(0, batch)], len(batch.src_lengths), place, 1e-3)


class WorkersContestant(Contestant):
    """The same by several workers, with a thread each, as `scratchnmt train` has it."""

    def __init__(self, model: NMT, workers: int, clip: float = 5.0) -> None:
        self.team = Team(workers, *endings("the step was not taken", ""))
        self.make = lambda: super(WorkersContestant, self).__init__(model, clip)
        self.name = f"scratchnmt, {workers} workers"
        with limit_threads(1):
            self.team.fork(self._follow)
            self.make()

    def close(self) -> None:
        """End the others."""
        self.team.bcast(None)
        self.team.join()

    def _steps(self, recipe: step.Recipe) -> step.Steps:
        adam = lambda module: module.Adam(self.model.params, learning_rate=1e-3)
        return step.make_steps(self.model, adam, recipe, Ranks(self.team))

    def _follow(self, team: Team) -> None:
        self.make()
        while (job := team.bcast(None)) is not None:
            self._do(*job)

    def together(self, name: str, *arguments: Any) -> Any:
        """What the method of this name returns, which all call, each with a copy of the arguments."""
        with limit_threads(1):
            return self._do(*self.team.bcast((name, *arguments)))

    def _do(self, name: str, *arguments: Any) -> Any:
        return getattr(self, name)(*arguments)

    def _take(self, batch: Batch) -> None:
        self.together("_share", batch)

    def _share(self, batch: Batch) -> None:
        self.count += 1
        place = step.Place(self.count, 1, int(batch.tgt_lengths.sum()))
        part = step.Part(self.team.rank, share(batch, self.team.rank, self.team.size))
        self.steps.take([part], len(batch.src_lengths), place, 1e-3)


def share(batch: Batch, rank: int, size: int) -> Batch:
    """What one of several processes takes of a batch."""
    lengths = np.stack([batch.src_lengths, batch.tgt_lengths], axis=1)
    own = divide(np.arange(len(lengths)), lengths, size)[rank]
    S, T = lengths[own].max(axis=0)
    return Batch(batch.src[:S, own], lengths[own, 0], batch.tgt[: T + 1, own], lengths[own, 1])


def random_batch(src_vocab_size: int, tgt_vocab_size: int, sentences: int, src_steps: int,
                 tgt_steps: int, seed: int = 0) -> Batch:
    """Random tokens; lengths from half to whole of src_steps and tgt_steps (</s> counted)."""
    rng = np.random.default_rng(seed)
    src = random_sentences(rng, src_vocab_size, sentences, src_steps)
    tgt = random_sentences(rng, tgt_vocab_size, sentences, tgt_steps)
    return make_batch(src, [ids[:-1] for ids in tgt])


def random_sentences(rng: np.random.Generator, vocab_size: int, sentences: int,
                     steps: int) -> list[list[int]]:
    """Lists of ids, (steps + 1) // 2 to steps long, at least one of them in full length."""
    lengths = rng.integers((steps + 1) // 2, steps + 1, sentences)
    lengths[rng.integers(sentences)] = steps
    return [rng.integers(4, vocab_size, length).tolist() for length in lengths]


def multi30k_batches(vocab_size: int, sentences: int, count: int, seed: int = 0) -> list[Batch]:
    """Random tokens, with lengths as random batches of Multi30k have them."""
    rng = np.random.default_rng(seed)
    draw = lambda values: np.interp(rng.random(sentences), QUANTILES, values).round().astype(int)
    tokens = lambda lengths: [rng.integers(4, vocab_size, n).tolist() for n in lengths]
    batches = []
    for _ in range(count):
        src = draw(MULTI30K_SRC)
        tgt = np.maximum(src + draw(MULTI30K_MORE), 2)
        batches.append(make_batch(tokens(src), tokens(tgt - 1)))
    return batches
