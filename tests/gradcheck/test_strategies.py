"""What the strategies draw: every size, every edge, nothing that a GPU would round away."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from scratchnmt.gradcheck import strategies

quickly = settings(max_examples=300, derandomize=True, database=None)
SHAPES = strategies.sizes("B H").map(lambda n: (n["B"], n["H"]))


def found(strategy, condition):
    return find(strategy, condition, settings=quickly)


def test_sizes_have_the_names_and_bounds_that_were_asked_for():
    assert found(strategies.sizes("T B I H"), lambda n: True) == {"T": 1, "B": 1, "I": 1, "H": 1}
    assert found(strategies.sizes("T B"), lambda n: n["T"] > 4) == {"T": 5, "B": 1}
    assert found(strategies.sizes("T", min_size=2, max_size=3), lambda n: True) == {"T": 2}


@given(strategies.sizes("T B", min_size=2, max_size=3))
def test_sizes_keep_their_bounds(sizes):
    assert sizes.keys() == {"T", "B"} and set(sizes.values()) <= {2, 3}


@pytest.mark.parametrize("draw", [strategies.well_scaled, strategies.saturated])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_arrays_have_their_shape_and_dtype_and_nothing_subnormal(draw, dtype):
    @settings(quickly, max_examples=30)
    @given(draw(SHAPES, dtype=dtype), draw((2, 3), dtype=dtype), draw((), dtype=dtype))
    def check(drawn, fixed, number):
        assert drawn.ndim == 2 and fixed.shape == (2, 3) and number.shape == ()
        for array in (drawn, fixed, number):
            assert isinstance(array, np.ndarray) and array.dtype == dtype
            assert (abs(array[array != 0]) >= np.finfo(dtype).tiny).all()

    check()


@settings(quickly, max_examples=5)
@given(strategies.well_scaled((10**5,), "float16"))
def test_what_float16_cannot_hold_in_full_is_zero(array):
    assert (array == 0).any() and abs(array[array != 0]).min() >= np.finfo("float16").tiny


@given(strategies.well_scaled((1000,)))
def test_well_scaled_is_about_one_in_size(array):
    assert 0.8 < array.std() < 1.2 and abs(array).max() < 10


def test_a_drawn_shape_shrinks_to_one():
    assert found(strategies.well_scaled(SHAPES), lambda a: True).shape == (1, 1)
    assert found(strategies.well_scaled(SHAPES), lambda a: a.shape[1] > 2).shape == (1, 3)


def test_saturated_has_both_ends_zeros_and_ties():
    for condition in (lambda a: a.max() == 20, lambda a: a.min() == -20, lambda a: (a == 0).all(),
                      lambda a: (a == a.max()).sum() > 1, lambda a: len(set(a)) == 3):
        array = found(strategies.saturated((4,)), condition)
        assert set(array) <= {-20, 0, 20}
    assert set(found(strategies.saturated((40,), 3.0), lambda a: True)) == {-3, 0, 3}


@given(st.data(), st.integers(1, 6), st.integers(1, 5))
def test_a_mask_is_that_of_its_lengths(data, T, B):
    lengths, mask = data.draw(strategies.lengths_and_mask(T, B))
    assert lengths.shape == (B,) and lengths.min() >= 1 and lengths.max() <= T and lengths.dtype == np.int64
    assert mask.shape == (T, B) and mask.dtype == bool
    np.testing.assert_array_equal(mask.sum(axis=0), lengths)
    assert all(mask[:n, b].all() for b, n in enumerate(lengths))


def test_lengths_of_one_and_of_all_come_side_by_side():
    lengths, _ = found(strategies.lengths_and_mask(6, 3), lambda pair: {1, 6} <= set(pair[0]))
    assert {1, 6} <= set(lengths)
    assert (found(strategies.lengths_and_mask(6, 3), lambda pair: True)[0] == 1).all()


def test_masks_may_be_all_on_all_off_or_mixed():
    for condition in (np.all, lambda m: not m.any(), lambda m: m.any() and not m.all()):
        assert found(strategies.masks((2, 3)), condition).shape == (2, 3)


def test_without_hypothesis_one_sentence_says_what_to_install():
    code = "import sys; sys.modules['hypothesis'] = None; import scratchnmt.gradcheck.strategies"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: scratchnmt.gradcheck.strategies needs hypothesis: pip install" in result.stderr
