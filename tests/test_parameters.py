import numpy as np
import pytest

from scratchnmt.parameters import Parameters

SHAPES = {"encoder.Wx": (2, 3, 4), "b": (5,), "combine.W": (3, 2)}


def numbered(dtype="float64"):
    return Parameters(SHAPES, flat=np.arange(35, dtype=dtype))


def test_every_array_is_its_part_of_one_vector_in_order():
    params = numbered()
    assert {name: array.shape for name, array in params.items()} == SHAPES == params.shapes
    np.testing.assert_array_equal(np.concatenate([array.ravel() for array in params.values()]), np.arange(35))
    params["b"][1] = -7
    assert params.flat[25] == -7
    params.flat[34] = 99
    assert params["combine.W"][2, 1] == 99


def test_new_ones_are_zero():
    params = Parameters(SHAPES)
    assert params.flat.shape == (35,) and params.flat.dtype == np.float32 and not params.flat.any()
    assert Parameters(SHAPES, "float64").flat.dtype == np.float64


def test_a_vector_of_the_wrong_length():
    with pytest.raises(ValueError, match=r"flat has shape \(34,\), expected \(35,\)"):
        Parameters(SHAPES, flat=np.zeros(34))


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_like_and_copy(dtype):
    params = numbered(dtype)
    zeros, copy = params.like(), params.copy()
    assert zeros.flat.dtype == copy.flat.dtype == dtype and zeros.shapes == copy.shapes == SHAPES
    assert not zeros.flat.any()
    np.testing.assert_array_equal(copy["combine.W"], params["combine.W"])
    copy.flat[...] = zeros.flat[...] = -1
    np.testing.assert_array_equal(params.flat, np.arange(35))
    vector = np.zeros(35)
    assert params.like(vector).flat is vector


def test_a_mapping_whose_arrays_cannot_be_replaced():
    params = numbered()
    assert list(params) == list(SHAPES) and len(params) == 3 and "b" in params and params.get("bias") is None
    with pytest.raises(TypeError):
        params["b"] = np.zeros(5)
    assert repr(params) == "Parameters(35 float64 in 3 arrays)"
