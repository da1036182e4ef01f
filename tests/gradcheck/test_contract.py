"""Every promise is broken once, and the sentence names it."""

import re

import numpy as np
import pytest

from scratchnmt.gradcheck import GradcheckError, assert_contract, check_contract

RNG = np.random.default_rng(1)
ARGS = {"x": RNG.standard_normal((3, 4)), "w": RNG.standard_normal((3, 4))}


def forward(x, w):
    return x * w, {"x": x, "w": w.copy(), "calls": np.zeros(1)}


def backward(dy, cache):
    return {"dx": dy * cache["w"], "dw": dy * cache["x"]}


def writes_argument(x, w):
    x += 1
    return forward(x, w)


def random_forward(x, w):
    return forward(x * np.random.random(), w)


def infinite_forward(x, w):
    return x * w * np.inf, {"x": x, "w": w, "calls": np.zeros(1)}


def writes_cache(dy, cache):
    cache["w"] *= 2
    return {"dx": dy * 1, "dw": dy * 2}


def writes_dy(dy, cache):
    dy *= 2
    return backward(dy, cache)


def passes_dy_on(dy, cache):
    return {"dx": dy, "dw": dy * cache["x"]}


def passes_cache_on(dy, cache):
    return {"dx": cache["x"], "dw": dy * cache["x"]}


def shares_gradients(dy, cache):
    dx = dy * cache["w"]
    return {"dx": dx, "dw": dx[::-1]}


class Counts:
    def __init__(self):
        self.calls = 0

    def __call__(self, dy, cache):
        self.calls += 1
        return {"dx": dy * cache["w"], "dw": dy * self.calls}


def single(dy, cache):
    return {"dx": (dy * cache["w"]).astype("float32"), "dw": dy * cache["x"]}


def has_nan(dy, cache):
    return {"dx": np.where(cache["x"] == cache["x"][0, 0], np.nan, dy), "dw": dy * cache["x"]}


def affine(dy, cache):
    return {"dx": dy * cache["w"] + 1, "dw": dy * cache["x"]}


def squared(dy, cache):
    return {"dx": dy * dy, "dw": dy * cache["x"]}


def reads_the_buffer(x, w):
    base = x if x.base is None else x.base
    return x * w, {"x": x, "w": w, "calls": base.reshape(-1)[: x.size].reshape(x.shape).copy()}


def uses_the_buffer(dy, cache):
    return {"dx": dy * cache["w"], "dw": dy * cache["calls"]}


def needs_c_order(x, w):
    return x * w, {"x": x, "w": w, "calls": x.ravel("K").reshape(x.shape)}


@pytest.mark.parametrize("forward, backward, sentence", [
    (writes_argument, backward, "forward writes into its argument x"),
    (random_forward, backward, "forward is random"),
    (infinite_forward, backward, r"output y holds a value that is not finite at \(0, 0\)"),
    (forward, writes_cache, "backward writes into cache: w"),
    (forward, writes_dy, "backward writes into dys: 0"),
    (forward, passes_dy_on, "dx shares memory with dy 0: return a .copy()"),
    (forward, passes_cache_on, "dx shares memory with cache x: return a .copy()"),
    (forward, shares_gradients, "dx shares memory with dw: return a .copy()"),
    (forward, Counts(), "backward twice on one cache: dw differs"),
    (forward, single, "dx has dtype float32, but x has float64"),
    (forward, has_nan, r"dx holds a value that is not finite at \(0, 0\)"),
    (forward, affine, "backward of zeros: dx is not zero"),
    (forward, squared, "backward is not linear in dys: dx"),
    (reads_the_buffer, uses_the_buffer, "dw changes when arguments and dys are not contiguous"),
    (needs_c_order, uses_the_buffer, "dw changes when arguments and dys are in Fortran order"),
])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_broken_promise_has_its_sentence(forward, backward, sentence):
    args = {name: value.copy() for name, value in ARGS.items()}
    report = check_contract(forward, backward, args)
    assert any(re.match(sentence, p) for p in report.broken_promises), report
    with pytest.raises(GradcheckError, match=sentence):
        assert_contract(forward, backward, args)


@pytest.mark.parametrize("shape", [(3, 4), (1, 1), (1,), ()])
def test_a_kept_contract(shape):
    assert assert_contract(forward, backward, {"x": RNG.standard_normal(shape), "w": np.full(shape, 2.0)}).ok


def test_a_generator_argument_is_randomness_under_control():
    def drop_forward(x, rng):
        mask = rng.random(x.shape) > 0.5
        return x * mask, mask

    args = {"x": ARGS["x"], "rng": np.random.default_rng(0)}
    assert assert_contract(drop_forward, lambda dy, mask: {"dx": dy * mask}, args).ok


def test_a_long_sum_in_float32_is_linear():
    def forward(x):
        return np.cumsum(x * x), x

    def backward(dy, x):
        return {"dx": 2 * x * np.cumsum(dy[::-1])[::-1]}

    x = np.random.default_rng(0).standard_normal(30_000).astype("float32")
    assert_contract(forward, backward, {"x": x})
    crooked = check_contract(forward, lambda dy, x: {"dx": backward(dy * (1 + abs(dy)), x)["dx"]}, {"x": x})
    assert crooked.broken_promises == ("backward is not linear in dys: dx",)
