"""PyTorch's whole step as one CUDA graph, for each size of batch: forward, backward, clipping and Adam.

A graph has fixed shapes and asks the host nothing, so padding is computed, and a mask keeps it out: nn.LSTM on packed
sequences cannot be captured.  The encoder is therefore a loop over time, both directions in each product.  On a CPU
the same step runs uncaptured.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from scratchnmt.data.batches import Batch
from scratchnmt.data.vocab import PAD
from scratchnmt.errors import InputError

from . import peer_torch
from .peer_torch_best import PackedNMT, cell_step
from .torch_capture import capture


class PaddedNMT(PackedNMT):
    """The same model on whole rectangles: each step has every sentence."""

    def forward(self, src: Tensor, tgt: Tensor) -> Tensor:
        return super().forward(src, None, tgt, [tgt.shape[1]] * (len(tgt) - 1))

    def encode(self, src: Tensor, src_lengths: None):
        encoder = self.encoder
        if not encoder.bidirectional or encoder.num_layers > 1 or self.reverse_source:
            raise InputError("PyTorch's whole step as a graph trains the default model alone")
        x = self.embed_dropout(self.model_embeddings["source"](src))
        is_token = (src != PAD).unsqueeze(2)
        both = lambda name: torch.stack([getattr(encoder, f"{name}_l0"), getattr(encoder, f"{name}_l0_reverse")])
        bias = (both("bias_ih") + both("bias_hh")).unsqueeze(1)
        gates = torch.stack([x, x.flip(0)], dim=1) @ both("weight_ih").transpose(1, 2) + bias  # (S, 2, B, 4H)
        keeps = torch.stack([is_token, is_token.flip(0)], dim=1)
        W = both("weight_hh").transpose(1, 2)
        h = c = x.new_zeros(2, x.shape[1], encoder.hidden_size)
        outputs = []
        for own, keep in zip(gates.unbind(0), keeps.unbind(0), strict=True):
            new_h, new_c = cell_step(own, h, W, c)
            h, c = torch.where(keep, new_h, h), torch.where(keep, new_c, c)  # a direction back begins with padding
            outputs.append(h)
        forward, backward = torch.stack(outputs).unbind(1)
        enc = torch.cat([forward, backward.flip(0)], dim=2).transpose(0, 1)
        states = [tuple(project(last.transpose(0, 1).flatten(1))
                        for project, last in ((self.h_projection, h), (self.c_projection, c)))]
        return enc, self.att_projection(enc) if hasattr(self, "att_projection") else enc, (src == PAD).T, states


class Contestant(peer_torch.Contestant):
    name = "PyTorch, a graph"
    network, epochs = PaddedNMT, None  # its batches are ours

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        # by the sizes of a batch: a replay, and the inputs that it reads
        self.captured: dict[tuple, tuple[Callable[[], Tensor], tuple[Tensor, ...]]] = {}

    def adam(self) -> dict[str, bool]:
        return {"fused": True, "capturable": self.captures}

    @property
    def captures(self) -> bool:
        return self.device != "cpu" and not self.compiled

    def step(self, batch: Batch) -> Tensor:
        """The loss of the step, which the next one of this size writes over."""
        inputs = self.tensors(batch)
        if not self.captures:
            return self.step_of(*inputs)
        shape = tuple(ids.shape for ids in inputs)
        if shape not in self.captured:
            self.captured[shape] = capture(partial(self.step_of, *inputs))[0], inputs
        replay, fixed = self.captured[shape]
        for place, ids in zip(fixed, inputs, strict=True):
            place.copy_(ids)
        return replay()

    def step_of(self, src: Tensor, tgt: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        loss = self.forward(src, tgt) / src.shape[1]
        loss.backward()
        clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        return loss.detach()

    def step_loss(self, batch: Batch) -> float:
        return self.step(batch).item()

    def tensors(self, batch: Batch) -> tuple[Tensor, Tensor]:
        src, _, tgt = super().tensors(batch)
        return src, tgt
