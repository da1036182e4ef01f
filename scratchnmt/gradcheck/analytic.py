"""The guard of complex-step: one real difference tells whether the forward pass is complex-analytic."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import Array, array_module
from .differences import EPS, Line, settled, slope, spread, widest_step
from .inputs import to_host
from .measure import NOISE
from .numeric import NotAnalyticError, complex_step, line, size_of

TOLERANCE = 1e-6
DOUBTS = 4  # by more than so many of its own doubts must a difference be off to contradict
BESIDE = 1e-3  # how far beside a kink, relative to an array's size


def check_analytic(f: Callable, args: Mapping[str, Any], names: Sequence[str], *, dys: Sequence[Array],
                   seed: int = 0) -> None:
    """NotAnalyticError if complex-step and a real difference disagree along one random direction.

    What complex-step silently loses (abs inside a product, var) would else be called a wrong gradient,
    or worse, agree with a backward pass that forgot the same term.  Where the difference can tell nothing,
    on a kink (a relu at zero), they must agree at a point close by; if it cannot tell there either, since
    rounding hides the slope, complex-step is believed.
    """
    exact, found, verdict = _compare(f, args, names, dys, seed)
    if verdict == "same" or (verdict == "unclear" and _agree_beside(f, args, names, dys, seed)):
        return
    raise NotAnalyticError(
        f"along a random direction complex-step gives {exact:.6g}, a real difference {found:.6g}: "
        "the forward pass is not complex-analytic (abs, norm, var, conj, a complex comparison?); "
        "rewrite that step on the real part, x * x for abs(x)**2, or check with method='richardson'"
    )


def compared(f: Line, exact: float, at: float) -> tuple[float, str]:
    """(a real difference at 0, a verdict on it beside the derivative `exact`: "same", "different" or "unclear")

    1e-6 is asked for, or what rounding leaves in doubt.  at: the size of what moves along the line.
    """
    with np.errstate(all="ignore"):
        if abs(slope(f, widest_step(at)) - exact) <= TOLERANCE * abs(exact):  # as a rule: two forward passes
            return exact, "same"
    flat = NOISE * EPS * float(np.abs(f(0.0)).sum())  # no difference shows a slope as small as that
    for method in ("central", "richardson"):  # by chance, rounding may leave one without doubt
        found, doubt, step = settled(f, at, method)
        gap = abs(found - exact)
        if gap <= TOLERANCE * abs(exact) + flat:
            return found, "same"
        if not doubt < 0.01 * (abs(found) + abs(exact)):
            return found, "unclear"
        if gap <= DOUBTS * max(doubt, spread(f, step)):
            return found, "same"
    return found, "different"


def _compare(f, args, names, dys, seed) -> tuple[float, float, str]:
    """(by complex-step, by a real difference, the verdict on the two)"""
    rng = np.random.default_rng([seed, 3])
    drawn = {name: rng.standard_normal(args[name].shape) for name in names}
    norm = math.sqrt(sum(float((v * v).sum()) for v in drawn.values()))
    u = {name: array_module(args[name]).asarray(v / norm) for name, v in drawn.items()}
    exact = complex_step(f, args, u, dys=dys)
    return exact, *compared(line(f, args, u, dys=dys), exact, size_of(args, names))


def _agree_beside(f, args, names, dys, seed) -> bool:
    try:
        with np.errstate(all="ignore"):
            return _compare(f, _beside(args, names, seed), names, dys, seed)[2] != "different"
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
