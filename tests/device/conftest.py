"""A GPU for every test here: CuPy's stand-in (see fake_cupy), with kernels by g++ and cuBLAS by NumPy."""

import fake_cupy
import pytest
from fake_cupy.cublas import DLL
from fake_cupy.recording import recorded
from kernels.shim import of_all_processes

from scratchnmt.kernels import launch as launcher
from scratchnmt.kernels import product


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    return of_all_processes(tmp_path_factory)


@pytest.fixture(autouse=True)
def no_pictures(pictures):
    pass


@pytest.fixture(autouse=True)
def cupy(shim):
    # not by the fixture monkeypatch, which a test may use to take cupy away: it must be undone before this
    with pytest.MonkeyPatch.context() as patch, fake_cupy.installed() as module:
        def kernel(*what):
            start = recorded(shim.kernel(*what))
            start.kernel = start
            return start

        patch.setattr(launcher, "kernel", kernel)
        patch.setattr(launcher, "resident_blocks", shim.resident_blocks)
        patch.setattr(product, "_loaded", lambda major: DLL())
        product.library.cache_clear()
        yield module
        product.library.cache_clear()


@pytest.fixture
def machine(cupy):
    """The stand-in's cards: what is counted there, and what can be set."""
    return fake_cupy.MACHINE
