"""The stand-in's cards: how many, which one is current, how often the host waited, memory that runs out."""

from __future__ import annotations

import linecache
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np


class CUDARuntimeError(RuntimeError):
    """cupy_backends/cuda/api/runtime.pyx: made from a status, says "name: sentence"."""

    _TEXTS = {2: "cudaErrorMemoryAllocation: out of memory",
              35: "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version",
              100: "cudaErrorNoDevice: no CUDA-capable device is detected",
              101: "cudaErrorInvalidDevice: invalid device ordinal",
              904: "cudaErrorStreamCaptureUnjoined: capturing stream has unjoined work",
              905: "cudaErrorStreamCaptureIsolation: dependency created on uncaptured work in another stream"}

    def __init__(self, status: int):
        self.status = status
        super().__init__(self._TEXTS[status])


class OutOfMemoryError(MemoryError):
    """cupy/cuda/memory.pyx: a MemoryError with these arguments and this sentence."""

    def __init__(self, size: int, total: int, limit: int = 0):
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes).")


class Machine:
    """What a test can set and read; `reset` between tests."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.cards = 2
        self.status: int | None = None  # of a driver that does not work
        self.most: int | None = None  # bytes: a larger array does not fit any more
        self.allocated = 0  # bytes of all arrays so far
        self.waits: list[str] = []  # where the host waited for a card
        self.uploads: list[str] = []  # where something was copied from the host, which does not wait
        self.recording: Any = None  # of a stream (see recording.py)
        self.launches = 0  # of graphs
        self.playing = False  # a graph runs
        self.work = 0  # kernels, products and copies on the card that were launched, those of graphs left out
        self.inside = False  # a function of the stand-in
        self.freed = 0  # how often a pool gave back what it had
        self.events = 0  # recorded
        self.in_flight: list = []  # pinned memory that is being copied from
        self.allocator: Any = None  # that of using_allocator
        self.current = threading.local()  # CUDA keeps the current card per thread and starts with 0

    @property
    def card(self) -> int:
        return getattr(self.current, "card", 0)

    def wait(self, what: str) -> None:
        self.refuse_while_recording(what)
        self.waits.append(f"{what}: {caller()}")

    def refuse_while_recording(self, what: str) -> None:  # memory.pyx, copy_from_host, copy_to_host_async ...
        if self.recording is not None:
            raise RuntimeError(f"the current stream is capturing, so {what} is disallowed: {caller()}")

    def upload(self, what: str) -> None:
        self.refuse_while_recording(what)
        self.uploads.append(f"{what}: {caller()}")

    def allocate(self, size: int, of_a_pool: bool = True) -> None:
        if self.playing:  # a graph finds its memory where it was
            return
        assert not self.recording or self.allocator, "memory of the common pool is others' when the graph runs"
        if of_a_pool and self.allocator and self.most is not None and size > self.most:
            self.allocator(size)
        if self.most is not None and size > self.most:
            raise OutOfMemoryError(size, self.allocated)
        self.allocated += size


MACHINE = Machine()


def caller() -> str:
    """The innermost line of the package, as "models/nmt.py, nll: return float(...)"."""
    frame = sys._getframe(1)
    while frame and "/scratchnmt/" not in frame.f_code.co_filename.replace("\\", "/"):
        frame = frame.f_back
    if frame is None:
        return "a test"
    path = frame.f_code.co_filename
    line = linecache.getline(path, frame.f_lineno).strip()
    return f"{path.replace(chr(92), '/').rpartition('/scratchnmt/')[2]}, {frame.f_code.co_name}: {line}"


class Device:
    """cupy/cuda/device.pyx: it compares by id and has no hash; a card that is not there is refused when used."""

    __hash__ = None

    def __init__(self, device: int | None = None):
        self.id = MACHINE.card if device is None else int(device)
        self._before: list[int] = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __int__(self) -> int:
        return self.id

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    def use(self) -> None:
        if not 0 <= self.id < _get_device_count():
            raise CUDARuntimeError(101)
        MACHINE.current.card = self.id

    @property
    def pci_bus_id(self) -> str:  # device.pyx
        return f"0000:0{self.id}:00.0"

    def __enter__(self) -> Device:
        self._before.append(MACHINE.card)
        self.use()
        return self

    def __exit__(self, *_: object) -> None:
        MACHINE.current.card = self._before.pop()

    def synchronize(self) -> None:
        MACHINE.wait("synchronize")


def _get_device_count() -> int:
    if MACHINE.status is not None:
        raise CUDARuntimeError(MACHINE.status)
    return MACHINE.cards


class Stream:
    """cupy/cuda/stream.pyx; the default one has the number 0 and records nothing."""

    null: Stream
    _count = 0

    def __init__(self, null: bool = False, non_blocking: bool = False):
        Stream._count += not null
        self.is_non_blocking = non_blocking
        self.ptr = 0 if null else 1000 + Stream._count
        self._before: list[Stream] = []

    def __enter__(self) -> Stream:
        self._before.append(get_current_stream())
        MACHINE.current.stream = self
        return self

    def __exit__(self, *_: object) -> None:
        MACHINE.current.stream = self._before.pop()

    def synchronize(self) -> None:
        MACHINE.wait("stream.synchronize")

    def wait_event(self, event: Event) -> None:
        assert event._number, "an event that was never recorded"
        recording = MACHINE.recording
        if event._recording is not None:  # a fork, if this stream does not record yet, or a join
            assert event._recording is recording, "an event of a recording that has ended"
            recording.latest.setdefault(self.ptr, set()).update(event._after)
        elif recording is not None and self.ptr in recording.latest:
            raise CUDARuntimeError(905)

    def begin_capture(self, mode: int | None = None) -> None:
        from .recording import Recording

        if not self.ptr:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        # with a blocking one any other thread's work on the default stream would fail
        assert self.is_non_blocking and get_current_stream() is self
        MACHINE.recording = Recording(self.ptr)

    def end_capture(self) -> Graph:
        recording, MACHINE.recording = MACHINE.recording, None
        if recording is None:
            raise RuntimeError("cudaErrorIllegalState: the operation cannot be performed in the present state")
        recording.take_back()
        if recording.unjoined():
            raise CUDARuntimeError(904)
        return Graph(recording)

    def is_capturing(self) -> bool:
        return MACHINE.recording is not None and self.ptr in MACHINE.recording.latest


Stream.null = Stream(null=True)


def get_current_stream() -> Stream:
    return getattr(MACHINE.current, "stream", Stream.null)


class Graph:
    """cupy/cuda/graph.pyx."""

    def __init__(self, recording: Any):
        self._recording, self._late = recording, False

    def launch(self, stream: Stream | None = None) -> None:
        MACHINE.launches += 1
        MACHINE.playing = True
        try:
            self._late = not self._late
            self._recording.play(self._late)
        finally:
            MACHINE.playing = False


class Event:
    """cupy/cuda/stream.pyx; it happens when `_late` more have been recorded, or when it is waited for."""

    _late = 6

    def __init__(self, block: bool = False, disable_timing: bool = False):
        self._number = 0
        self._in_flight: list = []
        self._recording: Any = None  # in which it was recorded, after these calls
        self._after: frozenset[int] = frozenset()

    def record(self, stream: Stream | None = None) -> None:
        recording, ptr = MACHINE.recording, (stream or get_current_stream()).ptr
        MACHINE.events += 1
        self._number = MACHINE.events
        if recording is not None and ptr in recording.latest:
            self._recording, self._after = recording, frozenset(recording.latest[ptr])
            return
        self._recording = None
        self._in_flight, MACHINE.in_flight = MACHINE.in_flight, []

    @property
    def done(self) -> bool:
        if MACHINE.events - self._number < self._late:
            return False
        self._landed()
        return True

    def _landed(self) -> None:
        """What was copied from pinned memory is there, and that memory was left alone until now."""
        for host, values in self._in_flight:
            assert np.array_equal(host, values), "pinned memory was written to while it was copied from"
        self._in_flight = []

    def synchronize(self) -> None:
        self._landed()
        MACHINE.wait(f"event, {MACHINE.events - self._number} behind")


class Memory:
    """cupy/cuda/memory.pyx."""

    def __init__(self, size: int):
        try:
            MACHINE.allocate(size, of_a_pool=False)
        except OutOfMemoryError as error:  # which only a pool makes of it
            raise CUDARuntimeError(2) from error
        self._bytes = np.zeros(min(size, 1), "uint8")
        self.ptr = self._bytes.ctypes.data


class MemoryPointer:
    def __init__(self, mem: Memory, offset: int):
        self.mem, self.ptr = mem, mem.ptr + offset


class MemoryPool:
    """cupy/cuda/memory.pyx, as far as a test asks: new memory comes from the allocator."""

    def __init__(self, allocator: Any = None):
        self._allocator, self._limit = allocator, None

    def malloc(self, size: int) -> MemoryPointer:
        try:
            return self._allocator(size)
        except CUDARuntimeError as error:  # _try_malloc: gives back what is free, then asks again
            try:
                return self._allocator(size)
            except CUDARuntimeError:
                raise OutOfMemoryError(size, MACHINE.allocated) from error

    def set_limit(self, size: int | None = None, fraction: float | None = None) -> None:
        self._limit = size

    def free_all_blocks(self, stream: Any = None) -> None:
        MACHINE.freed += 1


@contextmanager
def using_allocator(allocator: Any = None) -> Iterator[None]:
    before, MACHINE.allocator = MACHINE.allocator, allocator
    try:
        yield
    finally:
        MACHINE.allocator = before


def alloc_pinned_memory(size: int) -> memoryview:
    return memoryview(bytearray(size))


runtime = SimpleNamespace(getDeviceCount=_get_device_count, getDevice=lambda: MACHINE.card,
                          runtimeGetVersion=lambda: 12090, CUDARuntimeError=CUDARuntimeError)
memory = SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
device = SimpleNamespace(get_cublas_handle=lambda: 1)
