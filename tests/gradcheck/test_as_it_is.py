"""Code as people write it: what stood between a stranger's code and a right verdict, each with its neighbours."""

from dataclasses import dataclass

import numpy as np
import pytest
from trees import CONTAINERS, W, X, mapped, names, weights

from scratchnmt.gradcheck import (
    check_contract,
    check_directional,
    check_hessian_vector,
    check_jvp,
    check_layer,
    gradcheck,
)

# containers


@pytest.mark.parametrize("container", CONTAINERS)
def test_weights_in_a_container_are_checked(container):
    def forward(x, P):
        return sum(x @ w for w in weights(P)), (x, P)

    def backward(dy, cache, factor=1):
        x, P = cache
        return dy @ sum(weights(P)).T, mapped(lambda w: factor * (x.T @ dy), P)

    args = {"x": X, "P": CONTAINERS[container]}
    report = gradcheck(forward, backward, args)
    assert report.ok and len(report.tensors) == 3 and not report.unchecked
    wrong = gradcheck(forward, lambda dy, cache: backward(dy, cache, 1.001), args)
    assert len(wrong.wrong) == 2 and "dx" not in wrong.wrong


def test_what_has_no_gradient_is_refused_unless_wrt_says_so():
    forward, backward = lambda x, P: (x @ P[0], P), lambda dy, P: dy @ P[0].T
    for args in ({"x": X, "P": [W]}, (X, [W])):
        with pytest.raises(ValueError, match=r"no gradient for P\[0\]: only x; .* left out by wrt=\['x'\]"):
            gradcheck(forward, backward, args)
        report = gradcheck(forward, backward, args, wrt=["x"])
        assert report.ok and names(report) == ["dx"] and not report.unchecked
    with pytest.raises(ValueError, match="no gradient for b: only x, W"):
        gradcheck(lambda x, W, b: (x @ W + b, (x, W)), lambda dy, c: {"dx": dy @ c[1].T, "dW": c[0].T @ dy},
                  {"x": X, "W": W, "b": W[0]})
    with pytest.raises(ValueError, match="a tuple of 1 for 2 arguments: x, W; None stands for what has no gradient"):
        gradcheck(lambda x, W: (x @ W, (x, W)), lambda dy, c: (dy @ c[1].T,), (X, W))
    chosen = gradcheck(forward, lambda dy, P: {"dP": [X.T @ dy]}, (X, [W]), wrt="P")
    assert names(chosen) == ["dP[0]"] and chosen.ok


def test_the_verdict_names_what_backward_says_none_for():
    forward = lambda x, t, unused: (x - t, None)
    for backward in (lambda dy, _: (dy, None, None), lambda dy, _: {"dx": 1 * dy, "dt": None, "unused": None}):
        report = gradcheck(forward, backward, {"x": X, "t": 2 * X, "unused": X})
        assert report.ok and report.unchecked == ("t",)
        assert "ok: 1 gradient, exact" not in str(report) and "not checked: t" in str(report).splitlines()[0]
    with pytest.raises(ValueError, match="a gradient for no argument of floats: x, t, unused"):
        gradcheck(forward, lambda dy, _: (None, None, None), (X, X, X))


def test_arrays_inside_of_an_object():
    class Model:
        def __init__(self):
            self.W, self.unused = W, X
    model = Model()
    hidden = gradcheck(lambda x, m: (x @ m.W, m), lambda dy, m: (dy @ m.W.T, None), (X, model))
    assert hidden.ok and hidden.unchecked == ("m.W",)
    for backward in (lambda dy, m: {"dx": dy @ m.W.T}, lambda dy, m: dy @ m.W.T):
        with pytest.raises(ValueError, match=r"depend on m.W, which .* inside of an object.* by wrt=\['x'\]"):
            gradcheck(lambda x, m: (x @ m.W, m), backward, (X, model))
        assert gradcheck(lambda x, m: (x @ m.W, m), backward, (X, model), wrt=["x"]).ok


def test_a_dataclass_is_a_container():
    @dataclass(frozen=True)
    class Model:
        W: np.ndarray
        name: str = "affine"
        b: float = 0.5

    def backward(dy, cache, slip=1):
        x, m = cache
        return dy @ m.W.T, Model(slip * x.T @ dy, "", dy.sum())
    args = X, Model(W)
    report = gradcheck(lambda x, m: (x @ m.W + m.b, (x, m)), backward, args)
    assert report.ok and names(report) == ["dx", "dm.W", "dm.b"]
    wrong = gradcheck(lambda x, m: (x @ m.W + m.b, (x, m)), lambda dy, c: backward(dy, c, 1.001), args)
    assert wrong.wrong == ("dm.W",)


