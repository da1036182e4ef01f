"""Every element of every gradient of one op against its numerical reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import Array
from .contract import broken_promises, describe, noise_floor
from .convention import (call, differentiable, draw_dys, is_float_array, named_gradients, outputs,
                         run_backward, run_forward, to_host)
from .hints import hints_for
from .numeric import check_analytic, complex_step, gradient
from .report import Report, TensorReport, raise_if_wrong, tensor_report

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
    ValueError: what was given does not fit; NotAnalyticError: complex-step cannot go through forward.
    """
    names = differentiable(args, wrt)
    dtype, device = describe(args, names)
    if method not in RTOL:
        raise ValueError(f"method {method!r} is not known: expected {', '.join(RTOL)}")
    rtol = max(RTOL[method], _precision(dtype)) if rtol is None else rtol
    y, cache = run_forward(forward, args)
    f = _without_cache(forward)
    dys = draw_dys(outputs(y), seed) if dys is None else _given_dys(f, args, names, y, dys, seed)
    found = named_gradients(run_backward(backward, dys, cache), args, names)
    broken = broken_promises(forward, backward, args, names, dys, seed) if contract else ()
    misshapen = [name for name in names if np.shape(found[name]) != args[name].shape]
    if not contract:
        broken = tuple(f"d{n} has shape {np.shape(found[n])}, but {n} has {args[n].shape}" for n in misshapen)
    if method == "complex":
        check_analytic(f, args, names, dys=dys, seed=seed)
    compared = [name for name in names if name not in misshapen]
    tensors, hints = _compare(f, args, compared, dys, found, method, rtol, max_elements, labels or {}, seed)
    tensors += tuple(TensorReport(f"d{n}", args[n].shape, 0, args[n].size, math.inf, math.nan)
                     for n in misshapen)
    return Report(method, dtype, device, rtol, seed, tensors, tuple(broken), hints)


def assert_gradients(*args: Any, **kwargs: Any) -> Report:
    """`check_gradients`, raising GradcheckError with the report if anything is wrong."""
    __tracebackhide__ = True
    return raise_if_wrong(check_gradients(*args, **kwargs))


def gate_labels(hidden_size: int, gates: str = "ifgo") -> list[str]:
    """Labels for an axis of gate blocks: "gate f, unit 2"."""
    return [f"gate {gate}, unit {unit}" for gate in gates for unit in range(hidden_size)]


def _precision(dtype: str) -> float:
    return 0.0 if dtype == "float64" else 64 * float(np.finfo(dtype).eps)


def _without_cache(forward: Callable) -> Callable:
    return lambda **args: call(forward, args)[0]


def _given_dys(f: Callable, args: Mapping[str, Any], names: Sequence[str], y: Any, dys: Any,
               seed: int) -> list[Array]:
    """The caller's dys, looked over: all ones see nothing where the output's sum is constant."""
    dys = list(dys) if isinstance(dys, (tuple, list)) else [dys]
    ys = outputs(y)
    if [np.shape(v) for v in ys] != [np.shape(v) for v in dys]:
        raise ValueError(
            f"dys have shapes {[np.shape(v) for v in dys]}, the outputs {[np.shape(v) for v in ys]}"
        )
    drawn, rng = draw_dys(ys, seed), np.random.default_rng(seed)
    u = {name: 0 * args[name] + rng.choice([-1.0, 1.0], args[name].shape) for name in names}
    for k, dy in enumerate(dys):
        if np.size(dy) > 1 and np.ptp(to_host(dy)) == 0:
            alone = [[v if i == k else 0 * v for i, v in enumerate(some)] for some in (dys, drawn)]
            constant, random = (abs(complex_step(f, args, u, dys=some)) for some in alone)
            if constant <= 1e-10 * random * abs(float(to_host(dy).flat[0])):
                raise ValueError(f"dys[{k}] is the same everywhere and the sum of that output is constant: "
                                 "its gradient is zero, so the check would see nothing; leave dys out")
    return dys


def _sample(name: str, shape: tuple[int, ...], most: int, labels: Sequence[str] | None,
            seed: int) -> np.ndarray:
    """Flat indices to check: all, or `most` of them with an equal share for every label."""
    size = int(np.prod(shape))
    if labels is not None and (not shape or len(labels) != shape[-1]):
        raise ValueError(f"labels of {name}: {len(labels)} of them for an array of shape {shape}; "
                         "the last axis is labelled")
    if size <= most:
        return np.arange(size)
    rng = np.random.default_rng(seed)
    if labels is None:
        return np.sort(rng.choice(size, most, replace=False))
    columns, rows = shape[-1], size // shape[-1]
    chosen = range(columns) if columns <= most else rng.choice(columns, most, replace=False)
    share = max(1, most // columns)
    picked = [rng.choice(rows, share, replace=False) * columns + c for c in chosen]
    return np.sort(np.concatenate(picked))


def _compare(f, args, names, dys, found, method, rtol, most, labels, seed) -> tuple[tuple, tuple]:
    indices = {n: _sample(n, args[n].shape, most, labels.get(n), seed) for n in names}
    dys64 = [dy.astype("float64") if is_float_array(dy) else dy for dy in dys]
    reference = {n: gradient(f, args, n, dys=dys64, method=method, indices=indices[n]) for n in names}
    backward = {n: to_host(found[n]).astype(float).reshape(-1)[indices[n]] for n in names}
    floor = noise_floor(reference.values(), dys)
    tensors, hints = [], []
    for n in names:
        report = tensor_report(f"d{n}", args[n].shape, backward[n], reference[n], rtol=rtol, floor=floor,
                               indices=indices[n], labels=labels.get(n))
        tensors.append(report)
        hints += hints_for(report, backward[n], reference[n], to_host(args[n]).reshape(-1)[indices[n]], rtol)
    return tuple(tensors), tuple(hints)
