"""Steps that become slow since another program has a core of a thread of BLAS."""

import sys

import pytest
from tiny_run import At, kill, run

from scratchnmt.training import contention, loop
from scratchnmt.training.contention import Contention


def told(monkeypatch, seconds, threads=2):
    monkeypatch.setattr(contention, "_threads", lambda: threads)
    guard = Contention()
    return [(step, line) for step, each in enumerate(seconds, start=1) if (line := guard.note(each, 100))]


def test_a_slow_window_is_told_once(monkeypatch):
    ((step, line),) = told(monkeypatch, [0.1] * 24 + [0.9] * 40)
    assert step == 32 and line.startswith("steps take 9 times as long as the fastest before")
    assert "OPENBLAS_NUM_THREADS=1" in line and "workers=2" in line and "threadpool_limits(1)" in line


@pytest.mark.parametrize("seconds", [[0.1] * 24 + [0.35] * 40, [0.1] * 20 + [2.0] + [0.1] * 20,
                                     [0.9] * 24 + [0.1] * 24])
def test_a_slow_step_or_a_slow_beginning_is_not(monkeypatch, seconds):
    assert told(monkeypatch, seconds) == []


def test_nor_is_one_thread(monkeypatch):
    assert told(monkeypatch, [0.1] * 24 + [0.9] * 40, threads=1) == []


def test_how_many_threads_blas_has():
    limits = pytest.importorskip("threadpoolctl").threadpool_limits
    with limits(1, user_api="blas"):
        assert contention._threads() == 1


def test_without_threadpoolctl_it_is_what_the_environment_says(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    assert contention._threads() == 1
    monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    assert contention._threads() > 1


@pytest.mark.parametrize("device, times", [("cpu", 1), ("cuda:0", 0)])
def test_a_training_says_it_of_cores(tmp_path, monkeypatch, device, times):
    """On a GPU a slow step is no affair of theirs, and more workers are no remedy."""
    monkeypatch.setattr(loop, "device_of", lambda array: device)
    progress, clock = At(-1, kill), iter(range(10**6))
    monkeypatch.setattr(contention, "_threads", lambda: 2)
    monkeypatch.setattr(Contention, "note", lambda self, seconds, tokens, real=Contention.note:
                        real(self, 0.1 if next(clock) < 8 else 1.0, 10))
    run(tmp_path, progress=progress)
    assert progress.stream.getvalue().count("steps take 10 times as long as the fastest before") == times
