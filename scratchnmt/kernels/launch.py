"""From a `.cu` file to a kernel that runs: its text, CuPy's compiler, how many threads, and how arrays are handed over.

A kernel's source goes to the compiler (NVRTC, at run time) with its headers written into it, so that it needs no
folder of includes, and includes nothing of the C++ library, which NVRTC does not have.  A kernel is a
template over its type of numbers: `lstm_gates_forward<float>` is compiled when it is first launched.

A kernel gets every array as `Rows` (see device.h): an address and two steps, so that a slice of the rows of a
larger array, z[:, now], is used where it lies.  Only the last axis must be contiguous.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, array_module, dtype_name
from ..errors import ArgumentError, require

OPTIONS = ("-std=c++17",)
C_TYPES = {"float32": "float", "float64": "double"}
_INCLUDE = re.compile(r'#include "(\w+\.h)"')
HEAD = r"^template <typename T>\n__global__ void (?:__\w+__\(\w+\) )*{}\("  # how the kernel of a name begins
KERNEL = re.compile(HEAD.format(r"(\w+)"), re.MULTILINE)  # its name


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
def kernel(file: str, name: str, dtype: str) -> Any:
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


WARP = 32
ROWS = np.dtype([("data", np.uint64), ("outer", np.int64), ("step", np.int64)])  # the struct of device.h


class LaunchConfig(NamedTuple):
    """How many blocks of how many threads, and what else they need."""

    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared: int = 0  # bytes of shared memory for each block beside what the kernel declares
    cooperative: bool = False  # all blocks are on the card at once, and may wait for each other (grid.h)
    cluster: int = 1  # so many blocks reach into each other's shared memory (cluster.h): what the kernel's source says


def per_unit(shape: tuple[int, ...], most: int = 256) -> LaunchConfig:
    """A thread for each element of (..., H), no row shared by two blocks: blocks along n, then H, then d."""
    *leading, H = shape
    D, N = (1, 1, *leading)[-2:]
    threads = whole_warps(H, most)
    return LaunchConfig((N, -(-H // threads), D), (threads,))


def per_row(shape: tuple[int, ...], size: int, most: int = 256) -> LaunchConfig:
    """A block for each row of (..., n), whose threads share `size` pieces of work: blocks in the order of the rows."""
    return LaunchConfig((prod(shape), 1, 1), (whole_warps(size, most),))  # along x alone: y and z end at 65,535


def whole_warps(size: int, most: int) -> int:
    """The fewest threads in whole warps that are at least `size`, or `most` if that is fewer."""
    return max(WARP, min(most, -(-size // WARP) * WARP))


def resident_blocks(file: str, name: str, dtype: Any, config: LaunchConfig) -> int:
    """How many blocks of a kernel are on the current GPU at once, as CUDA's occupancy calculator has it.

    From then on the kernel may be launched with as much shared memory as the config says.  0: not even one fits.
    """
    cuda = require("cupy", "cuda12").cuda
    if config.cluster > 1 and int(cuda.Device().compute_capability) < 90:
        return 0
    limits, compiled = cuda.Device().attributes, kernel(file, name, dtype_name(dtype))
    if config.shared + compiled.shared_size_bytes > limits["MaxSharedMemoryPerBlockOptin"]:
        return 0
    if config.shared > compiled.max_dynamic_shared_size_bytes:  # of the kernel: a smaller launch must not lower it
        compiled.max_dynamic_shared_size_bytes = config.shared
    return limits["MultiProcessorCount"] * cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(
        compiled.kernel.ptr, prod(config.block), config.shared)


def launch(file: str, name: str, dtype: Any, config: LaunchConfig, *arguments: Any) -> None:
    """Launch the kernel `name` of FILE.cu on arrays (as `Rows`) and NumPy's scalars (as they are)."""
    if 0 in config.grid:
        return
    values = tuple(a if isinstance(a, np.generic) else rows(a) for a in arguments)
    start = kernel(file, name, dtype_name(dtype))
    if config.cooperative:
        # RawKernel's own call takes this from the RawModule, for whose kernels CuPy then wants NVIDIA's library
        # cudadevrt, which the barrier of grid.h does without; its Function takes it from here
        start.kernel(config.grid, config.block, values, shared_mem=config.shared, enable_cooperative_groups=True)
    elif config.shared:
        start(config.grid, config.block, values, shared_mem=config.shared)
    else:
        start(config.grid, config.block, values)


def rows(array: Array) -> np.ndarray:
    """The struct `Rows` of an array of one to three axes whose last one is contiguous; ValueError otherwise."""
    strides, size = array.strides, array.itemsize
    if len(strides) > 3 or not _in_rows(array):
        raise ArgumentError(f"an array of shape {array.shape} with strides {strides}: expected at most three "
                         "axes, the last one contiguous")
    outer, step = (0, 0, *(stride // size for stride in strides[:-1]))[-2:]
    return np.array((address(array), outer, step), ROWS)


def readable(array: Array, dtype: Any) -> Array:
    """The array itself, or a copy of it in `dtype` if it is of another one or its rows are not contiguous."""
    array = array if array.dtype == dtype else array.astype(dtype)
    return array if _in_rows(array) else array_module(array).ascontiguousarray(array)


def buffer(what: str, array: Array | None, like: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """The array to write into: a new one beside `like` if None; ValueError if the given one does not fit."""
    if array is None:
        return array_module(like).empty(shape, dtype)
    if array.shape != shape or array.dtype != dtype or not _in_rows(array):
        raise ArgumentError(f"{what} is {array.dtype} {array.shape} with strides {array.strides}, "
                         f"expected {np.dtype(dtype)} {shape} with a contiguous last axis")
    return array


def real(dtype: Any, value: float) -> np.generic:
    """A number as a kernel for arrays of `dtype` takes it."""
    return np.zeros((), dtype).real.dtype.type(value)


def _in_rows(array: Array) -> bool:
    strides = array.strides
    return not strides or strides[-1] == array.itemsize or array.shape[-1] <= 1
