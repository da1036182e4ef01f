"""PyTorch at its best in several processes of one thread: DistributedDataParallel by gloo, on the CPU.

As many processes as the other contestants have threads.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from scratchnmt.arrays import keep_freed_memory
from scratchnmt.data.batches import Batch
from scratchnmt.models.nmt import NMT

from . import peer_torch_best
from .ours import share
from .remote import Remote

CPU_ALONE = True


class Contestant:
    version = torch.__version__

    def __init__(self, model: NMT, threads: int) -> None:
        self.name = f"PyTorch at its best, {threads} processes"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        config, flat = model.config.to_dict(), np.array(model.params.flat)
        self.processes = [Remote(_Process, rank, threads, address, config, flat, OMP_NUM_THREADS="1",
                                 OPENBLAS_NUM_THREADS="1") for rank in range(threads)]

    def loss_and_gradients(self, batch: Batch) -> tuple[float, Mapping[str, np.ndarray]]:
        return self._ask("loss_and_gradients", batch)

    def step(self, batch: Batch) -> None:
        self._ask("step", batch)

    def step_loss(self, batch: Batch) -> float:
        return self._ask("step_loss", batch)

    def close(self) -> None:
        for process in self.processes:
            process.close()

    def _ask(self, what: str, batch: Batch) -> Any:
        """The first one's answer, once all have answered."""
        for rank, process in enumerate(self.processes):
            process.send(what, share(batch, rank, len(self.processes)), len(batch.src_lengths))
        return [process.receive() for process in self.processes][0]


class _Process:
    """One of them, with its part of each batch.  DistributedDataParallel takes the mean of their gradients."""

    def __init__(self, rank: int, count: int, address: str, config: dict, flat: np.ndarray) -> None:
        keep_freed_memory()
        distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=count)
        model = NMT(**config, dtype=str(flat.dtype))
        model.params.flat[...] = flat
        self.count, self.own = count, peer_torch_best.Contestant(model, threads=1)
        self.own.forward = DistributedDataParallel(self.own.model, gradient_as_bucket_view=True)

    def loss_and_gradients(self, part: Batch, sentences: int) -> tuple[float, Mapping[str, np.ndarray]]:
        loss, grads = self.own.loss_and_gradients(part)
        return self._sum(loss), {name: gradient * self.count for name, gradient in grads.items()}

    def step(self, part: Batch, sentences: int) -> None:
        self.own.step(part, sentences / self.count)

    def step_loss(self, part: Batch, sentences: int) -> float:
        return self._sum(self.own.step(part, sentences / self.count).item()) / self.count

    def _sum(self, number: float) -> float:
        total = torch.tensor(number, dtype=torch.float64)
        distributed.all_reduce(total)
        return total.item()
