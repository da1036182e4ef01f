"""The gradient of a table: against the plain op, the same bits whatever the order, added to what is there."""

import numpy as np
import pytest

from scratchnmt.kernels.embedding import by_segment, embedding_backward, embedding_forward, sorted_tokens
from scratchnmt.kernels.launch import LaunchConfig
from scratchnmt.ops import embedding as plain

PLAIN = plain.embedding_forward, plain.embedding_backward
FUSED = embedding_forward, embedding_backward
SIZES = [((1,), 1, 1), ((4, 3), 7, 5), ((50,), 3, 33), ((300,), 20, 70), ((9, 2), 40, 4)]  # ids, V, E
by_size = pytest.mark.parametrize("shape, V, E", SIZES)


def arguments(rng, shape, V, E, dtype="float64"):
    return {"ids": rng.integers(0, V, shape), "W": rng.standard_normal((V, E)).astype(dtype)}


@by_size
def test_gradients_by_complex_step(shape, V, E, on_cpu, rng, gradcheck):
    gradcheck.assert_gradients(*FUSED, arguments(rng, shape, V, E), max_elements=40)
    assert {*on_cpu.launched} == {"embedding_backward"}


@by_size
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_is_the_plain_op(shape, V, E, dtype, on_cpu, rng, gradcheck):
    gradcheck.assert_variant(PLAIN, FUSED, arguments(rng, shape, V, E, dtype))


@pytest.mark.parametrize("ids_dtype", ["int32", "int64"])
def test_the_same_bits_in_any_order_of_threads_and_blocks(ids_dtype, on_cpu, rng):
    ids = rng.integers(0, 5, 200).astype(ids_dtype)
    dy = rng.standard_normal((200, 40)).astype("float32")
    cache = plain.EmbeddingCache(ids, (6, 40))
    forwards = embedding_backward(dy, cache).dW
    on_cpu.backwards = True
    np.testing.assert_array_equal(embedding_backward(dy, cache).dW, forwards)
    assert not forwards[5].any()


def test_the_gradient_is_added_to_one_that_is_there(on_cpu, rng):
    ids, dy, before = np.array([3, 1, 3]), rng.standard_normal((3, 4)), rng.standard_normal((5, 4))
    cache = plain.EmbeddingCache(ids, (5, 4))
    dW = before.copy()
    assert embedding_backward(dy, cache, dW=dW).dW is dW
    np.testing.assert_allclose(dW, before + plain.embedding_backward(dy, cache).dW, rtol=1e-14)
    again = embedding_backward(dy, cache._replace(tokens=sorted_tokens(ids)), dW=before.copy()).dW
    np.testing.assert_array_equal(again, dW)
    left_out = cache._replace(tokens=(np.array([1, 0, 2]), np.array([-1, 3, 3])))
    expected = plain.embedding_backward(dy[[0, 2]], plain.EmbeddingCache(ids[[0, 2]], (5, 4))).dW
    np.testing.assert_allclose(embedding_backward(dy, left_out).dW, expected, rtol=1e-14)
    with pytest.raises(ValueError, match=r"embedding: dW is float64 \(4, 5\) .*, expected float64 \(5, 4\)"):
        embedding_backward(dy, cache, dW=np.zeros((4, 5)))


def test_no_tokens_launch_nothing(on_cpu):
    cache = plain.EmbeddingCache(np.zeros((0, 2), int), (3, 4))
    assert not embedding_backward(np.zeros((0, 2, 4)), cache).dW.any() and not on_cpu.launched


def test_what_does_not_fit(on_cpu):
    with pytest.raises(IndexError, match="embedding: ids run from 0 to 3"):
        embedding_forward(np.arange(4), np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"embedding: ids has shape \(4,\), expected \(N\) = \(5\)"):
        embedding_backward(np.zeros((5, 2)), plain.EmbeddingCache(np.arange(4), (6, 2)))


def test_as_many_blocks_as_tokens_and_32_columns():
    assert by_segment(10, 33) == LaunchConfig((10, 2, 1), (32, 8)) and by_segment(0, 5).grid[0] == 0


@pytest.mark.gpu
@by_size
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_on_a_gpu(shape, V, E, dtype, cupy, rng, gradcheck):
    args = {name: cupy.asarray(value) for name, value in arguments(rng, shape, V, E, dtype).items()}
    assert gradcheck.assert_variant(PLAIN, FUSED, args).device == "cuda"
    dy = cupy.asarray(rng.standard_normal((*shape, E)).astype(dtype))
    first, second = (embedding_backward(dy, FUSED[0](**args)[1]).dW for _ in range(2))
    assert (first == second).all()
