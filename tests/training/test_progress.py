"""Lines where there is no terminal, a bar where there is one."""

import io
import os
import signal
from types import SimpleNamespace

import pytest

from scratchnmt.training import Progress, duration, progress
from scratchnmt.training.progress import Interrupts


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_lines_in_a_file():
    stream = io.StringIO()
    progress = Progress(total_steps=20, minutes_left=1.0, log_every=2, stream=stream)
    for step in range(1, 6):
        progress.update(step, 1, nats=30.0, tokens=10)
    progress.say("validated")
    progress.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3 and lines[2] == "validated"
    assert lines[0].startswith("epoch 1, step 2: loss 3.000, ") and "tokens/s" in lines[0] and "left" in lines[0]


def test_a_bar_on_a_terminal():
    pytest.importorskip("tqdm")
    stream = Terminal()
    progress = Progress(total_steps=5, stream=stream, log_every=2)
    progress.bar.mininterval = 0
    for step in range(1, 6):
        progress.update(step, 2, nats=30.0, tokens=10)
    progress.say("validated")
    progress.close()
    shown = stream.getvalue()
    assert "epoch 2" in shown and "loss 3.000" in shown and "tokens/s" in shown and "5/5" in shown
    assert "validated\n" in shown


@pytest.fixture(params=["SIGHUP", "SIGINT", "SIGTERM"])
def number(request):
    if (number := getattr(signal, request.param, None)) is None:
        pytest.skip(f"this system has no {request.param}")
    before = signal.getsignal(number)
    yield number
    signal.signal(number, before)


def test_a_signal_asks_to_stop_unless_it_is_ignored_as_nohup_and_scripts_have_it(number):
    for handler, asked in ((signal.SIG_DFL, True), (signal.SIG_IGN, False)):
        signal.signal(number, handler)
        with Interrupts() as interrupts:
            os.kill(os.getpid(), number)
        assert interrupts.requested is asked and signal.getsignal(number) is handler


def test_a_second_signal_ends_at_once_unless_it_came_with_the_first(number, monkeypatch):
    ended, clock = [], SimpleNamespace(monotonic=lambda: clock.now)
    monkeypatch.setattr(progress, "time", clock)
    signal.signal(number, lambda number, _: ended.append(number))
    with Interrupts() as interrupts:
        for clock.now in (0.1, 0.1, 0.5):
            os.kill(os.getpid(), number)
        assert interrupts.requested and not ended
        clock.now = 0.7
        os.kill(os.getpid(), number)
        assert ended == [number] * (number != getattr(signal, "SIGHUP", None))  # which the shell may send late


def test_a_handler_that_is_not_python_s_stays(monkeypatch):
    real = signal.signal
    monkeypatch.setattr(signal, "getsignal", lambda number: None if number == signal.SIGTERM else signal.SIG_DFL)
    monkeypatch.setattr(signal, "signal", lambda number, handler: numbers.append(number) or real(number, handler))
    numbers = []
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
    assert interrupts.requested and signal.SIGINT in numbers and signal.SIGTERM not in numbers


def test_durations():
    assert [duration(s) for s in (0, 59.6, 75, 3675, -3)] == ["0:00", "1:00", "1:15", "1:01:15", "0:00"]
