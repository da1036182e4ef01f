"""Branches of a recorded step: the twin of ops/branches.py.

A GPU does what is on one stream in its order.  A branch is a second stream that leaves the main one (*fork*: it waits
for an event there) and comes back (*join*: the main one waits for an event of it).  In between neither waits for the
other.  While the main stream is recorded, what the branch does is recorded too, and of the graph only the order is
left: what must come after what (CUDA C++ Programming Guide, "Cross-stream Dependencies and Events").

Memory is the trap.  CuPy's pool has free memory of its own for each stream (cupy/cuda/memory.pyx, `_Arena`), and takes
an array back when the host drops it: what is launched on *that* stream from then on may be given its memory, whether or
not a branch has read it by then.  So a branch holds its arguments until it is joined.  What is made in a branch is
memory of the branch's stream, and asked for by it alone.

Products on each stream have workspace of their own, see product.py, so that their bits are those without a branch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import require
from ..ops.branches import in_turn
from ..ops.plain import Beside

# Streams for branches, as many as a step has open at once; 0: none, and directions together.  No card has run it yet.
BRANCHES = 2

_free: dict[int, list[Any]] = {}  # of each stream that may branch: its streams for branches that are not in use


def allow(stream: Any) -> list[Any]:
    """Let work on this stream branch; returns the streams that it may branch to."""
    _free[stream.ptr] = [require("cupy", "cuda12").cuda.Stream(non_blocking=True) for _ in range(BRANCHES)]
    return [*_free[stream.ptr]]


def forget(stream: Any) -> None:
    """Nothing on this stream branches any more."""
    _free.pop(stream.ptr, None)


@contextmanager
def branch() -> Iterator[Beside]:
    """See ops/branches.py; at once where the current stream may not branch, or has no further stream for it."""
    cupy = sys.modules.get("cupy") if _free else None  # the kernels' source runs on a CPU, too, without CuPy or a card
    if cupy is None or not (free := _free.get((main := cupy.cuda.get_current_stream()).ptr)):
        yield in_turn
        return
    side, held = free.pop(), []

    def beside(work: Callable[..., None], *arguments: Any) -> None:
        held.append((work, arguments))
        follow(side, main)
        with side:
            work(*arguments)

    try:
        yield beside
    finally:
        if held:  # else it never left
            follow(main, side)
        held.clear()
        free.append(side)


def directions(D: int) -> list[slice]:
    """Each by itself, in a branch or not: a product and the same one in a batched product may differ in bits."""
    return [slice(d, d + 1) for d in range(D)] if BRANCHES else [slice(None)]


def follow(stream: Any, other: Any) -> None:
    """What is launched on `stream` from now on comes after what is on `other` by now."""
    event = require("cupy", "cuda12").cuda.Event(disable_timing=True)
    event.record(other)
    stream.wait_event(event)
