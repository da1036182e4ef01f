"""One op as every check sees it: arguments by name, arrays in containers under paths of their own.

    check_gradients(forward, backward, {"x": x, "P": [W]})      x, P[0]
    check_gradients(forward, backward, (x, W))                  the names of forward's own arguments

forward may return (y, cache), ((y1, y2), cache) or (y1, y2, cache); backward its gradients by name, in the order of
the arguments, or alone.  Below `Op` stand its tools: the arrays inside a cache, whatever it is made of, to copy them
and to compare them bit by bit; the leaves of containers.
"""

from __future__ import annotations

import copy
import inspect
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from types import ModuleType
from typing import Any

import numpy as np

from ..arrays import Array
from .convention import (
    ConventionError,
    by_argument,
    check_callable,
    differentiable,
    draw_dys,
    every_dy,
    is_array,
    is_float_array,
    is_number,
    kind,
    moved,
    outputs,
    run_backward,
    run_forward,
    to_host,
)

_PLAIN = (int, float, complex, str, bytes, type(None), np.generic, type, ModuleType)


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
        with global_seed() if self.seeded else _nothing():
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


def by_position(function: Callable[..., Any], inputs: Any) -> dict[str, Any]:
    """The inputs under the names of the function's parameters; those that it does not name are arg0, arg1, ..."""
    values = list(inputs) if type(inputs) in (tuple, list) else [inputs]
    try:
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        names = [p.name for p in inspect.signature(function).parameters.values() if p.kind in kinds]
    except (TypeError, ValueError):
        names = []
    names += [f"arg{i}" for i in range(len(names), len(values))]
    return dict(zip(names, values, strict=False))


def _names_any(result: Any, tree: Mapping[str, Any]) -> bool:
    keys = result._fields if hasattr(result, "_fields") else result
    return any(key in tree or (isinstance(key, str) and key[:1] == "d" and key[1:] in tree) for key in keys)


def _copied(value: Any) -> Any:
    if is_array(value):
        return value.copy()
    if isinstance(value, _PLAIN) or callable(value):
        return value
    return deep_copy(value)


def deep_copy(value: Any) -> Any:
    """A copy of an object, or itself if it cannot be copied."""
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001  a file, a lock, a tensor of a graph: whatever an object may hold
        return value


@contextmanager
def global_seed() -> Iterator[None]:
    """The generators of numpy.random and random start from the same state, and go on afterwards as if unused."""
    states = np.random.get_state(), random.getstate()
    np.random.seed(0)
    random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(states[0])
        random.setstate(states[1])


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def arrays(tree: Any, path: str = "", above: tuple[int, ...] = ()) -> list[tuple[str, Array]]:
    """Every array inside nested tuples, lists, mappings, dataclasses and plain objects, with its path."""
    if is_array(tree):
        return [(path, tree)]
    if id(tree) in above:  # it holds itself
        return []
    inside = (*above, id(tree))
    return [found for key, value in _items(tree)
            for found in arrays(value, f"{path}.{key}" if path else str(key), inside)]


def snapshot(tree: Any) -> dict[str, np.ndarray]:
    """A copy of every array, on the host, by its path."""
    return {path: to_host(a).copy() for path, a in arrays(tree)}


def changed(before: Mapping[str, np.ndarray], tree: Any) -> list[str]:
    """The paths of the arrays of a tree that are no longer what the snapshot says."""
    after = dict(arrays(tree))
    return [path for path, a in before.items() if not same_bits([a], [after.get(path)])]


def same_bits(a: Sequence[Any], b: Sequence[Any]) -> bool:
    """Are two lists of arrays equal in shape and in every bit?"""
    return len(a) == len(b) and all(
        y is not None and np.shape(x) == np.shape(y) and to_host(x).tobytes() == to_host(y).tobytes()
        for x, y in zip(a, b, strict=False))


def _items(tree: Any) -> Any:
    if hasattr(tree, "_asdict"):
        return tree._asdict().items()
    if isinstance(tree, Mapping):
        return tree.items()
    if isinstance(tree, (tuple, list)):
        return enumerate(tree)
    if _is_record(tree):
        return [(f.name, getattr(tree, f.name)) for f in fields(tree)]
    if isinstance(tree, (type, ModuleType)) or callable(tree):
        return ()
    return list(getattr(tree, "__dict__", {}).items())


def is_container(value: Any) -> bool:
    """A dict, list, tuple or dataclass, whose arrays are arguments or gradients of their own."""
    return isinstance(value, (Mapping, list, tuple)) or _is_record(value)


def _is_record(value: Any) -> bool:
    return is_dataclass(value) and not isinstance(value, type)


def children(tree: Any, path: str) -> list[tuple[Any, str, Any]]:
    """(key, path, value) of what a container holds: params["Wh"], P[0], weights.b"""
    if hasattr(tree, "_asdict") or _is_record(tree):
        return [(name, f"{path}.{name}", value) for name, value in _items(tree)]
    if isinstance(tree, Mapping):
        return [(key, f"{path}[{_quoted(key)}]", value) for key, value in tree.items()]
    return [(i, f"{path}[{i}]", value) for i, value in enumerate(tree)]


def leaves(tree: Any, path: str) -> dict[str, Any]:
    """What lies in nested containers, by its path; of what is no container, itself."""
    if not is_container(tree):
        return {path: tree}
    return {inside: leaf for _, below, value in children(tree, path) for inside, leaf in leaves(value, below).items()}


def rebuilt(tree: Any, path: str, values: Mapping[str, Any]) -> Any:
    """New containers of the same structure, whose leaves are values[path]."""
    if not is_container(tree):
        return values[path]
    below = {key: rebuilt(value, inside, values) for key, inside, value in children(tree, path)}
    if hasattr(tree, "_asdict"):
        return type(tree)(**below)
    if _is_record(tree):
        record = copy.copy(tree)
        for name, value in below.items():
            object.__setattr__(record, name, value)  # it may be frozen
        return record
    return below if isinstance(tree, Mapping) else type(tree)(below.values())


def scaled(tree: Any, factor: Any) -> Any:
    """What lies in it times a number; None stays."""
    return rebuilt(tree, "", {path: None if leaf is None else leaf * factor for path, leaf in leaves(tree, "").items()})


def matched(tree: Any, gradients: Any, path: str) -> dict[str, Any]:
    """{path: gradient} for every leaf of `tree` that has one in `gradients`, a tree of the same structure.

    In a dict, or a NamedTuple, the gradient of W may be called W or dW.  None stands for all leaves below it.
    ValueError: a gradient that belongs to nothing.
    """
    if gradients is None:
        return dict.fromkeys(leaves(tree, path))
    if not is_container(tree):
        return {path: gradients}
    if not is_container(gradients):
        raise ValueError(f"the gradient of {path} is no {type(tree).__name__}: it must have the structure of {path}")
    inside = {key: (below, value) for key, below, value in children(tree, path)}
    found: dict[str, Any] = {}
    for key, _, gradient in children(gradients, path):
        own = key if key in inside else key[1:] if isinstance(key, str) and key[1:] in inside else None
        if own is None or (isinstance(key, str) and key[:1] != "d" and own != key):
            raise ValueError(f"{path} has nothing that the gradient {key!r} belongs to")
        found |= matched(inside[own][1], gradient, inside[own][0])
    return found


def _quoted(key: Any) -> str:
    return f'"{key}"' if isinstance(key, str) else repr(key)
