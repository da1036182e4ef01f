"""The arrays inside of other things: the leaves of containers, by path, caches of any make, and layer objects.

    leaves({"P": [W]}, "params")     {'params["P"][0]': W}, of dicts, lists, tuples and dataclasses, to be rebuilt
    arrays(cache)                    every array in it, to copy it and to compare it bit by bit
    object_leaves(layer)             every array and number of floats, to run a copy with others in their place
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import ModuleType
from typing import Any

import numpy as np

from ..arrays import Array
from .convention import is_array, is_float_array, is_number, to_host


def deep_copy(value: Any) -> Any:
    """A copy of an object, or itself if it cannot be copied."""
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001  a file, a lock, a tensor of a graph: whatever an object may hold
        return value


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


def object_leaves(layer: Any) -> dict[str, Any]:
    """Every array of floats, and every float, inside of an object by path: W, params.W, layers.0.weight.data"""
    return {path: value for path, _, _, value in _slots(layer)}


def each_once(own: Mapping[str, Any]) -> dict[str, Any]:
    """Each array once, though it lies under several paths."""
    seen: set[int] = set()
    return {path: value for path, value in own.items()
            if is_number(value) or (id(value) not in seen and not seen.add(id(value)))}  # type: ignore[func-returns-value]


def _slots(tree: Any, path: str = "", above: tuple[int, ...] = ()) -> Iterator[tuple[str, Any, Any, Any]]:
    """(path, what holds it, key, value)"""
    if id(tree) in above or not _is_open(tree):
        return
    for key, value in members(tree):
        place = f"{path}.{key}" if path else str(key)
        if is_float_array(value) or is_number(value):
            yield place, tree, key, value
        else:
            yield from _slots(value, place, (*above, id(tree)))


def _is_open(tree: Any) -> bool:
    """Is it looked into: no function, class or module, but a layer that is called?"""
    closed = isinstance(tree, (str, bytes, type, ModuleType))
    return not closed and (not callable(tree) or hasattr(tree, "backward"))


def members(tree: Any) -> Iterable[tuple[Any, Any]]:
    tree = tree._asdict() if hasattr(tree, "_asdict") else tree
    if isinstance(tree, Mapping):
        return tree.items()
    if isinstance(tree, (list, tuple)):
        return enumerate(tree)
    return vars(tree).items() if hasattr(tree, "__dict__") else ()


def copy_object(layer: Any, memo: Mapping[int, Any] | None = None) -> Any:
    """A deep copy, whose modules (self.xp = numpy) are the same."""
    return copy.deepcopy(layer, {**{id(module): module for module in _modules(layer)}, **(memo or {})})


def _modules(tree: Any, above: tuple[int, ...] = ()) -> Iterator[ModuleType]:
    for _, value in members(tree) if id(tree) not in above and _is_open(tree) else ():
        if isinstance(value, ModuleType):
            yield value
        elif not is_array(value):
            yield from _modules(value, (*above, id(tree)))


def with_values(layer: Any, values: Mapping[str, Any]) -> Any:
    """A copy of the layer with these values, of arrays wherever they lie."""
    own = object_leaves(layer)
    copied = copy_object(layer, {id(own[path]): value for path, value in values.items() if is_array(own[path])})
    numbers = {path: value for path, value in values.items() if is_number(own[path])}
    for path, holder, key, _ in list(_slots(copied)) if numbers else ():
        if path in numbers:
            number = numbers[path][()] if is_array(numbers[path]) else numbers[path]
            if isinstance(holder, (dict, list)):
                holder[key] = number
            else:
                setattr(holder, key, number)
    return copied
