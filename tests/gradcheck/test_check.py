"""The checker must pass right gradients and name the wrong one of broken ops."""

from typing import NamedTuple

import numpy as np
import pytest
from layer import ARGS, layer_backward, layer_forward

from scratchnmt.gradcheck import GradcheckError, NotAnalyticError, assert_gradients, check_gradients, gate_labels

RNG = np.random.default_rng(1)


def with_change(change):
    """layer_backward whose result went through `change`."""
    return lambda dy, cache: change(layer_backward(dy, cache), dy, cache)


def one_element(g, dy, cache):
    dW = g.dW.copy()
    dW[2, 3] *= 1 + 1e-10
    return g._replace(dW=dW)


BROKEN = {
    "never written": ("dW", lambda g, dy, cache: g._replace(dW=0 * g.dW)),
    "started from the weights": ("dW", lambda g, dy, cache: g._replace(dW=g.dW + cache[1])),
    "mean for sum": ("db", lambda g, dy, cache: g._replace(db=g.db / 3)),
    "wrong sign": ("dx", lambda g, dy, cache: g._replace(dx=-g.dx)),
    "activation's slope forgotten": ("dx", lambda g, dy, cache: g._replace(dx=dy @ cache[1].T)),
    "first row dropped": ("dx", lambda g, dy, cache: g._replace(dx=np.concatenate([0 * g.dx[:1], g.dx[1:]]))),
    "last row of the batch not summed": ("db", lambda g, dy, cache: g._replace(db=g.db - dy[-1])),
    "two units swapped": ("db", lambda g, dy, cache: g._replace(db=g.db[[1, 0, 2, 3, 4]])),
    "one element by 1e-10": ("dW", one_element),
    "not a number": ("db", lambda g, dy, cache: g._replace(db=g.db + np.array([0, 0, np.nan, 0, 0]))),
}


@pytest.mark.parametrize("method", ["complex", "central", "richardson"])
def test_a_right_gradient_passes_with_room(method):
    report = assert_gradients(layer_forward, layer_backward, ARGS, method=method)
    assert [t.name for t in report.tensors] == ["dx", "dW", "db"]
    assert [t.checked for t in report.tensors] == [12, 20, 5] and report.margin > 50


@pytest.mark.parametrize("bug", BROKEN)
def test_a_wrong_gradient_is_caught_and_named(bug):
    name, change = BROKEN[bug]
    report = check_gradients(layer_forward, with_change(change), ARGS)
    assert report.wrong == (name,)
    with pytest.raises(GradcheckError, match=f"worst elements of {name}"):
        assert_gradients(layer_forward, with_change(change), ARGS, contract=False)


def test_the_one_wrong_element_is_named():
    report = check_gradients(
        layer_forward, with_change(one_element), ARGS, labels={"W": gate_labels(1, "abcde")}
    )
    offender = report.tensors[1].worst[0]
    assert report.tensors[1].wrong == 1
    assert (offender.index, offender.label) == ((2, 3), "gate d, unit 0")


@pytest.mark.parametrize("bug, hint", [
    ("never written", "dW is zero everywhere"),
    ("started from the weights", "dW equals the reference plus W itself"),
    ("wrong sign", "dx is the reference times -1: the sign is turned round"),
    ("mean for sum", "db is the reference times 1/3, and 3 is the size of x's axis 0: a mean for a sum?"),
])
def test_hints(bug, hint):
    report = check_gradients(layer_forward, with_change(BROKEN[bug][1]), ARGS)
    assert any(hint in h for h in report.hints)


def test_given_dys_are_used():
    dy = np.zeros((3, 5))
    dy[1, 2] = 1.0
    report = check_gradients(layer_forward, with_change(BROKEN["wrong sign"][1]), ARGS, dys=dy)
    assert report.tensors[0].wrong == 4  # only row 1 of dx has a gradient
    with pytest.raises(ValueError, match=r"dys have shapes \[\(5, 3\)\], the outputs \[\(3, 5\)\]"):
        check_gradients(layer_forward, layer_backward, ARGS, dys=dy.T)


