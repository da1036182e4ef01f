"""The norm of a gradient, Adam and SGD, one launch each, without waiting for the GPU: the twin of optim.py."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import inf, sqrt

import numpy as np

from .. import optim as plain
from ..arrays import Array, array_module
from ..errors import ArgumentError
from ..optim import WHOLE
from ..parameters import Parameters
from .launch import LaunchConfig, buffer, launch

EQUATIONS = plain
TWINS = {"global_norm": plain.global_norm, "adam": plain.Adam.step, "sgd": plain.SGD.step}
THREADS = 256
BLOCKS = 1024  # at most; fixed, so that every card adds up the same partial sums


def global_norm(grads: Parameters) -> Array:
    """The Euclidean norm of all gradients together, as one vector: (1,) of float64, still on the GPU."""
    g = grads.flat
    xp = array_module(g)
    plan = over_vector(g.size)
    partial, norm, done = xp.empty(plan.grid[0], "float64"), xp.zeros(1, "float64"), xp.zeros(1, "uint32")
    launch("optim", "global_norm", g.dtype, plan, g, partial, done, norm, np.int64(g.size))
    return norm


class _InOneLaunch(ABC):
    """A step is `advance`, which counts it on the host, and `update`, the launch, which a recorded step can hold."""

    kernel: str
    params: Parameters
    step_count: int
    learning_rate: float

    @abstractmethod
    def _moments(self) -> tuple[Array, ...]: ...

    @abstractmethod
    def _constants(self) -> tuple[float, ...]: ...

    def step(self, grads: Parameters, scale: float = 1.0, part: slice = WHOLE) -> None:
        """Move the weights along `scale` times the gradients, which are left as they are.

        ValueError for a part of them.
        """
        if part != WHOLE:
            raise ArgumentError(f"a launch moves all weights, not those in {part}")
        self.update(grads, array_module(grads.flat).asarray(self.advance(scale)))

    def advance(self, scale: float = 1.0) -> np.ndarray:
        """Begin the next step: what changes from one to the next, (3,) of float64: its number, rate and scale."""
        self.step_count += 1
        return np.array([self.step_count, self.learning_rate, scale])

    def update(self, grads: Parameters, numbers: Array, norm: Array | None = None, max_norm: float = inf) -> None:
        """The launch, with what `advance` returned, (3,), on the GPU.

        With the norm of the gradient, (1,) from `global_norm`, the scaled gradient is clipped to max_norm; if the norm
        is not finite, nothing is moved.
        """
        w, g = self.params.flat, grads.flat
        buffer(f"{self.kernel}: the gradient", g, w, w.shape, w.dtype)
        launch("optim", self.kernel, w.dtype, over_vector(w.size), w, g, *self._moments(), numbers,
               numbers if norm is None else norm, *map(np.float64, (max_norm, *self._constants())), np.int64(w.size))


class Adam(_InOneLaunch, plain.Adam):
    """`scratchnmt.optim.Adam` with the update in one launch; its state is the same."""

    kernel = "adam"

    def _moments(self) -> tuple[Array, ...]:
        return self.m, self.v

    def _constants(self) -> tuple[float, ...]:
        """b1, b2, and what is added to sqrt(V): a number that is divided by s or, with eps_hat, one that is not."""
        added = self.eps / sqrt(1 - self.betas[1])
        return (*self.betas, 0.0, added) if self.eps_hat else (*self.betas, self.eps, 0.0)


class SGD(_InOneLaunch, plain.SGD):
    """`scratchnmt.optim.SGD` with the update in one launch; its state is the same."""

    kernel = "sgd"

    def _moments(self) -> tuple[Array, ...]:
        return (self.params.flat if self.velocity is None else self.velocity,)  # without momentum it is not read

    def _constants(self) -> tuple[float, ...]:
        return (self.momentum,)


def over_vector(size: int) -> LaunchConfig:
    """As many threads as elements, up to so many that each takes several."""
    return LaunchConfig((min(BLOCKS, -(-size // THREADS)), 1, 1), (THREADS,))
