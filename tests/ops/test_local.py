"""Local attention against its equations, token by token, and against global attention where the window holds all."""

import numpy as np
import pytest

from scratchnmt.models.attention import attention_class
from scratchnmt.models.config import NMTConfig
from scratchnmt.ops.attention import attention_backward, attention_forward
from scratchnmt.ops.local import (
    gaussian,
    local_attention_backward,
    local_attention_forward,
    padded,
    spread,
    window_at,
    windows_around,
)
from scratchnmt.ops.plain import PLAIN
from scratchnmt.selfcheck import CASES, SIZES

TEXTBOOK = [case for case in CASES if case.forward is local_attention_forward]
by_kind = pytest.mark.parametrize("case", TEXTBOOK, ids=lambda case: case.name)
LENGTHS = np.array([5, 3, 1])
MASK = np.arange(5)[:, None] < LENGTHS  # (S, B)


def arguments(case, rng):
    return {**case.arguments(SIZES, rng), "mask": MASK}


def equations(h, h_enc, mask, D, t, window_W, window_v, W, v):
    """context (M,) of one sentence, h (H,), h_enc (S, M), by loops over its tokens; and what p was."""
    length = int(mask.sum())
    p = t if window_W is None else length / (1 + np.exp(-(window_v @ np.tanh(h @ window_W))))
    seen = [s for s in range(length) if abs(s - round(p)) <= D]
    if v is not None:
        score = [v @ np.tanh(np.concatenate([h, h_enc[s]]) @ W) for s in seen]
    else:
        score = [h @ (h_enc[s] if W is None else h_enc[s] @ W) for s in seen]
    weights = np.exp(score) / np.exp(score).sum() if seen else []
    if window_W is not None:
        weights = [w * np.exp(-((s - p) ** 2) / (2 * (D / 2) ** 2)) for s, w in zip(seen, weights, strict=True)]
    return sum((w * h_enc[s] for s, w in zip(seen, weights, strict=True)), np.zeros(h_enc.shape[1])), p


@by_kind
@pytest.mark.parametrize("D", [1, 2, 4])
@pytest.mark.parametrize("t", [0, 2, 4, 9])
def test_the_equations(case, D, t, rng):
    args = {**arguments(case, rng), "D": D}
    if args.get("window_W") is None:
        args["t"] = t
    context, cache = local_attention_forward(**args)
    told = {"t": None, **{name: value for name, value in args.items() if name not in ("h", "h_enc", "mask")}}
    for b in range(len(LENGTHS)):
        expected, p = equations(args["h"][b], args["h_enc"][:, b], MASK[:, b], **told)
        np.testing.assert_allclose(context[b], expected, rtol=1e-12, atol=1e-15)
        if cache.predict is not None:
            assert 0 < cache.predict.p[b] < LENGTHS[b]
            np.testing.assert_allclose(cache.predict.p[b], p, rtol=1e-14)


@pytest.mark.parametrize("t", [0, 3, 7])
def test_a_window_that_holds_the_whole_source_is_global_attention(t, rng):
    h, h_enc, W = (rng.standard_normal(shape) for shape in ((3, 4), (5, 3, 6), (6, 4)))
    dcontext = rng.standard_normal((3, 6))
    context, cache = local_attention_forward(h, h_enc, MASK, 8, t, W=W)
    expected, expected_cache = attention_forward(h, h_enc, MASK, W)
    np.testing.assert_allclose(context, expected, rtol=1e-13)
    found, grads = local_attention_backward(dcontext, cache), attention_backward(dcontext, expected_cache)
    for name in ("dh", "dh_enc", "dW"):
        np.testing.assert_allclose(getattr(found, name), getattr(grads, name), rtol=1e-12, atol=1e-14)


def test_behind_the_end_of_the_source_there_is_nothing_and_no_gradient(rng):
    h, h_enc = rng.standard_normal((3, 6)), rng.standard_normal((5, 3, 6))
    context, cache = local_attention_forward(h, h_enc, MASK, 1, 4)  # windows 3 to 5: tokens of the first sentence alone
    grads = local_attention_backward(rng.standard_normal((3, 6)), cache)
    assert context[0].any() and not context[1:].any()
    assert grads.dh_enc[3:, 0].any() and not grads.dh_enc[:3, 0].any() and not grads.dh_enc[:, 1:].any()
    assert not grads.dh[1:].any()


