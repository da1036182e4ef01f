"""The arrays inside a cache, whatever it is made of: to copy them, and to compare them bit by bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import ModuleType
from typing import Any

import numpy as np

from ..arrays import Array
from .convention import is_array, to_host


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
    if is_dataclass(tree) and not isinstance(tree, type):
        return [(f.name, getattr(tree, f.name)) for f in fields(tree)]
    if isinstance(tree, (type, ModuleType)) or callable(tree):
        return ()
    return list(getattr(tree, "__dict__", {}).items())


def is_container(value: Any) -> bool:
    """A dict, list or tuple, whose arrays are arguments or gradients of their own."""
    return isinstance(value, (Mapping, list, tuple))


def children(tree: Any, path: str) -> list[tuple[Any, str, Any]]:
    """(key, path, value) of what a container holds: params["Wh"], P[0], weights.b"""
    if hasattr(tree, "_asdict"):
        return [(name, f"{path}.{name}", value) for name, value in tree._asdict().items()]
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
    return below if isinstance(tree, Mapping) else type(tree)(below.values())


def matched(tree: Any, gradients: Any, path: str) -> dict[str, Any]:
    """{path: gradient} for every leaf of `tree` that has one in `gradients`, a tree of the same structure.

    In a dict, or a NamedTuple, the gradient of W may be called W or dW.  None, and what is not there, is left out.
    ValueError: a gradient that belongs to nothing.
    """
    if gradients is None:
        return {}
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
