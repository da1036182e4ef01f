"""Each hint fires for its mistake, and not for one that only looks like it."""

import numpy as np
import pytest

from scratchnmt.gradcheck import check_directional, check_gradients, check_variant, gate_labels
from scratchnmt.gradcheck.hints import Mismatch, hints_for

RNG = np.random.default_rng(3)
X, W, B = RNG.standard_normal((3, 5)), RNG.standard_normal((5, 5)), RNG.standard_normal(5)
GROUPS = ("gate i", "gate i", "gate f", "gate f")


def mismatch(found, reference, *, value=None, args=None, groups=None, tolerance=1e-12, sampled=False, **references):
    found, reference = np.asarray(found, float), np.asarray(reference, float)
    shape = reference.shape
    value = RNG.standard_normal(shape) if value is None else value
    wrong = (np.abs(found - reference) > tolerance).reshape(-1)
    indices = np.arange(reference.size)
    if sampled:
        shape = (2, *shape)
    return Mismatch("dW", "W", shape, found.reshape(-1), reference.reshape(-1), value.reshape(-1), wrong, tolerance,
                {"W": value, **(args or {})}, indices, groups, references)


def hint(*given, **options):
    found = hints_for(mismatch(*given, **options))
    assert len(found) <= 1
    return found[0] if found else None


R = RNG.standard_normal((4, 4))


def test_zero():
    assert hint(0 * R, R) == "dW is zero everywhere: is it ever written?"
    assert hint(np.where(np.arange(4) == 1, R, 0), R) is None
    assert hint(0 * R, R, sampled=True) == "dW is zero in every element that was checked: is it ever written?"


def test_the_reference_plus_the_argument_itself():
    value = RNG.standard_normal((4, 4))
    assert hint(R + value, R, value=value) == (
        "dW equals the reference plus W itself: was the buffer initialised from W?")
    assert hint(R + value * (R > -2) - 1e-6 * (R.max() == R), R, value=value) is None
    assert "plus W itself" not in hint(R + 1e-9, R, value=0 * R)


@pytest.mark.parametrize("k, words", [
    (-1, "-1: the sign is turned round"),
    (1 / 3, "1/3, and 3 is the size of x's axis 1: a mean for a sum?"),
    (-1 / 7, "-1/7, and 7 is the size of x's axis 0: a mean for a sum, and the sign is turned round?"),
    (7, "7, and 7 is the size of x's axis 0: a sum for a mean?"),
    (0.5, "0.5: is a constant factor missing, or one too many?"),
    (1.002, "1.002: is a constant factor missing, or one too many?"),
])
def test_a_constant_factor_is_named(k, words):
    args = {"x": np.zeros((7, 3)), "ids": np.zeros(11, int)}
    assert hint(k * R, R, args=args) == f"dW is the reference times {words}"
    assert hint(k * R, R, args=args, sampled=True) == f"dW is the reference times {words}"


@pytest.mark.parametrize("k, text", [
    (0.7, "0.7, which is 1 - rate"), (1 / 0.7, "1.42857, which is 1 / (1 - rate)"),
    (0.3, "0.3, which is rate"), (1 / 0.3, "3.33333, which is 1 / rate"),
])
def test_a_factor_that_is_made_of_a_number_among_the_arguments(k, text):
    args = {"rate": 0.3, "on": True, "zero": 0.0, "one": 1.0}
    assert hint(k * R, R, args=args).startswith(f"dW is the reference times {text}: is that factor missing")
    assert "rate" not in hint((k + 1e-6) * R, R, args=args)


def test_the_most_special_hint_is_the_only_one():
    table = R * [[1], [1], [1], [0]]
    wrong = table * [[1.5], [2.5], [1], [1]]
    args = {"ids": np.array([0, 0, 1, 1, 2])}
    assert "more than once in ids" in hint(wrong, table, args=args)
    assert hint(wrong, table) is None and "at the last index" in hint(*(
        a[..., None] for a in (R * [[3], [2], [5], [1]], R)))


def test_what_is_no_constant_factor():
    assert hint(R * (1 + 1e-6 * (R.max() == R)), R) is None
    assert hint(R * np.array([[1], [2], [1], [1]]), R, sampled=True) is None
    one = np.zeros((4, 4))
    one[1, 2] = 0.7
    assert hint(0.37 * one, one) is None, "any number is some number's multiple"
    assert "1/4, and 4 is the size of W's axis 0" in hint(one / 4, one)


