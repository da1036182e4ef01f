"""Kernels on the CPU: a `.cu` file behind shim.h, compiled by g++ and called through ctypes on NumPy's arrays."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scratchnmt.kernels import launch as launcher

C_TYPES = {**launcher.C_TYPES, "complex128": "std::complex<double>"}
OUTCOMES = {1: "some threads wait at a barrier that others do not reach",
            2: "some blocks wait for others, which have ended, wait too or do not run beside them",
            3: "a block reaches into the shared memory of one that has not begun, or has ended"}
CLUSTER = r"\n__global__ void __cluster_dims__\((\w+)\) .*?{name}\("


class Shim:
    """Stands for `scratchnmt.kernels.launch`: the functions `kernel`, `address` and `resident_blocks`, for NumPy."""

    def __init__(self, folder: Path, text: Callable[[str], str] = launcher.source):
        self.folder = folder
        self.text = text
        self.libraries: dict[str, ctypes.CDLL] = {}
        self.backwards = False  # the order in which blocks and threads run
        self.launched: list[str] = []

    def kernel(self, file: str, name: str, dtype: str) -> Callable:
        function = getattr(self._library(file), f"{name}_{dtype}")

        def launch(grid: tuple, block: tuple, arguments: tuple, shared_mem: int = 0,
                   enable_cooperative_groups: bool = False) -> None:
            self.launched.append(name)
            sizes = (ctypes.c_uint * 7)(*(*grid, 1, 1)[:3], *(*block, 1, 1)[:3], shared_mem)
            values = [np.asarray(a) for a in arguments]
            pointers = (ctypes.c_void_p * len(values))(*(v.ctypes.data for v in values))
            if outcome := function(sizes, pointers, enable_cooperative_groups, self.backwards):
                raise RuntimeError(f"{name}: {OUTCOMES[outcome]}")

        launch.kernel = launch  # as CuPy's RawKernel has it, for cooperative launches
        return launch

    def address(self, array: np.ndarray) -> int:
        return array.ctypes.data

    def resident_blocks(self, *what) -> int:
        """As many as there are: each block is a thread of the system."""
        return 1 << 20

    def _library(self, file: str) -> ctypes.CDLL:
        if file not in self.libraries:
            self.libraries[file] = self._compile(file)
        return self.libraries[file]

    def _compile(self, file: str) -> ctypes.CDLL:
        text = self.text(file)
        library = self.folder / f"{file}.so"
        if library.exists():  # another process has compiled it
            return ctypes.CDLL(str(library))
        source, made = (self.folder / f"{file}-{os.getpid()}.{end}" for end in ("cpp", "so"))
        found = {name: re.search(CLUSTER.format(name=name), text) for name in launcher.KERNEL.findall(text)}
        entries = [f'extern "C" int {name}_{dtype}(const unsigned* sizes, void** arguments, bool cooperative, '
                   f"bool backwards) {{ return shim::launch({name}<{c_type}>, sizes, arguments, cooperative, "
                   f"{cluster[1] if cluster else 1}, backwards); }}"
                   for name, cluster in found.items() for dtype, c_type in C_TYPES.items()]
        source.write_text("\n".join(['#include "shim.h"', text, *entries]), encoding="utf-8")
        done = subprocess.run(["g++", "-std=c++17", "-O2", "-shared", "-fPIC",
                               "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-pthread",
                               "-I", str(Path(__file__).parent), str(source), "-o", str(made)],
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        made.replace(library)
        return ctypes.CDLL(str(library))


def of_all_processes(tmp_path_factory: pytest.TempPathFactory) -> Shim:
    """The kernels as they are, compiled once for all processes of this run of pytest."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ to run the kernels on the CPU")
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # one of several, with a folder of its own in that of the run
        folder = folder.parent
    folder = folder / "kernels"
    folder.mkdir(exist_ok=True)
    return Shim(folder)
