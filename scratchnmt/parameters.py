"""Named weights (or gradients) that are views of one flat vector.

A model has dozens of weight arrays; clipping, Adam and copying want one long vector.  Both are
the same memory here: `params["decoder.Wh"]` is a reshaped slice of `params.flat`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from types import ModuleType
from typing import Any

import numpy as np

from .arrays import Array, array_module
from .errors import ArgumentError


class Parameters(Mapping[str, Array]):
    """A read-only mapping from names to arrays, each a view of `flat`.

    shapes: name -> shape, in the order in which they lie in the vector.
    flat: the vector to look into, (sum of sizes,); a new one of zeros if left out.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], dtype: Any = "float32",
                 xp: ModuleType = np, flat: Array | None = None):
        self.shapes = dict(shapes)
        size = sum(prod(shape) for shape in self.shapes.values())
        self._views: dict[str, Array] = {}
        self.look_into(xp.zeros(size, dtype) if flat is None else flat)

    def look_into(self, flat: Array) -> None:
        """From now on be views of another vector, for all who have these parameters; ArgumentError for another size."""
        size = sum(prod(shape) for shape in self.shapes.values())
        if flat.shape != (size,):
            raise ArgumentError(f"Parameters: flat has shape {flat.shape}, expected ({size},), "
                                "the sum of the sizes")
        self.flat = flat
        start = 0
        for name, shape in self.shapes.items():
            stop = start + prod(shape)
            self._views[name] = self.flat[start:stop].reshape(shape)
            start = stop

    def __getitem__(self, name: str) -> Array:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __repr__(self) -> str:
        return f"Parameters({self.flat.size:,} {self.flat.dtype} in {len(self)} arrays)"

    def like(self, flat: Array | None = None) -> Parameters:
        """The same names and shapes over another vector (zeros of the same dtype and device if left out)."""
        if flat is None:
            flat = array_module(self.flat).zeros_like(self.flat)
        return Parameters(self.shapes, flat=flat)

    def copy(self) -> Parameters:
        """The same names over a copy of the vector."""
        return self.like(self.flat.copy())

    def __reduce__(self) -> tuple[Any, ...]:
        """For copy, deepcopy and pickle, which would make an array of its own of each view."""
        return _over, (self.shapes, self.flat)


def _over(shapes: Mapping[str, tuple[int, ...]], flat: Array) -> Parameters:
    return Parameters(shapes, flat=flat)
