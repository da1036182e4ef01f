"""How things are measured here: the machine's own limit, contestants in turn, medians and spread."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping

import numpy as np

REST = 0.05  # seconds between contestants, for the idle threads of the last one to fall asleep
NOISY = 0.2  # quartiles this far apart, as a share of the median: other work was on the machine


def machine(threads: int) -> str:
    """One line: processor, cores, threads, versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return (f"{processor()}, {cores} cores, {threads} threads each; Python {platform.python_version()}, "
            f"NumPy {np.__version__} with {blas['name']} {blas['version']}")


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


def alternate(contestants: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 3,
              ) -> dict[str, np.ndarray]:
    """Seconds of every call, (rounds,) for each contestant.

    They take turns, every other round in reverse order, so that a slow spell of the machine falls on
    all of them.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(-warmup, rounds):
        for name in list(contestants)[:: -1 if turn % 2 else 1]:
            time.sleep(REST)
            start = time.perf_counter()
            contestants[name]()
            if turn >= 0:
                times[name].append(time.perf_counter() - start)
    return {name: np.array(seconds) for name, seconds in times.items()}


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
