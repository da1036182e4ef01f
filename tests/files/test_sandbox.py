"""Work in a process of its own: its answer, its error, and what becomes of it where it takes too much or crashes."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from scratchnmt.errors import InputError
from scratchnmt.files import sandbox
from scratchnmt.files.sandbox import run_limited

MEMORY, SECONDS = 1 << 27, 1
limited = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system limits it on Linux")


def backwards(data):
    print("what a library prints")
    os.write(1, b"and writes")
    return data[::-1]


def whose(data):
    return str(os.getpid()).encode()


def refuse(data):
    raise InputError(f"it has {len(data)} bytes, é")


def fill_memory(data):
    return np.ones(MEMORY // 8).tobytes()


def go_round(data):
    while True:
        pass


def crash(data):
    os.abort()


def where_from(data):
    import wave

    return wave.__file__.encode()


def sleep(data):
    time.sleep(600)


def doze(data):
    time.sleep(1)
    return b"awake"


def own_limit(data):
    import resource

    return str(resource.getrlimit(resource.RLIMIT_CPU)[0]).encode()


def fail(data):
    raise ValueError("no sentence\nof ours")


def test_the_answer_is_what_the_function_returns(rng):
    data = rng.bytes(300_000)
    assert run_limited(backwards, data, MEMORY, SECONDS) == data[::-1]
    assert run_limited(backwards, b"", MEMORY, SECONDS) == b""
    assert run_limited(whose, b"", MEMORY, SECONDS) != whose(b"")


def test_an_error_is_raised_here():
    with pytest.raises(InputError, match="^it has 3 bytes, é$"):
        run_limited(refuse, b"abc", MEMORY, SECONDS)


@limited
def test_more_memory_than_is_allowed():
    with pytest.raises(InputError, match="^reading it takes more memory than is allowed, 134,217,728 bytes at most"):
        run_limited(fill_memory, b"", MEMORY, SECONDS)
    assert run_limited(fill_memory, b"", 4 * MEMORY, SECONDS) == np.ones(MEMORY // 8).tobytes()


@limited
def test_more_time_than_is_allowed():
    with pytest.raises(InputError, match="^reading it takes a processor longer than is allowed, 1 s at most"):
        run_limited(go_round, b"", MEMORY, SECONDS)


def test_a_process_that_sleeps_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(sandbox, "_PATIENCE", 1)
    for data in (b"", bytes(1 << 20)):
        with pytest.raises(InputError, match="^reading it takes more than 1 s: it may be damaged$"):
            run_limited(sleep, data, MEMORY, SECONDS)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="has no Ctrl-Z")
def test_time_in_which_the_program_is_stopped_does_not_count():
    code = ("from test_sandbox import *; sandbox._PATIENCE = 10; print('begun', flush=True); "
            "print(run_limited(doze, b'', MEMORY, 1))")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}) as program:
        program.stdout.readline()
        time.sleep(0.5)
        os.killpg(program.pid, signal.SIGSTOP)
        time.sleep(12)
        os.killpg(program.pid, signal.SIGCONT)
        assert program.communicate(timeout=60)[0] == b"b'awake'\n"


@limited
def test_a_lower_limit_stands():
    import resource

    assert run_limited(own_limit, b"", MEMORY, 7) == b"8"
    lower = partial(resource.setrlimit, resource.RLIMIT_CPU, (5, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    code = "from test_sandbox import *; print(run_limited(own_limit, b'', MEMORY, 7))"
    limited = subprocess.run([sys.executable, "-c", code], preexec_fn=lower, capture_output=True,
                             env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert limited.stdout == b"b'5'\n"


@pytest.mark.skipif(os.name != "posix", reason="has other signals")
def test_a_process_that_crashes():
    with pytest.raises(InputError, match="^the process that read it was ended by SIGABRT: it may be damaged"):
        run_limited(crash, b"", MEMORY, SECONDS)


def test_a_process_that_fails():
    with pytest.raises(InputError, match="^the process that read it ended with exit status 1: of ours$"):
        run_limited(fail, b"", MEMORY, SECONDS)


@pytest.mark.skipif(not hasattr(signal, "SIGCHLD"), reason="has no such signal")
def test_where_no_exit_status_is_told():
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert run_limited(backwards, b"ab", MEMORY, SECONDS) == b"ba"
        with pytest.raises(InputError, match="^it has 3 bytes, é$"):
            run_limited(refuse, b"abc", MEMORY, SECONDS)
        with pytest.raises(InputError, match="^the process that read it ended without an answer: it may be damaged$"):
            run_limited(crash, b"abc", MEMORY, SECONDS)
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_system_without_these_signals(monkeypatch):
    monkeypatch.delattr(signal, "SIGXCPU", raising=False)
    assert run_limited(backwards, b"ab", MEMORY, SECONDS) == b"ba"


@pytest.mark.parametrize("python", ["/no/python", None, ""])
def test_where_no_process_can_be_started(python, monkeypatch):
    monkeypatch.setattr(sys, "executable", python)
    with pytest.raises(InputError, match=r"^no process could be started to read it \(.+\)$"):
        run_limited(backwards, b"", MEMORY, SECONDS)


@pytest.mark.parametrize("another", [False, True])
def test_the_package_is_this_one_wherever_it_was_found(another, monkeypatch, tmp_path):
    """Setuptools' editable install is an import hook, no folder of the path, which may lead to another one."""
    root = str(Path(sandbox.__file__).parents[2])
    monkeypatch.setattr(sys, "path", [str(tmp_path), *(one for one in sys.path if os.path.abspath(one) != root)])
    if another:
        (tmp_path / "scratchnmt").mkdir()
        (tmp_path / "scratchnmt" / "__init__.py").write_text("raise SystemExit('another')")
    assert run_limited(backwards, b"ab", MEMORY, SECONDS) == b"ba"


def test_pythons_own_modules_come_first():
    """What lies beside the package, as in site-packages, is not looked at for them."""
    assert run_limited(where_from, b"", MEMORY, SECONDS).startswith(os.path.dirname(os.__file__).encode())


@limited
def test_a_signal_that_is_ignored_ends_it_all_the_same():
    before = signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    try:
        with pytest.raises(InputError, match="^reading it takes a processor longer than is allowed, 1 s at most"):
            run_limited(go_round, b"", MEMORY, SECONDS)
    finally:
        signal.signal(signal.SIGXCPU, before)


def test_what_lies_in_the_present_folder_is_not_run(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit('theirs')")
    monkeypatch.chdir(tmp_path)
    assert run_limited(backwards, b"ab", MEMORY, SECONDS) == b"ba"


@pytest.mark.skipif(os.name != "posix", reason="keeps a folder in which somebody is")
def test_a_present_folder_that_is_gone_is_not_taken_for_the_file(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    monkeypatch.syspath_prepend("")
    (tmp_path / "gone").rmdir()
    with pytest.raises(InputError, match=r"^no process could be started to read it \(.+\)$"):
        run_limited(backwards, b"ab", MEMORY, SECONDS)
