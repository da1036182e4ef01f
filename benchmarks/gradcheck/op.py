"""An op as every checker sees it: a function of float64 arrays, and the gradients its backward returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from scratchnmt.gradcheck import convention

Arrays = Sequence[np.ndarray]


class Op(NamedTuple):
    """A hand-written pair and the arguments to check it at."""

    name: str
    forward: Callable
    backward: Callable
    args: dict[str, Any]
    wrt: tuple[str, ...] | None = None  # None: every array of floats

    @property
    def names(self) -> list[str]:
        return convention.differentiable(self.args, self.wrt)

    def inputs(self) -> list[np.ndarray]:
        """Copies of the arguments to differentiate, for a checker to disturb."""
        return [self.args[name].copy() for name in self.names]

    def run(self, *inputs: np.ndarray) -> tuple[list[np.ndarray], Any]:
        """(the outputs that have a gradient, cache)"""
        given = dict(zip(self.names, inputs, strict=True))
        y, cache = convention.run_forward(self.forward, {**self.args, **given})
        return [np.asarray(v) for v in convention.outputs(y)], cache

    def gradients(self, dys: Arrays, cache: Any) -> list[np.ndarray]:
        """backward's gradients, in the order of `inputs`."""
        gradients = convention.named_gradients(self.backward(*dys, cache), self.args, self.names)
        return [np.asarray(gradients[name]) for name in self.names]

    def recomputed(self, inputs: Arrays, dys: Arrays) -> list[np.ndarray]:
        """`gradients` for frameworks that keep arrays between the passes, but not a cache of any type."""
        return self.gradients(dys, self.run(*inputs)[1])

    def draw_dys(self, seed: int) -> list[np.ndarray]:
        return convention.draw_dys(self.run(*self.inputs())[0], seed)

    def times(self, factor: float) -> Op:
        """The op with all its outputs multiplied by a number."""
        def forward(**args: Any) -> tuple[tuple, Any]:
            y, cache = convention.run_forward(self.forward, args)
            return tuple(factor * v for v in convention.outputs(y)), cache

        def backward(*dys_and_cache: Any) -> Any:
            *dys, cache = dys_and_cache
            return self.backward(*(factor * dy for dy in dys), cache)
        return self if factor == 1 else self._replace(forward=forward, backward=backward)


def op_of(case: Any, seed: int = 0, **sizes: int) -> Op:
    """The op of a line of scratchnmt.selfcheck.CASES (or of a patched copy's) at arguments from the seed."""
    args = case.arguments({**case.sizes, **sizes}, np.random.default_rng(seed))
    return Op(case.name, case.forward, case.backward, args, case.wrt)


def weighted_sum(ys: Arrays, dys: Arrays) -> Any:
    """The scalar whose gradient by each y is its dy."""
    return sum((y * dy).sum() for y, dy in zip(ys, dys, strict=True))
