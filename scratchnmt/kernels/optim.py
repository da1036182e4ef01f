"""The norm of a gradient and Adam, one launch each, without waiting for the GPU: the twin of optim.py."""

from __future__ import annotations

from math import inf

import numpy as np

from .. import optim as plain
from ..arrays import Array, array_module
from ..models.parameters import Parameters
from .launch import Plan, buffer, launch

EQUATIONS = plain
TWINS = {"global_norm": plain.global_norm, "adam": plain.Adam.step}
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


class Adam(plain.Adam):
    """`scratchnmt.optim.Adam` with the update in one launch; its state is the same.

    `step` is `announce`, which tells the GPU what changes from step to step, and `update`, the launch, which a
    captured step can hold.
    """

    def __init__(self, params: Parameters, learning_rate: float = 1e-3,
                 betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8):
        super().__init__(params, learning_rate, betas, eps)
        self.numbers = array_module(params.flat).zeros(3, "float64")  # t, learning rate, scale

    def step(self, grads: Parameters, scale: float = 1.0) -> None:
        """Move the weights along `scale` times the gradients, which are left as they are."""
        self.announce(scale)
        self.update(grads)

    def announce(self, scale: float = 1.0) -> None:
        """Begin the next step: its number, the learning rate and the scale go to the GPU."""
        self.step_count += 1
        numbers = np.array([self.step_count, self.learning_rate, scale])
        self.numbers[...] = array_module(self.numbers).asarray(numbers)

    def update(self, grads: Parameters, norm: Array | None = None, max_norm: float = inf) -> None:
        """The launch.  With its norm, (1,) from `global_norm`, the scaled gradient is clipped to max_norm."""
        w, g = self.params.flat, grads.flat
        buffer("Adam: the gradient", g, w, w.shape, w.dtype)
        launch("optim", "adam", w.dtype, over_vector(w.size), w, g, self.m, self.v, self.numbers,
               self.numbers if norm is None else norm, *np.float64((max_norm, *self.betas, self.eps)),
               np.int64(w.size))


def over_vector(size: int) -> Plan:
    """As many threads as elements, up to so many that each takes several."""
    return Plan((min(BLOCKS, -(-size // THREADS)), 1, 1), (THREADS,))
