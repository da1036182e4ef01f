"""Two clocks: the host's, and a GPU's own, which starts and stops in the order of its work."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from scratchnmt.arrays import device_module


class Seconds(NamedTuple):
    host: float  # until the last call has returned
    device: float  # until its work is done


class HostClock:
    """For work that is done when the call returns."""

    def time(self, call: Callable[[], object], calls: int = 1) -> Seconds:
        """Seconds of one call, `calls` of them made in a row."""
        start = time.perf_counter()
        for _ in range(calls):
            call()
        seconds = (time.perf_counter() - start) / calls
        return Seconds(seconds, seconds)


class CudaClock:
    """For work that calls send to a GPU, by CuPy or PyTorch; events on the default stream, which waits for others."""

    def __init__(self, device: str):
        self.cuda = device_module(device).cuda

    def time(self, call: Callable[[], object], calls: int = 1) -> Seconds:
        """Seconds of one call, `calls` of them made in a row, so that the host may run ahead."""
        first, last = self.cuda.Event(), self.cuda.Event()
        self.cuda.Device().synchronize()
        first.record()
        start = time.perf_counter()
        for _ in range(calls):
            call()
        host = (time.perf_counter() - start) / calls
        last.record()
        last.synchronize()
        self.cuda.Device().synchronize()
        return Seconds(host, self.cuda.get_elapsed_time(first, last) / 1e3 / calls)


def clock(device: str) -> HostClock | CudaClock:
    return HostClock() if device == "cpu" else CudaClock(device)
