"""The fused op against linear and cross_entropy, in chunks of all sizes; the logits are never whole."""

import tracemalloc

import numpy as np
import pytest

from scratchnmt.ops import cross_entropy
from scratchnmt.ops import linear_cross_entropy as fused
from scratchnmt.ops.cross_entropy import cross_entropy_backward, cross_entropy_forward
from scratchnmt.ops.linear import linear_backward, linear_forward

V = 11
TARGETS = {"some padding": [3, 0, 10, 0, 1, 1, 7], "no padding": [3, 4, 10, 1, 1, 5, 7],
           "only padding": [0] * 7, "one row": [4]}


def plain_forward(x, W, targets, label_smoothing=0.0, chunk_bytes=None):
    logits, linear = linear_forward(x, W)
    loss, softmax = cross_entropy_forward(logits, targets, label_smoothing=label_smoothing)
    return loss, (linear, softmax)


def plain_backward(dloss, cache):
    linear, softmax = cache
    dx, dW, _ = linear_backward(cross_entropy_backward(dloss, softmax).dlogits, linear)
    return {"dx": dx, "dW": dW}


PLAIN = plain_forward, plain_backward
FUSED = fused.linear_cross_entropy_forward, fused.linear_cross_entropy_backward


def arguments(rng, targets, dtype="float64", tied=False):
    x = rng.standard_normal((len(targets), 5)).astype(dtype)
    W = rng.standard_normal((V, 5) if tied else (5, V)).astype(dtype)
    return {"x": x, "W": W.T if tied else W, "targets": np.array(targets)}


@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("tied", [False, True])
def test_fused_is_linear_and_cross_entropy(targets, smoothing, tied, monkeypatch, rng, gradcheck):
    monkeypatch.setattr(fused, "COLUMNS", 3)
    monkeypatch.setattr(cross_entropy, "BLOCK_BYTES", 2 * V * 8)  # two rows
    args = {**arguments(rng, targets, tied=tied), "label_smoothing": smoothing}
    for rows in range(1, len(targets) + 2):
        gradcheck.assert_variant(PLAIN, FUSED, {**args, "chunk_bytes": rows * V * 8}, steps=len(targets))
    gradcheck.assert_variant(PLAIN, FUSED, {**args, "chunk_bytes": 1}, steps=len(targets))  # still a row at a time
    loss, cache = FUSED[0](**args)
    assert FUSED[0](**args, gradients=False) == (loss, None)
    buffer = np.full_like(args["W"], np.nan)
    _, given = FUSED[0](**args, dW=buffer)
    assert given.dW is buffer
    np.testing.assert_array_equal(buffer, cache.dW)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_rows_that_are_named_and_padding_among_them(smoothing, rng):
    args = {**arguments(rng, TARGETS["some padding"]), "label_smoothing": smoothing}
    loss, cache = FUSED[0](**args)
    rows = np.array([6, 1, 0, 2, 5, 4])  # all words, and one of the two rows of padding
    again, named = FUSED[0](**{**args, "targets": args["targets"][rows]}, rows=rows)
    np.testing.assert_allclose(again, loss, rtol=1e-14)
    for found, expected in zip(named, cache, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-15)
    assert not named.dx[[1, 3]].any()


def test_in_float32(rng, gradcheck):
    for tied in (False, True):
        args = arguments(rng, TARGETS["some padding"], "float32", tied)
        assert gradcheck.assert_variant(PLAIN, FUSED, args, steps=7).dtype == "float32"


def test_large_logits_in_float32(rng):
    args = arguments(rng, TARGETS["some padding"], "float32")
    args["W"] *= 1e4
    loss, cache = FUSED[0](**args)
    expected, _ = plain_forward(**{name: a.astype(float) for name, a in args.items() if name != "targets"},
                                targets=args["targets"])
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert np.isfinite(cache.dx).all() and np.isfinite(cache.dW).all()


@pytest.mark.parametrize("gradients", [True, False])
def test_the_logits_are_never_whole(gradients, rng):
    N, H, V = 600, 4, 6000
    x, W = rng.standard_normal((N, H), "float32"), rng.standard_normal((H, V), "float32")
    targets, chunk = rng.integers(1, V, N), 1 << 19
    tracemalloc.start()
    try:
        fused.linear_cross_entropy_forward(x, W, targets, gradients=gradients, chunk_bytes=chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert chunk / 2 < peak < 2 * chunk + 4 * W.nbytes + 4 * x.nbytes < N * V * 4 / 8


def test_arguments_that_do_not_fit(rng):
    args = arguments(rng, [1, 2])
    with pytest.raises(ValueError, match=r"W has shape \(11, 5\), expected \(H, V\) = \(5, 5\)"):
        FUSED[0](**{**args, "W": args["W"].T})
    with pytest.raises(ValueError, match=r"targets has shape \(3,\), expected \(N\) = \(2\)"):
        FUSED[0](**{**args, "targets": np.ones(3, int)})
    for wrong in (-1, 11):
        with pytest.raises(IndexError, match="targets run from .*, expected 0 to V - 1 = 10"):
            FUSED[0](**{**args, "targets": np.array([1, wrong])})


@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("tied", [False, True])
def test_a_loss_for_each_row(targets, tied, rng):
    args = arguments(rng, targets, tied=tied)
    losses, cache = fused.linear_cross_entropy_rows_forward(**args)
    loss, expected = FUSED[0](**args)
    np.testing.assert_allclose(losses.sum(), loss, rtol=1e-14)
    assert not losses[args["targets"] == 0].any()
    buffer = np.full_like(args["W"], np.nan)
    found = fused.linear_cross_entropy_rows_backward(np.ones(len(losses)), cache, dW=buffer)
    assert found.dW is buffer
    for name in ("dx", "dW"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_a_loss_for_each_row_in_float32(rng, gradcheck):
    rows = fused.linear_cross_entropy_rows_forward, fused.linear_cross_entropy_rows_backward
    for rows_at_a_time in (1, 3, 9):
        args = {**arguments(rng, TARGETS["some padding"], "float32"), "chunk_bytes": rows_at_a_time * V * 4}
        assert gradcheck.assert_variant(rows, rows, args, steps=7).dtype == "float32"


def test_arguments_of_rows_that_do_not_fit(rng):
    args = arguments(rng, [1, 2])
    with pytest.raises(ValueError, match=r"linear_cross_entropy_rows: W has shape \(11, 5\)"):
        fused.linear_cross_entropy_rows_forward(**{**args, "W": args["W"].T})
    with pytest.raises(IndexError, match="linear_cross_entropy_rows: targets run from 1 to 11"):
        fused.linear_cross_entropy_rows_forward(**{**args, "targets": np.array([1, 11])})
