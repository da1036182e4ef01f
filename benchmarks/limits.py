"""What a machine can do at most: products of matrices, copying, starting work.  Measured before anything else.

    sgemm       GFLOP/s of a product of two square float32 matrices
    tf32        the same where products read only ten bits of the fractions (GPU)
    copy        GB/s of copying one large array to another on all threads, bytes read and bytes written together
    launch      microseconds between two launches of next to nothing (GPU), or of a call of NumPy
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scratchnmt.arrays import device_module, for_ranges
from scratchnmt.kernels import choose

from .clock import clock

ROUNDS = 7


class Limits(NamedTuple):
    sgemm: float  # floating operations per second
    tf32: float | None
    copy: float  # bytes per second
    launch: float  # seconds

    def __str__(self) -> str:
        tf32 = "" if self.tf32 is None else f"; in tf32 {self.tf32 / 1e9:,.0f}"
        return (f"limits: sgemm {self.sgemm / 1e9:,.0f} GFLOP/s{tf32}; copy {self.copy / 1e9:,.0f} GB/s; "
                f"launch {1e6 * self.launch:.1f} us")


def measure(device: str, size: int | None = None, copied: int | None = None) -> Limits:
    """The limits of a device; size: of the matrices, copied: bytes of the array (both chosen by the device)."""
    xp, on_gpu = device_module(device), device != "cpu"
    size, copied = size or (8192 if on_gpu else 2048), copied or (1 << 30 if on_gpu else 1 << 28)
    rng = np.random.default_rng(0)
    a, b = (xp.asarray(rng.standard_normal((size, size), dtype=np.float32)) for _ in range(2))
    out, (old, new), small = xp.empty_like(a), xp.ones((2, copied // 8)), xp.ones(1)
    product = lambda matmul: choose(None, matmul, device, "float32").product.product
    flop = 2 * size**3
    seconds = lambda call, calls=1: _fastest(device, call, calls)
    sgemm = flop / seconds(lambda: product("float32")(a, b, out=out))
    tf32 = flop / seconds(lambda: product("tf32")(a, b, out=out)) if on_gpu else None
    by_threads = lambda: for_ranges(lambda start, stop: np.copyto(new[start:stop], old[start:stop]), new.size, 1)
    copy = 2 * new.nbytes / seconds((lambda: xp.add(old, 0, out=new)) if on_gpu else by_threads)
    return Limits(sgemm, tf32, copy, seconds(lambda: xp.add(small, 1, out=small), 1000))


def _fastest(device: str, call, calls: int) -> float:
    """A limit is what is reached at the best of times."""
    timer = clock(device)
    timer.time(call, calls)
    return min(timer.time(call, calls).device for _ in range(ROUNDS))
