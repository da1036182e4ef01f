"""The optimizers against their textbook formulas, the schedules against their definitions."""

import math
from itertools import pairwise

import numpy as np
import pytest

from scratchnmt import optim
from scratchnmt.errors import InputError
from scratchnmt.parameters import Parameters

SIZE = 3 * optim.PIECE + 17  # several pieces, an odd rest


def weights(size=1000, dtype="float64", seed=0):
    return Parameters({"w": (size,)}, flat=np.random.default_rng(seed).standard_normal(size).astype(dtype))


def gradients(params, seed):
    return params.like(np.random.default_rng([7, seed]).standard_normal(params.flat.size).astype(params.flat.dtype))


def run(make, steps=7, **kwargs):
    params = weights(**kwargs)
    optimizer = make(params)
    for step in range(steps):
        optimizer.step(gradients(params, step))
    return params, optimizer


def textbook_adam(params, steps, rate, b1=0.9, b2=0.999, eps=1e-8):
    w, m, v = params.flat.copy(), 0.0, 0.0
    for t in range(1, steps + 1):
        g = gradients(params, t - 1).flat
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        w = w - rate * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return w


@pytest.mark.parametrize("betas, eps", [((0.9, 0.999), 1e-8), ((0.5, 0.8), 0.3), ((0.0, 0.99), 1e-2)])
def test_adam_is_the_textbook_formula(betas, eps):
    params, _ = run(lambda p: optim.Adam(p, 1e-2, betas, eps))
    np.testing.assert_allclose(params.flat, textbook_adam(weights(), 7, 1e-2, *betas, eps), rtol=1e-13, atol=1e-15)


def test_adam_equals_torch():
    torch = pytest.importorskip("torch")
    w = torch.tensor(weights().flat, requires_grad=True)
    peer = torch.optim.Adam([w], 1e-2)
    for step in range(7):
        w.grad = torch.tensor(gradients(weights(), step).flat)
        peer.step()
    params, _ = run(lambda p: optim.Adam(p, 1e-2))
    np.testing.assert_allclose(params.flat, w.detach().numpy(), rtol=1e-13, atol=1e-15)


def test_adam_in_float32_stays_near_float64_and_keeps_its_type():
    params, optimizer = run(lambda p: optim.Adam(p, 1e-2), dtype="float32", size=SIZE)
    assert params.flat.dtype == optimizer.m.dtype == optimizer.v.dtype == np.float32
    np.testing.assert_allclose(params.flat, run(lambda p: optim.Adam(p, 1e-2), size=SIZE)[0].flat, atol=2e-6)