class TwoOutputs(NamedTuple):
    h: np.ndarray
    count: int
    c: np.ndarray


def test_several_outputs_integer_and_other_arguments():
    def forward(ids, table, scale, mode, bias=None, weights=None):
        h, c = scale * table[ids], table * table * weights
        return TwoOutputs(h, len(ids), c), (ids, table, scale, weights)

    def backward(dh, dc, cache):
        ids, table, scale, weights = cache
        dtable = 2 * table * weights * dc
        np.add.at(dtable, ids, scale * dh)
        return {
            "table": dtable,
            "weights": (dc * table * table).sum(axis=1, keepdims=True),
            "bias": None,
            "ids": None,
        }

    args = {"ids": np.array([2, 0, 2]), "table": ARGS["x"], "scale": 0.5, "mode": "fast", "bias": None,
            "weights": np.array([[1.0], [2.0], [3.0]])}
    assert_gradients(forward, backward, args)

    def without_ids(dh, dc, cache):
        return {**backward(dh, dc, cache), "table": backward(0 * dh, dc, cache)["table"]}

    assert check_gradients(forward, without_ids, args).wrong == ("dtable",)


def test_a_bare_array_and_a_scalar_output():
    def forward(x):
        return (x * x).sum(), x

    assert_gradients(forward, lambda dloss, x: 2 * x * dloss, {"x": ARGS["x"]})
    assert check_gradients(forward, lambda dloss, x: x * dloss, {"x": ARGS["x"]}).wrong == ("dx",)


def test_float32_is_held_to_the_float64_reference():
    args = {name: value.astype("float32") for name, value in ARGS.items()}
    report = assert_gradients(layer_forward, layer_backward, args)
    assert report.dtype == "float32" and report.rtol == 64 * 2.0**-23
    slightly = with_change(lambda g, dy, cache: g._replace(dW=g.dW * np.float32(1 + 1e-4)))
    assert check_gradients(layer_forward, slightly, args).wrong == ("dW",)


def test_large_arrays_are_sampled_with_a_share_for_every_label():
    args = {
        **ARGS,
        "x": RNG.standard_normal((40, 4)),
        "W": RNG.standard_normal((4, 50)),
        "b": RNG.standard_normal(50),
    }
    labels = {"W": gate_labels(10, "abcde")}
    report = assert_gradients(layer_forward, layer_backward, args, max_elements=100, labels=labels)
    assert [t.checked for t in report.tensors] == [100, 100, 50]
    last_column = with_change(lambda g, dy, cache: g._replace(dW=g.dW * (np.arange(50) < 49)))
    assert check_gradients(layer_forward, last_column, args, max_elements=100, labels=labels).wrong == ("dW",)


def test_wrt_leaves_the_rest_alone():
    report = check_gradients(layer_forward, with_change(BROKEN["mean for sum"][1]), ARGS, wrt=["x", "W"])
    assert report.ok and [t.name for t in report.tensors] == ["dx", "dW"]


def test_a_forward_that_is_not_analytic_is_not_called_a_wrong_gradient():
    def forward(x):
        return x * np.abs(x), x

    def backward(dy, x):
        return {"dx": 2 * np.abs(x) * dy}

    with pytest.raises(NotAnalyticError, match="not complex-analytic"):
        check_gradients(forward, backward, {"x": ARGS["x"]}, method="complex")
    assert_gradients(forward, backward, {"x": ARGS["x"]}, method="central")
    assert assert_gradients(forward, backward, {"x": ARGS["x"]}).method == "complex"  # np.abs is continued
    wrong = check_gradients(forward, lambda dy, x: 2 * x * dy, {"x": ARGS["x"]})
    assert wrong.wrong == ("dx",)


def test_a_gradient_of_the_wrong_shape_has_its_sentence():
    change = with_change(lambda g, dy, cache: g._replace(db=g.db[None]))
    for contract in (True, False):
        report = check_gradients(layer_forward, change, ARGS, contract=contract)
        assert any("db has shape (1, 5), but b has (5,)" in p for p in report.broken_promises)
        assert report.wrong == ("db",)


