"""The report: its numbers, as JSON, the error that carries it."""

import json
import math

import numpy as np
import pytest

from scratchnmt.gradcheck import check_gradients
from scratchnmt.gradcheck.report import GradcheckError, Report, raise_if_wrong, tensor_report


def tensor(name="dW", backward=(1.0, 2.0, 3.0, 4.0), reference=(1.0, 2.0, 3.0, 4.0), **options):
    return tensor_report(
        name, (2, 2), np.array(backward), np.array(reference), rtol=1e-12, floor=0.0, **options
    )


def report(*tensors, device="cpu", **options):
    return Report("complex", "float64", device, 1e-12, 0, tensors, **options)


def test_margin_is_tolerance_over_error():
    fine = report(tensor(backward=(1.0, 2.0, 3.0, 4.0 + 1e-14)))
    assert fine.ok and fine.margin == pytest.approx(1e-12 / fine.max_error)
    assert report(tensor()).margin == math.inf


def test_a_broken_promise_alone_is_a_failure():
    broken = report(tensor(), broken_promises=("backward writes into cache: x",))
    assert not broken.ok and broken.wrong == ()
    assert "a promise is broken" in str(broken) and "broken: backward writes into cache: x" in str(broken)


def strict(value):
    def refuse(token):
        raise AssertionError(f"{token} is no JSON")
    return json.loads(json.dumps(value, allow_nan=False), parse_constant=refuse)


def test_to_dict_is_json():
    found = report(tensor(backward=(1.0, 2.0, 3.0, 5.0)), notes=("a kink",), hints=("a guess",))
    as_dict = strict(found.to_dict())
    assert as_dict["ok"] is False and as_dict["tensors"][0]["worst"][0]["index"] == [1, 1]
    assert as_dict["margin"] == found.margin and as_dict["rtol"] == 1e-12 and as_dict["kinks"] == 0
    assert as_dict["notes"] == ["a kink"] and as_dict["hints"] == ["a guess"]


def test_to_dict_has_texts_for_what_json_does_not_know():
    as_dict = strict(report(tensor()).to_dict())
    assert as_dict["margin"] == "Infinity" and float(as_dict["margin"]) == math.inf
    worst = strict(report(tensor(backward=(1.0, np.nan, 3.0, -np.inf))).to_dict())["tensors"][0]["worst"]
    assert [o["error"] for o in worst[:2]] == ["Infinity"] * 2
    assert {o["backward"] for o in worst[:2]} == {"NaN", "-Infinity"}


def test_to_dict_of_a_whole_check_is_strict():
    found = check_gradients(lambda x, W: (x @ W, (x, W)), lambda dy, cache: {"dx": dy @ cache[1].T, "dW": dy[:1]},
                            {"x": np.ones((2, 3), "float32"), "W": np.ones((3, 4), "float32")})
    assert not found.ok and strict(found.to_dict())["tensors"][1]["rms"] == "NaN"


def test_kinks_are_counted():
    at_kink = tensor("dx", backward=(1.0, 2.0, 3.0, 5.0), kinks=np.array([False, False, False, True]))
    found = report(at_kink, tensor())
    assert found.ok and found.margin == math.inf and found.kinks == 1 and found.to_dict()["kinks"] == 1


def test_raise_if_wrong_carries_the_report():
    wrong = report(tensor(backward=(1.0, 2.0, 3.0, 5.0)))
    with pytest.raises(GradcheckError, match="dW") as caught:
        raise_if_wrong(wrong)
    assert caught.value.report is wrong and str(caught.value) == str(wrong)
    assert isinstance(caught.value, AssertionError)
    fine = report(tensor())
    assert raise_if_wrong(fine) is fine
