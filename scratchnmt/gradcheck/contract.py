"""What every op promises beside its numbers: nothing is written to, nothing depends on luck or layout."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, array_module
from .convention import (
    check_numbers,
    copied,
    describe,
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
from .op import Op, arrays, changed, deep_copy, same_bits, snapshot
from .report import Report, raise_if_wrong

PROMISES = ("writes arguments", "writes dy", "writes cache", "shares memory", "dtype", "random", "accumulates")
HABITS = frozenset(PROMISES) - {"accumulates"}
"""What right code of other people often does; it has no effect on the numbers that are compared."""
_WRITES = {"args": "writes arguments", "dys": "writes dy", "cache": "writes cache"}


class Promise(NamedTuple):
    """One that is broken."""

    kind: str  # one of PROMISES, which may be allowed; "" for what no right op does
    sentence: str


def check_contract(forward: Callable[..., Any], backward: Callable[..., Any], args: Any, *,
                   wrt: Sequence[str] | None = None, dys: Sequence[Array] | None = None,
                   allow: Collection[str] = (), seed: int = 0) -> Report:
    """Check the promises of an op; `report.broken_promises` holds a sentence for each broken one.

    Forward twice gives the same bits; arguments, dys and cache are not written; backward twice on one
    cache gives the same bits, in fresh arrays; each gradient has its argument's shape, dtype and array
    module and is finite; backward is linear in dys; the layout of the inputs in memory changes nothing.
    Those of PROMISES that are named by `allow` become notes.
    Whether sizes of 1 work is for the caller to try: which axes belong together the arrays do not tell.
    """
    check_numbers(None, seed)
    check_allow(allow)
    op = Op(forward, backward, args, wrt)
    dtype, device = describe(op.args, op.names)
    y, _, promises, stop = run_twice(op, allow)
    if not stop:
        dys = draw_dys(outputs(y), seed) if dys is None else given_dys(y, dys)
        promises += broken_promises(op, op.names, dys, seed, dtype)
    broken, notes = sorted_out(promises, allow)
    return Report(method="contract", dtype=dtype, device=device, rtol=rounding(dtype), seed=seed, tensors=(),
                  broken_promises=broken, notes=notes)


def assert_contract(*args: Any, **kwargs: Any) -> Report:
    """`check_contract`, raising GradcheckError if a promise is broken."""
    __tracebackhide__ = True
    return raise_if_wrong(check_contract(*args, **kwargs))


def check_allow(allow: Collection[str]) -> None:
    """ValueError unless every one is of PROMISES."""
    unknown = [kind for kind in ([allow] if isinstance(allow, str) else allow) if kind not in PROMISES]
    if unknown:
        raise ValueError(f"allow has {unknown[0]!r}: expected some of {', '.join(map(repr, PROMISES))}")


def sorted_out(promises: Sequence[Promise], allow: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(sentences on what is broken, notes on what is broken and allowed)"""
    broken = [p.sentence for p in promises if p.kind not in allow]
    return (tuple(dict.fromkeys(broken)),
            tuple(dict.fromkeys(f"{p.sentence} (allowed: {p.kind})" for p in promises if p.kind in allow)))


def run_twice(op: Op, allow: Collection[str]) -> tuple[Any, Any, list[Promise], bool]:
    """(y, cache, the promises that forward breaks by itself, True if there is nothing to compare a gradient with)

    From then on the op knows which arguments have gradients.
    """
    (y, cache), (again, other) = (op.forward(**op.args) for _ in range(2))
    promises = [Promise("writes arguments", f"forward writes into its argument {path}") for path in op.written]
    stop = False
    if not same_bits(outputs(y), outputs(again)):
        sentence = "forward is random: two calls with the same arguments differ"
        op.seeded = "random" in allow
        (y, cache), (again, other) = (op.forward(**op.args) for _ in range(2))
        stop = not same_bits(outputs(y), outputs(again))
        promises.append(Promise("" if stop else "random", f"{sentence} (pass the mask or a generator)" if stop else
                                f"{sentence}; each call gets the same state of numpy.random and random"))
    infinite = {name: ~np.isfinite(to_host(v)) for name, v in zip(output_names(y), outputs(y), strict=True)}
    promises += [Promise("", f"output {name} holds a value that is not finite at {first(where)}")
                 for name, where in infinite.items() if where.any()]
    stop = stop or any(where.any() for where in infinite.values())
    if not stop:
        op.settle(again, other)
    op.copies = bool(op.written)
    return y, cache, promises, stop


