"""What hypothesis draws for an op: sizes, lengths, masks and a seed, never single floats.

    from hypothesis import given, strategies as st
    from scratchnmt.gradcheck import strategies

    @given(strategies.sizes("B H").flatmap(lambda n: strategies.well_scaled((n["B"], n["H"]))))
    def test_softmax(gradcheck, x):
        gradcheck.assert_gradients(softmax_forward, softmax_backward, {"x": x})

Elements come from a NumPy generator with a drawn seed: that is fast, well scaled (floats drawn one by
one mostly test saturation), free of subnormal numbers, which GPUs flush to zero, and shrinks to small
shapes.  Every size can be 1, where broadcasting mistakes hide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

try:
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as hnp
except ImportError as error:
    raise ImportError("scratchnmt.gradcheck.strategies needs hypothesis: pip install hypothesis") from error

Strategy: TypeAlias = st.SearchStrategy
Shape: TypeAlias = "int | Sequence[int] | Strategy[tuple[int, ...]]"


def sizes(names: str, *, min_size: int = 1, max_size: int = 5) -> Strategy[dict[str, int]]:
    """{"T": 3, "B": 1, ...} for names "T B ...", each from min_size to max_size."""
    return st.fixed_dictionaries({name: st.integers(min_size, max_size) for name in names.split()})


def seeds() -> Strategy[int]:
    """Seeds for np.random.default_rng."""
    return st.integers(0, 2**32 - 1)


def well_scaled(shape: Shape, dtype: str = "float64") -> Strategy[np.ndarray]:
    """Arrays of normal values around zero, about 1 in size; shape may be drawn too."""
    return _arrays(shape, dtype, lambda rng, shape: rng.standard_normal(shape))


def saturated(shape: Shape, limit: float = 20.0, dtype: str = "float64") -> Strategy[np.ndarray]:
    """Arrays of -limit, 0 and limit alone: flat ends of tanh and sigmoid, and ties for a maximum."""
    return _arrays(shape, dtype, lambda rng, shape: rng.choice([-limit, 0.0, limit], shape))


def lengths(T: int, B: int) -> Strategy[np.ndarray]:
    """Lengths of B sentences, (B,) from 1 to T; a sentence of one token and a full one are likely."""
    one = st.one_of(st.just(1), st.just(T), st.integers(1, T))
    return st.lists(one, min_size=B, max_size=B).map(lambda values: np.array(values, dtype=np.int64))


def lengths_and_mask(T: int, B: int) -> Strategy[tuple[np.ndarray, np.ndarray]]:
    """`lengths` (B,) with their mask (T, B), True = a token."""
    return lengths(T, B).map(lambda some: (some, np.arange(T)[:, None] < some))


def masks(shape: Shape) -> Strategy[np.ndarray]:
    """Boolean arrays, anything from all True to all False."""
    return hnp.arrays(bool, shape if isinstance(shape, (int, Strategy)) else tuple(shape))


def _arrays(shape: Shape, dtype: str, draw: Callable[..., np.ndarray]) -> Strategy[np.ndarray]:
    shapes = shape if isinstance(shape, Strategy) else st.just(shape)

    def array(some: Sequence[int], seed: int) -> np.ndarray:
        values = np.asarray(draw(np.random.default_rng(seed), some), dtype)
        return np.where(abs(values) < np.finfo(dtype).tiny, np.zeros_like(values), values)  # subnormal

    return st.builds(array, shapes, seeds())