def test_adam_leaves_weights_alone_that_never_had_a_gradient():
    params = weights()
    before = params.flat.copy()
    optim.Adam(params).step(params.like())
    assert np.array_equal(params.flat, before)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_the_textbook_formula(momentum):
    params, _ = run(lambda p: optim.SGD(p, 0.1, momentum))
    w, velocity = weights().flat.copy(), 0.0
    for step in range(7):
        velocity = momentum * velocity + gradients(params, step).flat
        w -= 0.1 * velocity
    np.testing.assert_allclose(params.flat, w, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("make", [lambda p: optim.Adam(p, 1e-2), lambda p: optim.SGD(p, 0.1),
                                  lambda p: optim.SGD(p, 0.1, 0.9)])
def test_scale_is_a_gradient_scaled_before_and_the_gradient_is_unchanged(make):
    one, two = weights(), weights()
    a, b = make(one), make(two)
    for step in range(3):
        grads = gradients(one, step)
        a.step(grads, scale=0.25)  # a power of two: scaling is exact
        assert np.array_equal(grads.flat, gradients(one, step).flat)
        b.step(one.like(grads.flat * 0.25))
    assert np.array_equal(one.flat, two.flat)


@pytest.mark.parametrize("make", [lambda p: optim.Adam(p, 1e-2), lambda p: optim.SGD(p, 0.1, 0.9)])
def test_any_number_of_threads_and_pieces_gives_the_same_bits(make, monkeypatch):
    usual, _ = run(make, steps=2, size=SIZE, dtype="float32")
    norm = optim.global_norm(gradients(usual, 0))
    monkeypatch.setattr(optim, "for_ranges", lambda task, size, grain: task(0, size))
    assert np.array_equal(run(make, steps=2, size=SIZE, dtype="float32")[0].flat, usual.flat)
    assert optim.global_norm(gradients(usual, 0)) == norm
    monkeypatch.setattr(optim, "PIECE", 4096)
    assert np.array_equal(run(make, steps=2, size=SIZE, dtype="float32")[0].flat, usual.flat)


@pytest.mark.parametrize("make", [lambda p: optim.Adam(p, 1e-2), lambda p: optim.SGD(p, 0.1, 0.9),
                                  lambda p: optim.RMSprop(p, 0.1)])
@pytest.mark.parametrize("size", [5, SIZE])
def test_several_who_each_do_a_part_give_the_same_bits(make, size):
    whole, _ = run(make, steps=2, size=size, dtype="float32")
    shared, bounds = weights(size, "float32"), [0, *range(2 * optim.ROW, size, 20 * optim.ROW), size]
    parts = [slice(*pair) for pair in pairwise(bounds)]
    optimizers, untouched = [make(shared) for _ in parts], shared.copy()
    for step in range(2):
        for optimizer, part in zip(optimizers, parts, strict=True):
            optimizer.step(gradients(shared, step), part=part)
            if part != parts[-1]:
                assert np.array_equal(shared.flat[-1:], untouched.flat[-1:])
        untouched = shared.copy()
    assert np.array_equal(shared.flat, whole.flat)

    sums = []
    for part in parts:
        optim.norm_by_parts(whole, part, lambda vector: sums.append(vector.copy()))
    for part in parts:
        found = optim.norm_by_parts(whole, part, lambda vector: np.copyto(vector, sum(sums)))
        assert found == optim.global_norm(whole)


@pytest.mark.parametrize("make", [lambda p: optim.Adam(p, 1e-2), lambda p: optim.SGD(p, 0.1, 0.9),
                                  lambda p: optim.SGD(p, 0.1)])
def test_state_carries_everything(make):
    params, optimizer = run(make, steps=3)
    copy = params.copy()
    other = make(copy)
    other.load_state({k: v.copy() if hasattr(v, "copy") else v for k, v in optimizer.state().items()})
    for each in (optimizer, other):
        each.step(gradients(params, 3))
    assert np.array_equal(params.flat, copy.flat)


def test_a_state_that_does_not_fit_is_refused():
    _, adam = run(lambda p: optim.Adam(p), steps=1)
    with pytest.raises(InputError, match="velocity"):
        optim.SGD(weights(), 0.1, 0.9).load_state(adam.state())
    with pytest.raises(InputError, match=r"\(1000,\).*\(999,\)"):
        optim.Adam(weights(999)).load_state(adam.state())


@pytest.mark.parametrize("size", [1, 1000, SIZE])
@pytest.mark.parametrize("dtype, rtol", [("float64", 1e-13), ("float32", 1e-6)])
def test_global_norm(size, dtype, rtol):
    grads = weights(size, dtype)
    assert optim.global_norm(grads) == pytest.approx(math.sqrt(math.fsum(grads.flat.astype(float) ** 2)), rel=rtol)


def test_clipping_scales_only_what_is_too_long():
    grads = weights()
    before = grads.flat.copy()
    norm = optim.clip_global_norm(grads, 1e3)
    assert np.array_equal(grads.flat, before)
    assert optim.clip_global_norm(grads, 5.0) == norm
    assert optim.global_norm(grads) == pytest.approx(5.0, rel=1e-6)
    np.testing.assert_allclose(grads.flat, before * (5.0 / norm), rtol=1e-6)


def test_average_forgets_the_initial_weights_then_follows_slowly():
    params = weights()
    average = optim.Average(params, decay=0.9)
    expected = params.flat.copy()
    for n in range(200):
        params.flat[...] = np.random.default_rng(n).standard_normal(1000)
        average.update()
        keep = min(0.9, (1 + n) / (10 + n))
        expected = keep * expected + (1 - keep) * params.flat
    np.testing.assert_allclose(average.flat, expected, rtol=1e-12, atol=1e-14)


def test_schedules():
    assert [optim.constant()(s) for s in (0, 1, 10**6)] == [1, 1, 1]
    assert [optim.constant(warmup=4)(s) for s in range(6)] == [0.2, 0.4, 0.6, 0.8, 1, 1]
    assert [optim.luong(start=5, every=2)(s) for s in range(10)] == [1] * 5 + [0.5] * 2 + [0.25] * 2 + [0.125]
    assert [optim.linear(10)(s) for s in (0, 5, 10, 99)] == [1, 0.5, 0, 0]
    assert [optim.cosine(10)(s) for s in (0, 5, 10, 99)] == pytest.approx([1, 0.5, 0, 0])
    assert optim.linear(12, warmup=2)(2) == 1 and optim.linear(12, warmup=2)(7) == 0.5


@pytest.mark.parametrize("make, name", [(lambda p: optim.Adam(p, -1), "learning_rate"),
                                        (lambda p: optim.Adam(p, float("nan")), "learning_rate"),
                                        (lambda p: optim.Adam(p, betas=(1.0, 0.9)), r"betas\[0\]"),
                                        (lambda p: optim.SGD(p, 0.1, 1.5), "momentum"),
                                        (lambda p: optim.Average(p, 1.0), "average")])
def test_numbers_out_of_range_are_named(make, name):
    with pytest.raises(InputError, match=name):
        make(weights())
