"""PyTorch at its best in several processes of one thread: DistributedDataParallel by gloo, on the CPU.

As many processes as the other contestants have threads.  They sleep at a pipe while others are timed.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from scratchnmt.arrays import keep_freed_memory
from scratchnmt.data.batches import Batch
from scratchnmt.models.nmt import NMT
from scratchnmt.parallel.ranks import divide

from . import peer_torch_best

CPU_ALONE = True


class Contestant:
    version = torch.__version__

    def __init__(self, model: NMT, threads: int) -> None:
        self.name = f"PyTorch at its best, {threads} processes"
        context = multiprocessing.get_context("spawn")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        config, flat = model.config.to_dict(), np.array(model.params.flat)
        self.pipes, self.processes = [], []
        for rank in range(threads):
            ours, theirs = context.Pipe()
            arguments = (theirs, rank, threads, address, config, flat)
            self.processes.append(context.Process(target=_serve, args=arguments, daemon=True))
            self.processes[-1].start()
            self.pipes.append(ours)
            theirs.close()

    def loss_and_gradients(self, batch: Batch) -> tuple[float, Mapping[str, np.ndarray]]:
        return self._ask("loss_and_gradients", batch)

    def step(self, batch: Batch) -> None:
        self._ask("step", batch)

    def step_loss(self, batch: Batch) -> float:
        return self._ask("step_loss", batch)

    def close(self) -> None:
        for pipe in self.pipes:
            pipe.close()
        for process in self.processes:
            process.join()

    def _ask(self, what: str, batch: Batch) -> Any:
        """The first one's answer, once all have answered."""
        lengths = np.stack([batch.src_lengths, batch.tgt_lengths], axis=1)
        for pipe, own in zip(self.pipes, divide(np.arange(len(lengths)), lengths, len(self.pipes)), strict=True):
            S, T = lengths[own].max(axis=0)
            part = Batch(batch.src[:S, own], batch.src_lengths[own], batch.tgt[: T + 1, own], batch.tgt_lengths[own])
            pipe.send((what, part, len(lengths)))
        return [pipe.recv() for pipe in self.pipes][0]


class _Process(peer_torch_best.Contestant):
    """Its part of each batch; gradients are the mean of all processes', so a loss is divided by less."""

    def __init__(self, model: NMT, processes: int) -> None:
        super().__init__(model, threads=1)
        self.processes, self.forward = processes, DistributedDataParallel(self.model, gradient_as_bucket_view=True)

    def sentences(self, batch: Batch) -> float:
        return self.of_all / self.processes

    def loss_and_gradients(self, batch: Batch) -> tuple[float, Mapping[str, np.ndarray]]:
        loss, grads = super().loss_and_gradients(batch)
        return self._sum(loss), {name: gradient * self.processes for name, gradient in grads.items()}

    def step_loss(self, batch: Batch) -> float:
        return self._sum(super().step_loss(batch)) / self.processes

    def _sum(self, number: float) -> float:
        total = torch.tensor(number, dtype=torch.float64)
        distributed.all_reduce(total)
        return total.item()


def _serve(pipe: Any, rank: int, processes: int, address: str, config: dict, flat: np.ndarray) -> None:
    keep_freed_memory()
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=processes)
    model = NMT(**config)
    model.params.flat[...] = flat
    contestant = _Process(model, processes)
    while True:
        try:
            what, batch, contestant.of_all = pipe.recv()
        except EOFError:
            break
        answer = getattr(contestant, what)(batch)
        pipe.send(answer if what != "step" and rank == 0 else None)
    distributed.destroy_process_group()