def test_a_factor_next_to_one_is_no_forgotten_factor():
    assert "the reference times" not in hint(0.999988 * R, R) and hint(-0.999988 * R, R, tolerance=1e-6) is not None


def test_every_element_must_fit_and_not_the_largest_alone():
    scaled = R * [[1.0], [1.0], [1.0], [1e9]]
    wrong = -scaled
    wrong[0, 0] *= 1.5
    assert hint(wrong, scaled) is None
    assert hint(-scaled, scaled) == "dW is the reference times -1: the sign is turned round"


def test_blocks_in_another_order():
    swapped = R[:, [2, 3, 0, 1]]
    assert hint(swapped, R, groups=GROUPS) == (
        "dW has its blocks in another order: gate i has that of gate f, gate f has that of gate i")
    assert hint(swapped, R) is None and hint(R[:, [2, 1, 0, 3]], R, groups=GROUPS) is None
    assert "another order" not in str(hint(swapped, R, groups=GROUPS, sampled=True))


def test_another_arguments_gradient():
    other = RNG.standard_normal((4, 4))
    assert hint(other, R, V=other, W=R) == "dW equals the reference of dV: are the two mixed up?"
    assert hint(other.T, R, V=other, W=R) == "dW equals the reference of dV, transposed: are the two mixed up?"
    assert hint(other + 1e-9, R, V=other, W=R) is None
    assert hint(other, R, V=other, W=R, sampled=True) is None


def test_the_transpose():
    assert hint(R.T, R) == "dW is the transpose of what it should be"
    assert hint(R.T + 1e-9, R) is None and hint(R.T, R, sampled=True) is None
    assert hint(R[::-1], R) is None


def test_a_mean_or_sum_spread_out_again():
    mean, total = (np.broadcast_to(f(R, 1, keepdims=True), R.shape) for f in (np.mean, np.sum))
    assert hint(mean, R).startswith("dW is the mean of the reference along axis 1, everywhere the same")
    assert hint(total, R).startswith("dW is the sum of the reference along axis 1, everywhere the same")
    assert hint(mean + 1e-9, R) is None and hint(mean, R, sampled=True) is None


def test_an_error_near_the_tolerance_is_no_mistake_of_these():
    """What comes as close to the reference as to the guess is not explained by the guess."""
    symmetric, nudge = R + R.T, 5e-12 * (R.max() == R)
    assert hint(symmetric + nudge, symmetric) is None
    assert hint(symmetric + nudge, symmetric, V=symmetric, value=0 * R) is None


def test_none_without_a_mistake_or_with_a_nan():
    assert hint(R, R) is None
    assert hint(R * np.where(R.max() == R, np.nan, -1), R) is None


def test_a_coarse_tolerance_does_not_make_hints_bold():
    nearly = -R * (1 + 1e-3 * RNG.standard_normal(R.shape))
    assert hint(nearly, R, tolerance=1e-6) is None
    assert hint(-R * (1 + 1e-7 * RNG.standard_normal(R.shape)), R, tolerance=1e-6) is not None


def forward(x, W, b):
    y = np.tanh(x @ W + b)
    return y, (x, W, y)


def backward(dy, cache):
    x, W, y = cache
    dz = dy * (1 - y * y)
    return {"dx": dz @ W.T, "dW": x.T @ dz, "db": dz.sum(axis=0)}


def changed(**changes):
    """The right backward pass with {name: function of all gradients} for some gradients."""
    def wrong(dy, cache):
        g = backward(dy, cache)
        return {**g, **{name: change(g) for name, change in changes.items()}}
    return wrong


ARGS = {"x": X, "W": W, "b": B}


@pytest.mark.parametrize("change, sentence", [
    ({"db": lambda g: g["db"] / 3},
     "db is the reference times 1/3, and 3 is the size of x's axis 0: a mean for a sum?"),
    ({"dW": lambda g: g["dW"].T}, "dW is the transpose of what it should be"),
    ({"dW": lambda g: g["dW"] + W}, "dW equals the reference plus W itself: was the buffer initialised from W?"),
    ({"dx": lambda g: 0 * g["dx"]}, "dx is zero everywhere: is it ever written?"),
    ({"dW": lambda g: g["dW"] * np.repeat([1, 1, 2, 1, 1], 1)}, "dW: gates a, b, d, e are right, gate c is wrong"),
])
@pytest.mark.parametrize("method", ["complex", "central"])
def test_in_a_report(change, sentence, method):
    labels = {"W": gate_labels(1, "abcde")}
    report = check_gradients(forward, changed(**change), ARGS, labels=labels, method=method, contract=False)
    assert report.hints == (sentence,) and f"hint: {sentence}" in str(report)


