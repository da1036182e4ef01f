"""Training by workers: the numbers of one process, and none is left behind."""

import os
import re
import signal
import subprocess
import sys
import time
import traceback
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_run
from command_line import but, heed_signals
from mpi_run import finished, needs_mpi
from tiny_run import essence, metrics, press_ctrl_c, run

from scratchnmt import optim
from scratchnmt.cli import train as command
from scratchnmt.errors import InputError
from scratchnmt.files.run_folder import RunFolder
from scratchnmt.files.tensors import read_tensors
from scratchnmt.parallel import machine
from scratchnmt.parallel.ranks import Ranks
from scratchnmt.parallel.team import Team
from scratchnmt.training import OutOfMemoryError, Progress
from scratchnmt.training.step import StepAtOnce

pytest.importorskip("threadpoolctl")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
LARGE = {"embed_size": 24, "hidden_size": 24}  # enough weights that each moves some
STATE = "training-state.safetensors"


def state(folder):
    return read_tensors(folder / STATE)


def run_of(folder, **options):
    model = lambda **choices: tiny_run.NMT(len(tiny_run.VOCAB), len(tiny_run.VOCAB), 24, 24,
                                           **{"dropout": 0.3, "seed": 5, **choices})
    return tiny_run.train(model(), tiny_run.data(), tiny_run.options(**options), folder)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    for parts in (2, 3):
        run_of(folder / str(parts), accumulate=parts)
    return folder


@pytest.mark.parametrize("workers, times, own", [(2, 2, None), (3, 2, None), (2, 0, "weights and gradients"),
                                                 (3, 1, "gradients")])
def test_workers_are_the_parts_of_accumulate_bit_for_bit(tmp_path, expected, monkeypatch, workers, times, own):
    """With dropout; where memory cannot be shared, or only so many times, it is told."""
    reserve, left = machine._reserve, [True] * times
    monkeypatch.setattr(machine, "_reserve", lambda *given: reserve(*given) if left and left.pop() else None)
    with pytest.warns(match=f"in common, or not enough: each keeps {own} of its own") if own else nullcontext():
        run_of(tmp_path, workers=workers)
    assert essence(tmp_path) == essence(expected / str(workers))
    tensors, info = state(tmp_path)
    for name, tensor in state(expected / str(workers))[0].items():
        assert tensors[name].tobytes() == tensor.tobytes(), name
    assert {record["workers"] for record in metrics(tmp_path)} == {workers}


def test_with_r_drop_both_passes_of_a_sentence_are_one_worker_s(tmp_path):
    for name, how in ("workers", {"workers": 2}), ("parts", {"accumulate": 2}):
        run(tmp_path / name, choices={"r_drop": 0.7}, max_epochs=1, **how)
    assert essence(tmp_path / "workers") == essence(tmp_path / "parts")


def test_both_together(tmp_path, expected):
    run_of(tmp_path / "both", workers=2, accumulate=2)
    run_of(tmp_path / "parts", accumulate=4)
    for name, tensor in state(tmp_path / "parts")[0].items():  # the four are added up in another order
        np.testing.assert_allclose(state(tmp_path / "both")[0][name], tensor, rtol=2e-2, atol=2e-3)
    assert metrics(tmp_path / "both")[0]["train_loss"] == pytest.approx(metrics(tmp_path / "parts")[0]["train_loss"],
                                                                       rel=1e-4)


def test_a_resumed_run_is_the_uninterrupted_one_and_another_number_is_told(tmp_path, capsys):
    run(tmp_path / "whole", workers=2)
    run(tmp_path / "half", workers=2, max_epochs=1)
    run(tmp_path / "half", workers=2, resume=True)
    assert essence(tmp_path / "half") == essence(tmp_path / "whole")
    run(tmp_path / "one", workers=2, max_epochs=1)
    tiny_run.train(tiny_run.model(), tiny_run.data(), tiny_run.options(), tmp_path / "one", resume=True)
    assert ("1 process computes now what 2 did: sums are rounded in another order and dropout masks are others"
            in capsys.readouterr().err)
    assert [record["workers"] for record in metrics(tmp_path / "one")] == [2, 1, 1]


def test_parts_that_are_added_up_in_the_same_order_are_the_same_numbers_and_others_are_told(tmp_path, capsys):
    run(tmp_path, workers=2, max_steps=2)
    for step, (workers, accumulate, told) in enumerate((
            (1, 2, ""), (1, 4, "a batch has 4 parts now, where it had 2: sums are rounded in another order and"),
            (2, 2, "2 processes compute now what 1 did: sums are rounded in another order, so that"),
            (4, 1, "4 processes compute now what 2 did: sums are rounded in another order, so that"), (1, 4, "")), 3):
        capsys.readouterr()
        tiny_run.train(tiny_run.model(), tiny_run.data(), tiny_run.options(
            workers=workers, accumulate=accumulate, max_steps=step), tmp_path, resume=True)
        said = capsys.readouterr().err
        assert told in said and ("sums are rounded" in said) == bool(told)


