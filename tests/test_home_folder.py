"""A home folder that cannot be written: libraries that keep files there do without."""

import os
import shutil
import subprocess
import sys

import pytest

from scratchnmt.streams import find_room

VARIABLES = ("CUPY_CACHE_IN_MEMORY", "MPLCONFIGDIR")


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A function: what is told to the libraries if the home folder is `home`, with these variables set."""
    def told(home, **given):
        for name in (*VARIABLES, "CUPY_CACHE_DIR"):
            monkeypatch.setenv(name, "")  # so that it is put back
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(home))
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        find_room()
        return {name: os.environ.get(name) for name in VARIABLES}

    return told


def test_a_home_folder_that_can_be_written_is_left_alone(tmp_path, room):
    assert room(tmp_path) == dict.fromkeys(VARIABLES)
    assert room(tmp_path / "new") == dict.fromkeys(VARIABLES) and not list(tmp_path.iterdir())


def test_without_one_cupy_keeps_kernels_in_memory_and_matplotlib_a_temporary_folder(tmp_path, room):
    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file", tmp_path / "file" / "below"):
        told = room(home)
        assert told["CUPY_CACHE_IN_MEMORY"] == "1" and os.path.isdir(told["MPLCONFIGDIR"])
        shutil.rmtree(told["MPLCONFIGDIR"])
    assert room(home, CUPY_CACHE_DIR="/x", MPLCONFIGDIR="/y") == {"CUPY_CACHE_IN_MEMORY": None, "MPLCONFIGDIR": "/y"}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_one_that_is_there_to_be_read_alone(tmp_path, room):
    tmp_path.chmod(0o500)
    told = room(tmp_path)
    tmp_path.chmod(0o700)
    assert told["CUPY_CACHE_IN_MEMORY"] == "1"
    shutil.rmtree(told["MPLCONFIGDIR"])


def test_a_command_that_draws_says_nothing_of_it_and_leaves_nothing(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "file").write_text("")
    (tmp_path / "temporary").mkdir()
    code = ("import os; from scratchnmt.streams import run_command; from scratchnmt.plots import attention_map\n"
            f"print(run_command('x', lambda: attention_map(['a'], ['b'], [[1]], {str(tmp_path / 'a.png')!r}) or 0))")
    environment = {**os.environ, "HOME": str(tmp_path / "file"), "TMPDIR": str(tmp_path / "temporary")}
    for name in ("MPLCONFIGDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        environment.pop(name, None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0\n", "") and (tmp_path / "a.png").stat().st_size > 1000
    assert not list((tmp_path / "temporary").iterdir())
