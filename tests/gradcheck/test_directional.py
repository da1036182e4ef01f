"""The check of a whole model on a small one: two layers and a loss."""

import numpy as np
import pytest

from scratchnmt.gradcheck import GradcheckError, NotAnalyticError, assert_directional, check_directional

RNG = np.random.default_rng(2)
X = RNG.standard_normal((7, 6))
PARAMS = {"W1": RNG.standard_normal((6, 9)), "b1": RNG.standard_normal(9), "W2": RNG.standard_normal((9, 3))}


def loss(params):
    h = np.tanh(X @ params["W1"] + params["b1"])
    y = h @ params["W2"]
    return (y * y).sum()


def grads(params):
    h = np.tanh(X @ params["W1"] + params["b1"])
    dy = 2 * h @ params["W2"]
    dz = dy @ params["W2"].T * (1 - h * h)
    return {"W1": X.T @ dz, "b1": dz.sum(axis=0), "W2": h.T @ dy}


def with_error(name, index, factor):
    def wrong(params):
        found = grads(params)
        found[name][index] *= factor
        return found
    return wrong


@pytest.mark.parametrize("per_tensor", [True, False])
def test_right_gradients_pass_with_room(per_tensor):
    report = assert_directional(loss, grads, PARAMS, per_tensor=per_tensor)
    assert [t.name for t in report.tensors] == ["W1", "b1", "W2"] and report.margin > 100


@pytest.mark.parametrize("per_tensor", [True, False])
@pytest.mark.parametrize("name, index", [("W1", (4, 7)), ("W1", (0, 0)), ("b1", (8,)), ("W2", (5, 1))])
def test_an_error_of_1e_minus_6_in_one_element_is_located(name, index, per_tensor):
    report = check_directional(loss, with_error(name, index, 1 + 1e-6), PARAMS, per_tensor=per_tensor)
    assert report.wrong == (name,)
    offender = next(t for t in report.tensors if not t.ok).worst[0]
    assert offender.index == index
    assert offender.backward / offender.reference == pytest.approx(1 + 1e-6, abs=1e-9)


def test_a_nan_is_located():
    report = check_directional(loss, with_error("W2", (3, 2), np.nan), PARAMS)
    assert report.wrong == ("W2",) and report.tensors[2].worst[0].index == (3, 2)


def test_a_gradient_of_zeros_and_one_of_double_size_are_wrong():
    assert check_directional(loss, lambda p: {**grads(p), "b1": np.zeros(9)}, PARAMS).wrong == ("b1",)
    with pytest.raises(GradcheckError, match="one wrong element of W2, found by bisection"):
        assert_directional(loss, lambda p: {**grads(p), "W2": 2 * grads(p)["W2"]}, PARAMS)


def test_one_forward_per_tensor_and_probe():
    calls = []

    def counted(params):
        calls.append(1)
        return loss(params)

    check_directional(counted, grads, PARAMS, probes=3)
    assert len(calls) <= 2 + 9 + 3 * 4  # a real difference of each tensor guards complex-step
    calls.clear()
    check_directional(counted, grads, PARAMS, probes=3, per_tensor=False)
    assert len(calls) == 2 + 3 + 4


def test_float32_parameters_are_checked_in_float64():
    params = {name: value.astype("float32") for name, value in PARAMS.items()}
    assert assert_directional(loss, grads, params).margin > 100


