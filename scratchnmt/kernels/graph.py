"""Work recorded once as a CUDA graph and then repeated: hundreds of launches for the price of one.

What is recorded are addresses and sizes, so the same work can be repeated for other numbers in the same places, and
for nothing else.  Arrays that are made on the way come from a pool of their own, which keeps their memory for
as long as a graph may write there; all graphs share it, since only one runs at a time, and so nothing may be read
from such an array afterwards: work leaves its results in arrays that were there before.

Recording wants a stream that no other thread's work can touch, so everything runs on one that does not take turns
with the default stream by itself; `turn` makes them wait for each other.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from ..errors import require
from . import branches
from .branches import follow
from .product import library


class Graphs:
    """Runs work on one stream; what comes back is recorded, up to `most` different works; 0: nothing is.

    The pool heeds no limit that CuPy was given: to keep within one it would give back memory that a graph
    writes to.  With most = 0 there is no pool of its own.
    """

    def __init__(self, most: int):
        self.cupy = require("cupy", "cuda12")
        self.stream = self.cupy.cuda.Stream(non_blocking=True)
        self.pool = self.cupy.cuda.MemoryPool(self._allocate) if most else None
        if self.pool:
            self.pool.set_limit(size=0)
        self.sides = branches.allow(self.stream) if most else []  # streams of branches
        self.most = most
        self.seen: set[Hashable] = set()
        self.graphs: dict[Hashable, Any] = {}
        self.gave_back = False  # memory, since the flag was last lowered

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Inside, the stream is the current one; its work comes after what the caller's stream has, and before
        what it gets."""
        outside = self.cupy.cuda.get_current_stream()
        follow(self.stream, outside)
        with self.stream:
            yield
        follow(outside, self.stream)

    def run(self, key: Hashable, work: Callable[[], None]) -> None:
        """Do `work`, which has no effect on the host and is the same launches whenever the key is the same.

        To be called in a turn.  The first time it runs as it is, which also compiles its kernels and fills
        the pool; the second time it is recorded.  When there are `most` graphs the others go on as they are.
        """
        if key not in self.graphs and key in self.seen and len(self.graphs) < self.most:
            self._record(key, work)
        if key in self.graphs:
            self.graphs[key].launch(self.stream)
            return
        with self._memory():
            work()
        self.seen.add(key)

    def close(self) -> None:
        """Wait, and give all memory back: CuPy's pools never do so by themselves."""
        self.stream.synchronize()
        self.graphs.clear()
        branches.forget(self.stream)
        for stream in (self.stream, *self.sides):
            library().release(stream.ptr)
        if self.pool:
            self.pool.free_all_blocks()

    def _record(self, key: Hashable, work: Callable[[], None]) -> None:
        """Record it; if the driver or CuPy refuses, say so once and go on without further graphs."""
        self.gave_back = False
        try:
            self.stream.begin_capture()
            with self._memory():
                work()
            graph = self.stream.end_capture()
        except RuntimeError as error:
            self._abandon()
            self.most = 0
            warnings.warn(f"a step cannot be recorded as a CUDA graph ({error}); steps go on one launch at a time, "
                          "with the same results", RuntimeWarning, stacklevel=3)
            return
        except BaseException:
            self._abandon()
            raise
        if not self.gave_back:  # else it may write to memory that is others' by now
            self.graphs[key] = graph

    def _abandon(self) -> None:
        """End a recording that went wrong, whatever state it is in."""
        with suppress(RuntimeError):  # what invalidated it is told by the error that brought us here
            self.stream.end_capture()

    def _memory(self) -> Any:
        """Where arrays are made."""
        return self.cupy.cuda.using_allocator(self.pool.malloc) if self.pool else nullcontext()

    def _allocate(self, size: int) -> Any:
        """New memory for the pool.  When there is none, what others keep in reserve is freed; when there is none
        then, the pool gives back what it has and asks again, and so no graph may write there any more."""
        cuda = self.cupy.cuda
        try:
            return cuda.MemoryPointer(cuda.Memory(size), 0)
        except cuda.runtime.CUDARuntimeError:
            self.cupy.get_default_memory_pool().free_all_blocks()
        try:
            return cuda.MemoryPointer(cuda.Memory(size), 0)
        except cuda.runtime.CUDARuntimeError:
            self.graphs.clear()
            self.gave_back = True
            raise
