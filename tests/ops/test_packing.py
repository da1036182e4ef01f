"""Packed rows: every token once, no padding, each sentence at the same place of every step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchnmt.gradcheck import strategies
from scratchnmt.ops.packing import pack, pack_whole, steps, steps_back

drawn_lengths = st.tuples(st.integers(1, 6), st.integers(1, 5)).flatmap(lambda tb: strategies.lengths(*tb))


def test_the_example_of_the_module():
    packing = pack(np.array([3, 1, 2]), 4)
    assert packing.order.tolist() == [0, 2, 1]
    assert packing.counts == [3, 2, 1] and packing.offsets == [0, 3, 5, 6]
    assert packing.rows.tolist() == [0, 2, 1, 3, 5, 6]  # t * B + b
    assert packing.reversed_rows.tolist() == [6, 5, 1, 3, 2, 0]
    assert packing.last.tolist() == [8, 7, 5]  # of B + N states
    assert packing.previous.tolist() == [0, 1, 2, 3, 4, 6] and packing.padding_mask is None


@given(drawn_lengths)
def test_rows_of_a_sentence(lengths):
    packing, B = pack(lengths, max(lengths)), len(lengths)
    assert sorted(packing.rows) == [t * B + b for t in range(max(lengths)) for b in range(B) if t < lengths[b]]
    assert packing.offsets[-1] == sum(lengths) == sum(packing.counts)
    for j, b in enumerate(packing.order):
        places = [start + j for start in packing.offsets[: lengths[b]]]
        assert packing.rows[places].tolist() == [t * B + b for t in range(lengths[b])]
        assert packing.reversed_rows[places].tolist() == [t * B + b for t in reversed(range(lengths[b]))]
        assert packing.last[j] == B + places[-1]


@given(drawn_lengths, st.booleans())
def test_a_step_starts_from_the_states_of_the_same_sentences(lengths, whole):
    T, B = max(lengths), len(lengths)
    packing = pack_whole(lengths, T + 1) if whole else pack(lengths, T)
    N = packing.offsets[-1]
    t, b = np.divmod(np.arange((T + 1) * B)[packing.rows], B)
    # which sentence and step each of the B + N states is of: those in front are of step -1
    state_t = np.concatenate([np.full(B, -1), t])
    state_b = np.concatenate([np.arange(B)[packing.order], b])
    forward = list(steps(packing))
    assert list(steps_back(packing)) == forward[::-1] and len(forward) == T + whole
    for step, (now, before, after) in enumerate(forward):
        assert (t[now] == step).all() and (state_t[after] == step).all() and (state_t[before] == step - 1).all()
        for states in before, after:
            np.testing.assert_array_equal(state_b[states], b[now])
    np.testing.assert_array_equal(np.arange(B + N)[packing.previous],
                                  np.concatenate([np.arange(B + N)[step.before] for step in forward]))


@given(drawn_lengths)
def test_the_whole_layout_has_every_sentence_at_every_step(lengths):
    T, B = max(lengths) + 1, len(lengths)
    packing = pack_whole(lengths, T)
    is_token = np.arange(T)[:, None] < lengths
    assert packing.counts == [B] * T and packing.offsets[-1] == T * B
    np.testing.assert_array_equal(packing.padding_mask[:, 0] == 0, is_token.ravel())
    for b, length in enumerate(lengths):
        rows = packing.reversed_rows.reshape(T, B)[:, b]
        assert rows.tolist() == [t * B + b for t in (*reversed(range(length)), *range(length, T))]
        assert packing.last[b] == B + (length - 1) * B + b


@pytest.mark.parametrize("lengths", [[], [0, 2], [2, -1], [5, 1], [[1, 2]]])
def test_lengths_that_cannot_be(lengths):
    with pytest.raises(ValueError, match="expected one from 1 to T = 4 for each sentence"):
        pack(np.array(lengths), 4)
