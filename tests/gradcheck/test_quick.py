"""One op along random directions: as strict as element by element, in a few forward passes."""

import numpy as np
import pytest

from scratchnmt.gradcheck import GradcheckError
from scratchnmt.gradcheck.api import quick_check
from scratchnmt.selfcheck import CASES

by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def square(x):
    return x * x, x


@by_name
def test_right_gradients_pass_and_a_slip_in_any_is_caught(case):
    args = case.arguments(case.sizes, np.random.default_rng(3))  # fixed: no gradient is zero at these
    calls = []

    def forward(**args):
        calls.append(args)
        return case.forward(**args)

    def slip(*dys_and_cache):
        found = case.backward(*dys_and_cache)
        found = found._asdict() if hasattr(found, "_asdict") else dict(found)
        return {name: None if g is None else g * (1 + 1e-6) for name, g in found.items()}

    right = case._replace(forward=forward).check(args, quick_check)
    assert right.ok and right.margin > 50 and len(calls) < 12 + 6 * len(right.tensors)
    wrong = case._replace(backward=slip).check(args, quick_check, contract=False)
    assert wrong.wrong == tuple(tensor.name for tensor in right.tensors)
    assert all(tensor.worst[0].name == tensor.name for tensor in wrong.tensors)


def test_promises_are_tried_unless_they_are_not_wanted():
    def careless(dy, x):
        x *= 2
        return x * dy

    args = {"x": np.ones(3)}
    assert quick_check(square, careless, args, contract=False).ok
    assert "backward writes into args: x" in quick_check(square, careless, args, allow=()).broken_promises


def test_float32_is_checked_in_float64():
    report = quick_check(square, lambda dy, x: 2 * x * dy, {"x": np.ones(3, "float32")})
    assert report.ok and report.dtype == "float64"


def test_a_gradient_of_the_wrong_shape_is_left_to_the_full_check():
    report = quick_check(square, lambda dy, x: {"x": x[:1]}, {"x": np.ones((3, 2))})
    assert report.wrong == ("dx",) and report.method == "auto"


def test_a_backward_that_raises_and_dys_that_do_not_fit():
    with pytest.raises(GradcheckError, match="backward raised ZeroDivisionError"):
        quick_check(square, lambda dy, x: 1 / 0, {"x": np.ones(3)})
    with pytest.raises(ValueError, match=r"dys have shapes \[\(2,\)\], the outputs \[\(3,\)\]"):
        quick_check(square, lambda dy, x: 2 * x * dy, {"x": np.ones(3)}, dys=np.ones(2))
