import numpy as np
import pytest

from scratchnmt.errors import InputError
from scratchnmt.models.initialization import INITIALIZERS
from scratchnmt.models.nmt import NMT


def weights(init="uniform", seed=0, dtype="float64", **choices):
    return NMT(40, 50, 24, 16, init=init, seed=seed, dtype=dtype, layers=2, **choices).params


@pytest.mark.parametrize("init", INITIALIZERS)
def test_the_seed_alone_decides(init):
    first = weights(init)
    np.testing.assert_array_equal(weights(init).flat, first.flat)
    np.testing.assert_array_equal(weights(init, dtype="float32").flat, first.flat.astype("float32"))
    other = weights(init, seed=1)
    drawn = [name for name in first if init == "uniform" or not name.endswith(".b")]
    assert all((other[name] != first[name]).any() for name in drawn)


def test_uniform_is_cs224n():
    params = weights()
    assert np.abs(params.flat).max() < 0.1 < 1.001 * np.abs(params.flat).max()
    for name, array in params.items():
        assert abs(array.std() - 0.1 / 3**0.5) < 0.02, name


@pytest.mark.parametrize("init", ["glorot", "orthogonal"])
def test_biases_are_zero_but_one_for_the_forget_gate(init):
    params = weights(init)
    for name in ("encoder.b", "decoder.b", "encoder.1.b", "decoder.1.b"):
        gates = params[name].reshape(-1, 4, 16)
        assert (gates[:, 1] == 1).all() and not gates[:, [0, 2, 3]].any()


@pytest.mark.parametrize("init", ["uniform", "glorot"])
def test_gains_are_one(init):
    params = weights(init, cell="layer-norm-lstm")
    gains = [name for name in params if name.endswith(".g")]
    assert gains == ["encoder.g", "decoder.g", "encoder.1.g", "decoder.1.g"]
    assert all((params[name] == 1).all() for name in gains)
    if init == "glorot":
        bias = params["decoder.b"].reshape(5, -1)
        assert (bias[1] == 1).all() and not bias[[0, 2, 3, 4]].any()


def test_glorot_counts_each_gate_as_a_matrix_of_its_own():
    params = weights("glorot", score="concat")
    fans = {"encoder.Wx": 24 + 16, "decoder.Wh": 32 + 16, "decoder.1.Wx": 16 + 16, "init.Wh": 32 + 16,
            "attention.W": 48 + 16, "attention.v": 16 + 1, "vocab.W": 16 + 50, "embed.src": 40 + 24}
    for name, both in fans.items():
        limit, largest = np.sqrt(6 / both), np.abs(params[name]).max()
        assert 0.8 * limit < largest < limit, name


def test_orthogonal_recurrent_matrices_gate_by_gate():
    params, glorot = weights("orthogonal"), weights("glorot")
    for name in ("encoder.Wh", "encoder.1.Wh", "decoder.Wh", "decoder.1.Wh"):
        for block in params[name].reshape(-1, *params[name].shape[-2:]):
            for gate in range(4):
                q = block[:16, 16 * gate : 16 * (gate + 1)]
                np.testing.assert_allclose(q.T @ q, np.eye(16), rtol=0, atol=1e-14)
    limit = np.sqrt(6 / (32 + 16))
    assert 0.8 * limit < np.abs(params["decoder.Wh"][16:]).max() < limit  # the rows of what is fed back
    assert params["embed.src"].std() == pytest.approx(glorot["embed.src"].std(), rel=0.05)


def test_an_unknown_way():
    with pytest.raises(InputError, match="init is 'zeros', expected one of uniform, glorot, orthogonal"):
        weights("zeros")
