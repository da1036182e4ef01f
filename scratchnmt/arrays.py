"""NumPy or CuPy: which one an array belongs to, what shape it must have, memory, work split over threads."""

from __future__ import annotations

import mmap
import os
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from functools import lru_cache
from math import ceil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .errors import ArgumentError, InputError
from .forks import no_fork
from .streams import find_room

Array = Any  # numpy.ndarray or cupy.ndarray; there is no common base class to name


_INSTALL = "pip install cupy-cuda12x, or cupy-cuda13x for a driver of CUDA 13"
_NO_DEVICE = 100  # CUDA's runtime API: cudaErrorNoDevice


def array_module(*arrays: Array) -> ModuleType:
    """numpy or cupy, whichever the arrays belong to; TypeError if they are of both, or lie on two cards."""
    cupy = sys.modules.get("cupy")  # an array of cupy exists only if cupy was imported
    if cupy is None:
        return np
    on_gpu = [isinstance(a, cupy.ndarray) for a in arrays]
    if not any(on_gpu):
        return np
    if not all(on_gpu) or (len(arrays) > 1 and len({a.data.device_id for a in arrays}) > 1):
        of = "two cards" if all(on_gpu) else "numpy and of cupy"
        places = ", ".join(f"{a.dtype} {a.shape} on {device_of(a)}" for a in arrays)
        raise TypeError(f"arrays of {of} in one call: {places}; move them to one device with to_device")
    return cupy


@contextmanager
def not_too_large(what: str, dtype: Any) -> Iterator[None]:
    """InputError if a number that is converted to the dtype on the host meanwhile becomes infinite, and was not."""
    try:
        with np.errstate(over="raise"):
            yield
    except (FloatingPointError, OverflowError) as error:
        raise InputError(f"{what} holds a number that is too large for {np.dtype(dtype)}") from error


@lru_cache
def dtype_name(dtype: Any) -> str:
    """ "float32", say; asked at every launch, and NumPy makes the name anew each time."""
    return np.dtype(dtype).name


def device_of(array: Array) -> str:
    """Where an array lies: "cpu", "cuda:0"."""
    return "cpu" if array_module(array) is np else f"cuda:{array.device.id}"


def to_device_of(ids: Array, array: Array) -> Array:
    """`ids`, which may be on the host, on the device of `array`: copied there without waiting for it."""
    if isinstance(ids, np.ndarray):
        ids = array_module(array).asarray(ids)
    array_module(ids, array)
    return ids


def put(what: str, array: np.ndarray, own: Array) -> None:
    """Copy an array of the host into one of its shape; InputError, which says `what`, if a number is too large."""
    with not_too_large(what, own.dtype):
        own[...] = to_device_of(array.astype(own.dtype, copy=False), own)


def device_module(device: str) -> ModuleType:
    """The array module for "cpu" (numpy) or "cuda", "cuda:1" (cupy); InputError if it is not there."""
    if device == "cpu":
        return np
    if not re.fullmatch(r"cuda(:\d+)?", device):
        raise InputError(f'device {device!r} is not known: expected "cpu", "cuda" or "cuda:N"')
    find_room()
    try:
        # cupy need not be there, and has no types
        import cupy  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ModuleNotFoundError as error:
        raise InputError(f"device {device!r} needs cupy: {_INSTALL}") from error
    except ImportError as error:  # CuPy's own advice runs over many lines
        reason = next((line.strip() for line in str(error).splitlines() if line.strip(" =")), "ImportError")
        raise InputError(f"device {device!r}: cupy is installed, but cannot be imported ({reason}): "
                         f"install the one that fits the driver, {_INSTALL}") from error
    index = int(device.partition(":")[2] or 0)
    count = _cards(cupy, device)
    if index >= count:
        raise InputError(f"device {device!r} is not there: this machine has {count} of them, "
                         f"{', '.join(f'cuda:{i}' for i in range(count))}")
    cupy.cuda.Device(index).use()
    return cupy


