"""What every op promises beside its numbers: nothing is written to, nothing depends on luck or layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import Array, array_module
from .convention import (
    check_callable,
    check_numbers,
    describe,
    differentiable,
    draw_dys,
    first,
    given_dys,
    is_array,
    named_gradients,
    output_names,
    outputs,
    run_backward,
    run_forward,
    to_host,
)
from .measure import differing, noise_floors, rms, rounding
from .pytree import arrays, changed, same_bits, snapshot
from .report import Report, raise_if_wrong


def check_contract(forward: Callable[..., Any], backward: Callable[..., Any], args: Mapping[str, Any], *,
                   wrt: Sequence[str] | None = None, dys: Sequence[Array] | None = None,
                   seed: int = 0) -> Report:
    """Check the promises of an op; `report.broken_promises` holds a sentence for each broken one.

    Forward twice gives the same bits; arguments, dys and cache are not written; backward twice on one
    cache gives the same bits, in fresh arrays; each gradient has its argument's shape, dtype and array
    module and is finite; backward is linear in dys; the layout of the inputs in memory changes nothing.
    Whether sizes of 1 work is for the caller to try: which axes belong together the arrays do not tell.
    """
    check_numbers(None, seed)
    check_callable("forward", forward)
    check_callable("backward", backward)
    names = differentiable(args, wrt)
    dtype, device = describe(args, names)
    y, _, broken = run_twice(forward, args)
    if not broken:
        dys = draw_dys(outputs(y), seed) if dys is None else given_dys(y, dys)
        broken = broken_promises(forward, backward, args, names, dys, seed)
    return Report(method="contract", dtype=dtype, device=device, rtol=rounding(dtype), seed=seed, tensors=(),
                  broken_promises=broken)


def assert_contract(*args: Any, **kwargs: Any) -> Report:
    """`check_contract`, raising GradcheckError if a promise is broken."""
    __tracebackhide__ = True
    return raise_if_wrong(check_contract(*args, **kwargs))


def run_twice(forward: Callable[..., Any], args: Mapping[str, Any]) -> tuple[Any, Any, tuple[str, ...]]:
    """(y, cache, a sentence for each promise that forward breaks by itself)

    Once one of them is broken there is nothing to compare a gradient with.
    """
    before = snapshot(args)
    y, cache = run_forward(forward, args)
    broken = [f"forward writes into its argument {path}" for path in changed(before, args)]
    if not broken and not same_bits(outputs(y), outputs(run_forward(forward, args)[0])):
        broken = ["forward is random: two calls with the same arguments differ (pass the mask or a generator)"]
    infinite = {name: ~np.isfinite(to_host(v)) for name, v in zip(output_names(y), outputs(y), strict=True)}
    broken += [f"output {name} holds a value that is not finite at {first(where)}"
               for name, where in infinite.items() if where.any()]
    return y, cache, tuple(broken)


def broken_promises(forward: Callable[..., Any], backward: Callable[..., Any], args: Mapping[str, Any],
                    names: Sequence[str], dys: Sequence[Array], seed: int) -> tuple[str, ...]:
    """One sentence per promise that backward breaks, or forward in another layout of its arguments."""
    y, cache = run_forward(forward, args)

    def gradients(some_dys, some_cache):
        return named_gradients(run_backward(backward, some_dys, some_cache), args, names)

    trees = {"args": args, "dys": list(dys), "cache": cache}
    before = {what: snapshot(tree) for what, tree in trees.items()}
    found = gradients(dys, cache)
    kept = {name: to_host(g).copy() for name, g in found.items()}
    broken = _wrong_kind(found, args) + _aliases(found, args, dys, cache)
    broken += [f"backward writes into {what}: {path or 'itself'}" for what, tree in trees.items()
               for path in changed(before[what], tree)]
    second = gradients(dys, cache)
    broken += [f"backward twice on one cache: d{name} differs the second time" for name in names
               if not same_bits([kept[name]], [second[name]])]
    if not broken:  # else every later comparison fails for the same reason
        dtype = describe(args, names)[0]
        rtol = _of_sums(rounding(dtype), outputs(y), dtype)
        floors = noise_floors(kept, args, outputs(y), dys, rtol=rtol, dtype=dtype)
        broken += _nonlinear(gradients, dys, cache, kept, floors, rtol, seed)
        broken += _depends_on_layout(forward, gradients, args, dys, outputs(y), kept, floors, rtol)
    return tuple(dict.fromkeys(broken))


def misshapen(gradients: Mapping[str, Array], args: Mapping[str, Any]) -> dict[str, str]:
    """A sentence for every gradient that has not its argument's shape."""
    return {name: f"d{name} has shape {np.shape(g)}, but {name} has {args[name].shape}"
            for name, g in gradients.items() if np.shape(g) != args[name].shape}