def broken_promises(op: Op, names: Sequence[str], dys: Sequence[Array], seed: int, dtype: str) -> list[Promise]:
    """The promises that backward breaks, or forward in another layout of its arguments.  dtype: of the rounding"""
    args = copied(op.args)
    y, cache = op.forward(**args)

    def gradients(some_dys: Sequence[Array], some_cache: Any) -> dict[str, Any]:
        return named_gradients(run_backward(op.backward, [_copy(dy) for dy in some_dys], some_cache), args, names)

    kept_dys, kept_cache = [_copy(dy) for dy in dys], deep_copy(cache)
    trees = {"args": args, "dys": list(dys), "cache": cache}
    before = {what: snapshot(tree) for what, tree in trees.items()}
    found = named_gradients(run_backward(op.backward, dys, cache), args, names)
    kept = {name: to_host(g).copy() for name, g in found.items()}
    broken = _wrong_kind(found, args) + _aliases(found, args, dys, cache)
    writes = [Promise(_WRITES[what], f"backward writes into {what}: {path or 'itself'}") for what, tree in trees.items()
              for path in changed(before[what], tree) if what != "cache" or not _holds_gradients(path)]
    broken += writes
    second = gradients(kept_dys, cache)
    spoilt = any(promise.kind != "writes dy" for promise in writes)
    broken += [Promise("writes cache" if spoilt else "accumulates",
                       f"backward twice on one cache: d{name} differs the second time") for name in names
               if not same_bits([kept[name]], [second[name]])]
    if not any(p.kind in ("", "accumulates") for p in broken):  # else every later comparison fails as well
        rtol = _of_sums(rounding(dtype), outputs(y), dtype)
        floors = noise_floors(kept, args, outputs(y), kept_dys, rtol=rtol, dtype=dtype)
        broken += _nonlinear(gradients, kept_dys, kept_cache, kept, floors, rtol, seed)
        broken += _depends_on_layout(op.forward, gradients, copied(op.args), kept_dys, outputs(y), kept, floors, rtol)
    return list(dict.fromkeys(broken))


def _holds_gradients(path: str) -> bool:
    """Is it where an object, or a dict, keeps gradients: grads.0, layer.dW, weight.grad?  These are results."""
    return any(re.fullmatch(r"d?grad(s|ient|ients)?|d_?[A-Z]\w*|d(gamma|beta|weights?|bias)|\w+_grad|grad_\w+", part)
               for part in path.split("."))


def _copy(dy: Any) -> Any:
    return dy.copy() if is_array(dy) else dy


def misshapen(gradients: Mapping[str, Array], args: Mapping[str, Any]) -> dict[str, str]:
    """A sentence for every gradient that has not its argument's shape."""
    return {name: f"d{name} has shape {np.shape(g)}, but {name} has {args[name].shape}"
            for name, g in gradients.items() if np.shape(g) != args[name].shape}


def _wrong_kind(gradients: Mapping[str, Array], args: Mapping[str, Any]) -> list[Promise]:
    shapes = misshapen(gradients, args)
    broken = [Promise("", sentence) for sentence in shapes.values()]
    for name, g in gradients.items():
        x = args[name]
        if name not in shapes and getattr(g, "dtype", None) != x.dtype:
            broken.append(Promise("dtype", f"d{name} has dtype {getattr(g, 'dtype', type(g).__name__)}, "
                                           f"but {name} has {x.dtype}"))
        elif name not in shapes and type(g) is not type(x) and not np.isscalar(g):
            broken.append(Promise("dtype", f"d{name} is a {type(g).__module__} array, but {name} is of "
                                           f"{type(x).__module__}"))
        bad = ~np.isfinite(to_host(g))
        if bad.any():
            broken.append(Promise("", f"d{name} holds a value that is not finite at {first(bad)}"))
    return broken


def _aliases(gradients: Mapping[str, Array], args: Any, dys: Any, cache: Any) -> list[Promise]:
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
        broken += [Promise("shares memory", f"{name} shares memory with {other}: return a .copy()")
                   for other, a in owned[i + 1:] + others
                   if np.may_share_memory(g, a) and np.shares_memory(g, a)]
    return broken


def _nonlinear(gradients: Callable[..., Any], dys: Sequence[Array], cache: Any, at_p: dict[str, np.ndarray],
               floors: Mapping[str, float], rtol: float, seed: int) -> list[Promise]:
    """backward(0) = 0 and backward(2p + q) = 2 backward(p) + backward(q)."""
    broken = [
        Promise("", f"backward of zeros: d{name} is not zero")
        for name, g in gradients([0 * dy for dy in dys], deep_copy(cache)).items()
        if np.any(to_host(g))
    ]
    q = draw_dys(dys, seed + 1)
    at_q = gradients(q, deep_copy(cache))
    both = gradients([2 * dy + dq for dy, dq in zip(dys, q, strict=True)], cache)
    expected = {name: 2 * g + to_host(at_q[name]) for name, g in at_p.items()}
    return broken + [Promise("", f"backward is not linear in dys: d{name}")
                     for name in differing(both, expected, floors, rtol)]


def _of_sums(rtol: float, ys: Sequence[Array], dtype: str) -> float:
    """A gradient may be the sum over all outputs, whose rounding grows with the root of their number.

    The 1e-12 of float64 has room for that.
    """
    return rtol if dtype == "float64" else rtol * max(1, *(np.size(y) for y in ys)) ** 0.5


def _depends_on_layout(forward: Callable[..., Any], gradients: Callable[..., Any], args: Mapping[str, Any],
                       dys: Sequence[Array], ys: Sequence[Array], expected: Mapping[str, np.ndarray],
                       floors: Mapping[str, float], rtol: float) -> list[Promise]:
    broken: list[Promise] = []
    sizes = dict(enumerate(rms(to_host(v)) for v in ys))
    for how, laid_out in (("are not contiguous", _noncontiguous), ("are in Fortran order", _fortran)):
        y, cache = run_forward(forward, {k: laid_out(v) if is_array(v) else v for k, v in args.items()})
        found = gradients([laid_out(dy) if is_array(dy) else dy for dy in dys], cache)
        same = differing(dict(enumerate(outputs(y))), {k: to_host(v) for k, v in enumerate(ys)}, sizes, rtol)
        broken += [Promise("", f"output {k} changes when the arguments {how}") for k in same]
        other = differing(found, expected, floors, rtol)
        broken += [Promise("", f"d{name} changes when arguments and dys {how}") for name in other]
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
