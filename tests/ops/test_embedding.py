import numpy as np
import pytest

from scratchnmt.ops.embedding import embedding_backward, embedding_forward

IDS = np.array([[2, 0, 2], [5, 2, 0]])


def table(dtype="float64"):
    return np.random.default_rng(0).standard_normal((7, 4)).astype(dtype)


@pytest.mark.parametrize("id_type", ["int32", "int64"])
def test_repeated_tokens_sum_their_gradients(id_type, rng):
    y, cache = embedding_forward(IDS.astype(id_type), table())
    np.testing.assert_array_equal(y[1, 0], table()[5])
    dy = rng.standard_normal(y.shape)
    dW = embedding_backward(dy, cache).dW
    np.testing.assert_allclose(dW[2], dy[0, 0] + dy[0, 2] + dy[1, 1], rtol=1e-14)
    np.testing.assert_allclose(dW[0], dy[0, 1] + dy[1, 2], rtol=1e-14)
    np.testing.assert_array_equal(dW[5], dy[1, 0])
    assert not dW[[1, 3, 4, 6]].any()
    before = rng.standard_normal(dW.shape)
    added = before.copy()
    assert embedding_backward(dy, cache, dW=added).dW is added
    np.testing.assert_allclose(added, before + dW, rtol=1e-14)


def test_the_bits_of_a_sum_depend_on_the_uses_of_that_token_alone(rng):
    """The order of the sum is that of the positions, whatever other tokens stand in between."""
    dy, ids = rng.standard_normal((5000, 4), "float32"), rng.integers(0, 7, 5000)
    dW = embedding_backward(dy, embedding_forward(ids, table("float32"))[1]).dW
    for token in range(7):
        uses = ids == token
        alone = embedding_backward(dy[uses], embedding_forward(ids[uses], table("float32"))[1]).dW
        np.testing.assert_array_equal(alone[token], dW[token])
        exact = dy[uses].sum(axis=0, dtype="float64")
        np.testing.assert_allclose(dW[token], exact, rtol=0, atol=64 * np.finfo("float32").eps * 5000**0.5)
    assert dW.dtype == np.float32


@pytest.mark.parametrize("ids", [[3, 7], [-1, 3]])
def test_an_id_outside_the_table(ids):
    message = rf"ids run from {min(ids)} to {max(ids)}, expected 0 to V - 1 = 6, .*W \(7, 4\)"
    with pytest.raises(IndexError, match=message):
        embedding_forward(np.array(ids), table())


def test_no_ids_at_all():
    y, cache = embedding_forward(np.zeros((0, 3), int), table())
    assert y.shape == (0, 3, 4)
    assert not embedding_backward(y, cache).dW.any()
