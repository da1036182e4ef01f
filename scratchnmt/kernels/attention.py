"""Scores, mask, softmax and context in one launch, and their backward in another: the twin of ops/attention.py."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, array_module, check_shapes
from ..ops import attention as plain
from ..ops.attention import AttentionStepCache, AttentionStepGradients
from .launch import buffer, launch, per_row, readable

EQUATIONS = plain
TWINS = {"attention_step_forward": plain.attention_step_forward,
         "attention_step_backward": plain.attention_step_backward}


def attention_step_forward(query: Array, keys: Array, values: Array, mask: Array, v: Array | None = None, *,
                           context: Array | None = None, weights: Array | None = None):
    """context, cache; buffers as in the plain op, to which the concat score, with v, is left."""
    if v is not None:
        return plain.attention_step_forward(query, keys, values, mask, v, context=context, weights=weights)
    xp = array_module(query, keys, values, mask)
    sizes = check_shapes("attention_step", query=("B Q A", query), keys=("B S A", keys),
                         values=("B S M", values), mask=("B S", mask))
    B, Q, S, A, M = (sizes[letter] for letter in "BQSAM")
    dtype = xp.result_type(query, keys, values)
    weights = buffer("attention_step: weights", weights, query, (B, Q, S), dtype)
    context = buffer("attention_step: context", context, query, (B, Q, M), dtype)
    launch("attention", "attention_step_forward", dtype, per_row((B, Q), max(A, M), most=512),
           *(readable(array, dtype) for array in (query, keys, values)), readable(mask, bool), weights, context,
           *map(np.int32, (Q, S, A, M)))
    return context, AttentionStepCache(query=query, keys=keys, values=values, weights=weights, v=v)


def attention_step_backward(dcontext: Array, cache: AttentionStepCache, *, dquery: Array | None = None,
                            dscore: Array | None = None) -> AttentionStepGradients:
    """The part that cannot wait, from dcontext (B, Q, M); dquery is added to, if given, and dscore filled."""
    if cache.v is not None:
        return plain.attention_step_backward(dcontext, cache, dquery=dquery, dscore=dscore)
    query, keys, values, weights = cache.query, cache.keys, cache.values, cache.weights
    xp = array_module(dcontext, query)
    sizes = check_shapes("attention_step", query=("B Q A", query), values=("B S M", values),
                         dcontext=("B Q M", dcontext))
    B, Q, S, A, M = (sizes[letter] for letter in "BQSAM")
    dtype = xp.result_type(dcontext, weights)
    add = np.int32(dquery is not None)
    dquery = buffer("attention_step: dquery", dquery, query, (B, Q, A), dtype)
    dscore = buffer("attention_step: dscore", dscore, query, (B, Q, S), dtype)
    launch("attention", "attention_step_backward", dtype, per_row((B, Q), max(A, M), most=512),
           *(readable(array, dtype) for array in (dcontext, keys, values, weights)), dquery, dscore,
           *map(np.int32, (Q, S, A, M)), add)
    return AttentionStepGradients(dquery, dscore, dkeys=None, dv=None)
