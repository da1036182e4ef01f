"""Fixtures for kernels: run on the CPU by g++, or on a GPU."""

import numpy as np
import numpy.ma  # noqa: F401  it reads np.empty's docstring when it is first imported, before we poison it
import pytest
from shim import of_all_processes

from scratchnmt.arrays import device_module
from scratchnmt.errors import InputError
from scratchnmt.kernels import launch as launcher
from scratchnmt.kernels import lstm_cluster, lstm_persistent


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """The kernels as compiled by g++."""
    return of_all_processes(tmp_path_factory)


def poisoned(shape, dtype=float, **options):
    """np.empty filled with a value that shows: what a kernel forgets to write, or reads before it is written."""
    return np.full(shape, 1e30 if np.dtype(dtype).kind in "fc" else 0, dtype, **options)


@pytest.fixture
def on_cpu(compiled, monkeypatch):
    """The modules of scratchnmt.kernels launch their kernels on the CPU, on NumPy's arrays; yields the Shim."""
    monkeypatch.setattr(launcher, "kernel", compiled.kernel)
    monkeypatch.setattr(launcher, "address", compiled.address)
    monkeypatch.setattr(launcher, "resident_blocks", compiled.resident_blocks)
    for module in lstm_persistent, lstm_cluster:
        module.fits.cache_clear()
    monkeypatch.setattr(compiled, "backwards", False)
    monkeypatch.setattr(np, "empty", poisoned)
    compiled.launched.clear()
    return compiled


@pytest.fixture
def cupy():
    """The module cupy; skipped where there is no CuPy or no GPU."""
    try:
        return device_module("cuda")
    except InputError as error:
        pytest.skip(str(error))
