"""R-Drop against the paper's equations, its fast forms against it, and what two passes promise."""

import tracemalloc

import numpy as np
import pytest

from scratchnmt.ops import cross_entropy
from scratchnmt.ops.cross_entropy import cross_entropy_backward, cross_entropy_forward
from scratchnmt.ops.linear import linear_backward, linear_forward
from scratchnmt.ops.linear_cross_entropy import linear_cross_entropy_backward, linear_cross_entropy_forward
from scratchnmt.ops.r_drop import r_drop_backward, r_drop_forward, r_drop_in_place

V = 7
TARGETS = np.repeat([3, 0, 6, 1], 2)  # the second token is padding
by_smoothing = pytest.mark.parametrize("smoothing", [0.0, 0.1])


def textbook(logits, targets, alpha, smoothing):
    """Half of the paper's loss, its equation (4)."""
    total = 0.0
    for first in range(0, len(targets), 2):
        if target := targets[first]:
            p, q = (np.exp(row) / np.exp(row).sum() for row in logits[first : first + 2])
            wanted = (1 - smoothing) * np.eye(V)[target] + smoothing / V
            kl = (p @ np.log(p / q) + q @ np.log(q / p)) / 2  # its equation (2)
            nll = -wanted @ np.log(p) - wanted @ np.log(q)  # its equation (3)
            total += (nll + alpha * kl) / 2
    return total


@by_smoothing
@pytest.mark.parametrize("alpha", [0.0, 0.5, 5.0])
def test_the_papers_equations(alpha, smoothing, rng, gradcheck):
    logits = 3 * rng.standard_normal((8, V))
    loss, cache = r_drop_forward(logits, TARGETS, alpha=alpha, label_smoothing=smoothing)
    np.testing.assert_allclose(loss, textbook(logits, TARGETS, alpha, smoothing), rtol=1e-13)
    gradcheck.assert_gradients(lambda logits: (textbook(logits, TARGETS, alpha, smoothing), logits),
                               lambda dloss, _: {"logits": r_drop_backward(dloss, cache).dlogits}, {"logits": logits})


@by_smoothing
@pytest.mark.parametrize("rows", [1, 3, 6, 99])
def test_in_place_it_is_the_same(rows, smoothing, rng, monkeypatch):
    monkeypatch.setattr(cross_entropy, "BLOCK_BYTES", rows * V * 8)
    logits = 3 * rng.standard_normal((8, V))
    loss, cache = r_drop_forward(logits, TARGETS, alpha=0.7, label_smoothing=smoothing)
    losses = np.full(8, np.nan)
    z = logits.copy()
    r_drop_in_place(z, TARGETS, 0.7, smoothing, losses)
    np.testing.assert_allclose(losses.sum(), loss, rtol=1e-14)
    np.testing.assert_allclose(z, r_drop_backward(1.0, cache).dlogits, rtol=1e-12, atol=1e-15)
    assert not z[2:4].any() and not losses[2:4].any()


def plain_forward(x, W, targets, r_drop, label_smoothing=0.0, chunk_bytes=None):
    logits, linear = linear_forward(x, W)
    loss, cache = r_drop_forward(logits, targets, alpha=r_drop, label_smoothing=label_smoothing)
    return loss, (linear, cache)


def plain_backward(dloss, caches):
    dx, dW, _ = linear_backward(r_drop_backward(dloss, caches[1]).dlogits, caches[0])
    return {"dx": dx, "dW": dW}


PLAIN = plain_forward, plain_backward
FUSED = linear_cross_entropy_forward, linear_cross_entropy_backward


def arguments(rng, targets=TARGETS, dtype="float64", scale=1.0):
    return {"x": rng.standard_normal((len(targets), 5)).astype(dtype),
            "W": (scale * rng.standard_normal((5, V))).astype(dtype), "targets": targets, "r_drop": 0.7}


