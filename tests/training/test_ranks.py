"""Several processes by mpirun: the same as one, and none is left behind."""

import os
import signal
import time

import numpy as np
import pytest
import tiny_run
from command_line import but
from mpi_run import finished, needs_mpi, start
from tiny_run import essence, metrics, run

from scratchnmt.files.lock import FolderLock
from scratchnmt.files.tensors import read_tensors
from scratchnmt.parallel import ranks
from scratchnmt.parallel.watchdog import FALLEN
from scratchnmt.training.plan import Plan

STEPS = 40


def test_a_batch_is_divided_evenly_and_whole(rng):
    lengths = rng.integers(1, 30, (50, 2))
    indices = rng.permutation(1000)[:50]
    parts = ranks.divide(indices, lengths, 4)
    assert sorted(np.concatenate(parts)) == sorted(indices) and {len(part) for part in parts} == {12, 13}
    tokens = [lengths[np.isin(indices, part), 1].sum() for part in parts]
    assert max(tokens) - min(tokens) <= 15
    assert ranks.divide(indices, lengths, 1)[0] is indices
    assert [len(part) for part in ranks.divide(indices[:2], lengths[:2], 3)] == [1, 1, 0]


def test_parts_of_a_batch_are_the_batch(tmp_path):
    for parts in (1, 2, 5, 16):
        run(tmp_path / str(parts), choices={"dropout": 0.0, "dtype": "float64"}, accumulate=parts)
    whole, _ = read_tensors(tmp_path / "1" / "training-state.safetensors")
    for parts in (2, 5, 16):
        found, _ = read_tensors(tmp_path / str(parts) / "training-state.safetensors")
        np.testing.assert_allclose(found["params"], whole["params"], rtol=1e-9, atol=1e-12)
        for a, b in zip(metrics(tmp_path / str(parts)), metrics(tmp_path / "1"), strict=True):
            assert a["train_loss"] == pytest.approx(b["train_loss"], rel=1e-12) and a["tokens"] == b["tokens"]


def test_each_part_has_a_dropout_of_its_own():
    generator = Plan(tiny_run.data(), tiny_run.options()).recipe(np).generator
    assert len({generator(step, part).random() for step in (0, 1) for part in (0, 1)}) == 4


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    pytest.importorskip("mpi4py")
    files = tiny_run.files(tmp_path_factory.mktemp("text"), 300)
    return ["train", *files, "--vocab=word", "--min-count=1", "--embed-size=8", "--hidden-size=8", "--batch-size=16",
            f"--max-steps={STEPS}", "--valid-every=20", "--patience=1", "--learning-rate=0.01"]


@needs_mpi
def test_two_ranks_are_one_and_each_part_is_that_of_accumulate(arguments, tmp_path):
    large = ["--embed-size=24", "--hidden-size=24"]  # enough weights that each rank moves some
    exact = ["--dropout=0", "--dtype=float64"]  # in float32 rounding grows with every step
    for name, count, more in (("one", 1, exact), ("two", 2, exact), ("parts", 1, ["--accumulate=2"]),
                              ("ranks", 2, []), ("alone", 2, ["--memory=00"])):
        status, _, error = finished(tmp_path, count, *but(arguments, *large), "--out", tmp_path / name, *more)
        assert status == 0, error
    losses = {name: [record["train_loss"] for record in metrics(tmp_path / name)] for name in ("one", "two")}
    assert losses["two"] == pytest.approx(losses["one"], rel=1e-9)
    expected, _ = read_tensors(tmp_path / "parts" / "training-state.safetensors")
    for name in ("ranks", "alone"):  # with dropout, bit for bit, with one copy of the weights or two
        assert essence(tmp_path / name) == essence(tmp_path / "parts")
        found, _ = read_tensors(tmp_path / name / "training-state.safetensors")
        assert all(np.array_equal(found[tensor], expected[tensor]) for tensor in ("params", "m", "v"))
    assert not (tmp_path / "two" / ".lock").exists() and not list((tmp_path / "two").glob(f"{FALLEN}*"))


@needs_mpi
@pytest.mark.parametrize("machines, memory, workers, kept", [
    ("001", "222", 1, None), ("001", "122", 1, "gradients"), ("01", "02", 2, "weights and gradients"),
    ("01", "12", 2, "gradients")])
