"""One op as every check sees it: arguments by name, arrays in containers under paths of their own.

    check_gradients(forward, backward, {"x": x, "P": [W]})      x, P[0]
    check_gradients(forward, backward, (x, W))                  the names of forward's own arguments

forward may return (y, cache), ((y1, y2), cache) or (y1, y2, cache); backward its gradients by name, in the order of
the arguments, or alone.  Below `Op` stands what it promises beside its numbers: nothing is written to, nothing
depends on luck or layout.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from .convention import (
    ConventionError,
    by_argument,
    by_position,
    check_callable,
    check_numbers,
    copied,
    describe,
    differentiable,
    draw_dys,
    every_dy,
    first,
    fortran,
    given_dys,
    global_seed,
    is_array,
    is_float_array,
    is_number,
    kind,
    moved,
    named_gradients,
    noncontiguous,
    output_names,
    outputs,
    run_backward,
    run_forward,
    to_host,
)
from .report import Report, differing, noise_floors, raise_if_wrong, rms, rounding
from .trees import arrays, changed, deep_copy, is_container, leaves, matched, rebuilt, same_bits, snapshot

_PLAIN = (int, float, complex, str, bytes, type(None), np.generic, type, ModuleType)
PROMISES = ("writes arguments", "writes dy", "writes cache", "shares memory", "dtype", "random", "accumulates")
HABITS = frozenset(PROMISES) - {"accumulates"}
"""What right code of other people often does; it has no effect on the numbers that are compared."""
_WRITES = {"args": "writes arguments", "dys": "writes dy", "cache": "writes cache"}


class Op:
    """`forward(**args)` and `backward(*dys, cache)` around somebody's functions.

    `args` holds every leaf by its path, `names` the leaves whose gradients are compared.
    """

    def __init__(self, forward: Callable[..., Any], backward: Callable[..., Any], inputs: Any,
                 wrt: Sequence[str] | str | None = None):
        check_callable("forward", forward)
        check_callable("backward", backward)
        self._forward, self._backward = forward, backward
        self.positional = not isinstance(inputs, Mapping)
        self.tree: dict[str, Any] = dict(inputs) if not self.positional else by_position(forward, inputs)
        self.args = {path: leaf.copy() if is_array(leaf) else leaf for name, value in self.tree.items()
                     for path, leaf in leaves(value, name).items()}
        self.written: dict[str, None] = {}  # the arguments into which forward writes
        self.copies = True  # of the arguments, for each call
        self.seeded = False  # is every call given the same global random numbers?
        self._numbers: set[str] = set()  # leaves that are floats for forward, and arrays in `args`
        self._none: set[str] = set()  # leaves for which backward returned None
        self._y: Any = None
        self._wrt = self._expanded(wrt)
        has_arrays = any(map(is_float_array, self.args.values()))
        for path in self._wrt if self._wrt is not None else () if has_arrays else list(self.args):
            self._as_array(path)
        self.names = differentiable(self.args, self._wrt)

    def forward(self, **values: Any) -> tuple[Any, Any]:
        """(outputs, cache); the caller's arguments stay as they are."""
        own = {path: _copied(value) if self.copies or not is_array(value) else value for path, value in values.items()}
        before = snapshot(own) if self.copies else {}
        numbers = {path: own[path][()] for path in self._numbers if is_array(own[path])}
        given = [rebuilt(value, name, own | numbers) for name, value in self.tree.items()]
        with global_seed(self._forward) if self.seeded else nullcontext():
            self._y, cache = run_forward(self._called, {"values": given})
        self.written |= dict.fromkeys(changed(before, own))
        for name, old, new in zip(self.tree, self.tree.values(), given, strict=True):
            if self.copies and is_container(old) and is_container(new):
                after = dict(arrays(new, name))
                self.written |= dict.fromkeys(path for path, value in arrays(rebuilt(old, name, values), name)
                                              if path not in self._numbers
                                              and (path not in after or after[path].shape != value.shape))
        return self._y, cache

    def backward(self, *dys_and_cache: Any) -> dict[str, Any]:
        """{path: gradient}, without those that are None"""
        *dys, cache = dys_and_cache
        gradients = self._by_name(self._backward(*every_dy(self._backward, self._y, dys, 1), cache))
        found: dict[str, Any] = {}
        for name, gradient in gradients.items():
            try:
                found |= matched(self.tree[name], gradient, name)
            except ValueError as error:
                raise ConventionError(str(error)) from error
        self._none = {path for path, gradient in found.items() if gradient is None}
        return {path: gradient for path, gradient in found.items() if gradient is not None}

    def settle(self, y: Any, cache: Any) -> None:
        """Learn from one backward pass which leaves have a gradient: numbers, too, but not what it returns None for.

        ValueError: an argument hides arrays of floats in an object, where no gradient can be given for them.
        """
        found = run_backward(self.backward, draw_dys(outputs(y), 0), cache)
        if self._wrt is not None:
            return
        for path in found:
            self._as_array(path)
        floats = [path for path, leaf in self.args.items() if is_float_array(leaf) and path not in self._none]
        names = [path for path in floats if path in found or self._matters(y, path, moved(self.args[path]))]
        if not names:
            raise ValueError(f"backward returns a gradient for no argument of floats: {', '.join(self.args)}")
        self.names = differentiable(self.args, names)
        hidden = [path for path in self._hidden(y) if path.partition(".")[0] not in self._none]
        if hidden:
            raise ValueError(f"the outputs depend on {', '.join(hidden)}, which no gradient can be given for inside of "
                             f"an object: hand it over in a dict, or leave it out by wrt={self.names}")

    def unchecked(self, y: Any) -> tuple[str, ...]:
        """The other leaves of floats, and arrays inside of objects, on which the outputs y depend."""
        if self._wrt is not None:
            return ()
        floats = [path for path, leaf in self.args.items()
                  if path not in self.names and (is_float_array(leaf) or is_number(leaf))]
        return *(path for path in floats if self._matters(y, path, moved(self.args[path]))), *self._hidden(y)

    def _as_array(self, path: str) -> None:
        """Make a number an argument with a gradient."""
        if is_number(self.args.get(path)):
            self.args[path] = np.array(self.args[path])
            self._numbers.add(path)

    def _matters(self, y: Any, path: str, value: Any) -> bool:
        """Do the outputs change where this argument is another?"""
        try:
            with np.errstate(all="ignore"):
                other = self.forward(**{**self.args, path: value})[0]
        except Exception:  # noqa: BLE001  a rate above 1, for example
            return True
        return not same_bits(outputs(y), outputs(other))

    def _hidden(self, y: Any) -> list[str]:
        """Arrays of floats inside of objects among the arguments."""
        return [f"{name}.{path}" for name, value in self.args.items()
                if not is_array(value) and not isinstance(value, (*_PLAIN, np.random.Generator)) and not callable(value)
                for path, leaf in arrays(value)
                if is_float_array(leaf) and self._matters(y, name, copy.deepcopy(value, {id(leaf): moved(leaf)}))]

    def _expanded(self, wrt: Sequence[str] | str | None) -> list[str] | None:
        """The paths that `wrt` names: a container stands for all floats in it."""
        names = [wrt] if isinstance(wrt, str) else wrt
        if names is None:
            return None
        return [path for name in names for path in
                ([path for path, leaf in leaves(self.tree[name], name).items()
                  if is_float_array(leaf) or is_number(leaf)]
                 if name in self.tree and is_container(self.tree[name]) else [name])]

    def _gathered(self, result: Any) -> Mapping[str, Any]:
        """Gradients by name; those of a dict's entries, dWx beside dx, in a dict of their own."""
        gradients = dict(result._asdict() if hasattr(result, "_asdict") else result)
        for key in [key for key in gradients if isinstance(key, str) and not _names_any([key], self.tree)]:
            homes = [name for name, value in self.tree.items() if isinstance(value, Mapping)
                     and f"d{name}" not in gradients and _names_any([key], value)]
            if len(homes) == 1 and isinstance(gradients.setdefault(homes[0], {}), dict):
                gradients[homes[0]][key] = gradients.pop(key)
        return gradients

    def _called(self, values: list[Any]) -> Any:
        if self.positional:
            return self._forward(*values)
        return self._forward(**dict(zip(self.tree, values, strict=True)))

    def _by_name(self, result: Any) -> dict[str, Any]:
        """{argument: what backward returned for it}"""
        floats = [name for name, value in self.tree.items() if any(path in self.names for path in leaves(value, name))]
        if isinstance(result, Mapping) or hasattr(result, "_asdict"):
            if len(floats) == 1 and is_container(self.tree[floats[0]]) and not _names_any(result, self.tree):
                return {floats[0]: result}
            return by_argument(self._gathered(result), self.tree)
        several = isinstance(result, (tuple, list))
        for names in self._orders(floats) if several else ():
            if len(result) == len(names):
                return dict(zip(names, result, strict=True))
        if len(floats) == 1 and (not several or is_container(self.tree[floats[0]])):
            return {floats[0]: result}
        if several:
            raise ConventionError(f"backward returns {kind(result)} for {len(self.tree)} arguments: "
                                  f"{', '.join(self.tree)}; None stands for what has no gradient")
        plain = [name for name in floats if not is_container(self.tree[name])]
        if is_array(result) or np.isscalar(result):
            if len(plain) == 1:
                return {plain[0]: result}
            raise ConventionError(f"backward returns one array for {len(floats)} arguments: {', '.join(floats)}; "
                                  "return a gradient for each, or name by wrt those that have one")
        raise ConventionError(f"backward must return a NamedTuple, a dict, a tuple or an array, got {kind(result)}")

    def _orders(self, floats: Sequence[str]) -> list[list[str]]:
        """The arguments that a tuple of gradients may be for."""
        tree = self.tree.items()
        if len(floats) == 1 and is_container(self.tree[floats[0]]):
            return []
        of_floats = [name for name, value in tree if any(is_float_array(leaf) or is_number(leaf)
                                                         for leaf in leaves(value, name).values())]
        of_arrays = [name for name, value in tree if any(map(is_float_array, leaves(value, name).values()))]
        alone = [name for name in of_arrays if not is_container(self.tree[name])]
        return [list(self.tree), of_floats, of_arrays, list(floats), alone]


def _names_any(result: Any, tree: Mapping[str, Any]) -> bool:
    keys = result._fields if hasattr(result, "_fields") else result
    return any(key in tree or (isinstance(key, str) and key[:1] == "d" and key[1:] in tree) for key in keys)


def _copied(value: Any) -> Any:
    if is_array(value):
        return value.copy()
    if isinstance(value, _PLAIN) or callable(value):
        return value
    return deep_copy(value)


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
                                f"{sentence}; each call gets the same state of its generators"))
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
    for how, laid_out in (("are not contiguous", noncontiguous), ("are in Fortran order", fortran)):
        y, cache = run_forward(forward, {k: laid_out(v) if is_array(v) else v for k, v in args.items()})
        found = gradients([laid_out(dy) if is_array(dy) else dy for dy in dys], cache)
        same = differing(dict(enumerate(outputs(y))), {k: to_host(v) for k, v in enumerate(ys)}, sizes, rtol)
        broken += [Promise("", f"output {k} changes when the arguments {how}") for k in same]
        other = differing(found, expected, floors, rtol)
        broken += [Promise("", f"d{name} changes when arguments and dys {how}") for name in other]
    return broken
