"""How many floating operations the matrix products of one training step need, padding left out."""

from __future__ import annotations

import numpy as np


def training_step_flop(src_lengths: np.ndarray, tgt_lengths: np.ndarray, tgt_vocab_size: int,
                       embed_size: int, hidden_size: int, layers: int = 1, score: str = "general",
                       feed: str = "output") -> int:
    """Forward and backward of scratchnmt.NMT for sentences of these lengths (tokens, with </s>).

    A product of (m, k) and (k, n) takes 2mkn operations forward and twice that backward: one product
    for either factor's gradient.  Counted is what the equations need and no more: no padding, no
    product with a state that is zero by definition.  Softmax, gates and other pointwise work is not.
    """
    E, H, V, B = embed_size, hidden_size, tgt_vocab_size, len(src_lengths)
    source, target = int(src_lengths.sum()), int(tgt_lengths.sum())
    pairs = int((src_lengths * tgt_lengths).sum())  # (target position, source position)
    fed = {"output": H, "context": 2 * H, "none": 0}[feed]

    encoder = 2 * sum(source * inputs * 4 * H + (source - B) * H * 4 * H
                      for inputs in [E] + [2 * H] * (layers - 1))
    initial = layers * 2 * B * 2 * H * H
    decoder = target * E * 4 * H + target * H * 4 * H + (target - B) * fed * 4 * H
    decoder += (layers - 1) * target * 2 * H * 4 * H
    keys = 0 if score == "dot" else source * 2 * H * H
    query = target * H * H if score == "concat" else 0
    attention = pairs * H + pairs * 2 * H  # the scores, then the weighted sum
    output = target * 3 * H * H + target * H * V
    return 2 * 3 * (encoder + initial + decoder + keys + query + attention + output)