def test_a_backward_that_raises_is_named():
    with pytest.raises(GradcheckError, match="backward raised KeyError: 'gone'") as caught:
        check_gradients(layer_forward, lambda dy, cache: {}["gone"], ARGS)
    assert isinstance(caught.value.__cause__, KeyError) and caught.value.report is None


def test_a_forward_that_is_random_is_said_to_be():
    def forward(x, W, b):
        return layer_forward(x, W, b * np.random.random())

    sentence = "forward is random: two calls with the same arguments differ"
    for contract in (True, False):  # the same random number for every call, which backward does not know
        report = check_gradients(forward, layer_backward, ARGS, contract=contract)
        assert report.wrong == ("db",) and any(sentence in note for note in report.notes)
    report = check_gradients(forward, layer_backward, ARGS, allow=())
    assert sentence in report.broken_promises[0]


def test_an_output_that_is_not_finite_is_named():
    def forward(x, W, b):
        y, cache = layer_forward(x, W, b)
        y[1, 2] = np.inf
        return y, cache

    for contract in (True, False):
        report = check_gradients(forward, layer_backward, ARGS, contract=contract)
        assert report.broken_promises == ("output y holds a value that is not finite at (1, 2)",)


def test_a_backward_that_writes_into_its_arguments_does_not_spoil_the_reference():
    args = {name: value.copy() for name, value in ARGS.items()}

    def backward(dy, cache):
        result = layer_backward(dy, cache)
        cache[1][...] = 0
        dy[...] = 0
        return result

    report = check_gradients(layer_forward, backward, args, allow=())
    assert report.wrong == () and report.max_error < 1e-14
    assert any("backward writes into args: W" in p for p in report.broken_promises)
    assert any("backward writes into dys: 0" in p for p in report.broken_promises)
    np.testing.assert_array_equal(args["W"], ARGS["W"])  # the caller's own
    allowed = check_gradients(layer_forward, backward, args)
    assert allowed.ok and "backward writes into dys: 0 (allowed: writes dy)" in allowed.notes


def test_a_gradient_that_is_not_checked_is_noted():
    def backward(dy, cache):
        return {**layer_backward(dy, cache)._asdict(), "dn": np.zeros(3), "dscale": 0.0, "dunused": None}

    def forward(x, W, b, n, scale, unused):
        return layer_forward(x, W, b)

    args = {**ARGS, "n": np.arange(3), "scale": 1.0, "unused": None}
    report = assert_gradients(forward, backward, args)
    assert "dn is not checked: n is an array of int64, only arrays of floats are" in report.notes
    assert "note: dn is not checked" in str(report)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
@pytest.mark.parametrize("method", ["complex", "central", "richardson"])
def test_one_element(shape, method):
    args = {"x": np.full(shape, 0.3), "W": np.full(shape, -0.7)}

    def forward(x, W):
        return np.tanh(x * W), (x, W)

    def backward(dy, cache):
        x, W = cache
        dz = dy / np.cosh(x * W) ** 2
        return {"dx": dz * W, "dW": dz * x}

    assert [t.checked for t in assert_gradients(forward, backward, args, method=method).tensors] == [1, 1]
    wrong = check_gradients(forward, lambda dy, c: {**backward(dy, c), "dx": 2 * dy}, args, method=method)
    assert wrong.wrong == ("dx",) and wrong.tensors[0].worst[0].index == (0,) * len(shape)


def test_mixed_dtypes_are_held_to_the_coarsest():
    args = {**ARGS, "W": ARGS["W"].astype("float32")}

    def backward(dy, cache):
        g = layer_backward(dy, cache)
        return g._replace(dW=g.dW.astype("float32"))

    report = assert_gradients(layer_forward, backward, args)
    assert report.dtype == "float32"


def test_half_precision():
    args = {name: (value / 4).astype("float16") for name, value in ARGS.items()}
    report = assert_gradients(layer_forward, layer_backward, args)
    assert report.dtype == "float16" and report.rtol == 64 * 2.0**-10
    assert check_gradients(layer_forward, with_change(BROKEN["wrong sign"][1]), args).wrong == ("dx",)
