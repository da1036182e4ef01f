"""Several processes with a card each, on the stand-in: the sum over cards, and steps recorded with it inside."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import but
from mpi_run import finished, needs_mpi
from training import tiny_run
from training.tiny_run import essence

from scratchnmt.files.tensors import read_tensors
from scratchnmt.kernels import launch as launcher

BATCH = 12  # of 85 pairs: the last of an epoch is one sentence, and of two ranks one has none


@pytest.fixture(scope="module")
def program(shim):
    """The command line on the stand-in, its kernels all compiled before several processes need them."""
    pytest.importorskip("mpi4py")
    for file in Path(launcher.__file__).parent.glob("*.cu"):
        shim._library(file.stem)
    return [str(Path(__file__).parent / "on_stand_in.py"), str(shim.folder)]


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    files = tiny_run.files(tmp_path_factory.mktemp("text"), 85)
    return ["train", *files, "--vocab=word", "--min-count=1", "--embed-size=8", "--hidden-size=8",
            f"--batch-size={BATCH}", "--max-epochs=3", "--patience=1", "--learning-rate=0.01", "--device=cuda"]


def launched(error):
    return [int(count) for count in re.findall(r"(\d+) graphs launched", error)]


@needs_mpi
@pytest.mark.parametrize("kernels", ["fused", "plain"])
def test_two_cards_are_one_that_computes_the_same_parts(program, arguments, tmp_path, kernels):
    command = [*arguments, f"--kernels={kernels}", "--dropout=0.2"]
    status, _, error = finished(tmp_path, 1, *command, "--accumulate=2", "--out", tmp_path / "parts", program=program)
    assert status == 0, error
    expected, _ = read_tensors(tmp_path / "parts" / "training-state.safetensors")
    for name, more in (("nccl", []), ("hosts", ["--without-nccl"])):
        status, out, error = finished(tmp_path, 2, *more, *command, "--out", tmp_path / name, program=program)
        assert status == 0 and "2 processes" in out, error
        found, _ = read_tensors(tmp_path / name / "training-state.safetensors")
        assert all(np.array_equal(found[tensor], expected[tensor]) for tensor in ("params", "m", "v"))
        assert essence(tmp_path / name) == essence(tmp_path / "parts")
        recorded = kernels == "fused" and name == "nccl"
        assert all(count > 5 if recorded else count == 0 for count in launched(error)) and len(launched(error)) == 2


@needs_mpi
def test_a_step_that_is_not_finite_is_met_by_all_cards_at_once(program, arguments, tmp_path):
    broken = but(arguments, "--optimizer=sgd", "--learning-rate=1e30", "--clip=0", "--max-epochs=4",
                 "--valid-every=1000")
    status, _, error = finished(tmp_path, 2, *broken, "--out", tmp_path / "stop", program=program)
    assert status and error.count("training stopped") == 1 and "at step 2, epoch 1" in error
    skipping = [*broken, "--on-nonfinite=skip"]
    status, _, error = finished(tmp_path, 2, *skipping, "--out", tmp_path / "skip", program=program)
    assert status and "the last of 20 in a row: training stopped" in error


@needs_mpi
@pytest.mark.parametrize("choices", [["--on-nonfinite=skip", "--batch-size=12"], ["--accumulate=2", "--batch-size=41"]])
def test_all_cards_are_told_of_a_step_after_the_same_one(program, arguments, tmp_path, choices):
    """41 of 85 pairs: the last batch has 3 sentences for four parts."""
    rate = ["--optimizer=sgd", "--learning-rate=1e30", "--clip=0"] if "skip" in choices[0] else []
    command = but(arguments, *choices, *rate, "--max-epochs=8", "--valid-every=1000")
    _, _, error = finished(tmp_path, 2, "--tell", *command, "--out", tmp_path / "run", program=program)
    told = {rank: re.findall(rf"^rank {rank}: (.*)$", error, re.MULTILINE) for rank in (0, 1)}
    assert told[0] == told[1] and len(told[0]) > 15


@needs_mpi
def test_two_processes_need_two_cards(program, arguments, tmp_path):
    status, _, error = finished(tmp_path, 2, "--cards=1", *arguments, "--out", tmp_path / "run", program=program)
    assert status and "2 processes on a machine of 1 cards: each needs a card of its own" in error
    status, _, error = finished(tmp_path, 2, *but(arguments, "--device=cuda:1"), "--out", tmp_path / "run",
                                program=program)
    assert status and 'device is "cuda:1", and there are 2 processes' in error


def test_the_program_itself(program):
    done = subprocess.run([sys.executable, *program, "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.startswith("scratchnmt ")