def test_in_the_report_of_a_variant_in_float32():
    args = {name: value.astype("float32") for name, value in ARGS.items()}
    report = check_variant((forward, backward), (forward, changed(dx=lambda g: -g["dx"])), args)
    assert report.hints == ("dx is the reference times -1: the sign is turned round",)


@pytest.mark.parametrize("name, change, sentence", [
    ("W", lambda g: 0 * g["dW"], "W is zero everywhere: is it ever written?"),
    ("W", lambda g: -g["dW"], "W is the reference times -1: the sign is turned round"),
    ("b", lambda g: 5 * g["db"], "b is the reference times 5, and 5 is the size of W's axis 0, W's axis 1 "
     "and b's axis 0: a sum for a mean?"),
    ("W", lambda g: g["dW"] + W, "W equals the reference plus W itself: was the buffer initialised from W?"),
    ("W", lambda g: g["dW"].T, None),
])
def test_in_the_report_of_a_whole_model(name, change, sentence):
    def loss(p):
        return (forward(X, **p)[0] ** 2).sum()

    def grads(p):
        y, cache = forward(X, **p)
        g = backward(2 * y, cache)
        return {"W": g["dW"], "b": g["db"], name: change(g)}

    report = check_directional(loss, grads, {"W": W, "b": B})
    assert report.wrong == (name,) and report.hints == ((sentence,) if sentence else ())


def report_of(change, shape=(2, 4, 3), scale=1.0):
    """Of tanh, batch first, whose gradient goes through `change`."""
    x = np.random.default_rng(0).standard_normal(shape)
    return check_gradients(lambda x: (scale * np.tanh(x), np.tanh(x)),
                           lambda dy, y: change(scale * dy * (1 - y * y)), {"x": x})


def but(axis, index):
    def change(g):
        wrong = 2 * g * (1 + np.arange(g.size).reshape(g.shape))
        np.moveaxis(wrong, axis, 0)[index] = np.moveaxis(g, axis, 0)[index]
        return wrong
    return change


@pytest.mark.parametrize("change, sentence", [
    (but(1, -1), "dx is right at the last index of axis 1 only: if that is time, is dh_next carried"),
    (but(2, -1), "dx is right at the last index of axis 2 only: if that is time, is dh_next carried"),
    (lambda g: np.clip(g, -0.3, 0.3), "dx is the reference cut off at +-0.3, where"),
    (lambda g: g / g.size, "dx is the reference times 1/24, and 24 is the size of all of y and all of x: a mean for"),
    (lambda g: g * (1 + 1e-5 * np.cos(np.arange(g.size).reshape(g.shape))), "dx is off by at most 1.0e-05 of itself"),
])
def test_of_time_clipping_and_size(change, sentence):
    assert any(hint.startswith(sentence) for hint in report_of(change).hints)


def test_two_sizes_that_coincide_are_both_named():
    [hint] = report_of(lambda g: g / 3, shape=(3, 3)).hints
    assert "3 is the size of x's axis 0 and x's axis 1" in hint


def test_a_straight_through_gradient():
    report = check_gradients(lambda x: (np.round(x), x), lambda dy, x: dy * 1, {"x": np.array([0.2, 1.7])})
    assert not report.ok and "straight-through" in report.hints[0]


def test_equal_hints_are_said_once():
    params = {f"W{i}": np.ones(3) * (i + 1) for i in range(24)}
    report = check_gradients(lambda **p: (sum(w * w for w in p.values()), p),
                             lambda dy, p: {name: -2 * w * dy for name, w in p.items()}, params)
    assert len(report.wrong) == 24 and report.hints == (
        "dW0, dW1, dW2 and 21 more is the reference times -1: the sign is turned round",)


def test_a_ratio_close_to_one_is_not_printed_as_one():
    report = check_gradients(lambda x: (9 * x, None), lambda dy, _: 9.000003 * dy, {"x": np.ones(1)}, dys=np.ones(1))
    assert " 1+3.3e-07 " in str(report)
