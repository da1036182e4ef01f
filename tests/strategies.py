"""What hypothesis draws for our tests: sizes, lengths, masks and a seed, never single floats.

Array elements come from a NumPy generator with a drawn seed: that is fast, well scaled, and shrinks
to small shapes.  Every size can be 1, where broadcasting mistakes hide.
"""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


def sizes(names, *, min_size=1, max_size=4):
    """{"T": 3, "B": 1, ...} for names "T B ...", each from min_size to max_size."""
    return st.fixed_dictionaries({name: st.integers(min_size, max_size) for name in names.split()})


def lengths(T, B):
    """Lengths of B sentences, (B,) from 1 to T; a sentence of one token and a full one are likely."""
    one = st.one_of(st.just(1), st.just(T), st.integers(1, T))
    return st.lists(one, min_size=B, max_size=B).map(lambda values: np.array(values, dtype=np.int64))


def masks(shape):
    """Boolean arrays, anything from all True to all False."""
    return hnp.arrays(bool, shape)


def seeds():
    """Seeds for np.random.default_rng."""
    return st.integers(0, 2**32 - 1)