def test_functions_that_need_a_wrapper_are_told_which():
    with pytest.raises(ValueError, match=r"got an array of float64; .* wrapped, lambda x: \(forward\(x\), x\)"):
        gradcheck(lambda x: x * x, lambda dy, x: 2 * dy * x, X)

    class Static:
        forward = backward = staticmethod(lambda ctx, x: x)
    with pytest.raises(TypeError, match="Static is a class: make an object of it"):
        gradcheck(Static, (X,))


@pytest.mark.parametrize("number", [0.7, np.float64(0.7)])
def test_a_number_is_checked_where_it_has_a_gradient(number):
    def forward(x, p):
        assert isinstance(p["s"], (float, complex))
        return p["s"] * x + p["eps"], (x, p)

    def backward(dy, cache, slip=1):
        x, p = cache
        return p["s"] * dy, {"s": slip * (dy * x).sum()}
    report = gradcheck(forward, backward, (X, {"s": number, "eps": 0.1, "momentum": 0.9}))
    assert report.ok and names(report) == ["dx", 'dp["s"]'] and report.unchecked == ('p["eps"]',)
    wrong = gradcheck(forward, lambda dy, c: backward(dy, c, 1.001), (X, {"s": number, "eps": 0.1}))
    assert wrong.wrong == ('dp["s"]',)
    assert check_contract(forward, backward, (X, {"s": number, "eps": 0.1})).ok


@pytest.mark.parametrize("gradients, sentence", [
    ({"x": X, "P": {"c": W}}, "P has nothing that the gradient 'c' belongs to"),
    ({"x": X, "P": W}, "the gradient of P is no dict"),
])
def test_gradients_of_another_structure(gradients, sentence):
    with pytest.raises(ValueError, match=sentence):
        gradcheck(lambda x, P: (x @ P["W"], None), lambda dy, cache: gradients, {"x": X, "P": {"W": W}})


# float32 inside


@pytest.mark.parametrize("round_", [
    lambda y: y.astype(np.float32), lambda y: np.float32(1.1) * y.astype("f4"), lambda y: np.asarray(y, np.float32)],
    ids=["astype", "a number", "asarray"])
@pytest.mark.parametrize("method", ["auto", "richardson", "central"])
@pytest.mark.parametrize("seed", range(3))
def test_a_float32_result_is_held_to_float32(round_, method, seed):
    x = np.random.default_rng(seed).standard_normal((3, 4))
    factor = 1.1 if round_(np.ones(1))[0] > 1.05 else 1.0

    def check(scale):
        return gradcheck(lambda x: (round_(np.tanh(x)), x),
                         lambda dy, x: scale * factor * dy * (1 - np.tanh(x) ** 2), x, method=method)
    report = check(1)
    assert report.ok and report.dtype == "float32" and report.rtol >= 7e-6, report
    assert not check(1.01).ok, "an error of one per cent"


def test_the_line_that_makes_float32_is_named():
    def forward(x):
        y = np.empty(x.shape, np.float32)
        y[...] = np.sin(x)
        return y, x
    report = gradcheck(forward, lambda dy, x: dy * np.cos(x), X)
    line = forward.__code__.co_firstlineno + 1
    assert report.ok and any(f"test_as_it_is.py, line {line}" in note for note in report.notes)


# the guard


@pytest.mark.parametrize("method", ["auto", "richardson"])
def test_a_small_argument_beside_a_large_one(method):
    def forward(x, s):
        return 1e3 * x**2 + 1e-4 * abs(s), (x, s)

    def backward(dy, cache, factor=1.0):
        x, s = cache
        return 2e3 * x * dy, factor * 1e-4 * np.sign(s) * dy
    assert gradcheck(forward, backward, (X, X + 0.1), method=method).ok
    assert gradcheck(forward, lambda dy, c: backward(dy, c, 0.0), (X, X + 0.1), method=method).wrong == ("ds",)


