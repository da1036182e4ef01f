"""CS224N's way of using its model in PyTorch: batches, training step, beam search."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch_model import PAD, TorchNMT

BOS, EOS = 1, 2


def epoch_batches(src_ids: list[list[int]], tgt_ids: list[list[int]], batch_size: int,
                  rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """One epoch: random batches, each sorted by source length, padded; src, src_lengths, tgt."""
    order = rng.permutation(len(src_ids))
    for start in range(0, len(order), batch_size):
        chosen = sorted(order[start:start + batch_size], key=lambda i: -len(src_ids[i]))
        src = pad([src_ids[i] for i in chosen])
        tgt = pad([[BOS, *tgt_ids[i], EOS] for i in chosen])
        yield src, torch.tensor([len(src_ids[i]) for i in chosen]), tgt


def pad(sentences: list[list[int]]) -> Tensor:
    """Lists of ids -> (longest, B)."""
    longest = max(map(len, sentences))
    return torch.tensor([ids + [PAD] * (longest - len(ids)) for ids in sentences]).T.contiguous()


def training_step(model: TorchNMT, optimizer: torch.optim.Optimizer, src: Tensor, src_lengths: Tensor,
                  tgt: Tensor, clip: float = 5.0) -> float:
    """Forward, backward, clip, update; the loss per sentence."""
    optimizer.zero_grad()
    loss = model(src, src_lengths, tgt) / src.shape[1]
    loss.backward()
    clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    return loss.item()


@torch.no_grad()
def beam_search(model: TorchNMT, src_ids: list[int], beam_size: int = 5, max_steps: int = 70,
                shrink: bool = True) -> list[tuple[list[int], float]]:
    """(ids without <s> and </s>, summed log-probability), best first, of one sentence.

    shrink=True is CS224N's rule: a finished hypothesis leaves the beam one place narrower, and the
    search ends with the beam_size-th.  shrink=False is the rule of scratchnmt.search, so that the
    two must agree: the beam keeps its width, <pad> and <s> are never taken, a hypothesis finishes if
    it is among the beam_size best, and the search ends when no open one can beat the best finished.
    """
    device = model.target_vocab_projection.weight.device
    src = torch.tensor(src_ids, device=device).unsqueeze(1)
    enc, keys, _, states = model.encode(src, torch.tensor([len(src_ids)]))
    fed = model.first_fed(states)
    open_ids, scores, finished = [[BOS]], enc.new_zeros(1), []
    for t in range(max_steps):
        live = len(open_ids)
        y = model.model_embeddings["target"](torch.tensor([ids[-1] for ids in open_ids], device=device))
        output, _, fed, states = model.step(
            y, fed, states, enc.expand(live, -1, -1), keys.expand(live, -1, -1), None, t)
        log_p = torch.log_softmax(model.target_vocab_projection(output), dim=1)
        if not shrink:
            log_p[:, [PAD, BOS]] = -torch.inf
        candidates = (scores.unsqueeze(1) + log_p).flatten()
        width = beam_size - len(finished) if shrink else beam_size
        top = candidates.topk(min(width if shrink else 2 * width, candidates.numel()))
        parents, kept, next_ids = [], [], []
        for rank, (score, place) in enumerate(zip(*map(torch.Tensor.tolist, top), strict=True)):
            parent, word = divmod(place, log_p.shape[1])
            if score == -torch.inf:
                break
            if word == EOS and rank < width:
                finished.append((open_ids[parent][1:], score))
            elif word != EOS and len(kept) < width:
                next_ids.append([*open_ids[parent], word])
                parents.append(parent)
                kept.append(score)
        open_ids = next_ids
        if shrink and len(finished) == beam_size or not open_ids:
            break
        if not shrink and finished and max(score for _, score in finished) >= kept[0]:
            break
        scores = enc.new_tensor(kept)
        fed, states = fed[parents], [(h[parents], c[parents]) for h, c in states]
    if not finished:
        return [(open_ids[0][1:], kept[0])]
    return sorted(finished, key=lambda hypothesis: -hypothesis[1])
