"""The gradients of the outputs that go into backward: drawn, or the caller's where they see something."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import Array, array_module
from .convention import draw_dys, given_dys, output_names, outputs
from .inputs import to_host
from .measure import rms
from .numeric import central, complex_step

Dys = list[Array]


def choose_dys(f: Callable, args: Mapping[str, Any], names: Sequence[str], y: Any, dys: Any, *, seed: int,
               method: str = "complex") -> Dys:
    """Random ones for the outputs y of f(**args), or the caller's.

    ValueError if those do not fit, or see nothing: where the sum of an output is constant, as a softmax's is,
    and dy is the same for all that is summed, the gradient is zero, and every formula passes that gives zero.
    """
    drawn = draw_dys(outputs(y), seed)
    if dys is None:
        return drawn
    dys = given_dys(y, dys)
    if not any(to_host(dy).any() for dy in dys):
        raise ValueError("dys are all zero, so the check would see nothing; leave dys out")
    for k, name in enumerate(output_names(y)):
        if to_host(dys[k]).any() and _is_blind(f, args, names, dys, drawn, k, method, seed):
            raise ValueError(f"by dys[{k}] the gradient is zero, perhaps since it is the same for all elements of "
                             f"{name} whose sum is constant: the check would see nothing; leave dys out")
    return dys


def _is_blind(f: Callable, args: Mapping[str, Any], names: Sequence[str], dys: Dys, drawn: Dys, k: int,
              method: str, seed: int) -> bool:
    """Along a random direction, is the derivative by dys[k] negligible beside that by a random one?"""
    derivative, negligible = (complex_step, 1e-10) if method == "complex" else (central, 1e-6)
    rng = np.random.default_rng(seed)
    u = {name: array_module(args[name]).asarray(rng.choice([-1.0, 1.0], args[name].shape)) for name in names}

    def seen(some: Dys) -> float:
        alone = [dy if i == k else 0 * dy for i, dy in enumerate(some)]
        with np.errstate(all="ignore"):
            return abs(derivative(f, args, u, dys=alone)) / rms(to_host(some[k]).astype(float))
    could_be_seen = seen(drawn)
    return could_be_seen > 0 and seen(dys) <= negligible * could_be_seen
