"""How things are measured here: the machine's own limit, contestants in turn, medians and spread."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np

from scratchnmt.arrays import device_module
from scratchnmt.errors import InputError

from .clock import Seconds, clock

COUNTS = {2: "two", 3: "three", 4: "four"}
REST = 0.05  # seconds between contestants, for the idle threads of the last one to fall asleep
NOISY = 0.2  # quartiles this far apart, as a share of the median: other work was on the machine


def sizes(option: str, text: str, letters: str) -> tuple[int, ...]:
    """The numbers of an option, one for each of `letters`, as "8000,256" for "V,H"; InputError if it is not so."""
    count = len(letters.split(","))
    try:
        numbers = tuple(map(int, text.split(",")))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise InputError(f"{option} is {text!r}, expected {COUNTS[count]} numbers, {letters}")
    return numbers


def machine(threads: int, device: str = "cpu") -> str:
    """One line: processor, cores, threads, versions; the card, if it is one that measures."""
    card = "" if device == "cpu" else f"{device_name(device)}; "
    return f"{card}{machine_facts()}, {threads} threads each"


def machine_facts() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    cupy = sys.modules.get("cupy")
    gpu = "" if cupy is None else f", CuPy {cupy.__version__}, CUDA {cupy.cuda.runtime.runtimeGetVersion()}"
    return (f"{processor()}, {cores} cores; Python {platform.python_version()}, NumPy {np.__version__} with "
            f"{blas['name']} {blas['version']}{gpu}")


def device_name(device: str) -> str:
    """What the processor, or the card, calls itself."""
    if device == "cpu":
        return processor()
    cuda = device_module(device).cuda
    return cuda.runtime.getDeviceProperties(cuda.Device().id)["name"].decode()


def processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def sgemm(size: int = 2048) -> Callable[[], None]:
    """A product of two float32 matrices (size, size), ready to be timed: 2 size^3 floating operations."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((size, size), dtype=np.float32) for _ in range(2))
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out)


def alternate(contestants: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 3, device: str = "cpu",
              calls: int = 1) -> dict[str, list[Seconds]]:
    """Host's and device's seconds of a call, `rounds` of them for each contestant, each of `calls` in a row.

    They take turns, every other round in reverse order, so that a slow spell of the machine falls on
    all of them.
    """
    timer = clock(device)
    times: dict[str, list[Seconds]] = {name: [] for name in contestants}
    for turn in range(-warmup, rounds):
        for name in list(contestants)[:: -1 if turn % 2 else 1]:
            time.sleep(REST)
            seconds = timer.time(contestants[name], calls)
            if turn >= 0:
                times[name].append(seconds)
    return times


def spread(values: np.ndarray) -> str:
    """The quartiles around the median, in per cent of it; marked if the machine was not quiet."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    mark = " NOISY" if high - low > NOISY * middle else ""
    return f"{100 * (low / middle - 1):+.0f}/{100 * (high / middle - 1):+.0f} %{mark}"


def print_table(header: list[str], rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, ["-" * width for width in widths], *rows):
        print("  ".join(cell.rjust(width) if i else cell.ljust(width)
                        for i, (cell, width) in enumerate(zip(row, widths, strict=True))), flush=True)


def print_headline(speeds: Mapping[str, float], before: str = "") -> None:
    """The ratio that counts: that to the fastest of the others.  speeds: of each contestant, larger is faster.

    before: what the first line begins with.
    """
    others = [name for name in speeds if not name.startswith("scratchnmt")]
    if others:
        print(before, end="")
        best = max(others, key=speeds.__getitem__)
        for name in speeds:
            if name not in others:
                print(f"{name} is {speeds[name] / speeds[best]:.2f} times as fast as the best of the others, {best}")


def print_rows(rows: list, times: Mapping[str, list[Seconds]]) -> None:
    """A table of one size: the first row is ours, which the others are compared with."""
    on_gpu = any(s.host != s.device for seconds in times.values() for s in seconds)
    ours = rows[0]
    header = ["", "ms", *(["host ms"] if on_gpu else []), "quartiles", "GFLOP/s", "share", "tokens/s",
              "scratchnmt is faster by"]
    print_table(header, [
        [row.contestant, f"{row.ms:.4g}", *([f"{row.host_ms:.4g}"] if on_gpu else []),
         spread(np.array([s.device for s in times[row.contestant]])), f"{row.gflop_per_s:.0f}",
         f"{100 * row.share:.0f} % of {row.bound}" if row.bound else "", f"{row.tokens_per_s:,}",
         "" if row is ours else f"{row.ms / ours.ms:.2f}"] for row in rows])
    print_headline({row.contestant: 1 / row.ms for row in rows})
