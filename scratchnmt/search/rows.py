"""What a search asks of logits, row by row: their logsumexp, where the highest are, and several models' mean."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, array_module, for_ranges
from ..data.vocab import EOS

_GROUP = 16  # words per group in the search for the best: one pass over all, then a few over V / 16
_CHUNK = 1 << 17  # logits at a time that stay in cache while their logsumexp is taken


def top_k(values: Array, k: int) -> tuple[Array, Array]:
    """The k highest of each row (R, N), descending, and where they are; overwrites values with -inf there.

    k passes of argmax, which NumPy runs at the speed of memory; for a few of many, argpartition takes ten
    times as long.  Where a row has fewer than k above -inf, the value is -inf and its index means nothing.
    """
    xp, (R, N) = array_module(values), values.shape
    flat, starts = values.reshape(-1), xp.arange(0, R * N, N)  # one index is read in half the time of two
    best = xp.empty((R, k), dtype=values.dtype)
    where = xp.empty((R, k), dtype=np.int64)
    for i in range(k):
        index = values.argmax(axis=1)
        place = starts + index
        where[:, i] = index
        best[:, i] = flat[place]
        flat[place] = -np.inf
    return best, where


def reduce_rows(logits: Array) -> tuple[Array, Array, Array]:
    """One visit to R rows of logits (R, V), in chunks that stay in cache, on all cores.

    Returns the logits of <pad>, <s> and </s> (R, 3), which are set to -inf in place; the maxima (R, G)
    of the groups {g, g + G, g + 2G, ...}; and log(sum(exp(row))) of the whole rows, float64 (R,).
    """
    xp = array_module(logits)
    R, V = logits.shape
    G = -(-V // _GROUP)
    special = logits[:, : EOS + 1].copy()
    group_best = xp.empty((R, G), dtype=logits.dtype)
    highest = xp.empty((R, 1), dtype=logits.dtype)
    total = xp.empty(R, dtype=logits.dtype)
    chunk = max(1, _CHUNK // V) if xp is np else R  # a GPU takes all at once

    def reduce(start: int, stop: int) -> None:
        buffer = xp.empty((min(chunk, stop - start), V), dtype=logits.dtype)
        for i in range(start, stop, chunk):
            rows = slice(i, min(i + chunk, stop))
            x = logits[rows]
            x[:, : EOS + 1] = -np.inf
            _group_maxima(x, out=group_best[rows])
            xp.maximum(group_best[rows].max(axis=1), special[rows].max(axis=1), out=highest[rows, 0])
            shifted = xp.subtract(x, highest[rows], out=buffer[: len(x)])
            xp.exp(shifted, out=shifted)
            total[rows] = xp.einsum("rv->r", shifted)  # half the time of shifted.sum(axis=1)

    if xp is np:
        for_ranges(reduce, R, grain=max(chunk, 4 * _CHUNK // V))
    else:
        reduce(0, R)
    total = total + xp.exp(special - highest).sum(axis=1)
    return special, group_best, highest[:, 0] + xp.log(total.astype(np.float64))


def _group_maxima(x: Array, out: Array) -> None:
    groups = out.shape[1]
    whole = x.shape[1] // groups * groups
    x[:, :whole].reshape(len(x), -1, groups).max(axis=1, out=out)
    rest = out[:, : x.shape[1] - whole]
    array_module(x).maximum(rest, x[:, whole:], out=rest)


def log_mean_softmax(logits: list[Array]) -> Array:
    """log(mean_m softmax(logits_m)) of M models' logits (R, V), which are overwritten; chunks as in `reduce_rows`."""
    xp = array_module(*logits)
    R, V = logits[0].shape
    found = xp.empty((R, V), dtype=xp.result_type(*logits))
    chunk = max(1, _CHUNK // V) if xp is np else max(R, 1)

    def mix(start: int, stop: int) -> None:
        for i in range(start, stop, chunk):
            rows = slice(i, min(i + chunk, stop))
            found[rows] = log_mean_exp([_log_softmax(x[rows]) for x in logits])

    if xp is np:
        for_ranges(mix, R, grain=chunk)
    else:
        mix(0, R)
    return found


def log_mean_exp(logs: list[Array]) -> Array:
    """log(mean_m exp(logs_m)) of M arrays of one shape, no less exact where every exp would be zero."""
    xp = array_module(*logs)
    highest = logs[0]
    for x in logs[1:]:
        highest = xp.maximum(highest, x)
    total = sum(xp.exp(x - highest) for x in logs)
    return highest + xp.log(total / len(logs))


def _log_softmax(x: Array) -> Array:
    """In place."""
    xp = array_module(x)
    x -= x.max(axis=1, keepdims=True)
    x -= xp.log(xp.exp(x).sum(axis=1, keepdims=True))
    return x