def test_another_number_is_told_before_the_first_validation_too(tmp_path, capsys):
    with pytest.raises(tiny_run.Killed):
        run(tmp_path, progress=tiny_run.At(3, tiny_run.kill), save_every=1)
    assert not (tmp_path / "metrics.jsonl").exists()
    tiny_run.train(tiny_run.model(), tiny_run.data(), tiny_run.options(workers=2, max_steps=4), tmp_path, resume=True)
    assert "2 processes compute now what 1 did" in capsys.readouterr().err


def test_more_workers_than_sentences(tmp_path):
    run(tmp_path, workers=5, batch_size=3, max_steps=4)
    assert metrics(tmp_path)[-1]["step"] == 4


def test_a_progress_of_ones_own_is_told_once(tmp_path, capfd):
    run(tmp_path, workers=3, max_steps=4, progress=Progress(total_steps=None))
    assert capfd.readouterr().err.count("step 4, ") == 1


def test_an_error_of_a_worker_is_that_of_the_run(tmp_path):
    with pytest.raises(InputError, match="training stopped"):
        run(tmp_path, workers=3, optimizer="sgd", learning_rate=1e30, clip=0.0)


@pytest.mark.parametrize("rank", [0, 1])
def test_memory_that_ends_for_one_alone_in_a_validation_ends_all(tmp_path, monkeypatch, rank):
    """It does not wait in a save for the others, who go on with the validation."""
    allgather = Team.allgather

    def full(self, value):
        told = allgather(self, value)
        if self.rank == rank and any(frame.name == "bleu" for frame in traceback.extract_stack()):
            raise MemoryError("Unable to allocate 1 GiB")
        return told

    monkeypatch.setattr(Team, "allgather", full)
    with pytest.raises(OutOfMemoryError, match="the validation does not fit: resume it where more memory is free"):
        run(tmp_path, workers=2, max_steps=4)
    monkeypatch.undo()
    assert run(tmp_path, resume=True, max_steps=4).step == 4


# the command

@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    files = tiny_run.files(tmp_path_factory.mktemp("text"), 300)
    return ["train", *files, "--vocab=word", "--min-count=1", "--embed-size=8", "--hidden-size=8", "--batch-size=16",
            "--max-steps=40", "--valid-every=20", "--patience=1", "--learning-rate=0.01"]


ENDLESS = ["--max-steps=1000000", "--max-epochs=1000000", "--valid-every=1000000", "--patience=0", "--workers=3"]


@pytest.fixture
def begun(arguments, tmp_path):
    """begun() -> a training that has saved, and the processes of its workers; none is left if a test fails."""
    processes = []

    def begin():
        command = [sys.executable, "-m", "scratchnmt", *but(arguments, *ENDLESS), "--out", str(tmp_path / "run"),
                   "--save-every=5"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   preexec_fn=heed_signals)
        processes.append(process)
        deadline = time.monotonic() + 30
        while not (tmp_path / "run" / STATE).exists() or state(tmp_path / "run")[1]["state"]["step"] < 10:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True,
                                  check=True).stdout.split()
        return process, [int(pid) for pid in children]

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def gone(pids):
    deadline = time.monotonic() + 10
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            while time.monotonic() < deadline:
                os.kill(pid, 0)
                time.sleep(0.05)


needs_ps = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")


@needs_ps
@pytest.mark.parametrize("number, words", [(signal.SIGKILL, "died"), pytest.param(
    signal.SIGSTOP, "hung for 6 seconds and was", marks=pytest.mark.slow)])
def test_a_worker_that_dies_or_is_stopped_takes_all_down(begun, tmp_path, number, words):
    process, pids = begun()
    assert len(pids) == 2
    os.kill(pids[0], number)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 2 and "Traceback" not in error
    assert re.search(rf"^scratchnmt train: error: worker [23] of 3 \(process {pids[0]}\) {words}.*; training stopped; "
                     rf"the last save is intact; resume it with\n  scratchnmt train --out {tmp_path}/run --resume\n$",
                     error)
    gone([process.pid, *pids])
    step = state(tmp_path / "run")[1]["state"]["step"]
    status, out, error = finished(tmp_path, 1, "train", "--out", tmp_path / "run", "--resume", "--max-steps", step + 5)
    assert status == 0 and "workers     3 on " in out, error


