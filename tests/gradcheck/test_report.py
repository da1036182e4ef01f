"""The report: its numbers, its text, the error that carries it."""

import json
import math

import numpy as np
import pytest

from scratchnmt.gradcheck.report import (GradcheckError, Report, layout, raise_if_wrong, relative_errors,
                                         tensor_report)


def tensor(name="dW", backward=(1.0, 2.0, 3.0, 4.0), reference=(1.0, 2.0, 3.0, 4.0), **options):
    return tensor_report(
        name, (2, 2), np.array(backward), np.array(reference), rtol=1e-12, floor=0.0, **options
    )


def report(*tensors, **options):
    return Report("complex", "float64", "cpu", 1e-12, 0, tensors, **options)


def test_error_is_relative_to_rms_and_element():
    errors = relative_errors(np.array([3.0, 4.5]), np.array([3.0, 4.0]), floor=0.0)
    np.testing.assert_allclose(errors, [0, 0.5 / (np.sqrt(12.5) + 4)])


def test_error_of_a_zero_reference_uses_the_floor_and_nan_is_infinite():
    np.testing.assert_allclose(relative_errors(np.array([0.0, 1e-3]), np.zeros(2), floor=0.1), [0, 1e-2])
    assert relative_errors(np.array([1.0]), np.zeros(1), floor=0.0) == np.inf
    np.testing.assert_array_equal(
        relative_errors(np.array([np.nan, 1.0]), np.ones(2), floor=0.0), [np.inf, 0]
    )


def test_the_worst_element_comes_first_with_index_and_label():
    found = tensor(backward=(1.0, 2.5, 3.0, 40.0), labels=["gate i", "gate f"])
    assert (found.checked, found.wrong) == (4, 2)
    worst = found.worst[0]
    assert (worst.name, worst.index, worst.label, worst.backward, worst.reference) == (
        "dW",
        (1, 1),
        "gate f",
        40,
        4,
    )
    assert found.max_error == worst.error


def test_sampled_elements_keep_their_index():
    found = tensor_report("dx", (3, 5), np.array([0.0, 9.0]), np.array([0.0, 1.0]), rtol=1e-12, floor=0,
                          indices=np.array([2, 13]))
    assert found.worst[0].index == (2, 3)


def test_margin_is_tolerance_over_error():
    fine = report(tensor(backward=(1.0, 2.0, 3.0, 4.0 + 1e-14)))
    assert fine.ok and fine.margin == pytest.approx(1e-12 / fine.max_error)
    assert report(tensor()).margin == math.inf


def test_a_broken_promise_alone_is_a_failure():
    broken = report(tensor(), broken_promises=("backward writes into cache: x",))
    assert not broken.ok and broken.wrong == ()
    assert "a promise is broken" in str(broken) and "broken: backward writes into cache: x" in str(broken)


def test_text_of_a_failure_names_gradient_element_and_ratio():
    text = str(report(tensor("dx"), tensor("dWh", backward=(1.0, 2.0, 3.0, -8.0)), hints=("look here",)))
    assert "FAILED: 1 of 2 gradients are wrong" in text
    rows = {line.split()[0]: line.split()[-1] for line in text.splitlines() if line.startswith("  d")}
    assert rows == {"dx": "ok", "dWh": "WRONG"}
    assert "worst elements of dWh" in text and "worst elements of dx" not in text
    assert "(1, 1)" in text and "-8.000000e+00" in text and " -2 " in text
    assert text.endswith("hint: look here")


def test_text_of_a_success_gives_the_margin():
    assert str(report(tensor())).startswith("gradient check ok: 1 gradients, margin inf")


def test_to_dict_is_json():
    as_dict = json.loads(json.dumps(report(tensor(backward=(1.0, 2.0, 3.0, 5.0))).to_dict()))
    assert as_dict["ok"] is False and as_dict["tensors"][0]["worst"][0]["index"] == [1, 1]


def test_raise_if_wrong_carries_the_report():
    wrong = report(tensor(backward=(1.0, 2.0, 3.0, 5.0)))
    with pytest.raises(GradcheckError, match="dW") as caught:
        raise_if_wrong(wrong)
    assert caught.value.report is wrong and str(caught.value) == str(wrong)
    assert isinstance(caught.value, AssertionError)
    fine = report(tensor())
    assert raise_if_wrong(fine) is fine


def test_layout_lines_up():
    assert layout(("a", "number"), [("long", "1"), ("b", "22")], left=(0,)) == [
        "  a     number", "  long       1", "  b         22"]