def _cards(cupy: ModuleType, device: str) -> int:
    """How many there are, at least one; InputError otherwise."""
    try:
        return cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        no_gpu = getattr(error, "status", None) == _NO_DEVICE
        reason = ("this machine has no NVIDIA GPU, or hides it" if no_gpu else
                  "NVIDIA's driver is missing, or too old for this cupy")
        raise InputError(f"device {device!r} is not there: {error} ({reason}); it needs an NVIDIA GPU, "
                         f"its driver, and the cupy that fits the driver, {_INSTALL}") from error


def to_device(array: Array, device: str) -> Array:
    """The array on `device` ("cpu", "cuda", "cuda:1"), copied only if it is elsewhere."""
    xp = device_module(device)
    if xp is np:
        return array.get() if hasattr(array, "get") else np.asarray(array)
    return xp.asarray(array)


def check_shapes(op: str, /, **arguments: tuple[str, Array]) -> dict[str, int]:
    """Match each argument's shape with its letters; return the size behind every letter.

    check_shapes("lstm_cell", x=("B I", x), Wh=("H 4H", Wh)) binds B, I and H where they first stand
    alone and raises ValueError, naming the argument, both shapes and where each letter came from, at
    the first disagreement.  A term is a letter, a multiple of one (4H), a sum (H+I) or a number.
    """
    sizes: dict[str, int] = {}
    origin: dict[str, str] = {}
    for name, (spec, array) in arguments.items():
        terms = spec.split()
        shape = tuple(array.shape)
        if len(shape) == len(terms):
            for term, size in zip(terms, shape, strict=False):
                if len(term) == 1 and term.isalpha() and term not in sizes:
                    sizes[term] = size
                    origin[term] = f"{name} {shape}"
        expected = tuple(_evaluate(term, sizes) for term in terms)
        if shape != expected:
            raise ArgumentError(_shape_message(op, name, terms, shape, expected, sizes, origin))
    return sizes


def _evaluate(term: str, sizes: dict[str, int]) -> int | str:
    total = 0
    for factor, letter in _summands(term):
        if letter and letter not in sizes:
            return term
        total += factor * (sizes[letter] if letter else 1)
    return total


@lru_cache
def _summands(term: str) -> list[tuple[int, str]]:
    """Factor and letter, "" for a number, of each summand of a term."""
    summands = re.findall(r"(\d*)([A-Za-z]?)(?:\+|$)", term)[: term.count("+") + 1]
    return [(int(factor or 1), letter) for factor, letter in summands]


def _shape_message(op, name, terms, shape, expected, sizes, origin) -> str:
    letters = sorted(set(re.findall("[A-Za-z]", " ".join(terms))) & set(sizes))
    wanted = f"({', '.join(terms)})"
    if len(shape) == len(terms):
        wanted += f" = ({', '.join(map(str, expected))})"
    sources = ", ".join(f"{x} = {sizes[x]} comes from {origin[x]}"
                        for x in letters if not origin[x].startswith(f"{name} "))
    return f"{op}: {name} has shape {shape}, expected {wanted}" + (f", where {sources}" if sources else "")


def keep_freed_memory() -> bool:
    """Have the C library keep the memory of freed arrays for the next ones; False where it has no such choice.

    A training step makes and frees the same large arrays again and again.  By default glibc returns
    each one over 32 MB to the system, which then clears every page anew: a tenth of a step at
    V 20,000, H 512.  The peak stays the same.  It holds for the whole process, so only programs call
    this, not the library.
    """
    import ctypes

    trim_threshold, mmap_max = -1, -4  # glibc's malloc.h: M_TRIM_THRESHOLD, M_MMAP_MAX
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS; Windows
        return False
    return bool(mallopt(mmap_max, 0) and mallopt(trim_threshold, -1))


def lazy_zeros_like(vector: Array) -> Array:
    """Zeros that take memory only where, and when, somebody writes to them: of a worker's moments, its own part.

    Those of NumPy are as lazy only in memory new to the process, not in what the C library kept of freed arrays.
    """
    if array_module(vector) is not np or not hasattr(mmap, "MAP_ANONYMOUS"):  # Windows
        return array_module(vector).zeros_like(vector)
    try:
        memory = mmap.mmap(-1, max(1, vector.nbytes), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"no {vector.nbytes:,} bytes for {vector.size:,} numbers") from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)  # as NumPy does
    return np.frombuffer(memory, vector.dtype, vector.size)