@needs_ps
def test_one_that_dies_before_a_resumed_run_goes_on_does_not_say_that_nothing_was_saved(arguments, tmp_path):
    run = [sys.executable, "-m", "scratchnmt"]
    subprocess.run([*run, *arguments, "--out", tmp_path / "run", "--workers=2"], check=True, capture_output=True)
    process = subprocess.Popen([*run, "train", "--out", tmp_path / "run", "--resume", "--max-steps=60"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    children, deadline = [], time.monotonic() + 30
    while not children:
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    _, error = process.communicate(timeout=30)
    assert "died; training stopped" in error and "nothing was saved" not in error
    assert state(tmp_path / "run")[1]["state"]["step"] == 40


def test_there_is_something_to_go_on_with_only_once_it_is_saved(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(Ranks, "begin", lambda ranks: saved.append((tmp_path / "run" / STATE).exists()))
    run_of(tmp_path / "run", max_steps=2)
    assert saved == [True]


@pytest.mark.parametrize("step, told", [(None, ""), (3, "stopped; from the last save it goes on with\n  go on")])
def test_a_second_ctrl_c_tells_how_to_go_on_where_something_was_saved(step, told, tmp_path, monkeypatch):
    if step:
        run_of(tmp_path, max_steps=step)
    monkeypatch.setattr(command, "train", lambda *_, **__: press_ctrl_c())
    ready = SimpleNamespace(model=None, data=None, options=SimpleNamespace(workers=1))
    with pytest.raises(KeyboardInterrupt, match=f"^{told}$"):
        command.start(ready, RunFolder(tmp_path), "go on")


@needs_ps
@pytest.mark.parametrize("number, whom", [(signal.SIGINT, "all"), (signal.SIGTERM, "first"),
                                          (signal.SIGHUP, "another")])
def test_a_signal_saves_once(begun, tmp_path, number, whom):
    process, pids = begun()
    for pid in {"first": [process.pid], "all": [process.pid, *pids], "another": pids[1:]}[whom]:
        os.kill(pid, number)
    out, error = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in error
    assert f"scratchnmt train --out {tmp_path}/run --resume" in out and out.count("stopped at step") == 1
    gone([process.pid, *pids])


@needs_ps
def test_nothing_is_left_after_the_first_one_is_killed(begun, tmp_path):
    process, pids = begun()
    process.kill()
    _, error = process.communicate(timeout=30)
    assert re.search(rf"worker 1 of 3 \(process {process.pid}\) died; training stopped; the last save is intact; "
                     rf"resume it with\n  scratchnmt train --out {tmp_path}/run --resume\n", error)
    gone(pids)
    assert not [name for name in os.listdir("/dev/shm") if "scratchnmt" in name]


def test_auto_is_one_for_a_small_model_and_is_kept(call, arguments, tmp_path):
    status, out, error = call(*arguments, "--out", tmp_path / "run")
    assert status == 0 and "workers     1 on " in out, error
    status, out, _ = call("train", "--out", tmp_path / "run", "--resume", "--max-steps=44", "--workers=2")
    assert status == 0 and "workers     2 on " in out
    status, out, _ = call("train", "--out", tmp_path / "run", "--resume", "--max-steps=46")
    assert status == 0 and "workers     2 on " in out
    assert [record["workers"] for record in metrics(tmp_path / "run")][-2:] == [2, 2]


def test_what_cannot_be_chosen(call, arguments, tmp_path):
    for given, words in (("0", "--workers is 0, expected a whole number of at least 1"),
                         ("many", "argument --workers: expected a whole number or auto, got 'many'")):
        status, _, error = call(*arguments, "--out", tmp_path / "run", f"--workers={given}")
        assert status == 2 and words in error and not (tmp_path / "run").exists()


@needs_mpi
def test_ranks_with_workers(arguments, tmp_path):
    pytest.importorskip("mpi4py")
    large = but(arguments, "--embed-size=24", "--hidden-size=24")
    status, out, error = finished(tmp_path, 2, *large, "--out", tmp_path / "ranks", "--workers=2")
    assert status == 0 and "2 processes by mpirun, 2 on " in out, error
    status, _, error = finished(tmp_path, 1, *large, "--out", tmp_path / "four", "--workers=4")
    assert status == 0, error
    assert essence(tmp_path / "ranks") == essence(tmp_path / "four")
    for name, tensor in state(tmp_path / "four")[0].items():
        assert state(tmp_path / "ranks")[0][name].tobytes() == tensor.tobytes()
    exact = "--dtype=float64", "--out", tmp_path / "exact"
    assert finished(tmp_path, 1, *large, *exact, "--workers=4")[0] == 0
    exact = "--dtype=float64", "--out", tmp_path / "machines"
    status, _, error = finished(tmp_path, 2, *large, *exact, "--workers=2", "--machines=01")
    assert status == 0, error
    assert [record["train_loss"] for record in metrics(tmp_path / "machines")] == pytest.approx(
        [record["train_loss"] for record in metrics(tmp_path / "exact")], rel=1e-9)  # added up in another order


def test_a_gradient_that_is_not_finite_is_read_by_all_before_the_next_is_written(tmp_path, monkeypatch):
    gradient, norm, first = StepAtOnce.gradient, optim.norm_by_parts, os.getpid()

    def ruined(self, batch, place, part=0):
        loss = gradient(self, batch, place, part)
        if place.step == 2 and part == 0:
            self.grads.flat[0] = np.inf
        return loss

    def late(*what):
        if os.getpid() != first:
            time.sleep(0.3)
        return norm(*what)

    monkeypatch.setattr(StepAtOnce, "gradient", ruined)
    monkeypatch.setattr(optim, "norm_by_parts", late)
    for name, how in (("parts", {"accumulate": 2}), ("workers", {"workers": 2})):
        run(tmp_path / name, on_nonfinite="skip", max_steps=4, **how)
    assert state(tmp_path / "workers")[1]["state"]["skipped"] == 1
    assert essence(tmp_path / "workers") == essence(tmp_path / "parts")
