"""Luong's local attention: a step looks at a window of the source alone (Luong, Pham & Manning 2015, section 3.2).

    (1)  p = t                                   "local-m"   monotonic: source and target go along with each other
         p = length sigmoid(v . tanh(h W))       "local-p"   predictive: W (H, H), v (H,), so 0 < p < length
    (2)  the window: tokens c - D to c + D, c = p rounded; what lies outside the sentence is padding
    (3)  weights = softmax(score)                over the window, as in attention.py
    (4)  g[s] = exp(-(s - p)^2 / (2 sigma^2))    sigma = D / 2; "local-p"
         context = sum_s weights[s] g[s] h_enc[s]        g = 1 for "local-m"

p, s and t count from 0.  A local-m decoder that is further than D tokens behind the end of the source sees nothing.
h (B, H), h_enc (S, B, M), mask (S, B) True = a token, context (B, M).

c moves in jumps, and nothing can be learnt through it; what tells p where to go is g, whose slope has a sign.
The step on a window is that of attention.py: it sees 2D + 1 tokens, and (4) is in the values that it is given.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, array_module, check_shapes
from ..errors import ArgumentError
from .activations import sigmoid_forward
from .attention import (
    AttentionStepCache,
    attention_keys,
    attention_keys_backward,
    attention_query,
    attention_query_backward,
    attention_step_backward,
    attention_step_forward,
)


def padded(array: Array, D: int) -> Array:
    """(B, S, ...) -> (B, P, ...): zeros around the sentence, so that the window of p begins in column c of it."""
    B, S, *rest = array.shape
    around = array_module(array).zeros((B, S + 3 * D + 1, *rest), array.dtype)
    around[:, D : D + S] = array
    return around


def token_counts(mask: Array, dtype: Any) -> Array:
    """How many tokens each sentence has, (B,), from the mask (S, B)."""
    return mask.sum(axis=0).astype(dtype)


def inside(around: Array, D: int, axis: int = 1) -> Array:
    """The sentence in what `padded` made, a view; of its places' axis, 1 or the last."""
    S = around.shape[axis] - 3 * D - 1
    return around[:, D : D + S] if axis == 1 else around[..., D : D + S]


def window_at(t: int, n: int, P: int, D: int) -> tuple[slice, slice]:
    """(1), (2) local-m: the window of n sentences in what `padded` made of P columns.

    An index of slices, which copies nothing.
    """
    first = min(t, P - 2 * D - 1)  # from there on all is padding
    return slice(n), slice(first, first + 2 * D + 1)


def windows_around(p: Array, P: int, D: int, queries: int = 1) -> Array:
    """(2) local-p: the windows of p (n,), `queries` of them for each sentence.

    As rows of the (B P, ...) that the sentences are padded to.
    """
    xp = array_module(p)
    first = xp.arange(len(p)) // queries * P + centre(p)
    return first[:, None] + xp.arange(2 * D + 1)


def through(window: tuple[slice, slice] | Array, around: Array) -> Array:
    """What windows show of what `padded` made, (n, 2D + 1, ...): a view of one for all, a copy of each one's own."""
    if isinstance(window, tuple):
        return around[window]
    return around.reshape(-1, *around.shape[2:]).take(window, axis=0)


def add_through(window: tuple[slice, slice] | Array, around: Array, value: Array) -> None:
    """Add to `around` (contiguous) what its windows received.

    A window has a token once, and two have no sentence in common.
    """
    place = around if isinstance(window, tuple) else around.reshape(-1, *around.shape[2:])
    place[window] += value


def centre(p: Array) -> Array:
    """c (n,), p rounded; 0 where p is not finite, which the values then tell."""
    return np.rint(np.where(np.isfinite(p.real), p.real, 0)).astype("int64")


class PredictPlaceCache(NamedTuple):
    tanh: Array  # (n, H) of h W
    share: Array  # (n,) of the sentence that lies before p
    tokens: Array  # (n,) tokens of the sentence, real
    v: Array  # (H,)

    @property
    def p(self) -> Array:
        return self.tokens * self.share


class PredictPlaceGradients(NamedTuple):
    dq: Array  # (n, H) of q = h W
    du: Array  # (n,) of u = v . tanh(q), from which dv = tanh.T du can be made after a loop


def predict_place_forward(q: Array, tokens: Array, v: Array) -> tuple[Array, PredictPlaceCache]:
    """p (n,), cache, from q = h W (n, H)."""
    tanh = np.tanh(q)
    share, _ = sigmoid_forward(tanh @ v)
    return tokens * share, PredictPlaceCache(tanh, share, tokens, v)  # (1)


def predict_place_backward(dp: Array, cache: PredictPlaceCache) -> PredictPlaceGradients:
    """dq (n, H) and du (n,), where u = v . tanh(q), from dp (n,)."""
    tanh, share, tokens, v = cache
    # in the forward pass this was (1) p = length sigmoid(u),  u = v . tanh(q)
    du = dp * tokens * share * (1 - share)
    return PredictPlaceGradients(dq=du[:, None] * v * (1 - tanh * tanh), du=du)


def gaussian(p: Array, D: int) -> tuple[Array, Array]:
    """(4) g (n, 2D + 1) over the window of p (n,), and d log g / dp."""
    distance = centre(p)[:, None] + array_module(p).arange(-D, D + 1) - p[:, None]
    variance = (D / 2) ** 2
    return np.exp(-distance * distance / (2 * variance)).astype(p.dtype), (distance / variance).astype(p.dtype)


