"""Keras, where it is installed."""

import os

import pytest


@pytest.fixture
def keras():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    pytest.importorskip("torch")
    return pytest.importorskip("keras")


@pytest.fixture
def data(rng):
    return rng.standard_normal((20, 3)).astype("float32"), rng.standard_normal((20, 2)).astype("float32")
