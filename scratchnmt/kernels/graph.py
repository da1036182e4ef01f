"""Work recorded once as a CUDA graph and then repeated: hundreds of launches for the price of one.

What is recorded are addresses and sizes, so the same work can be repeated for other numbers in the same places, and
for nothing else.  Arrays that are made on the way come from a pool of their own, which keeps their memory for
as long as a graph may write there; all graphs share it, since only one runs at a time, and so nothing may be read
from such an array afterwards: work leaves its results in arrays that were there before.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from typing import Any

from ..errors import require


class Graphs:
    """Runs work on one stream; what comes back often enough is recorded, up to `most` different works."""

    def __init__(self, most: int):
        self.cupy = require("cupy", "cuda12")
        # not a non-blocking one: it keeps its turn with the default stream, on which everything else is done
        self.stream = self.cupy.cuda.Stream()
        self.pool = self.cupy.cuda.MemoryPool(self._allocate)
        self.most = most
        self.seen: set[Hashable] = set()
        self.graphs: dict[Hashable, Any] = {}

    def run(self, key: Hashable, work: Callable[[], None]) -> None:
        """Do `work`, which has no effect on the host and is the same launches whenever the key is the same.

        The first time it runs as it is, which also compiles its kernels and fills the pool; the second time
        it is recorded.  When there are `most` graphs the others go on to run as they are.
        """
        with self.stream:
            if key not in self.graphs and key in self.seen and len(self.graphs) < self.most:
                self._record(key, work)
            if key in self.graphs:
                self.graphs[key].launch(self.stream)
                return
            self.seen.add(key)
            with self.cupy.cuda.using_allocator(self.pool.malloc):
                work()

    def _record(self, key: Hashable, work: Callable[[], None]) -> None:
        """Record it; if the driver or CuPy refuses, say so once and go on without graphs."""
        self.stream.begin_capture()
        refusal = None
        try:
            with self.cupy.cuda.using_allocator(self.pool.malloc):
                work()
        except MemoryError:
            self._abandon()
            raise
        except (RuntimeError, NotImplementedError) as error:
            refusal = error
        if refusal is None:
            try:
                self.graphs[key] = self.stream.end_capture()
                return
            except RuntimeError as error:
                refusal = error
        else:
            self._abandon()
        self.most = 0
        warnings.warn(f"a step cannot be recorded as a CUDA graph ({refusal}); steps go on one launch at a time, "
                      "with the same results", RuntimeWarning, stacklevel=3)

    def _abandon(self) -> None:
        """End a recording that went wrong, whatever state it is in."""
        try:
            self.stream.end_capture()
        except RuntimeError:  # what invalidated it is told by the error that brought us here
            pass

    def _allocate(self, size: int) -> Any:
        """New memory for the pool.  When there is none, the pool gives back what is free before it asks again:
        then no graph may write there any more."""
        cuda = self.cupy.cuda
        try:
            return cuda.MemoryPointer(cuda.Memory(size), 0)
        except cuda.runtime.CUDARuntimeError:
            self.graphs.clear()
            raise