def test_a_small_penalty_that_complex_numbers_lose():
    class Hidden(float):
        """What no trick of ours continues to complex numbers."""

    def penalty(w):
        return sum(Hidden(abs(complex(v).real)) for v in w.ravel())

    def forward(w):
        return (w**2).sum() + 1e-6 * penalty(w), w
    assert gradcheck(forward, lambda dy, w: dy * (2 * w + 1e-6 * np.sign(w)), W).ok
    assert not gradcheck(forward, lambda dy, w: dy * 2 * w, W).ok


# what complex numbers cannot take


def test_each_argument_has_its_own_method():
    def forward(x, w):
        return x * np.vectorize(float)(np.real(w)) ** 2, (x, w)
    report = gradcheck(forward, lambda dy, c: (dy * c[1] ** 2, 2 * dy * c[0] * c[1]), (X, X + 1))
    assert report.ok and [t.method for t in report.tensors] == ["complex", "richardson"]
    assert report.method == "auto" and any(note.startswith("dw by richardson") for note in report.notes)


def test_numpy_is_as_it_was():
    before = np.zeros, np.abs, np.var, np.linalg.norm
    gradcheck(lambda x: (np.zeros(3) + 1 / 0 if x.dtype.kind == "c" else x * 2, None), lambda dy, _: 2 * dy, np.ones(3))
    assert (np.zeros, np.abs, np.var, np.linalg.norm) == before


def test_random_numbers_of_float32_inside():
    """NumPy's generators make arrays for themselves, which must stay real."""
    def forward(x, rng):
        mask = np.zeros(x.shape)
        mask[...] = rng.random(x.shape, dtype="float32") > 0.5
        return x * mask, mask
    args = (X, np.random.default_rng(0))
    assert gradcheck(forward, lambda dy, mask: dy * mask, args).ok
    assert not gradcheck(forward, lambda dy, mask: dy, args).ok


# promises


def test_the_callers_data_stay_as_they_are():
    state = {"m": np.zeros(3), "t": 0, "log": []}

    def forward(x, state):
        state["m"] += x.sum(axis=0)
        state["t"] += 1
        state["log"].append(x)
        return np.sin(x), x
    for contract in (True, False):
        report = gradcheck(forward, lambda dy, x: dy * np.cos(x), (X, state), contract=contract)
        assert report.ok and report.tensors and any('writes into its argument state["m"]' in n for n in report.notes)
    assert state["m"].dtype == float and not state["m"].any() and state["t"] == 0 and not state["log"]
    strict = gradcheck(forward, lambda dy, x: dy * np.cos(x), (X, state), allow=())
    assert not strict.ok and not strict.wrong


def test_writing_into_dy_is_no_other_result_the_second_time():
    def backward(dy, x):
        dy *= 2 * x
        return dy
    report = gradcheck(lambda x: (x * x, x), backward, X)
    assert report.ok and not any("differs" in note for note in report.notes)
    strict = gradcheck(lambda x: (x * x, x), backward, X, allow={"shares memory"})
    assert strict.broken_promises == ("backward writes into dys: 0",)
    with pytest.raises(ValueError, match="allow has 'writes'"):
        gradcheck(lambda x: (x * x, x), backward, X, allow={"writes"})


def test_gradients_that_add_up_outside_are_an_error_unless_allowed():
    total = np.zeros_like(X)

    def backward(dy, x):
        nonlocal total
        total = total + 2 * x * dy
        return total
    report = gradcheck(lambda x: (x * x, x), backward, X)
    assert not report.ok


def test_an_object_as_cache_may_hold_gradients():
    class Layer:
        grads = ()

        def __init__(self):
            self.grads, self.y = [np.zeros(3)], None
    layer = Layer()

    def forward(x):
        layer.y = np.tanh(x)
        return layer.y, layer

    def backward(dy, layer):
        layer.grads[0] += dy.sum(axis=0)
        return dy * (1 - layer.y**2)
    assert gradcheck(forward, backward, X, allow=()).ok
    assert check_contract(forward, backward, {"x": X}).ok


# whole models


def test_a_whole_model_that_complex_numbers_cannot_take():
    report = check_directional(lambda p: float((p["W"] ** 2).sum()), lambda p: {"W": 2 * p["W"]}, {"W": W})
    assert report.ok and report.method == "richardson, directional"
    assert not check_directional(lambda p: float((p["W"] ** 2).sum()), lambda p: {"W": 2.001 * p["W"]}, {"W": W}).ok


# what is said


