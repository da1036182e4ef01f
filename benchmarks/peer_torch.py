"""PyTorch as a contestant: CS224N's model and usage, from the tests; on the device of the model that it is given."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from scratchnmt.arrays import device_of
from scratchnmt.data.batches import Batch
from scratchnmt.models.nmt import NMT

from .peers import matmul

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from torch_loop import beam_search, epoch_batches, training_step  # noqa: E402
from torch_model import TorchNMT  # noqa: E402
from torch_weights import copy_weights, gradients  # noqa: E402

MODEL_OPTIONS = ("layers", "bidirectional", "score", "feed", "dropout", "embed_dropout", "tie_embeddings",
                 "label_smoothing")


class Contestant:
    """The same model from the same weights, with Adam in PyTorch's default form."""

    name = "PyTorch"
    version = torch.__version__
    network, compiled = TorchNMT, None  # a mode of torch.compile

    def __init__(self, model: NMT, threads: int, clip: float = 5.0) -> None:
        torch.set_num_threads(threads)
        config = model.config.to_dict()
        self.model = self.network(config["src_vocab_size"], config["tgt_vocab_size"], config["embed_size"],
                                  config["hidden_size"], **{name: config[name] for name in MODEL_OPTIONS})
        self.device = device_of(model.params.flat)
        self.model.to(self.device)
        copy_weights(model.params, self.model)
        self.params, self.clip = model.params, clip
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = matmul(model) == "tf32"
        self.forward = torch.compile(self.model, mode=self.compiled) if self.compiled else self.model
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, **self.adam())

    def adam(self) -> dict[str, bool]:
        """How Adam is asked for, beside its rate."""
        return {}

    def loss_and_gradients(self, batch: Batch) -> tuple[float, Mapping[str, np.ndarray]]:
        dropouts = [module for module in self.model.modules() if isinstance(module, torch.nn.Dropout)]
        for module in dropouts:  # and nothing else: cuDNN's LSTM has no backward pass in evaluation mode
            module.eval()
        self.optimizer.zero_grad()
        loss = self.forward(*self.tensors(batch))
        loss.backward()
        grads = gradients(self.params, self.model)
        for module in dropouts:
            module.train()
        return loss.item(), grads

    def step(self, batch: Batch) -> float:
        return training_step(self.forward, self.optimizer, *self.tensors(batch), clip=self.clip)

    step_loss = step

    def close(self) -> None:
        """Nothing to give back."""

    def tensors(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """src, src_lengths, which PyTorch wants on the host, and tgt."""
        src, lengths, tgt = (torch.from_numpy(np.asarray(array, np.int64))
                             for array in (batch.src, batch.src_lengths, batch.tgt))
        return src.to(self.device), lengths, tgt.to(self.device)

    def epochs(self, src_ids: list[list[int]], tgt_ids: list[list[int]], batch_size: int,
               seed: int = 0) -> Iterator[int]:
        """The usual training loop, for ever; yields the target tokens of every step."""
        rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        while True:
            for src, lengths, tgt in epoch_batches(src_ids, tgt_ids, batch_size, rng):
                training_step(self.model, self.optimizer, src.to(self.device), lengths, tgt.to(self.device),
                              clip=self.clip)
                yield int((tgt[1:] != 0).sum())

    def beam_search(self, src_ids: list[int], beam_size: int, max_steps: int,
                    shrink: bool = True) -> list[tuple[list[int], float]]:
        self.model.eval()
        return beam_search(self.model, src_ids, beam_size, max_steps, shrink)
