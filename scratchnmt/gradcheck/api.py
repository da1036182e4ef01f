"""Every element of every gradient of one op against its numerical reference."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ..arrays import Array
from .compare import compare
from .convention import (
    call,
    cast,
    check_numbers,
    copied,
    describe,
    draw_dys,
    is_float_array,
    named_gradients,
    outputs,
    run_backward,
    to_host,
    unchecked,
)
from .differences import jumps
from .directional import check_directional
from .op import HABITS, PROMISES, Op, Promise, broken_promises, check_allow, misshapen, run_twice, sorted_out
from .reference import METHODS, Carried, NotAnalyticError, check_analytic, check_method, choose_dys, is_noisy
from .report import EPS, NOISE, Report, TensorReport, noise_floors, raise_if_wrong, rounding

RTOL = {"complex": 1e-12, "richardson": 1e-8, "central": 1e-6}
"""The tolerance belongs to the method: 40 to 200 times the largest error of all our gradients, which are right."""


def check_gradients(forward: Callable[..., Any], backward: Any = None, args: Any = None, *,
                    wrt: Sequence[str] | None = None, dys: Any = None, method: str = "auto",
                    rtol: float | None = None, max_elements: int = 4096,
                    labels: Mapping[str, Sequence[str]] | None = None, contract: bool = True,
                    allow: Collection[str] = HABITS, seed: int = 0) -> Report:
    """Compare every element of every gradient of one op with its numerical reference.

    forward(*args) or forward(**args) -> (y, cache), ((y1, y2), cache) or (y1, y2, cache); backward(*dys, cache) ->
    gradients named 'd' + argument, or in the order of the arguments.  args: a dict by name, a list or tuple by
    position, or one array.  Every array of floats in it is differentiated, also those in dicts, lists and tuples, or
    those in `wrt`; the rest is left alone.  check_gradients(function, args), without a backward, checks a
    torch.autograd.Function, a function of torch tensors or a jax function with its own gradient.

    `dys` is drawn at random.  The reference is float64, whatever the dtype of args.  method "auto" takes complex-step,
    and real differences for each argument where that cannot go; a note says why.
    `labels` names the positions of an array's last axis, {"Wh": gate_labels(H)}.  Of an array larger than
    `max_elements` that many elements are drawn, an equal share from every label.  `allow`: the promises (PROMISES)
    that are noted when broken, where others are errors; allow=() allows none.  contract=False allows all, and tries
    only what is seen by the way.
    ValueError: what was given does not fit; NotAnalyticError: complex-step, asked for, cannot go through forward;
    GradcheckError: backward raised.
    """
    forward, backward, args = pair_of(forward, backward, args)
    check_numbers(rtol, seed)
    check_allow(allow)
    op = Op(forward, backward, args, wrt)
    labels = labels or {}
    _check_options(op.args, method, max_elements, labels)
    allow = allow if contract else PROMISES
    y, cache, promises, stop = run_twice(op, allow)
    dtype, device = describe(op.args, op.names)
    given = copied(op.args)  # should backward write into what it was given, the reference is still right
    if stop:
        return _report(op, promises, allow, method=method, dtype=dtype, device=device, rtol=rtol or _tolerance(
            method, dtype), seed=seed)
    f = _outputs_of(op)
    dys = choose_dys(f, given, op.names, y, dys, method=method, seed=seed)
    result = run_backward(op.backward, _copies(dys), cache)
    names = op.names
    found = {name: to_host(g).copy() for name, g in named_gradients(result, op.args, names).items()}
    dtype = coarsest(dtype, (*outputs(y), *found.values()))
    if method == "auto":
        f = Carried(f)
    if method != "complex" and dtype == "float64" and (
            is_noisy(_outputs_of(op), given, names, dys=dys, seed=seed)
            or _backward_is_noisy(op, found, outputs(y), dys, seed)):
        dtype = "float32"
    if isinstance(f, Carried):
        f.wide = dtype != "float64"
    shapes = misshapen(found, op.args)
    promises += [Promise("", sentence) for sentence in shapes.values()]
    if contract:
        promises += broken_promises(op, names, _copies(dys), seed, dtype)
    fitting = {name: g for name, g in found.items() if name not in shapes}
    methods, reasons = choose_methods(f, given, list(fitting), dys, method=method, seed=seed)
    while True:
        rtols = {name: rtol or _tolerance(some, dtype) for name, some in methods.items()}
        try:
            tensors, hints, notes = compare(f, given, fitting, dys, methods=methods, rtols=rtols, dtype=dtype,
                                            most=max_elements, labels=labels, seed=seed)
            break
        except NotAnalyticError as error:
            if method != "auto" or methods.get(error.argument) != "complex":
                raise
            methods[error.argument], reasons[error.argument] = "richardson", str(error)
    tensors += tuple(_all_wrong(f"d{name}", op.args[name].shape) for name in shapes)
    used = set(methods.values()) or {method}
    return replace(
        _report(op, promises, allow, method=used.pop() if len(used) == 1 else "auto", dtype=dtype, device=device,
                rtol=rtol or max(rtols.values(), default=_tolerance(method, dtype)), seed=seed),
        tensors=tensors, hints=hints, unchecked=op.unchecked(y),
        notes=(*sorted_out(promises, allow)[1], *_on_methods(reasons), *_on_precision(f, dtype, op), *notes,
               *unchecked(result, op.args, names)))


gradcheck = check_gradients
"""The short name."""


def choose_methods(f: Callable[..., Any], args: Mapping[str, Any], names: Sequence[str], dys: Sequence[Array], *,
                   method: str, seed: int) -> tuple[dict[str, str], dict[str, str]]:
    """({argument: method}, {argument: why it is not complex-step})"""
    methods, reasons = dict.fromkeys(names, method), {}
    for name in names if method in ("auto", "complex") else ():
        try:
            check_analytic(f, args, [name], dys=dys, seed=seed)
            methods[name] = "complex"
        except NotAnalyticError as error:
            if method == "complex":
                raise
            methods[name], reasons[name] = "richardson", str(error)
    return methods, reasons


def _on_methods(reasons: Mapping[str, str]) -> list[str]:
    """Notes on the arguments that took real differences."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        short = re.sub(r"( \([^()]*\?\))?[:;,] (write that|rewrite that|check with|or check).*", "", reason)
        by_reason.setdefault(short, []).append(name)
    return [f"d{', d'.join(names)} by richardson, not complex-step: {reason}" for reason, names in by_reason.items()]


