"""Arrays inside tuples, named tuples and dicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def arrays(tree: Any) -> Iterator[Any]:
    """Every array in it that holds more than one number."""
    if hasattr(tree, "nbytes") and hasattr(tree, "shape"):
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from arrays(value)
    elif isinstance(tree, (tuple, list)):
        for value in tree:
            yield from arrays(value)


def flat(result: Any) -> list[Any]:
    """An operation's results, one or several."""
    return list(result) if isinstance(result, tuple) else [result]
