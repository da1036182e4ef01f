"""Work in a process of its own: its answer, its error, and what becomes of it where it takes too much or crashes."""

import os
import sys

import numpy as np
import pytest

from scratchnmt.errors import InputError
from scratchnmt.files.apart import apart

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


def fail(data):
    raise ValueError("no sentence\nof ours")


def test_the_answer_is_what_the_function_returns(rng):
    data = rng.bytes(300_000)
    assert apart(backwards, data, MEMORY, SECONDS) == data[::-1]
    assert apart(backwards, b"", MEMORY, SECONDS) == b""
    assert apart(whose, b"", MEMORY, SECONDS) != whose(b"")


def test_an_error_is_raised_here():
    with pytest.raises(InputError, match="^it has 3 bytes, é$"):
        apart(refuse, b"abc", MEMORY, SECONDS)


@limited
def test_more_memory_than_is_allowed():
    with pytest.raises(InputError, match="^to read it takes more than 134,217,728 bytes of memory, so that it may be"):
        apart(fill_memory, b"", MEMORY, SECONDS)
    assert apart(fill_memory, b"", 4 * MEMORY, SECONDS) == np.ones(MEMORY // 8).tobytes()


@limited
def test_more_time_than_is_allowed():
    with pytest.raises(InputError, match="^to read it takes a processor more than 1 s, so that it may be damaged$"):
        apart(go_round, b"", MEMORY, SECONDS)


@pytest.mark.parametrize("work, how", [(crash, "-6: $" if os.name == "posix" else ""), (fail, "1: of ours$")])
def test_a_process_that_ends_in_another_way(work, how):
    with pytest.raises(InputError, match=f"^it may be damaged: the process that was to read it ended with .*{how}"):
        apart(work, b"", MEMORY, SECONDS)


def test_where_no_process_can_be_started(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/python")
    with pytest.raises(InputError, match=r"^no process could be started to read it \(.*No such file"):
        apart(backwards, b"", MEMORY, SECONDS)


def test_what_lies_in_the_present_folder_is_not_run(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit('theirs')")
    monkeypatch.chdir(tmp_path)
    assert apart(backwards, b"ab", MEMORY, SECONDS) == b"ba"
