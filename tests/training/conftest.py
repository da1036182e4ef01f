"""Trainings so small that a picture would take longer."""

import pytest

from scratchnmt.plots import learning_curves


@pytest.fixture(autouse=True)
def no_pictures(pictures):
    pass


@pytest.fixture
def draws(no_pictures, monkeypatch):
    """The learning curves are drawn after all."""
    monkeypatch.setattr("scratchnmt.plots.learning_curves", learning_curves)
