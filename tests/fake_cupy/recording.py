"""Recording on a stream: what is called is not done but noted, and done each time the graph is launched.

The stand-in does it while it notes it, since it needs the shapes of what comes out, and takes it all back when the
recording ends.  What arrays hold that were made while it recorded is spoilt after every launch: CuPy's pool
may have given their memory to others.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from .cuda import MACHINE


class Recording:
    def __init__(self) -> None:
        self.calls: list[tuple[Callable, tuple, dict, Any]] = []
        self.made: list[Any] = []  # arrays, which also keeps the memory that kernels were told about
        self.before = [(array, array.copy()) for array in _memory()]

    def take_back(self) -> None:
        """Arrays hold again what they held before."""
        for array, values in self.before:
            array[...] = values
        self.before = []
        self._spoil()

    def play(self) -> None:
        for function, args, kwargs, result in self.calls:
            again = function(*args, **kwargs)
            # what cannot be written to is another look at memory that is played elsewhere (broadcast_to)
            if hasattr(result, "_array") and again is not result and result._array.flags.writeable:
                result._array[...] = again._array
        self._spoil()

    def _spoil(self) -> None:
        for array in self.made:
            array._array[...] = np.nan if array.dtype.kind in "fc" else 1 if array.dtype.kind == "b" else 2**30


def recorded(function: Callable) -> Callable:
    """The function, which is noted while a stream records."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if MACHINE.inside:  # a function of the stand-in that another one calls
            return function(*args, **kwargs)
        MACHINE.inside = True
        try:
            result = function(*args, **kwargs)
        finally:
            MACHINE.inside = False
        MACHINE.work += not _only_a_view(function.__name__, args, result)
        if MACHINE.recording is not None:
            MACHINE.recording.calls.append((function, args, kwargs, result))
        return result

    return call


def _only_a_view(name: str, args: tuple, result: Any) -> bool:
    """Whether nothing was launched: another look at an array, or memory without a value."""
    if result is not None and args and result is args[0] and name in ("astype", "asarray", "ascontiguousarray"):
        return True
    if name in ("empty", "empty_like", "result_type", "may_share_memory", "shape", "size"):
        return True
    views = ("reshape", "ravel", "__getitem__", "swapaxes", "broadcast_to")
    return name in views and np.may_share_memory(result._array, getattr(args[0], "_array", np.empty(0)))


def _memory() -> list[np.ndarray]:
    """All memory of the cards: the arrays that own it."""
    from .array import ndarray

    owners = {}
    for item in gc.get_objects():
        if type(item) is ndarray:
            owner = item._array
            while isinstance(owner.base, np.ndarray):
                owner = owner.base
            owners[id(owner)] = owner
    return [owner for owner in owners.values() if owner.flags.writeable]