def _on_precision(f: Any, dtype: str, op: Op) -> list[str]:
    given = describe(op.args, op.names)[0]
    if dtype == given:
        return []
    lines = ", ".join(getattr(f, "narrow", ())) or "its results show it"
    return [f"the op computes in {dtype} ({lines}), though its arguments are {given}: it is held to the digits that "
            f"{dtype} has"]


def _backward_is_noisy(op: Op, found: Mapping[str, np.ndarray], ys: Sequence[Array], dys: Sequence[Array],
                       seed: int) -> bool:
    """`is_noisy` of backward, which is linear in dys."""
    other = draw_dys(dys, seed + 2)

    def along(t: float) -> np.ndarray:
        some = [dy + t * v for dy, v in zip(dys, other, strict=True)]
        gradients = run_backward(op.backward, some, op.forward(**copied(op.args))[1])
        return np.concatenate([to_host(gradients[name]).astype(float).reshape(-1) for name in found])

    noise = noise_floors(found, op.args, ys, dys, rtol=1.0, dtype="float64")
    with np.errstate(all="ignore"):
        return jumps(along, max(noise.values(), default=0.0) / (NOISE * EPS))


def coarsest(dtype: str, arrays: Iterable[Any]) -> str:
    """The dtype of these with the largest eps."""
    dtypes = [np.dtype(dtype), *(a.dtype for a in arrays if is_float_array(a))]
    return str(max(dtypes, key=lambda d: float(np.finfo(d).eps)).name)


def _tolerance(method: str, dtype: str) -> float:
    return max(RTOL.get(method, RTOL["complex"]), rounding(dtype))


