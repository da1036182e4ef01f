"""A GPU for every test here: CuPy's stand-in (see fake_cupy)."""

import fake_cupy
import pytest


@pytest.fixture(autouse=True)
def cupy():
    with fake_cupy.installed() as module:
        yield module


@pytest.fixture
def machine(cupy):
    """The stand-in's cards: what is counted there, and what can be set."""
    return fake_cupy.MACHINE
