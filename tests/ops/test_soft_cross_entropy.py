"""Soft targets against their two parts, the fast form against the plain one, and how much memory it needs."""

import tracemalloc

import numpy as np
import pytest

from scratchnmt.errors import ArgumentError
from scratchnmt.ops import cross_entropy
from scratchnmt.ops.cross_entropy import cross_entropy_backward, cross_entropy_forward
from scratchnmt.ops.linear_cross_entropy import Teacher, linear_cross_entropy_forward
from scratchnmt.ops.soft_cross_entropy import (
    soft_cross_entropy_backward,
    soft_cross_entropy_forward,
    soft_cross_entropy_in_place,
)

V = 7
TARGETS = np.array([3, 0, 6, 1, 5])  # the second is padding
by_smoothing = pytest.mark.parametrize("smoothing", [0.0, 0.1])


@pytest.fixture
def drawn(rng):
    """logits (N, V) and those of two teachers (2, N, V)."""
    return 3 * rng.standard_normal((5, V)), 3 * rng.standard_normal((2, 5, V))


def softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


@by_smoothing
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_it_is_the_two_cross_entropies_by_weight(drawn, smoothing, weight):
    logits, theirs = drawn
    loss, cache = soft_cross_entropy_forward(logits, theirs, TARGETS, weight=weight, label_smoothing=smoothing)
    reference, of_reference = cross_entropy_forward(logits, TARGETS, label_smoothing=smoothing)
    p, q, is_word = softmax(logits), softmax(theirs).mean(axis=0), TARGETS != 0
    teachers = -(q * np.log(p)).sum(axis=1)[is_word].sum()
    np.testing.assert_allclose(loss, (1 - weight) * reference + weight * teachers, rtol=1e-13)
    expected = weight * 0.3 * (p - q) * is_word[:, None]
    expected += (1 - weight) * cross_entropy_backward(0.3, of_reference).dlogits
    np.testing.assert_allclose(soft_cross_entropy_backward(0.3, cache).dlogits, expected, rtol=1e-12, atol=1e-15)


def test_who_agrees_with_the_teacher_stays(drawn):
    logits, _ = drawn
    _, cache = soft_cross_entropy_forward(logits, logits[None] + 5.0, TARGETS, weight=1.0)
    np.testing.assert_allclose(soft_cross_entropy_backward(1.0, cache).dlogits, 0, atol=1e-15)


@by_smoothing
@pytest.mark.parametrize("rows", [1, 3, 99])
def test_in_place_it_is_the_same(drawn, rows, smoothing, monkeypatch):
    monkeypatch.setattr(cross_entropy, "BLOCK_BYTES", rows * V * 8)
    z, theirs = drawn
    loss, cache = soft_cross_entropy_forward(z, theirs, TARGETS, weight=0.7, label_smoothing=smoothing)
    losses = np.full(5, np.nan)
    soft_cross_entropy_in_place(z := z.copy(), list(theirs.copy()), TARGETS, 0.7, smoothing, losses)
    np.testing.assert_allclose(losses.sum(), loss, rtol=1e-14)
    np.testing.assert_allclose(z, soft_cross_entropy_backward(1.0, cache).dlogits, rtol=1e-12, atol=1e-15)
    assert not z[1].any() and not losses[1]


@by_smoothing
@pytest.mark.parametrize("chunk", [1, 400, 1 << 20])
def test_in_chunks_with_the_projections_in_front(rng, smoothing, chunk):
    x, W = rng.standard_normal((5, 4)), rng.standard_normal((4, V))
    teachers = [Teacher(rng.standard_normal((5, size)), rng.standard_normal((size, V))) for size in (3, 6)]
    how = {"teachers": teachers, "teacher_weight": 0.7, "label_smoothing": smoothing, "chunk_bytes": chunk}
    loss, cache = linear_cross_entropy_forward(x, W, TARGETS, **how)
    theirs = np.array([one.x @ one.W for one in teachers])
    expected, plain = soft_cross_entropy_forward(x @ W, theirs, TARGETS, weight=0.7, label_smoothing=smoothing)
    dlogits = soft_cross_entropy_backward(1.0, plain).dlogits
    np.testing.assert_allclose(loss, expected, rtol=1e-14)
    np.testing.assert_allclose(cache.dx, dlogits @ W.T, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(cache.dW, x.T @ dlogits, rtol=1e-12, atol=1e-14)
    rows = np.array([4, 1, 0])  # as a bucket names them, padding among them
    named, _ = linear_cross_entropy_forward(x, W, TARGETS[rows], rows=rows, **how)
    alone, _ = linear_cross_entropy_forward(x[rows], W, TARGETS[rows], **how | {
        "teachers": [Teacher(one.x[rows], one.W) for one in teachers]})
    np.testing.assert_allclose(named, alone, rtol=1e-14)


def test_no_distribution_is_ever_whole(rng):
    N, H, V = 600, 4, 6000
    x, W = rng.standard_normal((N, H), "float32"), rng.standard_normal((H, V), "float32")
    targets, chunk, teachers = rng.integers(1, V, N), 1 << 19, [Teacher(x, W)] * 2
    how = {"teachers": teachers, "teacher_weight": 0.5, "chunk_bytes": chunk}
    linear_cross_entropy_forward(x, W, targets, **how)  # what is made once
    tracemalloc.start()
    try:
        linear_cross_entropy_forward(x, W, targets, **how)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert chunk / 2 < peak < 4 * chunk + 4 * W.nbytes + 4 * x.nbytes < N * V * 4 / 4


def test_what_does_not_fit(drawn, rng):
    logits, theirs = drawn
    with pytest.raises(ValueError, match=r"soft_cross_entropy: teacher_logits has shape \(2, 5, 6\), expected"):
        soft_cross_entropy_forward(logits, theirs[..., 1:], TARGETS, weight=0.5)
    x, W = rng.standard_normal((5, 4)), rng.standard_normal((4, V))
    with pytest.raises(ValueError, match=r"linear_cross_entropy: teachers\[0\].W has shape \(4, 6\), expected"):
        linear_cross_entropy_forward(x, W, TARGETS, teachers=[Teacher(x, W[:, 1:])], teacher_weight=0.5)
    with pytest.raises(ArgumentError, match="r_drop and teachers are given, expected one of the two"):
        linear_cross_entropy_forward(x, W, TARGETS, r_drop=1.0, teachers=[Teacher(x, W)], teacher_weight=0.5)
