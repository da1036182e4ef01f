"""Tests of the real thing: CuPy on a card.  Everything here carries the marker gpu and skips where there is none."""

from pathlib import Path

import pytest

from scratchnmt.arrays import device_module
from scratchnmt.errors import InputError

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(autouse=True)
def cupy():
    try:
        return device_module("cuda")
    except InputError as error:
        pytest.skip(str(error))
