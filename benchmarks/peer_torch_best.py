"""PyTorch at its best: no padding computed, products hoisted out of the loop, Adam fused, a search of whole batches.

The decoder's rows are those of the sentences still open; logits are of words alone; the loss is never waited for.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_

from scratchnmt.data.batches import Batch
from scratchnmt.data.vocab import PAD
from scratchnmt.errors import InputError

from . import peer_torch, torch_search
from .peer_torch import TorchNMT


def cell_step(gates: Tensor, inputs: Tensor, W: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """h and c (..., B, H) of gates + inputs W (..., B, 4H), by the one kernel of nn.LSTMCell on a GPU."""
    if gates.is_cuda:
        h, c, _ = torch.ops.aten._thnn_fused_lstm_cell(gates.flatten(0, -2), (inputs @ W).flatten(0, -2),
                                                       c.flatten(0, -2))
        return h.view(*gates.shape[:-1], -1), c.view(*gates.shape[:-1], -1)
    add_product = torch.addmm if W.ndim == 2 else torch.baddbmm
    i, f, g, o = add_product(gates, inputs, W).chunk(4, dim=-1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


class PackedNMT(TorchNMT):
    """The same model on sentences in order of their target's length, longest first: a step has the rows still open."""

    def forward(self, src: Tensor, src_lengths: Tensor, tgt: Tensor, open_rows: Sequence[int]) -> Tensor:
        """open_rows (T): sentences that have a target token at each step."""
        if self.layers > 1 or self.feed != "output" or self.readout != "output" or self.asks_before:
            raise InputError("PyTorch at its best trains the default model alone")
        enc, keys, mask, ((h, c),) = self.encode(src, src_lengths)
        words = torch.cat([ids[:n] for ids, n in zip(tgt[:-1].unbind(0), open_rows, strict=True)])
        embedded = self.embed_dropout(self.model_embeddings["target"](words))
        E, cell = embedded.shape[1], self.decoder
        gates_of_words = F.linear(embedded, cell.weight_ih[:, :E], cell.bias_ih + cell.bias_hh).split(open_rows)
        W = torch.cat([cell.weight_ih[:, E:], cell.weight_hh], dim=1).T
        output, outputs = self.first_fed([(h, c)]), []
        for t, (gates, n) in enumerate(zip(gates_of_words, open_rows, strict=True)):
            if n < len(h):
                enc, keys, mask, output, h, c = (rows[:n] for rows in (enc, keys, mask, output, h, c))
            h, c = cell_step(gates, torch.cat([output, h], dim=1), W, c)
            context, _ = self.attend(h, enc, keys, mask, t)
            output = self.dropout(torch.tanh(self.combined_output_projection(torch.cat([context, h], dim=1))))
            outputs.append(output)
        logits = self.target_vocab_projection(torch.cat(outputs))
        expected = torch.cat([ids[:n] for ids, n in zip(tgt[1:].unbind(0), open_rows, strict=True)])
        return F.cross_entropy(logits, expected, ignore_index=PAD, reduction="sum",
                               label_smoothing=self.label_smoothing)

    def attend(self, h: Tensor, enc: Tensor, keys: Tensor, mask: Tensor | None, t: int):
        """Several rows of h for each of enc, side by side, in a search: enc is not copied for each."""
        if len(h) == len(enc):
            return super().attend(h, enc, keys, mask, t)
        rows = h.unflatten(0, (len(enc), -1))
        e = torch.bmm(rows, keys.transpose(1, 2)).masked_fill(mask.unsqueeze(1), -torch.inf)
        attention = torch.softmax(e, dim=2)
        return torch.bmm(attention, enc).flatten(0, 1), attention.flatten(0, 1)


class Contestant(peer_torch.Contestant):
    name = "PyTorch at its best"
    network, epochs = PackedNMT, None  # its batches are ours

    def adam(self) -> dict[str, bool]:
        return {"fused": True}

    def step(self, batch: Batch, sentences: float | None = None) -> Tensor:
        """The loss, divided by so many sentences (default: those of the batch)."""
        self.optimizer.zero_grad()
        loss = self.forward(*self.tensors(batch)) / (sentences or len(batch.src_lengths))
        loss.backward()
        clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        return loss.detach()

    def step_loss(self, batch: Batch) -> float:
        return self.step(batch).item()

    def tensors(self, batch: Batch) -> tuple:
        order = (-batch.tgt_lengths).argsort(kind="stable")
        lengths = batch.tgt_lengths[order]
        ordered = Batch(batch.src[:, order], batch.src_lengths[order], batch.tgt[:, order], lengths)
        return *super().tensors(ordered), [int((lengths > t).sum()) for t in range(lengths[0])]

    def search_batches(self, sentences: Sequence[list[int]], beam_size: int, max_steps: int,
                       batch_size: int) -> list[tuple[list[int], float]]:
        """The best translation of every sentence, by our rule, in batches of like length."""
        self.model.eval()
        shared = self.model.score in ("general", "dot") and self.model.attention == "global"
        return torch_search.best(self.model, sentences, beam_size, max_steps, batch_size, shared)
