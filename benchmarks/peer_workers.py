"""scratchnmt by several workers of one thread, as many as the others have threads; on the CPU."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import numpy as np

import scratchnmt
from scratchnmt.data.batches import Batch
from scratchnmt.models.config import DROPOUTS
from scratchnmt.models.nmt import NMT
from scratchnmt.parallel.ranks import Ranks
from scratchnmt.search import Hypothesis

from . import decode
from .ours import WorkersContestant

CPU_ALONE = True


class Contestant(WorkersContestant):
    version = scratchnmt.__version__

    def __init__(self, model: NMT, threads: int) -> None:
        super().__init__(_copy(model), threads)

    def loss_and_gradients(self, batch: Batch) -> tuple[float, Mapping[str, np.ndarray]]:
        """What other workers add up in a first step, without dropout."""
        others = WorkersContestant(_copy(self.model, **dict.fromkeys(DROPOUTS, 0.0)), self.team.size)
        others._take(batch)
        loss = others.steps.results(wait=True)[-1].nats
        grads = {name: np.array(gradient) for name, gradient in others.steps.gradients.total.items()}
        others.close()
        return loss, grads

    def search_batches(self, sentences: list[list[int]], beam_size: int, max_steps: int,
                       batch_size: int) -> list[tuple[list[int], float]]:
        """The best translation of every sentence, its ids and score; each batch by one worker."""
        options = argparse.Namespace(beam=beam_size, max_steps=max_steps)
        found = self.together("search", sentences, batch_size, options)
        return [(list(hypothesis.value), hypothesis.score) for hypothesis in found]

    def search(self, sentences: list[list[int]], count: int, options: argparse.Namespace) -> list[Hypothesis]:
        """By all of them at once, see `together`."""
        return decode.ours(self.model, sentences, count, options, Ranks(self.team))


def _copy(model: NMT, **choices: float) -> NMT:
    own = NMT(**model.config.to_dict() | choices, dtype=str(model.params.flat.dtype))
    own.params.flat[...] = model.params.flat
    return own
