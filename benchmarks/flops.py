"""How many floating operations matrix products need: those of each operation, and of one training step.

A product of (m, k) and (k, n) takes 2mkn, a multiplication and an addition being two.  Softmax, gates and other
pointwise work is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from scratchnmt.arrays import Array
from scratchnmt.ops.cross_entropy import PAD

Count = tuple[int, int]  # forward, backward


def operations(op: str, args: Mapping[str, Any]) -> Count:
    """Of an operation of scratchnmt.ops, by its name and arguments; 0 if it has no products.  A test counts them."""
    return PRODUCTS[op](**args) if op in PRODUCTS else (0, 0)


def linear(x: Array, W: Array, **_: Any) -> Count:
    forward = 2 * x.size * W.shape[1]
    return forward, 2 * forward


def linear_cross_entropy(x: Array, W: Array, targets: Array, teacher_W: Array | None = None, **_: Any) -> Count:
    of_teachers = 0 if teacher_W is None else teacher_W.size  # their logits
    return 2 * int((targets != PAD).sum()) * (3 * W.size + of_teachers), 0  # forward makes the gradients too


def linear_cross_entropy_rows(x: Array, W: Array, **_: Any) -> Count:
    logits = 2 * len(x) * W.size
    return logits, 3 * logits  # backward makes them once more


def cell(x: Array, Wx: Array, Wh: Array, **_: Any) -> Count:
    forward = 2 * len(x) * (Wx.size + Wh.size)
    return forward, 2 * forward


def product(x: Array, W: Array, **_: Any) -> Count:
    forward = 2 * len(x) * W.size
    return forward, forward  # the gradient of W is left to the caller


def lstm(lengths: Array, Wx: Array, Wh: Array, **_: Any) -> Count:
    forward = 2 * int(lengths.sum()) * (Wx.size + Wh.size)
    return forward, 2 * forward


def attention_step(query: Array, keys: Array, values: Array, v: Array | None = None, **_: Any) -> Count:
    per_token = 2 * query.shape[0] * query.shape[1] * keys.shape[1]  # B Q S
    A, M = keys.shape[2], values.shape[2]
    return per_token * (A + M), per_token * (M if v is not None else M + A)


def attention(h: Array, h_enc: Array, W: Array | None = None, v: Array | None = None, **_: Any) -> Count:
    return _attention(h, len(h_enc), h_enc.shape[2], W, v)


def predict_place(q: Array, **_: Any) -> Count:
    return 2 * q.size, 0


def local_attention(h: Array, h_enc: Array, D: int, window_W: Array | None = None, W: Array | None = None,
                    v: Array | None = None, **_: Any) -> Count:
    (B, H), M, seen = h.shape, h_enc.shape[2], 2 * D + 1
    forward, backward = _attention(h, seen, M, W, v)
    if window_W is None:
        return forward, backward
    gaussian = 2 * B * seen * M
    return forward + 2 * B * H * (H + 1), backward + 2 * B * H * (2 * H + 1) + gaussian


def multi_head_attention(h: Array, h_enc: Array, Wq: Array, Wk: Array, **_: Any) -> Count:
    B, S = len(h), len(h_enc)
    forward = 2 * (B * Wq.size + 2 * B * S * Wk.size + 2 * B * S * h.shape[1])
    return forward, 2 * forward


def _attention(h: Array, seen: int, M: int, W: Array | None, v: Array | None) -> Count:
    """Of one query (B, H) to `seen` source words of M columns each."""
    B, H = h.shape
    A = H if v is None else len(v)
    score, context = 2 * B * seen * A, 2 * B * seen * M
    projections = 0 if W is None else 2 * B * seen * M * A + (0 if v is None else 2 * B * H * A)
    dscore = 2 * score if v is None else 0  # concat's query and keys receive theirs by sums
    return projections + score + context, 2 * projections + dscore + 2 * context


PRODUCTS: dict[str, Callable[..., Count]] = {
    "linear": linear,
    "linear_cross_entropy": linear_cross_entropy,
    "linear_cross_entropy_rows": linear_cross_entropy_rows,
    "lstm_cell": cell,
    "decoder_lstm": product,
    "combine": product,
    "lstm": lstm,
    "layer_norm_lstm": lstm,
    "attention_step": attention_step,
    "attention": attention,
    "predict_place": predict_place,
    "local_attention": local_attention,
    "multi_head_attention": multi_head_attention,
}


def training_step_flop(src_lengths: np.ndarray, tgt_lengths: np.ndarray, tgt_vocab_size: int,
                       embed_size: int, hidden_size: int, layers: int = 1, score: str = "general",
                       feed: str = "output") -> int:
    """Forward and backward of scratchnmt.NMT for sentences of these lengths (tokens, with </s>).

    A product takes twice as many operations backward as forward: one product for either factor's gradient.  Counted
    is what the equations need and no more: no padding, no product with a state that is zero by definition.
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
