"""What training runs, every step and then all sums at once, is the textbook operation at each step, gradients too."""

import numpy as np
import pytest

from scratchnmt.models.attention import ATTENTIONS, attention_class
from scratchnmt.models.attention.scores import SCORES
from scratchnmt.models.config import NMTConfig
from scratchnmt.ops.attention import attention_backward, attention_forward
from scratchnmt.ops.local import local_attention_backward, local_attention_forward
from scratchnmt.ops.multi_head import multi_head_attention_backward, multi_head_attention_forward
from scratchnmt.ops.packing import whole
from scratchnmt.ops.plain import PLAIN
from scratchnmt.parameters import Parameters

T, B, S, H, D, HEADS = 4, 3, 5, 6, 1, 3
NAMES = {"W": "attention.W", "v": "attention.v", "places": "attention.places", "window_W": "window.W",
         "window_v": "window.v", "Wq": "attention.Wq", "Wk": "attention.Wk",
         "Wv": "attention.Wv"}  # of the operations' arguments, those of the weights
MASK = np.arange(S)[:, None] < [5, 3, 2]


def loop(sources, grads, h, dcontext):
    """Contexts, dh, dh_enc and the weights' gradients, as the decoder's loops make them."""
    packing, context, dh = whole(T, B), np.empty_like(dcontext), np.zeros_like(h)
    grads.flat[...] = np.nan  # all must be written
    rows = sources.rows(T * B, "float64")
    steps = [(t, slice(t * B, (t + 1) * B)) for t in range(T)]
    for t, now in steps:
        sources.training_step(rows, h[now], t, now, context[now])
    drows = sources.gradient_rows(rows, "float64")
    for t, now in reversed(steps):
        sources.step_backward(rows, drows, h[now], t, now, dcontext[now], dh[now])
    dh_enc = sources.backward(rows, drows, h, dcontext, packing, grads)
    return context, dh, dh_enc, grads


def textbook(attention, params, h, h_enc, dcontext):
    """The same by one operation for each step, whose gradients are added up."""
    projections = [params.get(NAMES[name]) for name in ("Wq", "Wk", "Wv")]
    weights = {name: params.get(NAMES[name]) for name in ("W", "v", "window_W", "window_v")}
    places = params.get(NAMES["places"])
    contexts, dhs, dh_enc, grads = [], [], 0, dict.fromkeys(params.keys() & NAMES.values(), 0)
    for t in range(T):
        now = slice(t * B, (t + 1) * B)
        if attention == "global":
            context, cache = attention_forward(h[now], h_enc, MASK, weights["W"], weights["v"], places)
            found = attention_backward(dcontext[now], cache)
        elif attention == "multi-head":
            context, cache = multi_head_attention_forward(h[now], h_enc, MASK, *projections, HEADS)
            found = multi_head_attention_backward(dcontext[now], cache)
        else:
            context, cache = local_attention_forward(h[now], h_enc, MASK, D, t if attention == "local-m" else None,
                                                     **weights)
            found = local_attention_backward(dcontext[now], cache)
        contexts.append(context)
        dhs.append(found.dh)
        dh_enc = dh_enc + found.dh_enc
        for name, weight in NAMES.items():
            if weight in grads:
                grads[weight] = grads[weight] + getattr(found, f"d{name}")
    return np.concatenate(contexts), np.concatenate(dhs), dh_enc, grads


@pytest.mark.parametrize("attention, score", [
    (attention, score) for attention in ATTENTIONS for score in SCORES
    if attention == "global" or score == "general" or attention.startswith("local") and score != "location"])
def test_a_training_loop_is_as_many_textbook_steps(attention, score, rng):
    config = NMTConfig(1, 1, 4, H, attention=attention, score=score, max_source=S, bidirectional=score != "dot",
                       window=D, heads=HEADS)
    params = Parameters(config.shapes(), "float64")
    own = params.keys() & NAMES.values()
    params.flat[...] = rng.standard_normal(params.flat.size)
    h, h_enc = rng.standard_normal((T * B, H)), rng.standard_normal((S, B, config.memory_size))
    dcontext = rng.standard_normal((T * B, config.context_size))
    sources = attention_class(config)(config, params, h_enc, MASK, PLAIN)
    found, expected = loop(sources, params.like(), h, dcontext), textbook(attention, params, h, h_enc, dcontext)
    for ours, theirs in zip(found[:3], expected[:3], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)
    for name in own:
        np.testing.assert_allclose(found[3][name], expected[3][name], rtol=1e-12, atol=1e-13, err_msg=name)


def test_a_search_sees_the_mean_of_all_heads(rng):
    """Of several queries of some sentences, beside the textbook's step for each."""
    config = NMTConfig(1, 1, 4, H, attention="multi-head", heads=HEADS)
    params = Parameters(config.shapes(), "float64")
    params.flat[...] = rng.standard_normal(params.flat.size)
    h, h_enc, chosen = rng.standard_normal((2, 4, H)), rng.standard_normal((S, B, 2 * H)), np.array([0, 2])
    sources = attention_class(config)(config, params, h_enc, MASK, PLAIN).select(chosen)
    context, cache = sources.step(h, 0)
    seen = sources.map(0, cache)
    weights = [params[f"attention.{name}"] for name in ("Wq", "Wk", "Wv")]
    for q in range(4):
        expected, one = multi_head_attention_forward(h[:, q], h_enc[:, chosen], MASK[:, chosen], *weights, HEADS)
        np.testing.assert_allclose(context[:, q], expected, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(seen[:, q], one.weights.mean(axis=1), rtol=1e-12)
