"""Multi-head attention against PyTorch's module, and against the attention of one head."""

import numpy as np
import pytest

from scratchnmt.ops.attention import attention_backward, attention_forward
from scratchnmt.ops.multi_head import (
    merge_heads,
    multi_head_attention_backward,
    multi_head_attention_forward,
    split_heads,
)

B, S, H, M = 3, 5, 6, 4
MASK = np.arange(S)[:, None] < [5, 3, 1]  # (S, B)
SHAPES = {"h": (B, H), "h_enc": (S, B, M), "Wq": (H, H), "Wk": (M, H), "Wv": (M, H)}


@pytest.fixture
def args(rng):
    return {**{name: rng.standard_normal(shape) for name, shape in SHAPES.items()}, "mask": MASK}


@pytest.mark.parametrize("heads", [1, 2, 3, 6])
def test_values_and_gradients_are_those_of_torch(args, heads, rng):
    """Whose Wo are the rows of W_combine for the context."""
    torch = pytest.importorskip("torch", reason="parity with PyTorch needs torch (pip install '.[peers]')")
    W_combine, dp = rng.standard_normal((H, H)), rng.standard_normal((B, H))
    context, cache = multi_head_attention_forward(**args, heads=heads)
    grads = multi_head_attention_backward(dp @ W_combine.T, cache)

    module = torch.nn.MultiheadAttention(H, heads, bias=False, kdim=M, vdim=M, dtype=torch.float64)
    places = {"Wq": module.q_proj_weight, "Wk": module.k_proj_weight, "Wv": module.v_proj_weight}
    with torch.no_grad():
        for name, weight in places.items():
            weight.copy_(torch.tensor(args[name].T))
        module.out_proj.weight.copy_(torch.tensor(W_combine.T))
    h, h_enc = (torch.tensor(args[name], requires_grad=True) for name in ("h", "h_enc"))
    p, weights = module(h[None], h_enc, h_enc, key_padding_mask=torch.tensor(~MASK.T), average_attn_weights=False)
    p.backward(torch.tensor(dp)[None])

    close = lambda found, tensor: np.testing.assert_allclose(found, tensor.detach().numpy(), rtol=1e-10, atol=1e-12)
    close(context @ W_combine, p[0])
    close(cache.weights, weights[:, :, 0])
    close(grads.dh, h.grad)
    close(grads.dh_enc, h_enc.grad)
    close(context.T @ dp, module.out_proj.weight.grad.T)
    for name, weight in places.items():
        close(getattr(grads, f"d{name}"), weight.grad.T)


def test_each_head_is_general_attention_through_a_matrix_of_low_rank(args, rng):
    heads, d = 3, H // 3
    context, cache = multi_head_attention_forward(**args, heads=heads)
    dcontext = rng.standard_normal(context.shape)
    grads = multi_head_attention_backward(dcontext, cache)
    dh, dh_enc = 0, 0
    for head in range(heads):
        own = slice(head * d, (head + 1) * d)
        Wq, Wk, Wv = (args[name][:, own] for name in ("Wq", "Wk", "Wv"))
        found, general = attention_forward(args["h"], args["h_enc"], MASK, Wk @ Wq.T / np.sqrt(d))
        np.testing.assert_allclose(cache.weights[:, head], general.weights, rtol=1e-12)
        np.testing.assert_allclose(context[:, own], found @ Wv, rtol=1e-12)
        back = attention_backward(dcontext[:, own] @ Wv.T, general)
        dh, dh_enc = dh + back.dh, dh_enc + back.dh_enc
    np.testing.assert_allclose(grads.dh, dh, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(grads.dh_enc, dh_enc, rtol=1e-11, atol=1e-13)


def test_padding_has_no_weight_and_no_gradient(args, rng):
    spoilt = {**args, "h_enc": np.where(MASK[..., None], args["h_enc"], 1e6)}
    (context, cache), (context_spoilt, cache_spoilt) = (
        multi_head_attention_forward(**each, heads=2) for each in (args, spoilt))
    dcontext = rng.standard_normal(context.shape)
    grads, grads_spoilt = (multi_head_attention_backward(dcontext, each) for each in (cache, cache_spoilt))
    assert not cache.weights.transpose(2, 0, 1)[~MASK].any() and not grads.dh_enc[~MASK].any()
    for expected, found in zip([context, *grads], [context_spoilt, *grads_spoilt], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_heads_are_split_by_columns_and_put_together_again(rng):
    x = rng.standard_normal((2, 3, 8))
    split = split_heads(x, 4)
    np.testing.assert_array_equal(split[1 * 4 + 2, 1], x[1, 1, 4:6])
    np.testing.assert_array_equal(merge_heads(split, 4), x)


@pytest.mark.parametrize("change, message", [
    (dict(heads=4), "heads is 4, expected a divisor of H = 6"), (dict(heads=0), "heads is 0, expected a divisor"),
    (dict(Wk=np.zeros((H, H))), r"Wk has shape \(6, 6\), expected \(M, H\) = \(4, 6\)"),
    (dict(mask=MASK.T), r"mask has shape \(3, 5\), expected \(S, B\) = \(5, 3\)"),
])
def test_arguments_that_do_not_fit(args, change, message):
    with pytest.raises(ValueError, match=f"multi_head_attention: {message}"):
        multi_head_attention_forward(**{**args, "heads": 2, **change})
