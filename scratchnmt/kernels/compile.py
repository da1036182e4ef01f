"""From a `.cu` file to a kernel that can be launched; the only place that talks to CuPy's compiler.

A kernel's text goes to the compiler (NVRTC, at run time) with its headers written into it, so that it needs no
folder of includes, and includes nothing of the C++ library, which NVRTC does not have.  A kernel is a
template over its type of numbers: `lstm_gates_forward<float>` is compiled when it is first launched.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import ArgumentError, require

OPTIONS = ("-std=c++17",)
C_TYPES = {"float32": "float", "float64": "double"}
_INCLUDE = re.compile(r'#include "(\w+\.h)"')
KERNEL = re.compile(r"^template <typename T>\n__global__ void (\w+)\(", re.MULTILINE)  # its name


@lru_cache
def source(file: str) -> str:
    """The text of kernels/FILE.cu with its own headers in the place of their #include lines."""
    lines = [f'#line 1 "{file}.cu"']
    for number, line in enumerate(read(f"{file}.cu").split("\n"), 1):
        include = _INCLUDE.fullmatch(line)
        lines += [line] if not include else [f'#line 1 "{include[1]}"', read(include[1]),
                                             f'#line {number + 1} "{file}.cu"']
    return "\n".join(lines)


def read(file: str) -> str:
    """The text of a file of this folder."""
    return resources.files(__package__).joinpath(file).read_text(encoding="utf-8")


def names(file: str) -> list[str]:
    """The kernels in kernels/FILE.cu, in their order."""
    return KERNEL.findall(source(file))


@lru_cache
def kernel(file: str, name: str, dtype: str) -> Callable[[tuple, tuple, tuple], Any]:
    """The kernel `name` of kernels/FILE.cu for numbers of `dtype`: call it with (grid, block, arguments).

    TypeError for another dtype than float32 and float64; InputError if CuPy is not installed.
    """
    if dtype not in C_TYPES:
        raise TypeError(f"{name}: arrays of {dtype}, expected {' or '.join(C_TYPES)}")
    return _module(file, C_TYPES[dtype]).get_function(f"{name}<{C_TYPES[dtype]}>")


def address(array: Array) -> int:
    """Where an array begins in the memory of the current GPU.

    TypeError for an array of numpy, ValueError for one that lies on another GPU.
    """
    if isinstance(array, np.ndarray):
        raise TypeError("the kernels work on a GPU, but one array is of numpy: move it there with to_device")
    memory, here = array.data, require("cupy", "cuda12").cuda.runtime.getDevice()
    if memory.device_id != here:
        raise ArgumentError(f"one array lies on cuda:{memory.device_id}, but this step runs on cuda:{here}: "
                         "move it there with to_device")
    return memory.ptr


@lru_cache
def _module(file: str, c_type: str) -> Any:
    """All kernels of a file for one type, compiled together."""
    cupy = require("cupy", "cuda12")
    return cupy.RawModule(code=source(file), options=OPTIONS,
                          name_expressions=[f"{name}<{c_type}>" for name in names(file)])
