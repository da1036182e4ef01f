"""What may change when a run is resumed does what it would have done from the start; what may not says why."""

import re
from dataclasses import fields

import numpy as np
import pytest
import tiny_run
from tiny_run import At, essence, kill, metrics, run

from scratchnmt.errors import InputError
from scratchnmt.files.run_folder import BEST_STATE, STATE
from scratchnmt.files.tensors import read_tensors, write_tensors
from scratchnmt.training import TrainingOptions
from scratchnmt.training.plan import FIXED, may_change
from scratchnmt.training.validation import Validation

pytest.importorskip("sacrebleu")
pytest.importorskip("safetensors")

FAST = {"learning_rate": 0.3, "valid_every": 2}  # too fast: trials end


def last_weights(folder):
    return read_tensors(folder / STATE)[0]["params"]


@pytest.mark.parametrize("first, then", [
    ({"patience": 1, "trials": 1}, {"patience": 1, "trials": 9}),
    ({"patience": 1, "trials": 2}, {"patience": 1, "trials": 5}),
    ({"patience": 1, "trials": 1}, {"patience": 3, "trials": 2}),
    ({"patience": 1, "trials": 1}, {"patience": 0, "trials": 1}),
    ({"patience": 1, "trials": 1}, {"patience": 1, "trials": 3, "lr_decay": 0.9}),
])
def test_a_run_that_lost_patience_goes_on_as_if_it_had_had_more(tmp_path, first, then):
    run(tmp_path / "whole", **FAST, **then)
    stopped = run(tmp_path / "stopped", **FAST, **first)
    assert "without a better validation" in stopped.reason and stopped.step < metrics(tmp_path / "whole")[-1]["step"]
    run(tmp_path / "stopped", resume=True, **FAST, **then)
    assert essence(tmp_path / "stopped") == essence(tmp_path / "whole")
    assert np.array_equal(last_weights(tmp_path / "stopped"), last_weights(tmp_path / "whole"))


def test_less_patience_stops_at_once(tmp_path):
    run(tmp_path, **FAST, patience=0, max_steps=12)
    before = metrics(tmp_path)
    assert "1 trial ended without a better validation" in run(tmp_path, resume=True, **FAST, patience=1, trials=1,
                                                              max_steps=20).reason
    assert metrics(tmp_path) == before


def test_a_run_that_an_earlier_version_stopped_goes_on(tmp_path):
    """It counted the last trial as if it had gone back to the best state."""
    choices = {**FAST, "patience": 1, "trials": 2}
    run(tmp_path / "run", **choices)
    tensors, info = read_tensors(tmp_path / "run" / STATE)
    info["state"]["trials"], info["state"]["misses"] = 2, 0
    write_tensors(tmp_path / "run" / STATE, tensors, info)
    assert "without a better validation" in run(tmp_path / "run", resume=True, **choices).reason
    run(tmp_path / "whole", **{**choices, "trials": 4})
    run(tmp_path / "run", resume=True, **{**choices, "trials": 4})
    assert essence(tmp_path / "run") == essence(tmp_path / "whole")


def test_going_back_without_a_best_state_says_nothing_of_it(tmp_path):
    """Earlier versions kept none while patience was 0."""
    run(tmp_path, **FAST, patience=0, max_steps=12)
    (tmp_path / BEST_STATE).unlink()
    progress = At(-1, kill)
    run(tmp_path, resume=True, **FAST, patience=1, trials=2, max_steps=20, progress=progress)
    assert "no better validation for 1: at 0.5 of the rate" in progress.stream.getvalue()


def test_a_best_state_is_that_of_the_best_validation_whatever_patience_was(tmp_path):
    choices = {"learning_rate": 0.01, "valid_every": 1}
    run(tmp_path, **choices, max_steps=2)
    run(tmp_path, resume=True, **choices, patience=0, max_steps=9)
    best = run(tmp_path, resume=True, **choices, patience=3, max_steps=9).best
    assert read_tensors(tmp_path / BEST_STATE)[1]["state"]["step"] == best["step"] > 2


