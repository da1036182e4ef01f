"""Packed rows: every token once, no padding, each sentence at the same place of every step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchnmt.gradcheck import strategies
from scratchnmt.ops.packing import pack, steps, steps_back

drawn_lengths = st.tuples(st.integers(1, 6), st.integers(1, 5)).flatmap(lambda tb: strategies.lengths(*tb))


def test_the_example_of_the_module():
    packing = pack(np.array([3, 1, 2]), 4)
    assert packing.order.tolist() == [0, 2, 1]
    assert packing.counts == [3, 2, 1] and packing.offsets == [0, 3, 5, 6]
    assert packing.rows.tolist() == [0, 2, 1, 3, 5, 6]  # t * B + b
    assert packing.reversed_rows.tolist() == [6, 5, 1, 3, 2, 0]
    assert packing.last.tolist() == [5, 4, 2]


@given(drawn_lengths)
def test_rows_of_a_sentence(lengths):
    packing, B = pack(lengths, max(lengths)), len(lengths)
    assert sorted(packing.rows) == [t * B + b for t in range(max(lengths)) for b in range(B) if t < lengths[b]]
    assert packing.offsets[-1] == sum(lengths) == sum(packing.counts)
    for j, b in enumerate(packing.order):
        places = [start + j for start in packing.offsets[: lengths[b]]]
        assert packing.rows[places].tolist() == [t * B + b for t in range(lengths[b])]
        assert packing.reversed_rows[places].tolist() == [t * B + b for t in reversed(range(lengths[b]))]
        assert packing.last[j] == places[-1]


@given(drawn_lengths)
def test_steps_go_from_a_row_to_the_same_sentences_next(lengths):
    packing = pack(lengths, max(lengths))
    t, b = np.divmod(packing.rows, len(lengths))
    forward, back = list(steps(packing)), list(steps_back(packing))
    assert len(forward) == len(back) == max(lengths)
    for step, (now, following, n_next) in enumerate(forward):
        assert (t[now] == step).all() and (t[following] == step + 1).all()
        assert n_next == len(t[following]) == (lengths > step + 1).sum()
        np.testing.assert_array_equal(b[now][:n_next], b[following])
    for (now, before), (expected, _, _) in zip(back, forward[::-1]):
        assert now == expected
        if before is None:
            assert (t[now] == 0).all()
        else:
            np.testing.assert_array_equal(b[now], b[before])
            np.testing.assert_array_equal(t[now], t[before] + 1)


@pytest.mark.parametrize("lengths", [[], [0, 2], [2, -1], [5, 1], [[1, 2]]])
def test_lengths_that_cannot_be(lengths):
    with pytest.raises(ValueError, match="expected one from 1 to T = 4 for each sentence"):
        pack(np.array(lengths), 4)
