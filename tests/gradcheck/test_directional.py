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
    with pytest.raises(GradcheckError, match="worst elements of W2"):
        assert_directional(loss, lambda p: {**grads(p), "W2": 2 * grads(p)["W2"]}, PARAMS)


def test_one_forward_per_tensor_and_probe():
    calls = []

    def counted(params):
        calls.append(1)
        return loss(params)

    check_directional(counted, grads, PARAMS, probes=3)
    beside = len(calls) - 9  # the comparison with a real difference that guards complex-step
    assert beside <= 4
    calls.clear()
    check_directional(counted, grads, PARAMS, probes=3, per_tensor=False)
    assert len(calls) == 3 + beside


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
        (
            dict(grads=lambda p: {**grads(p), "b1": p["b1"][:3]}),
            r"gradient of b1 has shape \(3,\), the parameter \(9,\)",
        ),
    ],
)
def test_what_does_not_fit_has_its_own_sentence(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_directional(**{"loss": loss, "grads": grads, "params": PARAMS, **change})


def test_a_loss_that_is_not_analytic():
    with pytest.raises(NotAnalyticError, match="is real though its arguments are complex"):
        check_directional(lambda p: np.abs(loss(p)), grads, PARAMS)
    with pytest.raises(NotAnalyticError, match="not complex-analytic"):
        check_directional(lambda p: loss(p) * np.linalg.norm(p["b1"]), grads, PARAMS)