def _wrong_kind(gradients: Mapping[str, Array], args: Mapping[str, Any]) -> list[str]:
    shapes = misshapen(gradients, args)
    broken = list(shapes.values())
    for name, g in gradients.items():
        x = args[name]
        if name not in shapes and getattr(g, "dtype", None) != x.dtype:
            broken.append(
                f"d{name} has dtype {getattr(g, 'dtype', type(g).__name__)}, but {name} has {x.dtype}"
            )
        elif name not in shapes and type(g) is not type(x) and not np.isscalar(g):
            broken.append(f"d{name} is a {type(g).__module__} array, but {name} is of {type(x).__module__}")
        bad = ~np.isfinite(to_host(g))
        if bad.any():
            broken.append(f"d{name} holds a value that is not finite at {first(bad)}")
    return broken


def _aliases(gradients: Mapping[str, Array], args: Any, dys: Any, cache: Any) -> list[str]:
    """Gradients must be fresh: the caller may add into them in place."""
    owned = [(f"d{name}", g) for name, g in gradients.items() if isinstance(g, np.ndarray)]
    others = [
        (f"{what} {path}", a)
        for what, tree in (("argument", args), ("dy", list(dys)), ("cache", cache))
        for path, a in arrays(tree)
        if isinstance(a, np.ndarray)
    ]
    broken = []
    for i, (name, g) in enumerate(owned):
        broken += [f"{name} shares memory with {other}: return a .copy()" for other, a in owned[i + 1:] + others
                   if np.may_share_memory(g, a) and np.shares_memory(g, a)]
    return broken


def _nonlinear(gradients: Callable[..., Any], dys: Sequence[Array], cache: Any, at_p: dict[str, np.ndarray],
               floors: Mapping[str, float], rtol: float, seed: int) -> list[str]:
    """backward(0) = 0 and backward(2p + q) = 2 backward(p) + backward(q)."""
    broken = [
        f"backward of zeros: d{name} is not zero"
        for name, g in gradients([0 * dy for dy in dys], cache).items()
        if np.any(to_host(g))
    ]
    q = draw_dys(dys, seed + 1)
    at_q, both = gradients(q, cache), gradients([2 * dy + dq for dy, dq in zip(dys, q, strict=True)], cache)
    expected = {name: 2 * g + to_host(at_q[name]) for name, g in at_p.items()}
    return broken + [
        f"backward is not linear in dys: d{name}" for name in differing(both, expected, floors, rtol)
    ]


def _of_sums(rtol: float, ys: Sequence[Array], dtype: str) -> float:
    """A gradient may be the sum over all outputs, whose rounding grows with the root of their number.

    The 1e-12 of float64 has room for that.
    """
    return rtol if dtype == "float64" else rtol * max(1, *(np.size(y) for y in ys)) ** 0.5


def _depends_on_layout(forward, gradients, args, dys, ys, expected, floors, rtol) -> list[str]:
    broken, sizes = [], dict(enumerate(rms(to_host(v)) for v in ys))
    for how, laid_out in (("are not contiguous", _noncontiguous), ("are in Fortran order", _fortran)):
        y, cache = run_forward(forward, {k: laid_out(v) if is_array(v) else v for k, v in args.items()})
        found = gradients([laid_out(dy) if is_array(dy) else dy for dy in dys], cache)
        same = differing(dict(enumerate(outputs(y))), {k: to_host(v) for k, v in enumerate(ys)}, sizes, rtol)
        broken += [f"output {k} changes when the arguments {how}" for k in same]
        other = differing(found, expected, floors, rtol)
        broken += [f"d{name} changes when arguments and dys {how}" for name in other]
    return broken


def _noncontiguous(array: Array) -> Array:
    """A copy whose elements lie two apart in memory."""
    if array.ndim == 0:
        return array
    wide = array_module(array).empty((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    view = wide[..., ::2]
    view[...] = array
    return view


def _fortran(array: Array) -> Array:
    """A copy whose first index runs fastest in memory, as in the transpose of an array."""
    return array_module(array).asfortranarray(array) if array.ndim > 1 else array
