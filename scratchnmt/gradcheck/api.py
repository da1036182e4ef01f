"""Every element of every gradient of one op against its numerical reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ..arrays import Array
from .compare import compare
from .contract import broken_promises, check_contract, misshapen, run_twice
from .convention import (
    call,
    cast,
    check_callable,
    check_numbers,
    copied,
    describe,
    differentiable,
    named_gradients,
    outputs,
    run_backward,
    run_forward,
    to_host,
    unchecked,
)
from .directional import check_directional
from .measure import rounding
from .reference import check_analytic, check_method, choose_dys
from .report import Report, TensorReport, raise_if_wrong

RTOL = {"complex": 1e-12, "richardson": 1e-8, "central": 1e-6}
"""The tolerance belongs to the method: 40 to 200 times the largest error of all our gradients, which are right."""


def check_gradients(forward: Callable[..., Any], backward: Callable[..., Any], args: Mapping[str, Any], *,
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
    check_numbers(rtol, seed)
    check_callable("forward", forward)
    check_callable("backward", backward)
    names = differentiable(args, wrt)
    labels = labels or {}
    _check_options(args, method, max_elements, labels)
    dtype, device = describe(args, names)
    rtol = max(RTOL[method], rounding(dtype)) if rtol is None else rtol
    report = partial(Report, method=method, dtype=dtype, device=device, rtol=rtol, seed=seed)
    given = copied(args)  # should backward write into what it was given, the reference is still right
    y, cache, broken = run_twice(forward, args)
    if broken:
        return report(tensors=(), broken_promises=broken)
    f = _without_cache(forward)
    dys = choose_dys(f, args, names, y, dys, method=method, seed=seed)
    result = run_backward(backward, _copies(dys), cache)
    found = {name: to_host(g).copy() for name, g in named_gradients(result, args, names).items()}
    shapes = misshapen(found, args)
    broken = tuple(shapes.values())
    if contract:
        broken = broken_promises(forward, backward, copied(given), names, _copies(dys), seed)
    if method == "complex":
        check_analytic(f, given, names, dys=dys, seed=seed)
    fitting = {name: g for name, g in found.items() if name not in shapes}
    tensors, hints, notes = compare(f, given, fitting, dys, method=method, rtol=rtol, most=max_elements,
                                    labels=labels, seed=seed)
    tensors += tuple(_all_wrong(f"d{name}", args[name].shape) for name in shapes)
    return report(tensors=tensors, broken_promises=broken, hints=hints, notes=notes + unchecked(result, args, names))


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


def _all_wrong(name: str, shape: tuple[int, ...]) -> TensorReport:
    """Of a gradient that has not this shape, its argument's."""
    return TensorReport(name=name, shape=shape, checked=0, wrong=math.prod(shape), max_error=math.inf, rms=math.nan)


def _copies(dys: Sequence[Array]) -> list[Array]:
    return list(copied(dict(enumerate(dys))).values())


def _without_cache(forward: Callable[..., Any]) -> Callable[..., Any]:
    return lambda **args: call(forward, args)[0]


def quick_check(forward: Callable[..., Any], backward: Callable[..., Any], args: Mapping[str, Any], *,
                wrt: Sequence[str] | None = None, dys: Any = None, method: str = "complex",
                rtol: float | None = None, contract: bool = True, seed: int = 0,
                **of_elements: Any) -> Report:
    """`check_gradients` by `check_directional` of the loss <y, dy>, in float64; a wrong gradient is bisected.

    What concerns single elements (`max_elements`, `labels`) has no use here.  A `method` other than
    complex-step, and a gradient of the wrong shape, are left to `check_gradients`.
    """
    names = differentiable(args, wrt)
    params = {name: args[name] for name in names}
    y, cache = run_forward(forward, {**args, **cast(params, "float64")})
    drawn = choose_dys(lambda **some: run_forward(forward, some)[0], args, names, y, dys, method=method, seed=seed)
    found = named_gradients(run_backward(backward, drawn, cache), args, names)
    if method != "complex" or any(np.shape(found[name]) != args[name].shape for name in names):
        return check_gradients(forward, backward, args, wrt=wrt, dys=dys, method=method, rtol=rtol,
                               contract=contract, seed=seed, **of_elements)

    def loss(some: Mapping[str, Any]) -> Any:
        ys = outputs(run_forward(forward, {**args, **some})[0])
        return sum((y * dy).sum() for y, dy in zip(ys, drawn, strict=True))

    check = check_directional if rtol is None else partial(check_directional, rtol=rtol)
    report = _of_gradients(check(loss, lambda _: found, params, seed=seed))
    if not contract:
        return report
    promises = check_contract(forward, backward, args, wrt=wrt, dys=None if dys is None else drawn, seed=seed)
    return replace(report, broken_promises=promises.broken_promises or report.broken_promises)


def _of_gradients(report: Report) -> Report:
    """Gradients of an op have names of their own: dW, where a model's report says W."""
    tensors = tuple(replace(tensor, name=f"d{tensor.name}",
                            worst=tuple(replace(offender, name=f"d{offender.name}") for offender in tensor.worst))
                    for tensor in report.tensors)
    return replace(report, tensors=tensors, hints=tuple(f"d{hint}" for hint in report.hints))
