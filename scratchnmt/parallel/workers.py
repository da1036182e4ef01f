"""The cores of a machine, used by processes with one BLAS thread each: *workers*.

Two threads that share a product of matrices wait for each other at its end, and OpenBLAS' wait by keeping their cores
busy: a step whose second core another program uses takes ten times as long.  Workers have each their own sentences,
wait rarely, and leave the core to others when they do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import finalize

import numpy as np

from ..arrays import check_shapes, device_of, limit_threads, threads_wanted
from ..errors import InputError, shown
from ..ops.cross_entropy import PAD
from ..ops.plain import PLAIN
from ..parameters import Parameters
from .machine import Machine
from .ranks import Ranks, divide
from .watchdog import endings

if TYPE_CHECKING:
    from ..models.nmt import NMT
    from .team import Team

_FLOPS, _SENTENCES = 1e8, 8  # of a step, that a worker should have: with fewer it mostly waits
MOST = 1024  # workers are fewer
Result = TypeVar("Result")


def in_workers(work: Callable[[Ranks], Result], workers: int, *, stopped: str, resume: str = "",
               ranks: Ranks | None = None) -> Result:
    """What `work` returns, which so many processes do together; each gets the Ranks that it is one of.

    ranks: those of `mpirun`, each of which has so many workers.  stopped, resume: how the sentence ends if one of
    them dies, as of `together` in mpi.py.  Raises what one of them raises, WorkerError if one is gone, MachineError if
    there can be no more processes.
    """
    ranks = ranks or Ranks()
    if workers == 1:
        return work(ranks)
    from .both import Both  # only now, for those who have several
    from .team import Team

    def together(team: Team) -> Result:
        return work(Ranks(Both(ranks.comm, team) if ranks.comm else team, team))

    with limit_threads():
        team = Team(workers, *endings(stopped, resume), above=ranks.watchdog)
        try:
            team.fork(together)
            result = together(team)
            team.join()
        finally:
            team.end()
    return result


def each(ranks: Ranks, items: Sequence[Any], work: Callable[[Any], Any], workers: int, stopped: str) -> list[Any]:
    """As `ranks.each`, by workers of each rank, which are started for it; errors as of `in_workers`."""
    return in_workers(lambda all: all.each(items, work), max(1, min(workers, -(-len(items) // ranks.size))),
                      ranks=ranks, stopped=stopped)


def available(ranks: Ranks | None = None, device: str = "cpu") -> int:
    """How many workers a rank has cores for, each with the threads that the environment wants; all ranks must ask."""
    ranks = ranks or Ranks()
    cores = ranks.cores // (threads_wanted() or 1)
    if device != "cpu" or not hasattr(os, "fork"):
        return 1
    most = min(ranks.comm.allgather(cores)) if ranks.comm else cores  # each rank has as many
    return max(1, min(most, MOST - 1))


def worth(most: int, flops: float, sentences: float) -> int:
    """How many workers, at most, a step of so many operations and sentences is worth sharing among."""
    return max(1, min(most, int(flops / _FLOPS), int(sentences / _SENTENCES)))


def check_workers(workers: object, device: str = "cpu") -> None:
    """InputError unless so many processes can compute on the device."""
    if isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers < MOST:
        raise InputError(f"workers is {shown(workers)}, expected a whole number of at least 1 and below {MOST}")
    if workers > 1 and device != "cpu":
        raise InputError(f"workers is {workers}, and device is {device}: workers compute on the cores of the CPU; for "
                         f"several cards, mpirun -n {workers} (train and translate alone)")
    if workers > 1 and not hasattr(os, "fork"):
        raise InputError(f"workers is {workers}, and this system cannot fork a process: choose 1")


class Workers:
    """The gradients of a model by several processes, for a training loop of one's own.

        with Workers(model, 4) as workers:
            optimizer = Adam(model.params)
            for src, src_lengths, tgt in batches:
                loss, grads = workers.gradient(src, src_lengths, tgt)
                clip_global_norm(grads, 5.0)
                optimizer.step(grads)

    model: an NMT of plain kernels on the CPU.  Its weights move to memory that all see, so that whatever changes them
    in place changes them for all; of several Workers of one model only those made last can compute.  workers: how many,
    this process being one of them (None: as many as there are cores for).  While they compute, each has one BLAS
    thread, or as many as OMP_NUM_THREADS or OPENBLAS_NUM_THREADS say.  The others are forks of this process: they do
    not import the script, which needs no `if __name__ == "__main__":`.  They end with `with`, by `close`, or with this
    object.

    Raises InputError where the model or the system cannot have several, WorkerError if one of them is gone.
    """

    def __init__(self, model: NMT, workers: int | None = None):
        from .team import Team

        count = available() if workers is None else workers
        check_workers(count, device_of(model.params.flat))
        if model.kernels is not PLAIN:
            raise InputError("the model has fused kernels: workers compute with plain ones, kernels='plain'")
        self.model, self.team = model, Team(count, *endings("its gradient is lost", ""))
        finalize(self, self.team.end)
        with self._together():
            self.team.fork(self._serve)
            self._share()

    def gradient(self, src: np.ndarray, src_lengths: np.ndarray, tgt: np.ndarray,
                 rng: np.random.Generator | None = None) -> tuple[float, Parameters]:
        """The loss of a batch and its gradient, which the next call overwrites; as of `NMT.forward` and `backward`.

        src (S, B), src_lengths (B,), tgt (T+1, B) on the host.  The sentences are divided among the workers, and of rng
        each has a child: with as many workers the numbers are the same.

        Raises ValueError for shapes that do not fit; what `NMT.forward` raises in one of them, and WorkerError if one
        is gone, after which all have ended; InputError if they have, or if others have taken the model over.
        """
        if self.team.size > 1 and not self.apart and self.model.params.flat is not self.weights:
            raise InputError("the model's weights are no more where these workers see them: other Workers, or a "
                             "training, have moved them to memory of their own; make new ones")
        src, src_lengths, tgt = map(np.asarray, (src, src_lengths, tgt))
        check_shapes("Workers.gradient", src=("S B", src), src_lengths=("B", src_lengths), tgt=("U B", tgt))
        last_words = (np.arange(1, len(tgt))[:, None] * (tgt[1:] != PAD)).max(axis=0, initial=0)
        lengths = np.stack([src_lengths, last_words], axis=1)
        parts = divide(np.arange(len(lengths)), lengths, self.team.size)
        rngs = [None] * len(parts) if rng is None else rng.spawn(len(parts))
        with self._together():
            return self._compute(self.team.bcast([_part_of(src, lengths, tgt, part) + (one,) if len(part) else None
                                                  for part, one in zip(parts, rngs, strict=True)]))

    def close(self) -> None:
        """End the other processes; the model keeps its weights."""
        if not self.team.over.is_set():
            with self._together():
                self.team.bcast(None)
                self.team.join()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None:
            self.close()
        self.team.end()

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Inside `with`, all do the same; what one raises ends them all."""
        if self.team.over.is_set():
            raise InputError("these workers have ended: make new ones")
        try:
            with limit_threads():
                yield
        except BaseException:
            self.team.end()
            raise

    def _serve(self, team: Team) -> None:
        """The work of a fork."""
        self._share()
        while (jobs := team.bcast(None)) is not None:
            self._compute(jobs)

    def _share(self) -> None:
        machine = Machine(self.team, self.team).share(self.model)
        self.apart = machine.size < self.team.size  # without common memory
        self.weights = self.model.params.flat
        self.gradients = machine.gradients(self.model.params, self.team.add_up)

    def _compute(self, jobs: list[Any]) -> tuple[float, Parameters]:
        job, grads, loss = jobs[self.team.rank], self.gradients.own, np.zeros(1)
        if self.apart:  # the first one's weights are those that move
            self.model.params.flat[...] = self.team.bcast(self.model.params.flat)
        if job is None:
            grads.flat[...] = 0
        else:
            src, src_lengths, tgt, rng = job
            nats, cache = self.model.forward(src, src_lengths, tgt, rng, out=grads)
            self.model.backward(cache, out=grads)
            loss[0] = nats
        self.gradients.add_up()
        self.team.add_up(loss)  # by now all parts of the gradient are added up, too
        return float(loss[0]), self.gradients.total


def _part_of(src: np.ndarray, lengths: np.ndarray, tgt: np.ndarray, part: np.ndarray) -> tuple[np.ndarray, ...]:
    """Some sentences of a batch, without the padding that they do not need."""
    S, T = lengths[part].max(axis=0)
    return src[:S, part], lengths[part, 0], tgt[: T + 1, part]
