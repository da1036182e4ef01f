"""The guard of complex-step: one real difference tells whether the forward pass is complex-analytic."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import Array, array_module
from .convention import cast
from .inputs import to_host
from .kinks import has_kink
from .numeric import Line, NotAnalyticError, complex_step, extrapolated, line, magnitude, real_step, slope

TOLERANCE = 1e-6
BESIDE = 1e-3  # how far beside a kink, relative to an array's size


def check_analytic(f: Callable, args: Mapping[str, Any], names: Sequence[str], *, dys: Sequence[Array],
                   seed: int = 0) -> None:
    """NotAnalyticError if complex-step and a real difference disagree along one random direction.

    What complex-step silently loses (abs inside a product, var) would else be called a wrong gradient,
    or worse, agree with a backward pass that forgot the same term.  At a kink (a relu at zero) they may
    disagree; then they must agree at a point close by.
    """
    exact, found, kink = _compare(f, args, names, dys, seed)
    if found is None or (kink and _agree_beside(f, args, names, dys, seed)):
        return
    raise NotAnalyticError(
        f"along a random direction complex-step gives {exact:.6g}, a real difference {found:.6g}: "
        "the forward pass is not complex-analytic (abs, norm, var, conj, a complex comparison?); "
        "rewrite that step on the real part, x * x for abs(x)**2, or check with method='central'"
    )


def contradiction(f: Line, exact: float, size: float, step: float) -> float | None:
    """A real difference at 0 that disagrees with the derivative `exact`; None if one agrees.

    1e-6 is asked for; a central difference that fails for rounding is followed by Richardson's at wide
    steps, then, in case f is sharply curved, at short ones.  size: of the terms that f sums up, whose
    rounding limits any difference.
    """
    allowed = TOLERANCE * (abs(exact) + 1e-3 * size)
    for difference in (lambda: slope(f, step), lambda: extrapolated(f, step=2.0**-10)[0],
                       lambda: extrapolated(f, step=step)[0]):
        found = difference()
        if abs(found - exact) <= allowed:
            return None
    return found


def _compare(f, args, names, dys, seed) -> tuple[float, float | None, bool]:
    """(by complex-step, a real difference if it disagrees, is there a kink that may be why?)"""
    rng = np.random.default_rng([seed, 3])
    drawn = {name: rng.standard_normal(args[name].shape) for name in names}
    norm = math.sqrt(sum(float((v * v).sum()) for v in drawn.values()))
    u = {name: array_module(args[name]).asarray(v / norm) for name, v in drawn.items()}
    exact = complex_step(f, args, u, dys=dys)
    size, step = magnitude(f, cast(args, "float64"), dys), real_step(*(args[name] for name in names))
    along = line(f, args, u, dys=dys)
    found = contradiction(along, exact, size, step)
    return exact, found, found is not None and has_kink(along, size=size, step=step, reach=step)


def _agree_beside(f, args, names, dys, seed) -> bool:
    try:
        with np.errstate(all="ignore"):
            return _compare(f, _beside(args, names, seed), names, dys, seed)[1] is None
    except NotAnalyticError:  # not finite there: outside of where the forward pass is defined
        return False


def _beside(args: Mapping[str, Any], names: Sequence[str], seed: int) -> dict[str, Any]:
    """The arguments moved a little, each element its own way, so that none is on a kink any more."""
    rng = np.random.default_rng([seed, 1])
    moved = dict(args)
    for name in names:
        by = rng.uniform(0.5, 1.5, args[name].shape) * rng.choice([-1.0, 1.0], args[name].shape)
        by *= BESIDE * (float(abs(to_host(args[name])).max()) or 1.0)
        moved[name] = args[name].astype("float64") + array_module(args[name]).asarray(by)
    return moved