def times_gaussian(values: Array, g: Array) -> Array:
    """(4) for the values of windows, in place where they can hold it."""
    fits = np.result_type(values, g) == values.dtype
    return np.multiply(values, g[..., None], out=values if fits else None)


def gaussian_backward(dcontext: Array, weights: Array, values: Array, slope: Array) -> Array:
    """dp (n,) from dcontext (n, M).

    weights (n, 2D + 1) of the softmax, values (n, 2D + 1, M) with g, slope d log g / dp.
    """
    # in the forward pass this was (4) context = sum_s weights[s] g[s] h_enc[s]
    return (((weights * slope)[:, None] @ values)[:, 0] * dcontext).sum(axis=-1)


def spread(rows: Array, first: Array, P: int) -> Array:
    """The values of windows (..., 2D + 1) that begin at first (...), in P columns, zeros elsewhere."""
    xp = array_module(rows)
    out = xp.zeros((rows[..., 0].size, P), rows.dtype)
    place = first.reshape(-1, 1) + xp.arange(rows.shape[-1])
    out[xp.arange(len(out))[:, None], place] = rows.reshape(len(out), -1)
    return out.reshape(*rows.shape[:-1], P)


class LocalAttentionCache(NamedTuple):
    h: Array  # (B, H)
    D: int
    W: Array | None
    window: Any  # where in the padded source: see `through`
    around: Array  # (B, P, M) the padded source
    step: AttentionStepCache
    slope: Array | None  # (B, 2D + 1) d log g / dp
    predict: PredictPlaceCache | None
    window_W: Array | None


class LocalAttentionGradients(NamedTuple):
    dh: Array  # (B, H)
    dh_enc: Array  # (S, B, M)
    dwindow_W: Array | None
    dwindow_v: Array | None
    dW: Array | None
    dv: Array | None


def local_attention_forward(h: Array, h_enc: Array, mask: Array, D: int, t: int | None = None,
                            window_W: Array | None = None, window_v: Array | None = None,
                            W: Array | None = None, v: Array | None = None) -> tuple[Array, LocalAttentionCache]:
    """context (B, M), cache, for one query per sentence: the textbook step.

    t: local-m; window_W (H, H) and window_v (H,) instead of it: local-p.  W and v choose the score as in
    `attention_forward`.  Raises ValueError if shapes do not fit, D is not at least 1, or both t and weights are given.
    """
    predictive = window_W is not None
    check_shapes("local_attention", h=("B H", h), h_enc=("S B M", h_enc), mask=("S B", mask),
                 **(dict(window_W=("H H", window_W), window_v=("H", window_v)) if predictive else {}))
    if (t is None) != predictive or predictive != (window_v is not None):
        raise ArgumentError("local_attention: expected t, or window_W and window_v, and not both")
    if D < 1:
        raise ArgumentError(f"local_attention: D is {D}, expected at least one token on each side")
    xp = array_module(h_enc)
    around, is_token = padded(xp.ascontiguousarray(h_enc.transpose(1, 0, 2)), D), padded(mask.T, D)
    predict, slope = None, None
    if t is None:
        p, predict = predict_place_forward(h @ window_W, token_counts(mask, h.real.dtype), window_v)  # (1)
        window = windows_around(p, around.shape[1], D)  # (2)
    else:
        window = window_at(t, len(h), around.shape[1], D)
    values = through(window, around)
    keys = attention_keys(values, W, v)
    if predictive:
        g, slope = gaussian(p, D)
        values = values * g[..., None]  # (4)
    query = attention_query(h, W, v)
    context, step = attention_step_forward(query[:, None], keys, values, through(window, is_token), v)  # (3)
    return context[:, 0], LocalAttentionCache(h=h, D=D, W=W, window=window, around=around, step=step, slope=slope,
                                              predict=predict, window_W=window_W)


def local_attention_backward(dcontext: Array, cache: LocalAttentionCache) -> LocalAttentionGradients:
    """All gradients from dcontext (B, M)."""
    h, D, W, window, around, step = cache.h, cache.D, cache.W, cache.window, cache.around, cache.step
    xp = array_module(dcontext)
    dquery, dscore, dkeys, dv = attention_step_backward(dcontext[:, None], step)
    if dkeys is None:
        dkeys = dscore.transpose(0, 2, 1) @ step.query
    dh = attention_query_backward(dquery[:, 0], W, step.v, h.shape[1])
    # the window of h_enc was read twice: for the keys, and for the values of (4)
    seen = through(window, around)
    dseen, dW = attention_keys_backward(dkeys, seen, W, step.v)
    dvalues = step.weights.transpose(0, 2, 1) @ dcontext[:, None]
    dwindow_W = dwindow_v = None
    if (predict := cache.predict) is not None and (window_W := cache.window_W) is not None:
        g, _ = gaussian(predict.p, D)
        dvalues = dvalues * g[..., None]
        dp = gaussian_backward(dcontext, step.weights[:, 0], step.values, cache.slope)
        dq, du = predict_place_backward(dp, predict)
        dh = dh + dq @ window_W.T
        dwindow_W, dwindow_v = h.T @ dq, predict.tanh.T @ du
    daround = xp.zeros(around.shape, dseen.dtype)
    add_through(window, daround, dseen + dvalues)
    dW = dW if step.v is None else xp.concatenate([h.T @ dquery[:, 0], dW])
    return LocalAttentionGradients(dh=dh, dh_enc=inside(daround, D).transpose(1, 0, 2), dwindow_W=dwindow_W,
                                   dwindow_v=dwindow_v, dW=dW, dv=dv)