@by_kind
def test_the_padding_and_its_amount_change_nothing(case, rng):
    args = arguments(case, rng)
    h_enc = np.where(MASK[..., None], args["h_enc"], 1e6)
    more = {**args, "mask": np.pad(MASK, [(0, 3), (0, 0)]),
            "h_enc": np.pad(h_enc, [(0, 3), (0, 0), (0, 0)], constant_values=-1e6)}
    context, cache = local_attention_forward(**args)
    context_more, cache_more = local_attention_forward(**more)
    dcontext = rng.standard_normal(context.shape)
    grads, grads_more = (local_attention_backward(dcontext, c)._asdict() for c in (cache, cache_more))
    np.testing.assert_array_equal(context_more, context)
    assert not grads_more["dh_enc"][5:].any()
    grads_more["dh_enc"] = grads_more["dh_enc"][:5]
    for name, expected in grads.items():
        if expected is not None:
            np.testing.assert_allclose(grads_more[name], expected, rtol=1e-13, atol=1e-15, err_msg=name)


def test_the_gaussian_tells_p_where_to_go():
    """Weight to the left of p: p should go left, and its gradient says so; the window itself moves in jumps."""
    g, slope = gaussian(np.array([3.25]), 2)
    assert g.argmax() == 2 and g[0, 2] < 1  # token 3 of 1 to 5
    np.testing.assert_allclose(slope[0], (np.arange(1, 6) - 3.25) / 1)  # sigma = 1
    for p in (2.5, 3.499, 3.5, 4.0):  # rounded to the even number at a half
        assert abs(windows_around(np.array([p]), 100, 2)[0, 0] - p) <= 0.5


def test_one_window_for_all_is_a_view_and_what_was_found_goes_back_to_its_place(rng):
    around = padded(rng.standard_normal((3, 5, 2)), 2)
    assert np.shares_memory(around[window_at(3, 2, around.shape[1], 2)], around)
    for t in (4, 6, 7, 1000):  # the last window begins where all is padding
        assert around[window_at(t, 3, around.shape[1], 2)].shape == (3, 5, 2)
    assert not around[window_at(7, 3, around.shape[1], 2)].any()
    rows = rng.standard_normal((3, 2, 5))
    found = spread(rows, np.array([[0, 1], [4, 4], [7, 2]]), 12)
    assert found.shape == (3, 2, 12)
    np.testing.assert_array_equal(found[2, 0], np.pad(rows[2, 0], (7, 0)))
    assert (found != 0).sum() == rows.size


@pytest.mark.parametrize("score", ["dot", "general", "concat"])
@pytest.mark.parametrize("attention", ["local-m", "local-p"])
def test_many_queries_of_a_sentence_are_as_many_textbook_steps(attention, score, rng):
    """As the beams of a search ask: each has a window of its own."""
    config = NMTConfig(1, 1, 4, 6, attention=attention, score=score, window=1)
    params = {name: rng.standard_normal(shape) for name, shape in config.shapes().items()}
    h, h_enc = rng.standard_normal((3, 4, 6)), rng.standard_normal((5, 3, config.memory_size))
    sources = attention_class(config)(config, params, h_enc, MASK, PLAIN)
    context, cache = sources.step(h, 2)
    weights = sources.map(2, cache)
    for k in range(4):
        expected, _ = local_attention_forward(
            h[:, k], h_enc, MASK, 1, 2 if attention == "local-m" else None, params.get("window.W"),
            params.get("window.v"), params.get("attention.W"), params.get("attention.v"))
        np.testing.assert_allclose(context[:, k], expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(np.einsum("bks,sbm->bkm", weights, h_enc), context, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("change, message", [
    (dict(D=0), "D is 0, expected at least one token on each side"),
    (dict(mask=MASK.T), r"local_attention: mask has shape \(3, 5\), expected \(S, B\) = \(5, 3\)"),
    (dict(window_v=np.zeros(3)), r"window_v has shape \(3,\), expected \(H\) = \(5\)"),
    (dict(window_W=np.zeros((5, 4))), r"window_W has shape \(5, 4\), expected \(H, H\) = \(5, 5\)"),
    (dict(window_W=None, window_v=None), "local_attention: expected t, or window_W and window_v"),
    (dict(t=3), "local_attention: expected t, or window_W and window_v"),
])
def test_arguments_that_do_not_fit(change, message, rng):
    case = next(case for case in TEXTBOOK if "local-p, general" in case.name)
    with pytest.raises(ValueError, match=message):
        local_attention_forward(**{**arguments(case, rng), **change})