def test_the_gradients_of_a_dicts_entries_may_stand_beside_the_others():
    def forward(x, parameters):
        return x @ parameters["W"] + parameters["b"], (x, parameters)

    def backward(dy, cache, factor=1):
        x, p = cache
        return {"dx": dy @ p["W"].T, "dW": factor * x.T @ dy, "db": dy.sum(axis=0)}
    args = (X, {"W": W, "b": W[0]})
    assert names(gradcheck(forward, backward, args)) == ["dx", 'dparameters["W"]', 'dparameters["b"]']
    assert gradcheck(forward, lambda dy, c: backward(dy, c, 2), args).wrong == ('dparameters["W"]',)


def test_what_a_backward_raises_has_its_line_and_no_colours():
    def backward(dy, cache):
        raise KeyError("\x1b[1mgone\x1b[0m")
    line = backward.__code__.co_firstlineno + 1
    with pytest.raises(AssertionError, match=rf"backward raised KeyError: .*gone.* \(test_as_it_is.py, line {line}\)"):
        gradcheck(lambda x: (x, x), backward, X)


def test_a_missing_gradient_and_a_tensor_have_a_remedy():
    with pytest.raises(ValueError, match=r"no gradient for target: only x; .* by wrt=\['x'\]"):
        gradcheck(lambda x, target: (x - target, None), lambda dy, _: {"dx": dy}, {"x": X, "target": X})
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=r"x is a Tensor of torch: pass NumPy arrays"):
        gradcheck(lambda x: (x, x), lambda dy, _: dy, {"x": torch.ones(3)})


# torch


def test_a_module_of_torch_is_checked_with_its_parameters_in_float64():
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(4))
    net[0].bias.requires_grad_(False)
    report = gradcheck(net, torch.ones(5, 3, dtype=torch.float64).cumsum(0).sin())
    assert report.ok and names(report) == ["dinput", "d0.weight", "d2.weight", "d2.bias"] and report.dtype == "float64"
    assert report.notes[0].endswith("by richardson, not complex-step: a function of torch is run on real numbers")
    assert net[0].weight.dtype == torch.float32 and not net[2].running_mean.any()


@pytest.mark.parametrize("slip", [1, 1.001])
def test_a_function_of_torch_that_writes_into_its_input_is_checked_also_where_no_graph_is_kept(slip):
    torch = pytest.importorskip("torch")

    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mark_dirty(x)
            return x.mul_(2)

        @staticmethod
        def backward(ctx, dy):
            return 2 * slip * dy
    x = torch.ones(3, dtype=torch.float64)
    for given in (x, x.numpy()):
        with torch.no_grad():
            assert gradcheck(Doubled, given).ok == (slip == 1)
    assert x.sum() == 3


def test_what_a_function_of_torch_cannot_be_checked_for():
    torch = pytest.importorskip("torch")
    net, x = torch.nn.Linear(3, 2), torch.ones(4, 3)
    for function, sentence in [
            (lambda x: net(x), r"something inside is of float32; give a module itself, gradcheck\(module, inputs\)"),
            (lambda x: x.detach(), r"returns a Tensor: expected a tensor .* \(is it detached\?\)"),
            (lambda x: None, "returns None: expected a tensor of floats")]:
        with pytest.raises(ValueError, match=sentence):
            gradcheck(function, x)
    with pytest.raises(ValueError, match=r"a module of torch, goes to gradcheck\(module, x\)"):
        check_layer(net, x)


# other directions


@pytest.mark.parametrize("factor, right", [(1, True), (1 + 1e-9, False)])
def test_forward_mode(factor, right):
    def jvp(inputs, directions):
        (x, w), (dx, dw) = inputs, directions
        return factor * (1 - np.tanh(x @ w) ** 2) * (dx @ w + x @ dw)
    assert check_jvp(lambda x, w: np.tanh(x @ w), jvp, (X, W)).ok == right


@pytest.mark.parametrize("factor, right", [(1, True), (1 + 1e-9, False)])
def test_a_product_with_a_hessian(factor, right):
    grad = lambda p: {"a": 3 * p["a"] ** 2 * p["b"].sum(), "b": (p["a"] ** 3).sum() * np.ones(2)}

    def hessian_vector(p, v):
        return {"a": 6 * p["a"] * p["b"].sum() * v["a"] + 3 * p["a"] ** 2 * v["b"].sum(),
                "b": factor * (3 * p["a"] ** 2 * v["a"]).sum() * np.ones(2)}
    assert check_hessian_vector(grad, hessian_vector, {"a": X, "b": np.array([0.5, 2.0])}).ok == right
