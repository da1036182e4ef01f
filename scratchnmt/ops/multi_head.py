"""Multi-head attention (Vaswani et al. 2017, section 3.2.2): a decoder's state looks at the source `heads` times.

    (1)  q = h Wq,  k[s] = h_enc[s] Wk,  v[s] = h_enc[s] Wv      Wq (H, H), Wk, Wv (M, H)
         head i has the columns i d to (i + 1) d of each, d = H / heads
    (2)  score_i[s] = q_i . k_i[s] / sqrt(d)
    (3)  weights_i = softmax(score_i)                            over the source tokens, padding left out
    (4)  context = [head_1; ...; head_heads],  head_i = sum_s weights_i[s] v_i[s]

h (B, H), h_enc (S, B, M), mask (S, B) True = a token, context (B, H), weights (B, heads, S).

The paper goes on with context Wo.  Whoever reads the context multiplies it by a weight: in a decoder that is W_combine,
whose rows for the context are Wo, so that there is none here.

(2) to (4) are the step of attention.py with the heads of a sentence as so many sentences: query (B heads, Q, d), keys
and values (B heads, S, d).  Keys are divided by sqrt(d) where they are made, once per sentence.
Next: models/attention/multi_head.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..arrays import Array, array_module, check_shapes
from ..errors import ArgumentError
from .attention import AttentionStepCache, attention_step_backward, attention_step_forward
from .rows import contiguous

Contiguous = Callable[[Array], Array]  # that of the kernels in use


def split_heads(x: Array, heads: int, contiguous: Contiguous = contiguous) -> Array:
    """(B, X, heads d) -> (B heads, X, d): the columns of each head by themselves."""
    B, X, columns = x.shape
    by_head = x.reshape(B, X, heads, columns // heads).transpose(0, 2, 1, 3)
    return contiguous(by_head).reshape(B * heads, X, columns // heads)


def merge_heads(x: Array, heads: int, contiguous: Contiguous = contiguous) -> Array:
    """(B heads, X, d) -> (B, X, heads d): `split_heads` undone, which is its backward pass, too."""
    rows, X, d = x.shape
    by_row = x.reshape(rows // heads, heads, X, d).transpose(0, 2, 1, 3)
    return contiguous(by_row).reshape(rows // heads, X, heads * d)


class MultiHeadAttentionCache(NamedTuple):
    h: Array  # (B, H)
    states: Array  # (B, S, M) the encoder's
    Wq: Array  # (H, H)
    Wk: Array  # (M, H)
    Wv: Array  # (M, H)
    heads: int
    step: AttentionStepCache  # of B heads sentences

    @property
    def weights(self) -> Array:  # (B, heads, S), rows sum to one
        return self.step.weights.reshape(len(self.h), self.heads, -1)


class MultiHeadAttentionGradients(NamedTuple):
    dh: Array  # (B, H)
    dh_enc: Array  # (S, B, M)
    dWq: Array  # (H, H)
    dWk: Array  # (M, H)
    dWv: Array  # (M, H)


def multi_head_attention_forward(h: Array, h_enc: Array, mask: Array, Wq: Array, Wk: Array, Wv: Array,
                                 heads: int) -> tuple[Array, MultiHeadAttentionCache]:
    """context (B, H), cache, for one query per sentence: the textbook step.

    Raises ValueError if shapes do not fit, or `heads` does not divide H.
    """
    check_shapes("multi_head_attention", h=("B H", h), h_enc=("S B M", h_enc), mask=("S B", mask), Wq=("H H", Wq),
                 Wk=("M H", Wk), Wv=("M H", Wv))
    H = h.shape[1]
    if heads < 1 or H % heads:
        raise ArgumentError(f"multi_head_attention: heads is {heads}, expected a divisor of H = {H}")
    states = array_module(h_enc).ascontiguousarray(h_enc.transpose(1, 0, 2))
    query, keys, values = (h @ Wq)[:, None], states @ Wk * (H // heads) ** -0.5, states @ Wv  # (1)
    query, keys, values = (split_heads(x, heads) for x in (query, keys, values))
    context, step = attention_step_forward(query, keys, values, mask.T.repeat(heads, axis=0))  # (2), (3), (4)
    cache = MultiHeadAttentionCache(h=h, states=states, Wq=Wq, Wk=Wk, Wv=Wv, heads=heads, step=step)
    return merge_heads(context, heads)[:, 0], cache


def multi_head_attention_backward(dcontext: Array, cache: MultiHeadAttentionCache) -> MultiHeadAttentionGradients:
    """All gradients from dcontext (B, H)."""
    h, states, heads, step = cache.h, cache.states, cache.heads, cache.step
    # in the forward pass this was (4), (3), (2): attention, each head by itself
    dcontext = split_heads(dcontext[:, None], heads)
    dquery, dscore, _, _ = attention_step_backward(dcontext, step)
    dkeys, dvalues = dscore.transpose(0, 2, 1) @ step.query, step.weights.transpose(0, 2, 1) @ dcontext
    # in the forward pass this was (1) q = h Wq, keys = h_enc Wk / sqrt(d), values = h_enc Wv
    dq, dk, dv = (merge_heads(dx, heads) for dx in (dquery, dkeys, dvalues))
    dq, dk = dq[:, 0], dk * (h.shape[1] // heads) ** -0.5
    rows = states.reshape(-1, states.shape[2])
    return MultiHeadAttentionGradients(
        dh=dq @ cache.Wq.T, dh_enc=(dk @ cache.Wk.T + dv @ cache.Wv.T).transpose(1, 0, 2), dWq=h.T @ dq,
        dWk=rows.T @ dk.reshape(len(rows), -1), dWv=rows.T @ dv.reshape(len(rows), -1))
