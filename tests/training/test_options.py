"""Every option has a range, and a value outside it is named."""

import math

import pytest

from scratchnmt.errors import InputError
from scratchnmt.training import TrainingOptions


def test_options_survive_a_round_trip():
    options = TrainingOptions(optimizer="sgd", max_minutes=40.0, max_epochs=None, seed=7)
    assert TrainingOptions.from_dict(options.to_dict()) == options
    assert TrainingOptions.from_dict({"seed": 3}).batch_size == TrainingOptions().batch_size


@pytest.mark.parametrize("name, values", {
    "optimizer": ["rmsprop"], "schedule": ["step", None], "batch_by": ["words"], "metric": ["chrf"],
    "learning_rate": [0, -1.0, math.nan, math.inf, "fast"], "momentum": [-0.1, 1.0], "warmup": [-1, 0.5],
    "halve_after": [0], "clip": [-1, math.nan], "batch_size": [0, -3, 32.0, True, None], "valid_every": [-1],
    "valid_batch_size": [0], "patience": [-1], "trials": [0], "lr_decay": [0.0, 1.0], "average": [-0.1, 1.0],
    "max_epochs": [0], "max_steps": [0, 1.5], "max_minutes": [0, -1], "save_every": [-1], "save_minutes": [0],
    "log_every": [0], "seed": [-1, 1.5, 2**32], "accumulate": [0, 2**16],
    "minimum_risk": ["ter", None, True], "risk_samples": [1, 2.0], "risk_alpha": [0, math.nan, math.inf],
    "risk_candidates": ["reference"],
}.items())
def test_a_value_out_of_range_is_named(name, values):
    for value in values:
        with pytest.raises(InputError, match=f"^{name} is "):
            TrainingOptions(**{name: value})


@pytest.mark.parametrize("name", [name for name, value in TrainingOptions().to_dict().items() if name.startswith("max_")
                                  or isinstance(value, (int, float))])
def test_a_number_that_fits_no_type_is_out_of_range(name):
    with pytest.raises(InputError, match=f"^{name} is 1000.*, expected a .*number .* and below "):
        TrainingOptions(**{name: 10**400})


def test_what_does_not_go_together_or_does_not_exist():
    with pytest.raises(InputError, match="max_epochs or max_steps"):
        TrainingOptions(schedule="cosine", max_epochs=None)
    with pytest.raises(InputError, match="unknown training options: batchsize"):
        TrainingOptions.from_dict({"batchsize": 3})