def test_machines_of_unlike_kind(arguments, tmp_path, machines, memory, workers, kept):
    """One has a single rank; one has no memory to share, or not enough for the gradients; there it is told."""
    exact = but(arguments, "--embed-size=24", "--hidden-size=24", "--dtype=float64")
    status, _, error = finished(tmp_path, len(machines), *exact, "--out", tmp_path / "ranks", f"--machines={machines}",
                                f"--memory={memory}", f"--workers={workers}")
    assert status == 0, error
    assert error.count("cannot have memory in common") == bool(kept)
    assert f"or not enough: each, on all machines, keeps {kept} of its own" in error or not kept
    parts = len(machines) * workers
    assert finished(tmp_path, 1, *exact, "--out", tmp_path / "parts", f"--accumulate={parts}")[0] == 0
    found, expected = ([record["train_loss"] for record in metrics(tmp_path / name)] for name in ("ranks", "parts"))
    assert found == pytest.approx(expected, rel=1e-9)  # added up in another order


@needs_mpi
def test_another_number_of_ranks_goes_on(arguments, tmp_path):
    assert finished(tmp_path, 1, *arguments, "--out", tmp_path / "whole", "--dropout=0")[0] == 0
    half = but(arguments, "--dropout=0", "--out", tmp_path / "run", f"--max-steps={STEPS // 2}")
    assert finished(tmp_path, 2, *half)[0] == 0
    status, out, _ = finished(tmp_path, 3, "train", "--out", tmp_path / "run", "--resume", "--max-steps", STEPS)
    assert status == 0 and "3 processes" in out
    found, expected = (metrics(tmp_path / name)[-1] for name in ("run", "whole"))
    assert found["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-4) and found["step"] == STEPS


@needs_mpi
@pytest.mark.parametrize("number, words", [(signal.SIGKILL, "died"), pytest.param(
    signal.SIGSTOP, "hung for 6 seconds", marks=pytest.mark.slow)])  # tests/stress/waiting.py stops one, too
def test_a_rank_that_dies_or_hangs_takes_all_down_with_its_name(arguments, tmp_path, number, words):
    process = start(tmp_path, 2, *but(arguments, "--max-steps=1000000", "--max-epochs=1000000", "--valid-every=1000000",
                                       "--patience=0"), "--out", tmp_path / "run", "--save-every=5")
    state = tmp_path / "run" / "training-state.safetensors"
    deadline = time.monotonic() + 30
    while not state.exists() or read_tensors(state)[1]["state"]["step"] < 10:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    os.kill(int((tmp_path / "rank1").read_text()), number)
    began = time.monotonic()
    _, error = process.communicate(timeout=30)
    assert time.monotonic() - began < 10 and process.returncode
    assert f"rank 1 of 2 (process {(tmp_path / 'rank1').read_text()}) {words}" in error
    assert f"scratchnmt train --out {tmp_path / 'run'} --resume" in error
    for rank in (0, 1):
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / f"rank{rank}").read_text()), 0)
    step = read_tensors(state)[1]["state"]["step"]
    status, _, error = finished(tmp_path, 2, "train", "--out", tmp_path / "run", "--resume", "--max-steps", step + 5)
    assert status == 0, error


@needs_mpi
def test_ranks_with_other_options_are_told(arguments, tmp_path):
    status, _, error = finished(tmp_path, 2, *arguments, "--out", tmp_path / "run", "--else", "--clip=3")
    assert status == 2 and error.startswith("rank 0 of 2: --clip is left out on rank 0 and 3.0 on rank 1: all ranks "
                                            "need the same files and options\n")
    status, _, error = finished(tmp_path, 2, *arguments, "--out", tmp_path / "run",
                                "--else", "--out", tmp_path / "other")
    assert status == 2 and "rank 0 of 2: out is " in error and not (tmp_path / "other").exists()


@needs_mpi
def test_a_folder_in_use_is_no_run_to_go_on_with(arguments, tmp_path):
    with FolderLock(tmp_path / "run"):
        status, _, error = finished(tmp_path, 2, *arguments, "--out", tmp_path / "run")
    assert status == 2 and "is in use by another run" in error and "resume it with" not in error


@needs_mpi
def test_an_error_of_all_ranks_is_said_once(arguments, tmp_path):
    status, _, error = finished(tmp_path, 2, *but(arguments, "--optimizer=sgd", "--learning-rate=1e30", "--clip=0"),
                                "--out", tmp_path / "run")
    assert status == 2 and error.count("training stopped") == 1 and "rank 0 of 2: the " in error
    assert "resume it with a lower --learning-rate or --clip" in error and "mpirun" not in error  # alone it is no help
    assert "abort" not in error.lower()
