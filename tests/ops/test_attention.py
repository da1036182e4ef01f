"""Attention against its equations, and many queries at once against one textbook step after another."""

import numpy as np
import pytest

from scratchnmt.gradcheck.convention import cast
from scratchnmt.ops import attention as att
from scratchnmt.selfcheck import CASES, SIZES

TEXTBOOK = [case for case in CASES if case.forward is att.attention_forward]
by_score = pytest.mark.parametrize("case", TEXTBOOK, ids=lambda case: case.name)
MASK = np.array([[1, 1, 1], [1, 1, 0], [1, 1, 0], [1, 0, 0], [1, 0, 0]], bool)  # (S, B) = (5, 3)


def arguments(case, rng):
    return {**case.arguments(SIZES, rng), "mask": MASK}


@by_score
def test_the_equations(case, rng):
    args = arguments(case, rng)
    h, h_enc, W, v, places = (args[name] for name in ("h", "h_enc", "W", "v", "places"))
    context, cache = att.attention_forward(**args)
    for b, length in enumerate(MASK.sum(axis=0)):
        tokens = h_enc[:length, b]
        if places is not None:
            score = places[:length] @ h[b]
        elif v is not None:
            score = [v @ np.tanh(np.concatenate([h[b], token]) @ W) for token in tokens]
        else:
            score = [h[b] @ (token if W is None else token @ W) for token in tokens]
        weights = np.exp(score) / np.exp(score).sum()
        np.testing.assert_allclose(cache.weights[b, :length], weights, rtol=1e-13)
        np.testing.assert_allclose(context[b], weights @ tokens, rtol=1e-13, atol=1e-15)


@by_score
def test_padding_has_no_weight_and_no_gradient(case, rng):
    args = arguments(case, rng)
    spoilt = {**args, "h_enc": np.where(MASK[..., None], args["h_enc"], 1e6)}
    context, cache = att.attention_forward(**args)
    context_spoilt, cache_spoilt = att.attention_forward(**spoilt)
    dcontext = rng.standard_normal(context.shape)
    grads, grads_spoilt = (att.attention_backward(dcontext, c) for c in (cache, cache_spoilt))
    assert not cache.weights[~MASK.T].any() and not grads.dh_enc[~MASK].any()
    for expected, found in zip([context, *grads], [context_spoilt, *grads_spoilt], strict=True):
        if expected is not None:
            np.testing.assert_array_equal(found, expected)


def one_by_one(case):
    """h (B, Q, H): a textbook step for each of the Q queries."""
    def forward(h, h_enc, mask, W, v, places):
        steps = (case.forward(h[:, q], h_enc, mask, W, v, places) for q in range(h.shape[1]))
        contexts, caches = zip(*steps, strict=True)
        return np.stack(contexts, axis=1), caches

    def backward(dcontext, caches):
        grads = [case.backward(dcontext[:, q], cache) for q, cache in enumerate(caches)]
        total = {f"d{name}": sum(getattr(g, f"d{name}") for g in grads)
                 for name in ("h_enc", "W", "v", "places") if getattr(grads[0], f"d{name}") is not None}
        return {"dh": np.stack([g.dh for g in grads], axis=1), **total}

    return forward, backward


def all_at_once():
    """The same with what a decoder and a search use: keys once, the step on every query, products after it."""
    def forward(h, h_enc, mask, W, v, places):
        values = h_enc.transpose(1, 0, 2)
        keys = att.attention_keys(values, W, v) if places is None else att.location_keys(places, values)
        context, step = att.attention_step_forward(att.attention_query(h, W, v), keys, values, mask.T, v)
        return context, (h, W, places, step)

    def backward(dcontext, cache):
        h, W, places, step = cache
        dquery, dscore, dkeys, dv = att.attention_step_backward(dcontext, step)
        dkeys = dscore.transpose(0, 2, 1) @ step.query if dkeys is None else dkeys
        rows = dquery.reshape(-1, dquery.shape[-1])
        dh = att.attention_query_backward(rows, W, step.v, h.shape[-1])
        dW_query = None if step.v is None else h.reshape(len(rows), -1).T @ rows
        if places is not None:
            return {"dh": dh.reshape(h.shape), "dplaces": att.location_keys_backward(dkeys, places),
                    "dh_enc": (step.weights.transpose(0, 2, 1) @ dcontext).transpose(1, 0, 2)}
        dvalues, dW = att.attention_keys_backward(dkeys, step.values, W, step.v)
        dvalues = dvalues + step.weights.transpose(0, 2, 1) @ dcontext
        dW = dW if dW_query is None else np.concatenate([dW_query, dW])
        return {"dh": dh.reshape(h.shape), "dh_enc": dvalues.transpose(1, 0, 2), "dW": dW, "dv": dv}

    return forward, backward


@by_score
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_many_queries_at_once_are_as_many_textbook_steps(case, dtype, rng, gradcheck):
    args = arguments(case, rng)
    args["h"] = rng.standard_normal((SIZES["B"], 4, args["h"].shape[1]))
    gradcheck.assert_variant(one_by_one(case), all_at_once(), cast(args, dtype))


@pytest.mark.parametrize("case, change, message", [
    (TEXTBOOK[0], dict(h=np.zeros((3, 2))), r"h_enc has .*, expected \(S, B, H\) = .*, H = 2 comes from h "),
    (TEXTBOOK[1], dict(W=np.zeros((6, 4))), r"attention: W has shape \(6, 4\), expected \(M, H\) = \(6, 5\)"),
    (TEXTBOOK[2], dict(W=np.zeros((6, 4))), r"W has shape \(6, 4\), expected \(H\+M, A\) = \(11, 4\)"),
    (TEXTBOOK[3], dict(places=np.zeros((4, 3))), r"attention: places has shape \(4, 3\), expected \(L, H\)"),
    (TEXTBOOK[1], dict(mask=MASK.T), r"attention: mask has shape \(3, 5\), expected \(S, B\) = \(5, 3\)"),
])
def test_arguments_that_do_not_fit(case, change, message, rng):
    with pytest.raises(ValueError, match=message):
        att.attention_forward(**{**arguments(case, rng), **change})