@by_smoothing
def test_in_chunks_with_the_projection_in_front(smoothing, rng, gradcheck):
    args = {**arguments(rng), "label_smoothing": smoothing}
    for rows in (0, 1, 2, 3, 5, 9):  # a chunk has both passes of a token, however small it is to be
        gradcheck.assert_variant(PLAIN, FUSED, {**args, "chunk_bytes": rows * V * 8 + 1}, steps=8)
    loss, cache = FUSED[0](**args)
    rows = np.array([4, 5, 0, 1, 2, 3, 6, 7])  # the words, and padding among them
    again, named = FUSED[0](**{**args, "targets": TARGETS[rows]}, rows=rows)
    np.testing.assert_allclose(again, loss, rtol=1e-14)
    np.testing.assert_allclose(named.dx, cache.dx, rtol=1e-13, atol=1e-15)
    assert gradcheck.assert_variant(PLAIN, FUSED, arguments(rng, dtype="float32"), steps=8).dtype == "float32"
    only_padding, cache = FUSED[0](**{**args, "targets": 0 * TARGETS})
    assert only_padding == 0 and not cache.dx.any() and not cache.dW.any()


def test_neither_distribution_is_ever_whole(rng):
    N, H, V = 600, 4, 6000
    x, W = rng.standard_normal((N, H), "float32"), rng.standard_normal((H, V), "float32")
    targets, chunk = np.repeat(rng.integers(1, V, N // 2), 2), 1 << 19
    linear_cross_entropy_forward(x, W, targets, r_drop=1.0, chunk_bytes=chunk)  # what is made once
    tracemalloc.start()
    try:
        linear_cross_entropy_forward(x, W, targets, r_drop=1.0, chunk_bytes=chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert chunk / 2 < peak < 4 * chunk + 4 * W.nbytes + 4 * x.nbytes < N * V * 4 / 4


def test_two_passes_that_agree_are_one(rng):
    logits = np.repeat(rng.standard_normal((4, V)), 2, axis=0)
    loss, cache = r_drop_forward(logits, TARGETS, alpha=9.0)
    alone, one = cross_entropy_forward(logits[::2], TARGETS[::2])
    np.testing.assert_allclose(loss, alone, rtol=1e-15)
    dlogits = r_drop_backward(0.3, cache).dlogits
    np.testing.assert_allclose(dlogits[::2] + dlogits[1::2], cross_entropy_backward(0.3, one).dlogits, atol=1e-16)
    assert not cache.d.any() and not cache.kl.any()


def test_the_order_of_the_passes_does_not_matter(rng):
    logits, exchanged = rng.standard_normal((8, V)), np.arange(8).reshape(4, 2)[:, ::-1].ravel()
    (loss, cache), (again, other) = (r_drop_forward(one, TARGETS, alpha=2.0) for one in (logits, logits[exchanged]))
    np.testing.assert_allclose(again, loss, rtol=1e-14)
    np.testing.assert_array_equal(r_drop_backward(1.0, other).dlogits[exchanged], r_drop_backward(1.0, cache).dlogits)


def test_large_logits_in_float32(rng):
    args = arguments(rng, dtype="float32", scale=1e4)
    loss, cache = FUSED[0](**args)
    expected, _ = plain_forward(args["x"].astype(float), args["W"].astype(float), TARGETS, 0.7)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert np.isfinite(cache.dx).all() and np.isfinite(cache.dW).all()


@pytest.mark.parametrize("targets", [[3, 3, 5], [3, 3, 5, 6], [3, 0]])
def test_rows_that_are_no_two_passes(targets, rng):
    logits = rng.standard_normal((len(targets), V))
    with pytest.raises(ValueError, match=f"r_drop: targets are {len(targets)} and not the same in rows 2n and 2n"):
        r_drop_forward(logits, np.array(targets), alpha=1.0)
    with pytest.raises(ValueError, match="linear_cross_entropy: targets are .* expected the two passes of each token"):
        FUSED[0](**arguments(rng, np.array(targets)))


def test_arguments_that_do_not_fit(rng):
    with pytest.raises(ValueError, match=r"r_drop: targets has shape \(6,\), expected \(N\) = \(8\)"):
        r_drop_forward(rng.standard_normal((8, V)), TARGETS[:6], alpha=1.0)
    with pytest.raises(IndexError, match="r_drop: targets run from 7 to 7, expected 0 to V - 1 = 6"):
        r_drop_forward(rng.standard_normal((2, V)), np.array([7, 7]), alpha=1.0)