def test_the_parameters_are_not_changed():
    before = {name: value.copy() for name, value in PARAMS.items()}
    check_directional(loss, grads, PARAMS)
    for name, value in PARAMS.items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    "change, sentence",
    [
        (dict(params={**PARAMS, "n": np.arange(3)}), "parameter n is an array of int64"),
        (dict(params={**PARAMS, "W1": np.zeros((0, 9))}), "parameter W1 is empty"),
        (dict(grads=lambda p: {"W1": p["W1"]}), "no gradient for b1, W2"),
        (dict(grads=lambda p: {**grads(p), "V": p["W1"]}), "'V', which matches no argument"),
        (dict(grads=lambda p: {**grads(p), "b1": None}), "returns None as the gradient of b1"),
        (dict(grads=lambda p: list(grads(p).values())), "must return a NamedTuple, a dict or an array, got a"),
        (dict(params={**PARAMS, "b1": np.full(9, np.nan)}), r"parameter b1 holds a value that is not finite"),
        (dict(params={}), "params is empty"),
        (dict(probes=0), "probes is 0, expected at least 1"),
        (dict(loss=lambda p: p["b1"]), r"loss must return one number, got an array of shape \(9,\)"),
        (dict(loss=lambda p: (loss(p), p["W1"])), "loss must return one number, got a tuple of 2"),
        (dict(rtol=-1), "rtol is -1, expected a number above 0"),
        (dict(seed=-1), "seed is -1, expected a whole number from 0 on"),
        (dict(loss=lambda p: None), "loss must return one number, got None"),
        (dict(loss=lambda p: loss(p) * np.inf), "the loss is inf at these parameters"),
        (
            dict(grads=lambda p: {**grads(p), "b1": p["b1"][:3]}),
            r"gradient of b1 has shape \(3,\), the parameter \(9,\)",
        ),
    ],
)
def test_what_does_not_fit_has_its_own_sentence(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_directional(**{"loss": loss, "grads": grads, "params": PARAMS, **change})


@pytest.mark.parametrize("change, sentence", [
    (dict(params=list(PARAMS.values())), "params is a list: expected a dict of arrays by name"),
    (dict(loss=1.0), "loss is a float: expected a function"),
    (dict(grads=PARAMS), "grads is a dict: expected a function"),
])
def test_what_is_no_dict_or_function(change, sentence):
    with pytest.raises(TypeError, match=sentence):
        check_directional(**{"loss": loss, "grads": grads, "params": PARAMS, **change})


@pytest.mark.parametrize("which", ["loss", "grads"])
def test_who_writes_into_a_parameter_breaks_a_promise(which):
    functions = {"loss": loss, "grads": grads}

    def writing(params):
        found = functions[which](params)
        params["b1"] += 0.5
        return found

    report = check_directional(**{**functions, which: writing}, params=PARAMS)
    assert not report.ok and report.broken_promises == (f"{which} writes into the parameter b1",)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e-200, 1e160])
def test_a_gradient_of_an_extreme_size(scale):
    def scaled(factor):
        return lambda p: {name: factor * scale * g for name, g in grads(p).items()}

    def loss_of(p):
        return scale * loss(p)
    assert check_directional(loss_of, scaled(1), PARAMS).ok
    assert check_directional(loss_of, scaled(7), PARAMS).wrong == ("W1", "b1", "W2")


def test_grads_that_raise_are_named():
    with pytest.raises(GradcheckError, match="grads raised ZeroDivisionError: division by zero") as caught:
        check_directional(loss, lambda p: {"W1": 1 / 0}, PARAMS)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_loss_that_is_random_is_said_to_be():
    report = check_directional(lambda p: loss(p) * np.random.random(), grads, PARAMS)
    assert not report.ok and report.broken_promises[0].startswith("loss is random: two calls with the same")


def test_a_large_parameter_is_not_copied_for_every_forward_pass():
    """The complex values are written in place: most of them stay where they are."""
    seen = set()

    def watched(params):
        seen.add((params["W1"].dtype.kind, params["W1"].__array_interface__["data"][0]))
        return loss(params)

    check_directional(watched, grads, PARAMS)
    assert len([kind for kind, _ in seen if kind == "c"]) == 1


def test_parameters_in_fortran_order_and_of_no_dimension():
    params = {"W": np.asfortranarray(RNG.standard_normal((3, 4))), "s": np.array(0.7)}
    M = RNG.standard_normal((3, 4))

    def product(p):
        return (p["W"] * M).sum() * p["s"] ** 2

    def by_hand(p):
        return {"W": M * p["s"] ** 2, "s": 2 * p["s"] * (p["W"] * M).sum()}

    assert assert_directional(product, by_hand, params).margin > 100

    def wrong(p):
        found = by_hand(p)
        found["W"][1, 2] *= 2
        return found

    assert check_directional(product, wrong, params).tensors[0].worst[0].index == (1, 2)


def test_auto_takes_what_fits_the_loss():
    absolute = lambda p: np.abs(loss(p))
    assert check_directional(absolute, grads, PARAMS).method == "complex, directional"
    real = lambda p: float(loss(p))
    report = check_directional(real, grads, PARAMS)
    assert report.ok and report.method == "richardson, directional" and "not complex-step" in report.notes[0]
    wrong = check_directional(real, with_error("W1", (4, 7), 1.01), PARAMS)
    assert wrong.wrong == ("W1",) and wrong.tensors[0].worst[0].index == (4, 7)


def test_a_loss_that_is_not_analytic():
    with pytest.raises(NotAnalyticError, match="is real though its arguments are complex"):
        check_directional(lambda p: np.abs(loss(p)), grads, PARAMS, method="complex")
    with pytest.raises(NotAnalyticError, match="not complex-analytic"):
        check_directional(lambda p: loss(p) * np.linalg.norm(p["b1"]), grads, PARAMS, method="complex")
