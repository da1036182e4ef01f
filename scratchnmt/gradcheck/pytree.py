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
