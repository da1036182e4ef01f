"""Two implementations of one op side by side: a fused kernel or float32 beside plain float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from .compare import Elements, hints_of
from .convention import (
    cast,
    check_callable,
    check_numbers,
    describe,
    differentiable,
    is_float_array,
    kind,
    named_gradients,
    output_names,
    outputs,
    run_backward,
    run_forward,
    to_host,
)
from .measure import noise_floors, rms, tensor_report
from .reference import choose_dys
from .report import Report, TensorReport, raise_if_wrong

Op = tuple[Callable[..., Any], Callable[..., Any]]
SMALL = 0.01  # an output that is smaller beside the others, perhaps zero by cancellation, is judged by their size


class Pair(NamedTuple):
    """One output, or one gradient, by both."""

    name: str  # "y", "dx"
    argument: str  # "x"; of an output ""
    fused: np.ndarray
    plain: np.ndarray
    floor: float = 0.0  # of the error

    @property
    def fits(self) -> bool:
        return self.fused.shape == self.plain.shape


def check_variant(plain: Op, fused: Op, args: Mapping[str, Any], *, wrt: Sequence[str] | None = None,
                  dys: Any = None, rtol: float | None = None, steps: int = 1, seed: int = 0) -> Report:
    """Compare two implementations of one op, each (forward, backward): outputs and gradients.

    `fused` runs on args as they are; `plain` in float64 on the same values, so that the rounding of the
    inputs does not count as error.  The tolerance is 64 eps of the dtype of args, times the root of `steps`.
    """
    check_numbers(rtol, seed)
    _check_pair("plain", plain)
    _check_pair("fused", fused)
    names = differentiable(args, wrt)
    dtype, device = describe(args, names)
    rtol = 64 * float(np.finfo(dtype).eps) * steps**0.5 if rtol is None else rtol
    ys, gradients, dys = _run_both(plain, fused, args, names, dys, seed)
    ys, gradients = _with_floors(ys, gradients, args, dys, rtol, dtype)
    tensors = _reports(ys, rtol) + _reports(gradients, rtol)
    hints = _hints(gradients, args, tensors, rtol)
    broken = tuple(f"{p.name} has shape {p.fused.shape}, but {p.plain.shape} in the plain op"
                   for p in (*ys, *gradients) if not p.fits)
    return Report(method="variant", dtype=dtype, device=device, rtol=rtol, seed=seed, tensors=tuple(tensors),
                  broken_promises=broken, hints=tuple(hints))


def assert_variant(*args: Any, **kwargs: Any) -> Report:
    """`check_variant`, raising GradcheckError with the report if the two differ."""
    __tracebackhide__ = True
    return raise_if_wrong(check_variant(*args, **kwargs))


def _check_pair(what: str, op: Any) -> None:
    if not isinstance(op, (tuple, list)) or len(op) != 2:
        raise TypeError(f"{what} is {kind(op)}: expected a pair (forward, backward)")
    for name, function in zip(("forward", "backward"), op, strict=False):
        check_callable(f"the {name} of {what}", function)


def _run_both(plain: Op, fused: Op, args: Mapping[str, Any], names: Sequence[str], dys: Any,
              seed: int) -> tuple[list[Pair], list[Pair], list[Array]]:
    """(outputs, gradients, dys); of outputs that differ in shape no gradients."""
    args64 = cast(args, "float64")
    (y, cache), (y64, cache64) = run_forward(fused[0], args), run_forward(plain[0], args64)
    if len(outputs(y)) != len(outputs(y64)):
        raise ValueError(f"the plain op has {len(outputs(y64))} outputs with a gradient, "
                         f"the fused one {len(outputs(y))}")
    ys = [_pair(*three) for three in zip(output_names(y), outputs(y), outputs(y64), strict=True)]
    if not all(pair.fits for pair in ys):
        return ys, [], []
    dys = choose_dys(lambda **some: run_forward(plain[0], some)[0], args64, names, y, dys, method="central",
                     seed=seed)
    found = named_gradients(run_backward(fused[1], dys, cache), args, names)
    dys64 = [dy.astype("float64") if is_float_array(dy) else dy for dy in dys]
    expected = named_gradients(run_backward(plain[1], dys64, cache64), args, names)
    return ys, [_pair(f"d{name}", found[name], expected[name], name) for name in names], dys


def _with_floors(ys: Sequence[Pair], gradients: Sequence[Pair], args: Mapping[str, Any], dys: Sequence[Array],
                 rtol: float, dtype: str) -> tuple[list[Pair], list[Pair]]:
    """Outputs and gradients have different units: a large output says nothing of what a gradient's noise is."""
    size = max(rms(pair.plain) for pair in ys)
    floors = noise_floors({g.argument: g.plain for g in gradients}, args,
                          [pair.plain for pair in ys] if dys else [], dys, rtol=rtol, dtype=dtype)
    return ([pair._replace(floor=SMALL * size) for pair in ys],
            [pair._replace(floor=floors[pair.argument]) for pair in gradients])


def _pair(name: str, fused: Array, plain: Array, argument: str = "") -> Pair:
    return Pair(name=name, argument=argument, fused=to_host(fused).astype(float), plain=to_host(plain))


def _reports(pairs: Sequence[Pair], rtol: float) -> list[TensorReport]:
    return [tensor_report(p.name, p.fused.shape, p.fused.reshape(-1), p.plain.reshape(-1), rtol=rtol,
                          floor=p.floor)
            for p in pairs if p.fits]


def _hints(gradients: Sequence[Pair], args: Mapping[str, Any], tensors: Sequence[TensorReport],
           rtol: float) -> list[str]:
    elements = [Elements(name=g.argument, rtol=rtol, shape=args[g.argument].shape, indices=np.arange(g.plain.size),
                         backward=g.fused.reshape(-1), reference=g.plain.reshape(-1), floor=g.floor)
                for g in gradients if g.fits]
    by_name = {tensor.name: tensor for tensor in tensors}
    return hints_of(elements, args, [by_name[f"d{e.name}"] for e in elements])
