"""Every op against complex-step at sizes, lengths and masks that hypothesis draws, with its promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchnmt.gradcheck import strategies
from scratchnmt.selfcheck import CASES, placed

by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@by_name
@settings(max_examples=25, derandomize=True)
@given(data=st.data())
def test_every_gradient_of_every_op(case, data, gradcheck):
    sizes = data.draw(strategies.sizes(case.letters, max_size=4))
    args = case.arguments(sizes, np.random.default_rng(data.draw(strategies.seeds())))
    if "lengths" in args:
        args["lengths"] = data.draw(strategies.lengths(sizes["T"], sizes["B"]))
    if getattr(args.get("mask"), "dtype", None) == "bool":
        args["mask"] = data.draw(strategies.masks(args["mask"].shape))
    case.check(args, gradcheck.assert_gradients)


@by_name
def test_numpy_and_cupy(case, xp, rng, gradcheck):
    device = "cpu" if xp is np else "cuda"
    args = placed(case.arguments(case.sizes, rng), device, "float64")
    assert case.check(args, gradcheck.assert_gradients).device == device


@by_name
def test_sizes_of_one(case, rng, gradcheck):
    args = case.arguments(dict.fromkeys(case.letters.split(), 1), rng)
    case.check(args, gradcheck.assert_gradients)


@by_name
def test_a_slip_in_any_gradient_is_caught(case):
    """No gradient is so small, masked or ill-scaled in its example that an error of 1e-6 would pass."""
    args = case.arguments(dict.fromkeys(case.letters.split(), 3), np.random.default_rng(3))

    def slip(*dys_and_cache):
        found = case.backward(*dys_and_cache)
        found = found._asdict() if hasattr(found, "_asdict") else dict(found)
        return {name: None if g is None else g * (1 + 1e-6) for name, g in found.items()}

    report = case._replace(backward=slip).check(args, contract=False)
    assert report.wrong == tuple(t.name for t in report.tensors)