def own_cores() -> set[int]:
    """The cores that this process may use, by their numbers, as far as the system tells."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def core_count() -> int:
    """How many cores this process may keep busy: its own, and no more than the quota of its container."""
    return max(1, min(len(own_cores()), _quota()))


def _quota(root: Path = Path("/sys/fs/cgroup"), of: Path = Path("/proc/self/cgroup")) -> int:
    """Of the control groups of Linux, version 2 and 1: microseconds in each period; of the process' and those above."""
    cores = [sys.maxsize]
    with suppress(OSError, ValueError):
        for line in of.read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            if kinds and "cpu" not in kinds.split(","):
                continue
            top = root / kinds if kinds else root
            folder = top / path.lstrip("/")
            for group in (folder, *folder.parents) if folder.is_relative_to(top) else (top,):
                with suppress(OSError, ValueError):  # a process in a container sees the group as the root
                    quota, period = ((group / "cpu.max").read_text().split() if not kinds else
                                     [(group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")])
                    cores.append(ceil(int(quota) / int(period)))  # "max" and -1: none
                if group == top:
                    break
    return min(count for count in cores if count > 0)


_limits: list[tuple[int, Any]] = []  # of BLAS, at present, each with the first one, which knows what there was
_most: ContextVar[int | None] = ContextVar("most", default=None)  # threads, inside `limit_threads`


@contextmanager
def limit_threads(count: int | None = None) -> Iterator[None]:
    """Inside `with`, BLAS (by threadpoolctl, where it is installed) and `for_ranges` use at most so many threads.

    None: as many as the environment wants, or one.  Those of BLAS are the whole process': if several limit them at
    once, the last to end gives back what there was.
    """
    count = count or threads_wanted() or 1
    before = _most.set(count)
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        yield
    else:
        with no_fork:
            limit = threadpool_limits(count, user_api="blas")
            _limits.append((count, _limits[0][1] if _limits else limit))
        try:
            yield
        finally:
            with no_fork:
                _, first = _limits.pop(max(i for i, (most, _) in enumerate(_limits) if most == count))
                if _limits:
                    threadpool_limits(_limits[-1][0], user_api="blas")
                else:
                    first.restore_original_limits()
    finally:
        _most.reset(before)


def threads_wanted() -> int | None:
    """How many threads the environment says that a process shall have, if it does."""
    told = (os.environ.get(name, "") for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"))
    return next((int(count) for count in told if count.isdigit() and int(count)), None)


@lru_cache(maxsize=1)
def _workers(process: int) -> tuple[int, ThreadPoolExecutor]:
    """How many threads, and they, of this process: one that was forked has none, and must make its own."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    count = int(wanted) if wanted.isdigit() and int(wanted) else len(own_cores())
    return count, ThreadPoolExecutor(count, thread_name_prefix="scratchnmt")


def for_ranges(task: Callable[[int, int], Any], size: int, grain: int) -> None:
    """Call task(start, stop) over a partition of range(size), on as many threads as there are cores.

    NumPy's loops run without the interpreter's lock, so ranges of `grain` or more rows really run
    side by side.  The tasks must write to disjoint places.  A range smaller than two grains, and
    everything on one core, runs at once in the caller's thread.
    """
    count, pool = _workers(os.getpid())
    parts = max(1, min(count, _most.get() or count, size // grain))
    bounds = [size * i // parts for i in range(parts + 1)]
    # in the caller's context: that is where NumPy keeps what np.errstate set
    futures = [pool.submit(copy_context().run, task, bounds[i], bounds[i + 1]) for i in range(1, parts)]
    try:
        task(bounds[0], bounds[1])
    finally:
        wait(futures)  # whatever happens, nobody writes any more when this returns
    for future in futures:
        future.result()
