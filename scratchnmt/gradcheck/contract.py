"""What every op promises beside its numbers: nothing is written to, nothing depends on luck or layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from ..arrays import Array, array_module
from .convention import (differentiable, draw_dys, is_array, named_gradients, output_names, outputs,
                         run_backward, run_forward, to_host)
from .report import Report, raise_if_wrong, relative_errors, rms


def check_contract(forward: Callable, backward: Callable, args: Mapping[str, Any], *,
                   wrt: Sequence[str] | None = None, dys: Sequence[Array] | None = None,
                   seed: int = 0) -> Report:
    """Check the promises of an op; `report.broken_promises` holds a sentence for each broken one.

    Forward twice gives the same bits; arguments, dys and cache are not written; backward twice on one
    cache gives the same bits, in fresh arrays; each gradient has its argument's shape, dtype and array
    module and is finite; backward is linear in dys; non-contiguous inputs change nothing.
    """
    names = differentiable(args, wrt)
    given = None if dys is None else list(dys)
    broken = broken_promises(forward, backward, args, names, given, seed)
    dtype, device = describe(args, names)
    return Report("contract", dtype, device, rounding(dtype), seed, (), broken)


def assert_contract(*args: Any, **kwargs: Any) -> Report:
    """`check_contract`, raising GradcheckError if a promise is broken."""
    __tracebackhide__ = True
    return raise_if_wrong(check_contract(*args, **kwargs))


def describe(args: Mapping[str, Any], names: Sequence[str]) -> tuple[str, str]:
    """(dtype, device) of the differentiated arguments."""
    dtype = np.result_type(*(args[name].dtype for name in names)).name
    return dtype, "cpu" if array_module(args[names[0]]) is np else "cuda"


def rounding(dtype: str) -> float:
    """How far two ways to compute the same may differ, by the measure of the report."""
    return 1e-12 if dtype == "float64" else 64 * float(np.finfo(dtype).eps)


def broken_promises(forward: Callable, backward: Callable, args: Mapping[str, Any], names: Sequence[str],
                    dys: Sequence[Array] | None, seed: int) -> tuple[str, ...]:
    """One sentence per broken promise."""
    def gradients(some_dys, some_cache):
        return named_gradients(run_backward(backward, some_dys, some_cache), args, names)

    before = _snapshot(args)
    y, cache = run_forward(forward, args)
    ys = outputs(y)
    dys = draw_dys(ys, seed) if dys is None else dys
    rtol = rounding(describe(args, names)[0])
    broken = _compare_bits(before, _snapshot(args), "forward writes into its argument {}")
    y_again, _ = run_forward(forward, args)
    if not _same_bits(ys, outputs(y_again)):
        broken.append(
            "forward is random: two calls with the same arguments differ (pass the mask or a generator)"
        )
    broken += [f"output {name} holds a value that is not finite" for name, v in zip(output_names(y), ys)
               if not np.isfinite(to_host(v)).all()]

    before = {"args": _snapshot(args), "dys": _snapshot(list(dys)), "cache": _snapshot(cache)}
    first = gradients(dys, cache)
    kept = {name: to_host(g).copy() for name, g in first.items()}
    broken += _wrong_kind(first, args) + _aliases(first, args, dys, cache)
    for what, value in (("args", args), ("dys", list(dys)), ("cache", cache)):
        broken += _compare_bits(before[what], _snapshot(value), f"backward writes into {what}: {{}}")
    second = gradients(dys, cache)
    broken += [f"backward twice on one cache: d{name} differs the second time" for name in names
               if not _same_bits([kept[name]], [second[name]])]
    if not broken:  # else every later comparison fails for the same reason
        broken += _nonlinear(gradients, dys, cache, kept, rtol, seed)
        broken += _depends_on_layout(forward, gradients, args, dys, ys, kept, rtol)
    return tuple(dict.fromkeys(broken))


def _wrong_kind(gradients: Mapping[str, Array], args: Mapping[str, Any]) -> list[str]:
    broken = []
    for name, g in gradients.items():
        x = args[name]
        if np.shape(g) != x.shape:
            broken.append(f"d{name} has shape {np.shape(g)}, but {name} has {x.shape}")
        elif getattr(g, "dtype", None) != x.dtype:
            broken.append(
                f"d{name} has dtype {getattr(g, 'dtype', type(g).__name__)}, but {name} has {x.dtype}"
            )
        elif type(g) is not type(x) and not np.isscalar(g):
            broken.append(f"d{name} is a {type(g).__module__} array, but {name} is of {type(x).__module__}")
        if not np.isfinite(to_host(g)).all():
            broken.append(f"d{name} holds a value that is not finite")
    return broken


def _aliases(gradients: Mapping[str, Array], args: Any, dys: Any, cache: Any) -> list[str]:
    """Gradients must be fresh: the caller may add into them in place."""
    owned = [(f"d{name}", g) for name, g in gradients.items() if isinstance(g, np.ndarray)]
    others = [
        (f"{what} {path}", a)
        for what, tree in (("argument", args), ("dy", list(dys)), ("cache", cache))
        for path, a in _arrays(tree)
        if isinstance(a, np.ndarray)
    ]
    broken = []
    for i, (name, g) in enumerate(owned):
        broken += [f"{name} shares memory with {other}" for other, a in owned[i + 1:] + others
                   if np.may_share_memory(g, a) and np.shares_memory(g, a)]
    return broken


def _nonlinear(gradients: Callable, dys: Sequence[Array], cache: Any, at_p: Mapping[str, np.ndarray],
               rtol: float, seed: int) -> list[str]:
    """backward(0) = 0 and backward(2p + q) = 2 backward(p) + backward(q)."""
    broken = [
        f"backward of zeros: d{name} is not zero"
        for name, g in gradients([0 * dy for dy in dys], cache).items()
        if np.any(to_host(g))
    ]
    q = draw_dys(dys, seed + 1)
    at_q, both = gradients(q, cache), gradients([2 * dy + dq for dy, dq in zip(dys, q)], cache)
    expected = {name: 2 * g + to_host(at_q[name]) for name, g in at_p.items()}
    return broken + [
        f"backward is not linear in dys: d{name}" for name in _differing(both, expected, dys, rtol)
    ]


def _depends_on_layout(forward, gradients, args, dys, ys, expected, rtol) -> list[str]:
    spread = {name: _noncontiguous(v) if is_array(v) else v for name, v in args.items()}
    y, cache = run_forward(forward, spread)
    found = gradients([_noncontiguous(dy) if is_array(dy) else dy for dy in dys], cache)
    same = _differing(dict(enumerate(outputs(y))), {k: to_host(v) for k, v in enumerate(ys)}, ys, rtol)
    broken = [f"output {k} changes when the arguments are not contiguous" for k in same]
    changed = _differing(found, expected, dys, rtol)
    return broken + [f"d{name} changes when arguments and dys are not contiguous" for name in changed]


def _noncontiguous(array: Array) -> Array:
    """A copy whose elements lie two apart in memory."""
    if array.ndim == 0:
        return array
    wide = array_module(array).empty((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    view = wide[..., ::2]
    view[...] = array
    return view


def _differing(found: Mapping, expected: Mapping[Any, np.ndarray], dys: Sequence[Array], rtol: float) -> list:
    floor = noise_floor(expected.values(), dys)
    return [
        k for k, e in expected.items() if not (relative_errors(to_host(found[k]), e, floor) <= rtol).all()
    ]


def noise_floor(references: Any, dys: Sequence[Array]) -> float:
    """What is small beside the other gradients and dys is judged by their size, not by its own.

    A gradient that is zero by cancellation (a softmax over one element) comes out as rounding noise.
    """
    return 0.01 * max([*(rms(r) for r in references), *(rms(to_host(dy)) for dy in dys)])


def _arrays(tree: Any, path: str = "") -> list[tuple[str, Array]]:
    """Every array inside nested tuples, lists, mappings, dataclasses and plain objects, with its path."""
    if is_array(tree):
        return [(path, tree)]
    if hasattr(tree, "_asdict"):
        items = tree._asdict().items()
    elif isinstance(tree, Mapping):
        items = tree.items()
    elif isinstance(tree, (tuple, list)):
        items = enumerate(tree)
    elif is_dataclass(tree) and not isinstance(tree, type):
        items = [(f.name, getattr(tree, f.name)) for f in fields(tree)]
    else:
        return []
    return [found for key, value in items for found in _arrays(value, f"{path}.{key}" if path else str(key))]


def _snapshot(tree: Any) -> dict[str, np.ndarray]:
    return {path: to_host(a).copy() for path, a in _arrays(tree)}


def _compare_bits(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray],
                  sentence: str) -> list[str]:
    return [
        sentence.format(path or "itself")
        for path, a in before.items()
        if not _same_bits([a], [after.get(path)])
    ]


def _same_bits(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return len(a) == len(b) and all(
        y is not None and np.shape(x) == np.shape(y) and to_host(x).tobytes() == to_host(y).tobytes()
        for x, y in zip(a, b))
