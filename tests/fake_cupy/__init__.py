"""A strict stand-in for CuPy, made of NumPy: array code that runs on it has reason to run on a GPU.

It is stricter than NumPy wherever CuPy is, refuses what CuPy refuses, does what CuPy does where that is
something else, and counts how often the host had to wait for the card.  What it does not have, CuPy may
still have: add it here, with its source.  Kernels of `.cu` files run in it by g++ (see tests/kernels/shim.py), and
cuBLAS' products by NumPy (cublas.py).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

import numpy as np

from . import cuda, functions, operators, random  # noqa: F401  the operators are put into ndarray
from .array import ndarray
from .cuda import MACHINE
from .recording import recorded
from .ufunc import UFUNCS

__all__ = ["MACHINE", "installed"]


def _module() -> ModuleType:
    module = ModuleType("cupy", __doc__)
    public = {n: f for n, f in vars(functions).items() if getattr(f, "__module__", "") == functions.__name__}
    names = {n: recorded(f) for n, f in public.items() if not n.startswith("_")} | UFUNCS
    module.__dict__.update(names, ndarray=ndarray, random=random, inf=np.inf, nan=np.nan, newaxis=None,
                           bool_=np.bool_, int32=np.int32, int64=np.int64, float32=np.float32, float64=np.float64,
                           complex128=np.complex128, dtype=np.dtype, finfo=np.finfo, iinfo=np.iinfo)
    module.get_default_memory_pool = lambda: cuda.MemoryPool()
    module.cuda = SimpleNamespace(**{n: v for n, v in vars(cuda).items() if not n.startswith("_")})
    return module


CUPY = _module()


@contextmanager
def installed() -> Iterator[ModuleType]:
    """Inside `with`, `import cupy` gives the stand-in: two cards, 0 the current one, nothing counted yet."""
    before = sys.modules.get("cupy")
    MACHINE.reset()
    sys.modules["cupy"] = CUPY
    try:
        yield CUPY
    finally:
        del sys.modules["cupy"]
        if before is not None:
            sys.modules["cupy"] = before
