"""Hints from where the wrong elements lie: each fires for its region, and not for less or more than it."""

import numpy as np
import pytest

from scratchnmt.gradcheck.hints import Mismatch, behind_a_mask, own_last_step, repeated_ids, some_groups, steps

RNG = np.random.default_rng(4)
T, B, H = 4, 3, 5
R = RNG.standard_normal((T, B, H))


def mismatch(wrong, reference=R, *, groups=None, args=None, sampled=False):
    """A gradient that is wrong where `wrong`, which broadcasts to the reference, is True."""
    wrong = np.broadcast_to(wrong, reference.shape)
    found = np.where(wrong, 1.7 * reference + 1, reference)
    indices = np.sort(RNG.choice(reference.size, reference.size // 2, replace=False)) if sampled else (
        np.arange(reference.size))
    return Mismatch("dx", "x", reference.shape, *(a.reshape(-1)[indices] for a in (found, reference, found, wrong)),
                1e-12, args or {}, indices, groups)


def at(*steps):
    """(T, 1, 1) True at these steps"""
    return np.isin(np.arange(T), steps)[:, None, None]


GROUPS = ("gate i", "gate i", "gate f", "gate f", "gate g")


@pytest.mark.parametrize("sampled", [False, True])
def test_some_gates(sampled):
    columns = np.array([name == "gate f" for name in GROUPS])
    one, others = (mismatch(wrong, groups=GROUPS, sampled=sampled) for wrong in (columns, ~columns))
    assert some_groups(one) == "dx: gates i, g are right, gate f is wrong"
    assert some_groups(others) == "dx: gate f is right, gates i, g are wrong"
    assert some_groups(mismatch(columns, sampled=sampled)) is None
    assert some_groups(mismatch(True, groups=GROUPS)) is None


def test_one_wrong_element_is_no_wrong_gate():
    one = np.zeros(R.shape, bool)
    one[2, 1, 3] = True
    assert some_groups(mismatch(one, groups=GROUPS)) is None and steps(mismatch(one)) is None


def test_a_gate_that_is_right_because_it_is_zero_says_nothing():
    reference = R * [0, 0, 1, 1, 1]
    assert some_groups(mismatch([False, False, True, True, True], reference, groups=GROUPS)) is None


def test_labels_without_a_common_word():
    groups = ("weights", "weights", "bias", "bias", "scale")
    assert some_groups(mismatch([0, 0, 1, 1, 0], groups=groups)) == "dx: weights, scale are right, bias is wrong"


@pytest.mark.parametrize("wrong, sentence", [
    (at(0, 1, 2), "right at the last index of axis 0 only: if that is time, is dh_next carried as it should be?"),
    (at(1, 2, 3), "right at the first index of axis 0 only"),
    (at(0), "wrong at the first index of axis 0 only"),
    (at(3), "wrong at the last index of axis 0 only"),
    (at(1), None), (at(0, 1), None), (at(0, 3), None), (at(0, 1, 2, 3), None), (at(), None),
])
@pytest.mark.parametrize("sampled", [False, True])
def test_steps(wrong, sentence, sampled):
    found = steps(mismatch(wrong, sampled=sampled))
    assert found is None if sentence is None else found.startswith(f"dx is {sentence}")


def test_a_step_that_was_left_out_is_zero():
    dropped = mismatch(at(0))._replace(backward=np.where(np.broadcast_to(at(0), R.shape), 0, R).reshape(-1))
    sentence = "dx is wrong at the first index of axis 0 only"
    assert steps(dropped) == f"{sentence}, and zero there: is that step left out?"
    assert steps(mismatch(at(0))) == sentence


def test_a_vector_and_a_single_step_have_no_steps():
    assert steps(mismatch(np.arange(4) == 0, RNG.standard_normal(4))) is None
    assert steps(mismatch(at(1, 2, 3)[:1], RNG.standard_normal((1, 4, 2)))) is None


@pytest.mark.parametrize("steps_wrong", [(0,), (3,), (0, 1, 2), (1, 2, 3)])
def test_a_batch_of_states_has_no_steps(steps_wrong):
    """dh0 (B, H), right for the longest sentence alone."""
    assert steps(mismatch(np.isin(np.arange(4), steps_wrong)[:, None], RNG.standard_normal((4, 5)))) is None


LENGTHS = np.array([2, 4, 3])
T_OF = np.arange(T)[:, None]


def padded(reference=R):
    return reference * (LENGTHS > T_OF)[..., None]


@pytest.mark.parametrize("sampled", [False, True])
def test_right_at_every_sequences_own_last_step(sampled):
    carried = (LENGTHS - 1 > T_OF)[..., None]
    args = {"lengths": LENGTHS}
    assert own_last_step(mismatch(carried, padded(), args=args, sampled=sampled)) == (
        "dx is right at the last step only, by lengths: is dh_next carried as it should be?")
    assert own_last_step(mismatch(carried, padded(), args={}, sampled=sampled)) is None
    assert own_last_step(mismatch(carried, padded(), args={"lengths": LENGTHS[::-1].copy()}, sampled=sampled)) is None
    assert own_last_step(mismatch(True, padded(), args=args, sampled=sampled)) is None


MASK = LENGTHS > T_OF


@pytest.mark.parametrize("mask", [MASK, MASK.T])
@pytest.mark.parametrize("sampled", [False, True])
def test_right_except_where_the_mask_is_off(mask, sampled):
    for value, region in ((False, ~MASK), (True, MASK)):
        found = behind_a_mask(mismatch(region[..., None], args={"keep": mask}, sampled=sampled))
        assert found == f"dx is right except where keep is {value}: does what is masked get a gradient?"
    less, more = ~MASK & (T_OF > 2), ~MASK | (T_OF == 0)
    for wrong in (less, more, MASK & (T_OF > 0), MASK | True):
        assert behind_a_mask(mismatch(wrong[..., None], args={"keep": mask}, sampled=sampled)) is None


def test_what_is_masked_and_zero_is_not_called_right():
    """Wrong wherever there is a gradient: that is no matter of the mask."""
    assert behind_a_mask(mismatch(MASK[..., None], padded(), args={"keep": MASK})) is None


def test_a_mask_of_one_axis_and_of_all():
    rows = np.array([True, False, True, True])
    assert "where keep is False" in behind_a_mask(mismatch(~rows[:, None, None], args={"keep": rows}))
    every = RNG.random(R.shape) < 0.5
    assert "where keep is False" in behind_a_mask(mismatch(~every, args={"keep": every}))
    assert behind_a_mask(mismatch(~rows[:, None, None], args={"keep": rows[:3]})) is None


def test_right_except_beyond_the_lengths():
    for reference, wrong in ((R, ~MASK[..., None]), (R.swapaxes(0, 1), ~MASK.T[..., None])):
        assert behind_a_mask(mismatch(wrong, reference, args={"lengths": LENGTHS})) == (
            "dx is right except beyond lengths: does padding get a gradient?")
        assert behind_a_mask(mismatch(~wrong, padded() if reference is R else padded().swapaxes(0, 1),
                                  args={"lengths": LENGTHS})) is None


@pytest.mark.parametrize("sampled", [False, True])
def test_an_id_that_occurs_twice(sampled):
    ids = np.array([[0, 3], [3, 5], [5, 5]])
    table = RNG.standard_normal((7, 40)) * np.isin(np.arange(7), ids)[:, None]
    repeated = np.isin(np.arange(7), [3, 5])[:, None]
    assert repeated_ids(mismatch(repeated, table, args={"ids": ids}, sampled=sampled)) == (
        "dx is wrong only in the rows whose number occurs more than once in ids: "
        "is an id that occurs twice counted once?")
    once = np.isin(np.arange(7), [3])[:, None]
    for wrong, args in ((repeated | ~repeated, {"ids": ids}), (once & False, {"ids": ids}), (repeated, {}),
                        (repeated, {"ids": ids + 5}), (repeated, {"ids": np.array([0, 3, 5])})):
        assert repeated_ids(mismatch(wrong, table, args=args, sampled=sampled)) is None
    assert repeated_ids(mismatch(~repeated, table, args={"ids": ids}, sampled=sampled)) is None
