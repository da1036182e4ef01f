"""The operations fused for the GPU: for each one X.cu, the kernels, and X.py, functions that launch them.

    from scratchnmt.kernels import KERNELS
    lstm_gates = KERNELS["lstm_gates"]              # a module, imported now
    (h, c), cache = lstm_gates.lstm_gates_forward(z, c_prev)      # arrays of cupy

A module here has functions of the same names as its plain twin in `ops`, with the same arguments, results
and cache, so that one can stand in for the other; the equation numbers of the twin's docstring tie the lines
of both together, and `python -m scratchnmt.kernels NAME` prints them side by side.

Tests and benchmarks walk this list: a kernel is tested by being listed.  They are held to the plain ops on
the CPU (their text compiles as C++ too, see tests/kernels/shim.h), compiled for real cards, and compared
again on a GPU where there is one.  Their speed has not been measured yet: the headers of the `.cu` files say how
many bytes each must move, which is the limit, and nothing about time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from types import ModuleType


class _Modules(Mapping[str, ModuleType]):
    """name -> the module beside this file, imported when it is asked for; CuPy only when a kernel is launched."""

    def __init__(self, *names: str):
        self.names = names

    def __getitem__(self, name: str) -> ModuleType:
        if name not in self.names:
            raise KeyError(name)
        return import_module(f".{name}", __name__)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


KERNELS = _Modules("lstm_gates", "cross_entropy", "attention", "embedding", "dropout", "optim")
