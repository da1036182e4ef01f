"""What is given to a check: arguments, dys, gradients; each thing that does not fit has its own sentence."""

import numpy as np
import pytest
from layer import ARGS, layer_backward, layer_forward

from scratchnmt.gradcheck import assert_gradients, check_contract, check_gradients, check_variant


@pytest.mark.parametrize("change, sentence", [
    (dict(args={**ARGS, "b": np.full(5, np.inf)}), r"argument b holds a value that is not finite at \(0,\)"),
    (dict(args={**ARGS, "x": np.zeros((0, 4))}), r"argument x is empty, shape \(0, 4\)"),
    (dict(args={**ARGS, "b": 1}, wrt="b"), "argument b is an int: only arrays of floats"),
    (dict(args={**ARGS, "b": float("nan")}, wrt="b"), "argument b holds a value that is not finite"),
    (dict(args={"x": np.arange(3)}), "no argument is an array of floats: x"),
    (dict(wrt=["V"]), "wrt names 'V', which is no argument: x, W, b"),
    (dict(method="exact"), "method 'exact' is not known"),
    (dict(labels={"W": ["one"]}, max_elements=3), "labels of W: 1 of them"),
    (dict(backward=lambda dy, cache: {"dV": dy}), "'dV', which matches no argument"),
    (dict(backward=lambda dy, cache: {"dx": dy}), "no gradient for W, b: only x"),
    (dict(backward=lambda dy, cache: dy), "one array for 3 arguments"),
    (dict(backward=lambda dy, cache: (dy, dy, dy, dy)), "returns a tuple of 4 for 3 arguments: x, W, b"),
    (dict(forward=lambda x, W, b: x), r"forward must return \(y, cache\), got an array of float64"),
    (dict(forward=lambda x, W, b: (np.arange(3), 0)), "forward has no output of floats"),
    (dict(forward=lambda x, W, b: ({"y": x}, 0)), "y is a dict: return a tuple, or a NamedTuple, of outputs"),
    (dict(rtol=-1), "rtol is -1, expected a number above 0"),
    (dict(rtol=0), "rtol is 0, expected a number above 0"),
    (dict(rtol=float("nan")), "rtol is nan, expected a number above 0"),
    (dict(seed=-1), "seed is -1, expected a whole number from 0 on"),
    (dict(seed=0.5), "seed is 0.5, expected a whole number from 0 on"),
    (dict(args={**ARGS, "b": np.full(5, 1j)}), "argument b is an array of complex128: the check is for real"),
    (dict(wrt=[]), "wrt is empty: choose from x, W, b"),
    (dict(wrt=["W"], args={**ARGS, "W": np.arange(20).reshape(4, 5)}), "argument W is an array of int64: only"),
    (dict(labels={"V": ["one"]}), "labels name 'V', which is no argument: x, W, b"),
    (dict(max_elements=0), "max_elements is 0, expected at least 1"),
    (dict(backward=lambda dy, cache: {"dx": dy, "dW": None, "db": dy}, wrt="W"), "no gradient for W"),
    (dict(backward=lambda dy, cache: {"dx": dy, "dW": "dy", "db": dy}), "returns a str as the gradient of W"),
    (dict(backward=lambda dy, cache: None), "must return a NamedTuple, a dict, a tuple or an array, got None"),
    (dict(backward=lambda dy, cache: [dy, "dy", dy]), "returns a str as the gradient of W"),
    (dict(backward=lambda dy, cache: dict.fromkeys(("dx", "dW", "db", "dc"), dy)), "'dc', which matches no arg"),
    (dict(backward=lambda dy, cache: dict.fromkeys(("x", "dx", "dW", "db"), dy)), "both 'x' and 'dx' for the"),
    (dict(dys=[np.ones((3, 5))] * 2), "2 dys were given, but the forward pass has 1 output"),
    (dict(dys=[]), "0 dys were given"),
    (dict(dys=np.full((3, 5), np.nan)), r"dys\[0\] holds a value that is not finite at \(0, 0\)"),
])
def test_what_does_not_fit_has_its_own_sentence(change, sentence):
    given = {"forward": layer_forward, "backward": layer_backward, "args": ARGS, **change}
    with pytest.raises(ValueError, match=sentence):
        check_gradients(**given)


def test_arguments_by_position_have_the_names_of_the_functions_own():
    report = check_gradients(layer_forward, lambda dy, cache: tuple(layer_backward(dy, cache)), list(ARGS.values()))
    assert report.ok and [t.name for t in report.tensors] == ["dx", "dW", "db"]


@pytest.mark.parametrize("check", [check_gradients, check_contract])
@pytest.mark.parametrize("change, sentence", [
    (dict(forward=3), "forward is an int: expected a function"),
    (dict(backward=None), "backward is None: expected a function"),
])
def test_what_is_no_function(check, change, sentence):
    with pytest.raises(TypeError, match=sentence):
        check(**{"forward": layer_forward, "backward": layer_backward, "args": ARGS, **change})


@pytest.mark.parametrize("dys, sentence", [
    (np.ones((5, 3)), r"dys have shapes \[\(5, 3\)\], the outputs \[\(3, 5\)\]"),
    ([np.ones((3, 5))] * 2, "2 dys were given"),
])
def test_dys_are_looked_over_by_every_check(dys, sentence):
    pair = (layer_forward, layer_backward)
    for check in (lambda: check_gradients(*pair, ARGS, dys=dys), lambda: check_contract(*pair, ARGS, dys=dys),
                  lambda: check_variant(pair, pair, ARGS, dys=dys)):
        with pytest.raises(ValueError, match=sentence):
            check()


@pytest.mark.parametrize("keys", [("dt", "ddt"), ("ddt", "dt"), ("t", "dt"), ("dt", "t")])
def test_an_argument_whose_name_is_d_and_anothers(keys, rng):
    """By 'd' + argument, dt is the gradient of t; by the argument itself, that of dt."""
    def forward(t, dt):
        return t * t * dt, (t, dt)

    def backward(dy, cache):
        t, dt = cache
        by_argument = {"t": 2 * t * dt * dy, "dt": t * t * dy}
        return {key: by_argument[key if "t" in keys else key[1:]] for key in keys}

    report = assert_gradients(forward, backward, {"t": rng.standard_normal(3), "dt": rng.standard_normal(3)})
    assert [tensor.name for tensor in report.tensors] == ["dt", "ddt"]