def _report(op: Op, promises: Sequence[Promise], allow: Collection[str], **fields: Any) -> Report:
    broken, notes = sorted_out(promises, allow)
    return Report(tensors=(), broken_promises=broken, notes=notes, **fields)


def assert_gradients(*args: Any, **kwargs: Any) -> Report:
    """`check_gradients`, raising GradcheckError with the report if anything is wrong."""
    __tracebackhide__ = True
    return raise_if_wrong(check_gradients(*args, **kwargs))


def gate_labels(hidden_size: int, gates: str = "ifgo") -> list[str]:
    """Labels for an axis of gate blocks: "gate f, unit 2"."""
    return [f"gate {gate}, unit {unit}" for gate in gates for unit in range(hidden_size)]


def _check_options(args: Mapping[str, Any], method: str, max_elements: int,
                   labels: Mapping[str, Sequence[str]]) -> None:
    check_method(method, ("auto", *METHODS))
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


def _outputs_of(op: Op) -> Callable[..., Any]:
    return lambda **args: call(op.forward, args)[0]


def pair_of(forward: Any, backward: Any, args: Any) -> tuple[Callable[..., Any], Callable[..., Any], Any]:
    """(forward, backward, args) of a pair, or of one function that brings its gradient: (function, args)."""
    if args is not None or callable(backward):
        return forward, backward, args
    from .pairs import pair_of_one

    return pair_of_one(forward, backward)


def quick_check(forward: Callable[..., Any], backward: Any = None, args: Any = None, *,
                wrt: Sequence[str] | None = None, dys: Any = None, method: str = "auto",
                rtol: float | None = None, contract: bool = True, allow: Collection[str] = HABITS, seed: int = 0,
                **of_elements: Any) -> Report:
    """`check_gradients` by `check_directional` of the loss <y, dy>, in float64; a wrong gradient is bisected.

    What concerns single elements (`max_elements`, `labels`) has no use here.  A `method` other than
    complex-step, and a gradient of the wrong shape, are left to `check_gradients`.
    """
    forward, backward, args = pair_of(forward, backward, args)
    op = Op(forward, backward, args, wrt)
    every = partial(check_gradients, forward, backward, args, wrt=wrt, dys=dys, method=method, rtol=rtol,
                    contract=contract, allow=allow, seed=seed, **of_elements)
    y, cache, promises, stop = run_twice(op, allow if contract else PROMISES)
    if stop or method not in ("auto", "complex"):
        return every()
    params = cast({name: op.args[name] for name in op.names}, "float64")
    y, cache = op.forward(**copied({**op.args, **params}))
    f = _outputs_of(op)
    drawn = choose_dys(f, op.args, op.names, y, dys, method="central", seed=seed)
    found = named_gradients(run_backward(op.backward, _copies(drawn), cache), op.args, op.names)
    if any(np.shape(found[name]) != op.args[name].shape for name in op.names):
        return every()

    def loss(some: Mapping[str, Any]) -> Any:
        ys = outputs(f(**{**op.args, **some}))
        return sum((y * dy).sum() for y, dy in zip(ys, drawn, strict=True))

    try:
        report = _of_gradients(check_directional(loss, lambda _: found, params, rtol=rtol, method="complex", seed=seed))
    except NotAnalyticError:
        if method == "complex":
            raise
        return every()
    if contract:
        promises += broken_promises(op, op.names, drawn, seed, describe(op.args, op.names)[0])
    broken, notes = sorted_out(promises, allow if contract else PROMISES)
    return replace(report, broken_promises=broken or report.broken_promises, notes=notes)


def _of_gradients(report: Report) -> Report:
    """Gradients of an op have names of their own: dW, where a model's report says W."""
    tensors = tuple(replace(tensor, name=f"d{tensor.name}",
                            worst=tuple(replace(offender, name=f"d{offender.name}") for offender in tensor.worst))
                    for tensor in report.tensors)
    return replace(report, tensors=tensors, hints=tuple(f"d{hint}" for hint in report.hints))
