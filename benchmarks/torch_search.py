"""Beam search of whole batches in PyTorch, by the rule of scratchnmt.search."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.utils.rnn import pad_sequence

BOS, EOS, PAD = 1, 2, 0


def best(model, sentences: Sequence[list[int]], beam_size: int, max_steps: int, batch_size: int,
         shared: bool) -> list[tuple[list[int], float]]:
    """(ids without <s> and </s>, log-probability) of every sentence, in batches of like length.

    shared: the model's attention takes several rows for each sentence; else the encoder's states are copied for each.
    """
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    found: dict[int, tuple[list[int], float]] = {}
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        found.update(zip(chosen, one_batch(model, [sentences[i] for i in chosen], beam_size, max_steps, shared),
                         strict=True))
    return [found[i] for i in range(len(sentences))]


@torch.inference_mode()
def one_batch(model, sentences: Sequence[list[int]], beam_size: int, max_steps: int,
              shared: bool) -> list[tuple[list[int], float]]:
    """Sizes: N sentences still searched, K open hypotheses of each, V words."""
    device = model.target_vocab_projection.weight.device
    src = pad_sequence([torch.tensor(ids) for ids in sentences], padding_value=PAD).to(device)
    enc, keys, mask, states = model.encode(src, torch.tensor([len(ids) for ids in sentences]))
    fed = model.first_fed(states)
    numbers = torch.arange(len(sentences), device=device)  # of those still searched
    scores = enc.new_zeros(len(sentences), 1)
    history = torch.full((len(sentences), 1, 1), BOS, device=device)  # (N, K, t + 1)
    ended, value = torch.full_like(scores[:, 0], -torch.inf), [[] for _ in sentences]
    for t in range(max_steps):
        N, K = scores.shape
        y = model.model_embeddings["target"](history[:, :, -1].flatten())
        memory = [x if shared else x.repeat_interleave(K, 0) for x in (enc, keys, mask)]
        output, _, fed, states = model.step(y, fed, states, *memory, t)
        logits = model.target_vocab_projection(output)
        base = scores - logits.logsumexp(1).view(N, K)
        end = base + logits[:, EOS].view(N, K)
        logits[:, [PAD, BOS, EOS]] = -torch.inf
        top, words = logits.topk(min(beam_size, logits.shape[1]), dim=1)
        new_scores, places = (base.unsqueeze(2) + top.view(N, K, -1)).flatten(1).topk(
            min(beam_size, K * top.shape[1]), dim=1)
        parents = places // top.shape[1]

        # one that ends is kept if fewer than beam_size candidates, ended or not, are better
        better = (new_scores.unsqueeze(1) > end.unsqueeze(2)).sum(2) + (end.unsqueeze(1) > end.unsqueeze(2)).sum(2)
        kept, who = end.masked_fill(better >= beam_size, -torch.inf).max(1)
        for n in (kept > ended[numbers]).nonzero()[:, 0].tolist():
            value[numbers[n]] = history[n, who[n], 1:].tolist()
        ended[numbers] = torch.maximum(ended[numbers], kept)
        history = torch.cat([history.gather(1, parents.unsqueeze(2).expand(-1, -1, t + 1)),
                             words.view(N, -1).gather(1, places).unsqueeze(2)], dim=2)
        if t + 1 == max_steps:
            for n in (ended[numbers] == -torch.inf).nonzero()[:, 0].tolist():
                value[numbers[n]], ended[numbers[n]] = history[n, 0, 1:].tolist(), new_scores[n, 0]
            break
        keep = (new_scores[:, 0] > ended[numbers]).nonzero()[:, 0]
        if not len(keep):
            break
        rows = (keep.unsqueeze(1) * K + parents[keep]).flatten()
        numbers, scores, history = numbers[keep], new_scores[keep], history[keep]
        if len(keep) < N:
            enc, keys, mask = enc[keep], keys[keep], mask[keep]
        fed, states = fed[rows], [(h[rows], c[rows]) for h, c in states]
    return list(zip(value, ended.tolist(), strict=True))