def test_limits_and_intervals_change_nothing_before_they_are_reached(tmp_path):
    run(tmp_path / "whole", max_steps=14)
    run(tmp_path / "run", max_steps=9, save_every=2)
    assert run(tmp_path / "run", resume=True, max_steps=14, valid_every=0, patience=7, trials=9, lr_decay=0.1,
               log_every=3, save_minutes=2.0).step == 14
    assert np.array_equal(last_weights(tmp_path / "run"), last_weights(tmp_path / "whole"))


FIXED_OPTIONS = [name for row in FIXED for name in row.options.split()]


@pytest.mark.parametrize("name, value", {
    "seed": 1, "batch_size": 8, "batch_by": "tokens", "pool": 1, "optimizer": "sgd", "average": 0.5, "metric": "bleu",
}.items())
def test_what_may_not_change_says_why_and_what_to_do_instead(tmp_path, name, value):
    run(tmp_path, max_steps=1)
    (row,) = (row for row in FIXED if name in row.options.split())
    with pytest.raises(InputError, match=f"{name} was .*, is now .*: {row.why}; leave it out, or start another run, to "
                                         f"which --init-from {tmp_path}"):
        run(tmp_path, resume=True, max_steps=2, **{name: value})


def test_other_text_has_a_way_on(tmp_path, monkeypatch):
    run(tmp_path, max_steps=1)
    monkeypatch.setattr(tiny_run, "PER_EPOCH", 9)
    with pytest.raises(InputError, match="the training text was .* is now .*--init-from"):
        run(tmp_path, resume=True)


def test_the_table_has_each_option_once():
    assert len(FIXED_OPTIONS) == len(set(FIXED_OPTIONS))
    free = {option.name for option in fields(TrainingOptions) if may_change(option.name)}
    assert {"patience", "trials", "valid_every", "valid_batch_size", "max_epochs", "learning_rate"} <= free


LOST = {"valid_every": 3, "patience": 1, "trials": 9}  # a trial that is over with the last step, if that was no better


@pytest.mark.parametrize("first, then, old, new", [
    ({"schedule": "linear", "max_epochs": 2}, {"max_epochs": 4}, 0, 0.01 * 14 / 28),
    ({"schedule": "linear", "max_epochs": 2}, {"max_epochs": 2}, None, None),
    ({"max_epochs": 1}, {"max_epochs": 2}, None, None),
    ({"max_epochs": 1}, {"max_epochs": 2, "learning_rate": 0.002}, 0.01, 0.002),
    ({"max_epochs": 1}, {"max_epochs": 2, "schedule": "cosine"}, 0.01, 0.01 * 0.5),
    ({"max_epochs": 1, "warmup": 14}, {"max_epochs": 2, "warmup": 28}, 0.01 * 8 / 15, 0.01 * 8 / 29),
    ({"max_steps": 9, **LOST, "lr_decay": 0.5}, {"max_steps": 12, **LOST, "lr_decay": 0.1}, 0.005, 0.001),
    ({"max_steps": 9, **LOST, "lr_decay": 0.5}, {"max_steps": 12, **LOST, "lr_decay": 0.5}, None, None),
])
def test_a_rate_that_jumps_is_told(tmp_path, monkeypatch, first, then, old, new):
    """A schedule that ends at another step has another rate at every step; so has the end of a trial."""
    figures = iter((5.0, 4.0, 6.0, 7.0))
    if "valid_every" in first:
        monkeypatch.setattr(Validation, "perplexity", lambda *_: next(figures))
    run(tmp_path, **first)
    progress = At(-1, kill)
    run(tmp_path, resume=True, **{**first, **then}, progress=progress)
    found = re.findall(r"the learning rate of the next step is (\S+); with the options of before it would be (\S+)\n",
                       progress.stream.getvalue())
    assert [pytest.approx((new, old), rel=0.01)] * (new is not None) == [tuple(map(float, pair)) for pair in found]


@pytest.mark.parametrize("changes", [
    {"seed": 1}, {"optimizer": "sgd"}, {"patience": -1}, {"choices": {"layers": 2}.items()},
    {"choices": {"dtype": "float64"}.items()}, {"overwrite": True}, {"average": 0.5},
])
def test_a_refused_resume_of_the_library_changes_no_file(tmp_path, changes):
    run(tmp_path, max_steps=2, keep=1)
    (tmp_path / ".config.json.77-0.tmp").write_text("what a killed run has left")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(InputError):
        run(tmp_path, resume=True, **{"max_steps": 3, **changes})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
