"""Every element of every gradient of one op against its numerical reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import Array
from .analytic import check_analytic
from .contract import broken_promises, misshapen, run_twice
from .convention import (call, copied, describe, differentiable, draw_dys, given_dys, named_gradients,
                         outputs, run_backward, unchecked)
from .elements import compare
from .inputs import to_host
from .measure import rounding
from .numeric import central, check_method, complex_step
from .report import Report, TensorReport, raise_if_wrong

RTOL = {"complex": 1e-12, "richardson": 1e-8, "central": 1e-6}
"""The tolerance belongs to the method: about 500 times the error of a right gradient."""


def check_gradients(forward: Callable, backward: Callable, args: Mapping[str, Any], *,
                    wrt: Sequence[str] | None = None, dys: Any = None, method: str = "complex",
                    rtol: float | None = None, max_elements: int = 4096,
                    labels: Mapping[str, Sequence[str]] | None = None, contract: bool = True,
                    seed: int = 0) -> Report:
    """Compare every element of every gradient of one op with its numerical reference.

    forward(**args) -> (y, cache), where y may be a tuple; backward(*dys, cache) -> gradients named
    'd' + argument.  Every array of floats among args is differentiated, or those in `wrt`; the rest
    is left alone.  `dys` is drawn at random.  The reference is float64, whatever the dtype of args.
    `labels` names the places of an array's last axis, {"Wh": gate_labels(H)}.  Of an array larger than
    `max_elements` that many elements are drawn, an equal share from every label.
    ValueError: what was given does not fit; NotAnalyticError: complex-step cannot go through forward;
    GradcheckError: backward raised.
    """
    names = differentiable(args, wrt)
    labels = labels or {}
    _check_options(args, method, max_elements, labels)
    dtype, device = describe(args, names)
    rtol = max(RTOL[method], rounding(dtype)) if rtol is None else rtol
    given = copied(args)  # should backward write into what it was given, the reference is still right
    y, cache, broken = run_twice(forward, args)
    if broken:
        return Report(method, dtype, device, rtol, seed, (), broken)
    f = _without_cache(forward)
    dys = draw_dys(outputs(y), seed) if dys is None else _seeing(f, args, names, y, dys, method, seed)
    result = run_backward(backward, _copies(dys), cache)
    found = {name: to_host(g).copy() for name, g in named_gradients(result, args, names).items()}
    shapes = misshapen(found, args)
    broken = tuple(shapes.values())
    if contract:
        broken = broken_promises(forward, backward, copied(given), names, _copies(dys), seed)
    if method == "complex":
        check_analytic(f, given, names, dys=dys, seed=seed)
    compared = {name: g for name, g in found.items() if name not in shapes}
    tensors, hints, notes = compare(f, given, compared, dys, method=method, rtol=rtol, most=max_elements,
                                    labels=labels, seed=seed)
    tensors += tuple(TensorReport(f"d{n}", args[n].shape, 0, args[n].size, math.inf, math.nan) for n in shapes)
    notes += unchecked(result, args, names)
    return Report(method, dtype, device, rtol, seed, tensors, broken, hints, notes)


def assert_gradients(*args: Any, **kwargs: Any) -> Report:
    """`check_gradients`, raising GradcheckError with the report if anything is wrong."""
    __tracebackhide__ = True
    return raise_if_wrong(check_gradients(*args, **kwargs))


def gate_labels(hidden_size: int, gates: str = "ifgo") -> list[str]:
    """Labels for an axis of gate blocks: "gate f, unit 2"."""
    return [f"gate {gate}, unit {unit}" for gate in gates for unit in range(hidden_size)]


def _check_options(args: Mapping[str, Any], method: str, max_elements: int,
                   labels: Mapping[str, Sequence[str]]) -> None:
    check_method(method)
    if max_elements < 1:
        raise ValueError(f"max_elements is {max_elements}, expected at least 1")
    for name, texts in labels.items():
        if name not in args:
            raise ValueError(f"labels name {name!r}, which is no argument: {', '.join(args)}")
        shape = np.shape(args[name])
        if not shape or len(texts) != shape[-1]:
            raise ValueError(f"labels of {name}: {len(texts)} of them for an array of shape {shape}; "
                             "the last axis is labelled")


def _copies(dys: Sequence[Array]) -> list[Array]:
    return list(copied(dict(enumerate(dys))).values())


def _without_cache(forward: Callable) -> Callable:
    return lambda **args: call(forward, args)[0]


def _seeing(f: Callable, args: Mapping[str, Any], names: Sequence[str], y: Any, dys: Any, method: str,
            seed: int) -> list[Array]:
    """The caller's dys, looked over: all ones see nothing where the output's sum is constant."""
    dys, drawn, rng = given_dys(y, dys), draw_dys(outputs(y), seed), np.random.default_rng(seed)
    if not any(to_host(dy).any() for dy in dys):
        raise ValueError("dys are all zero, so the check would see nothing; leave dys out")
    derivative, negligible = (complex_step, 1e-10) if method == "complex" else (central, 1e-6)
    u = {name: 0 * args[name] + rng.choice([-1.0, 1.0], args[name].shape) for name in names}
    for k, dy in enumerate(dys):
        value = float(to_host(dy).flat[0])
        if np.size(dy) > 1 and value and np.ptp(to_host(dy)) == 0:
            alone = [[v if i == k else 0 * v for i, v in enumerate(some)] for some in (dys, drawn)]
            constant, random = (abs(derivative(f, args, u, dys=some)) for some in alone)
            if constant <= negligible * random * abs(value):
                raise ValueError(f"dys[{k}] is the same everywhere and the sum of that output is constant: "
                                 "its gradient is zero, so the check would see nothing; leave dys out")
    return dys
