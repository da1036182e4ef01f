"""The fused norm, Adam and SGD against the plain ones, step after step, with clipping decided by the kernel."""

from math import inf

import numpy as np
import pytest

from scratchnmt import optim as plain
from scratchnmt.kernels.optim import BLOCKS, SGD, THREADS, Adam, global_norm, over_vector
from scratchnmt.parameters import Parameters

SIZES = [1, 7, 257, 5000]
by_size = pytest.mark.parametrize("size", SIZES)
by_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def parameters(values, dtype, xp=np):
    return Parameters({"w": values.shape}, flat=xp.asarray(values.astype(dtype)))


def draw(rng, size, dtype, xp=np):
    return parameters(rng.standard_normal(size), dtype, xp)


@by_size
@by_dtype
def test_norm(size, dtype, on_cpu, rng):
    grads = draw(rng, size, dtype)
    norm = global_norm(grads)
    assert norm.shape == (1,) and norm.dtype == np.float64
    expected = float(np.linalg.norm(grads.flat.astype(float)))
    assert float(norm[0]) == pytest.approx(expected, rel=4 * float(np.finfo(dtype).eps))
    on_cpu.backwards = True
    assert global_norm(grads) == norm


def test_norm_of_more_than_all_threads_at_once(on_cpu, rng, monkeypatch):
    monkeypatch.setattr("scratchnmt.kernels.optim.BLOCKS", 3)
    grads = draw(rng, 3000, "float64")
    assert float(global_norm(grads)[0]) == pytest.approx(float(np.linalg.norm(grads.flat)), rel=1e-14)


KINDS = {"adam": (Adam, plain.Adam, {"learning_rate": 0.1, "betas": (0.8, 0.95), "eps": 1e-4}),
         "adam, eps_hat": (Adam, plain.Adam, {"learning_rate": 0.1, "betas": (0.8, 0.95), "eps": 0.3, "eps_hat": True}),
         "sgd": (SGD, plain.SGD, {"learning_rate": 0.1}),
         "sgd, momentum": (SGD, plain.SGD, {"learning_rate": 0.1, "momentum": 0.7})}
by_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@by_size
@by_dtype
@by_kind
def test_step_after_step(size, dtype, kind, on_cpu, rng):
    weights = rng.standard_normal(size)
    params, expected = parameters(weights, dtype), parameters(weights, dtype)
    fused, reference = (make(p, **kind[2]) for make, p in zip(kind[:2], (params, expected), strict=True))
    for scale in 1.0, 0.5, 2.0:
        grads = draw(rng, size, dtype)
        kept = grads.flat.copy()
        for optimizer in fused, reference:
            optimizer.step(grads, scale=scale)
            optimizer.learning_rate *= 0.9
        np.testing.assert_array_equal(grads.flat, kept)
    eps = np.finfo(dtype).eps
    state, wanted = fused.state(), reference.state()
    assert fused.step_count == 3 and set(state) == set(wanted)
    for found, plain_one in [(params.flat, expected.flat), *((state[name], wanted[name]) for name in state)]:
        np.testing.assert_allclose(found, plain_one, rtol=16 * eps, atol=16 * eps)


@pytest.mark.parametrize("max_norm, scale", [(0.5, 1.0), (0.5, 0.1), (1e9, 0.25), (inf, 1.0)])
@by_kind
def test_clipping_without_the_host(max_norm, scale, kind, on_cpu, rng):
    weights, grads = rng.standard_normal(300), draw(rng, 300, "float64")
    params, expected = parameters(weights, "float64"), parameters(weights, "float64")
    fused, reference = (make(p, **kind[2]) for make, p in zip(kind[:2], (params, expected), strict=True))
    fused.update(grads, fused.advance(scale), global_norm(grads), max_norm)
    reference.step(grads, scale=scale * plain.clip_factor(plain.global_norm(grads) * scale, max_norm))
    np.testing.assert_allclose(params.flat, expected.flat, rtol=1e-13)
    for name, wanted in reference.state().items():
        np.testing.assert_allclose(fused.state()[name], wanted, rtol=1e-13)


@pytest.mark.parametrize("norm", [np.nan, inf])
@by_kind
def test_a_norm_that_is_not_finite_moves_nothing(norm, kind, on_cpu, rng):
    params, grads = draw(rng, 300, "float64"), draw(rng, 300, "float64")
    fused = kind[0](params, **kind[2])
    fused.update(grads, fused.advance(), global_norm(grads))
    before = [array.copy() for array in (params.flat, *(v for v in fused.state().values() if hasattr(v, "shape")))]
    fused.update(grads, fused.advance(), np.array([norm]), 5.0)
    after = [params.flat, *(v for v in fused.state().values() if hasattr(v, "shape"))]
    for found, expected in zip(after, before, strict=True):
        np.testing.assert_array_equal(found, expected)
    fused.update(grads, fused.advance(), global_norm(grads))
    assert (params.flat != before[0]).all() and fused.step_count == 3


def test_state_moves_between_the_two(on_cpu, rng):
    first, second = plain.Adam(draw(rng, 20, "float64")), Adam(draw(rng, 20, "float64"))
    first.step(draw(rng, 20, "float64"))
    second.load_state(first.state())
    assert second.step_count == 1 and (second.m == first.m).all()


def test_a_gradient_that_does_not_fit(on_cpu, rng):
    with pytest.raises(ValueError, match=r"adam: the gradient is float32 \(4,\) .*, expected float64 \(3,\)"):
        Adam(draw(rng, 3, "float64")).step(draw(rng, 4, "float32"))


def test_a_fixed_number_of_blocks_at_most():
    assert over_vector(1).grid == (1, 1, 1) and over_vector(THREADS + 1).grid == (2, 1, 1)
    assert over_vector(10**9).grid == (BLOCKS, 1, 1)


@pytest.mark.gpu
@by_size
@by_dtype
def test_on_a_gpu(size, dtype, cupy, rng):
    weights, grads = rng.standard_normal(size), rng.standard_normal(size)
    params, expected = parameters(weights, dtype, cupy), parameters(weights, dtype)
    fused, reference, g = Adam(params), plain.Adam(expected), parameters(grads, dtype, cupy)
    norm = global_norm(g)
    assert (global_norm(g) == norm).all()
    fused.update(g, cupy.asarray(fused.advance()), norm, max_norm=0.5)
    plain_grads = parameters(grads, dtype)
    plain.clip_global_norm(plain_grads, 0.5)
    reference.step(plain_grads)
    np.testing.assert_allclose(params.flat.get(), expected.flat, rtol=64 * np.finfo(dtype).eps)
