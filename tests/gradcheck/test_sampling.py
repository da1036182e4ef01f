"""Arrays too large for all of their elements: shares, and what was not drawn."""

import numpy as np
import pytest
from layer import layer_backward, layer_forward

from scratchnmt.gradcheck import assert_gradients, check_gradients, gate_labels
from scratchnmt.gradcheck.compare import sample

METHODS = ("complex", "central", "richardson")


def embedding_forward(W, ids):
    return W[ids] * W[ids], (W, ids)


def embedding_backward(dy, cache):
    W, ids = cache
    dW = np.zeros_like(W)
    np.add.at(dW, ids, 2 * dy * W[ids])
    return {"dW": dW}


@pytest.fixture
def table(rng):
    return {"W": rng.standard_normal((2000, 32)), "ids": np.array([3, 1700, 3, 41])}


def test_every_label_has_its_share_and_what_is_left_over_goes_round():
    picked = sample((90, 2049), 4096, ["a"] * 2049, seed=0)
    counts = np.bincount(picked % 2049, minlength=2049)
    assert picked.size == 4096 == np.unique(picked).size and set(counts.tolist()) == {1, 2}
    assert sample((90, 2049), 100, ["a"] * 2049, seed=0).size == 100
    assert sample((3, 50), 101, gate_labels(10, "abcde"), seed=1).size == 101


@pytest.mark.parametrize("method", METHODS)
def test_a_right_gradient_that_is_zero_almost_everywhere(method, table):
    report = assert_gradients(embedding_forward, embedding_backward, table, method=method, max_elements=200)
    [tensor] = report.tensors
    assert tensor.checked >= 296 and tensor.rms > 0.1 and report.notes == ()  # the 96 of three words, and 200


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("slip", ["all zero", "one word forgotten", "one element"])
def test_what_was_not_drawn_is_seen(method, slip, table):
    def backward(dy, cache):
        dW = embedding_backward(dy, cache)["dW"]
        if slip == "all zero":
            dW[...] = 0
        elif slip == "one word forgotten":
            dW[1700] = 0
        else:
            dW[41, 7] = 0
        return {"dW": dW}

    report = check_gradients(embedding_forward, backward, table, method=method, max_elements=200)
    assert report.wrong == ("dW",)
    row = report.tensors[0].worst[0].index[0]
    assert row in {"all zero": (3, 1700, 41), "one word forgotten": (1700,), "one element": (41,)}[slip]


def test_one_element_of_a_dense_array_that_was_not_drawn_is_found(rng):
    args = {"x": rng.standard_normal((9, 40)), "W": rng.standard_normal((40, 50)), "b": rng.standard_normal(50)}

    def backward(dy, cache):
        found = layer_backward(dy, cache)
        found.dW[17, 23] *= 1 + 1e-6
        return found

    report = check_gradients(layer_forward, backward, args, max_elements=10)
    assert report.wrong == ("dW",) and report.tensors[1].worst[0].index == (17, 23)
    float32 = {name: value.astype("float32") for name, value in args.items()}
    report = assert_gradients(layer_forward, layer_backward, float32, max_elements=10)
    assert [t.checked for t in report.tensors] == [10, 10, 10]


def test_a_nan_that_was_not_drawn_is_found(table):
    def backward(dy, cache):
        found = embedding_backward(dy, cache)
        found["dW"][1999, 31] = np.nan
        return found

    report = check_gradients(embedding_forward, backward, table, max_elements=200, contract=False)
    assert report.tensors[0].worst[0].index == (1999, 31)


@pytest.mark.parametrize("method", METHODS)
def test_an_example_that_tells_nothing_says_so(method, table):
    table["scale"] = np.zeros(32)
    report = assert_gradients(
        lambda W, ids, scale: (embedding_forward(W, ids)[0] * scale, (W, ids, scale)),
        lambda dy, cache: {"dW": embedding_backward(dy * cache[2], cache[:2])["dW"],
                           "dscale": (dy * cache[0][cache[1]] ** 2).sum(axis=0)},
        table, method=method, max_elements=200)
    assert report.notes == ("dW is 0 in every element that was checked: these arguments tell nothing about it",)
