"""The short form of each script in tests/stress, so that they keep working; the long ones' figures: docs/trust.md."""

import sys
from pathlib import Path

import pytest
from mpi_run import needs_mpi

pytest.importorskip("safetensors")
pytest.importorskip("sacrebleu")
pytest.importorskip("sentencepiece")
if not sys.platform.startswith("linux"):
    pytest.skip("they look at processes in /proc", allow_module_level=True)

sys.path.insert(0, str(Path(__file__).parent / "stress"))  # they are scripts, which import each other
import fuzz  # noqa: E402
import kill  # noqa: E402
import memory  # noqa: E402
import saves  # noqa: E402
import small_run  # noqa: E402
import stream  # noqa: E402
import waiting  # noqa: E402
import writers  # noqa: E402


def test_killed_at_random_moments(capsys):
    assert kill.main(kills=3, longest=1.5, epochs=12) == 0
    assert "runs or files lost: 0" in capsys.readouterr().out


def test_killed_inside_a_save(capsys):
    assert saves.main(kills=3, epochs=4) == 0
    assert "3 kills inside a save" in capsys.readouterr().out


def test_a_run_that_differs_is_told(tmp_path):
    """Or the scripts would prove nothing."""
    arguments = [*small_run.corpus(tmp_path / "corpus"), "--max-epochs", "1"]
    for name, seed in (("one", "0"), ("other", "1")):
        small_run.finish(small_run.start(tmp_path / name, [*arguments, "--seed", seed]))
    assert small_run.differences(tmp_path / "one", tmp_path / "one") == []
    assert small_run.differences(tmp_path / "other", tmp_path / "one") == [
        "model.safetensors", "metrics.jsonl", "training-state.safetensors"]
    (tmp_path / "one" / "model.safetensors").write_bytes(b"half")
    assert kill.unreadable(tmp_path / "one") == 1


def test_spoilt_files(capsys):
    assert fuzz.main(files=60, seed=1, keep=None) == 0
    assert "refused by one error" in capsys.readouterr().out


@pytest.mark.parametrize("ends", [
    lambda: 1 / 0, lambda: fuzz.os.kill(fuzz.os.getpid(), 9), lambda: fuzz.OTHER],
    ids=["another exception", "a signal", "another model"])
def test_what_a_loader_may_not_do_is_told(ends):
    name, _, _ = fuzz.child(ends)
    assert name not in (fuzz.NAMES[fuzz.REFUSED], fuzz.NAMES[fuzz.UNCHANGED], fuzz.NAMES[fuzz.NOT_SEALED])


def test_several_writers_of_the_same_files(capsys):
    assert writers.main(seconds=2) == 0
    assert "by 4 processes: 0 wrong" in capsys.readouterr().out


@needs_mpi
def test_ranks_that_wait_and_one_that_is_stopped(capsys):
    pytest.importorskip("mpi4py")
    assert waiting.main(seconds=7) == 0  # the watchdog's patience is 6
    assert "a rank that was stopped was named" in capsys.readouterr().out


def test_memory_of_a_training(capsys):
    assert memory.main(steps=300, first=100) == 0
    assert "from step 100 to step 300" in capsys.readouterr().out


@pytest.mark.parametrize("by_file", [False, True], ids=["a pipe", "a file"])
def test_many_lines_are_read_as_they_are_translated(by_file, capsys):
    stream.main(lines=5000, by_file=by_file)  # so few that the start weighs: only that all come out is asked
    assert "5,000 lines out" in capsys.readouterr().out
