"""What ranks tell each other: here they are threads; with mpirun, `translate` and the tests of training."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from fake_comm import on_ranks
from full_pipe import full_pipe
from mpi_run import finished, is_open_mpi, needs_mpi, start

from scratchnmt.cli import main
from scratchnmt.errors import InputError
from scratchnmt.parallel import machine, mpi, watchdog
from scratchnmt.parallel.ranks import Ranks


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [0, 1, 7, 24])
def test_each_item_is_done_once_and_all_have_all(size, count):
    done = []
    found = on_ranks(size, lambda ranks: ranks.each(range(count),
                                                    lambda item: done.append((item, ranks.rank)) or item**2))
    assert found == [[item**2 for item in range(count)]] * size
    assert sorted(item for item, _ in done) == list(range(count))
    if count == 24:  # ascending items are shared out evenly
        sums = [sum(item for item, rank in done if rank == one) for one in range(size)]
        assert max(sums) - min(sums) <= 24
    assert Ranks().each(range(count), lambda item: item**2) == [item**2 for item in range(count)]


def test_an_error_of_one_rank_is_raised_by_all():
    def work(item):
        if item == 3:
            raise InputError(f"item {item}")
        return item

    assert [str(error) for error in on_ranks(3, lambda ranks: ranks.each(range(6), work))] == ["item 3"] * 3
    assert [str(error) for error in on_ranks(3, lambda ranks: ranks.from_first(lambda: work(3)))] == ["item 3"] * 3


def test_whoever_is_in_turn_may_wait_for_a_disk():
    def in_turn(ranks):
        depth = []

        @contextmanager
        def waiting():
            depth.append(1)
            yield
            depth.pop()

        ranks.watchdog = SimpleNamespace(waiting=waiting)
        return ranks.in_turn(lambda: len(depth)), len(depth)

    assert on_ranks(3, in_turn) == [(1, 0)] * 3


def test_all_have_the_items_of_the_first():
    def items(ranks):
        if not ranks.first:
            raise AssertionError("only the first one reads")
        yield from "abcdefg"

    for at_a_time in (1, 3, 7, 100):
        found = on_ranks(3, lambda ranks, at_a_time=at_a_time: list(ranks.same(items(ranks), at_a_time)))
        assert found == [list("abcdefg")] * 3


def test_no_item_is_read_before_it_is_wanted():
    read = []
    (first,) = on_ranks(1, lambda ranks: ranks.same((read.append(item) or item for item in range(9)), 2))
    assert next(first) == 0 and read == [0, 1]


def test_mpirun_without_mpi4py_or_mpi(monkeypatch):
    for name in mpi._SIZES:
        monkeypatch.delenv(name, raising=False)
    assert mpi.world().size == 1
    monkeypatch.setenv("PMI_SIZE", "1")
    assert mpi.world().size == 1
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(InputError, match=r"mpi4py is not installed: pip install mpi4py"):
        mpi.world()
    monkeypatch.setitem(sys.modules, "mpi4py", ModuleType("mpi4py"))

    def no_library():
        raise RuntimeError("cannot load MPI library\nlibmpi.so: no such file")

    monkeypatch.setattr(mpi, "mpi", no_library)
    with pytest.raises(InputError, match=r"mpi4py cannot load MPI \(cannot load MPI library\): pip install mpich"):
        mpi.world()
    alone = SimpleNamespace(COMM_WORLD=SimpleNamespace(Get_size=lambda: 1, Get_rank=lambda: 0))
    monkeypatch.setattr(mpi, "mpi", lambda: alone)
    with pytest.raises(InputError, match="mpirun started 2 processes, and mpi4py knows of 1: they are of two "
                                         "different MPIs"):
        mpi.world()


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("elements", [1, 8192, 8193, 200_000])
def test_the_parts_of_a_machine_are_whole_rows_and_everything(size, elements):
    parts = []
    for rank in range(size):
        one = machine.Machine()
        one.rank, one.size = rank, size
        parts.append(one.part(elements))
    assert parts[0].start == 0 and parts[-1].stop == elements
    assert all(a.stop == b.start and b.start % 8192 == 0 for a, b in pairwise(parts))
    assert max(part.stop - part.start for part in parts) <= elements / size + 8192


def test_marks_of_jobs_long_ago_are_removed(tmp_path):
    old, new = tmp_path / f"{watchdog.FALLEN}.1", tmp_path / f"{watchdog.FALLEN}.2"
    assert watchdog.speaks(old) and watchdog.speaks(new) and not watchdog.speaks(new)
    os.utime(old, (time.time() - 1000,) * 2)
    watchdog.remove_marks(tmp_path)
    assert not old.exists() and new.exists()


@pytest.mark.parametrize("begin, words", [("", "early"), ("one.begin();", "late")])
def test_the_watchdog_of_a_process_that_dies_says_what_is_left_of_its_work(tmp_path, begin, words):
    code = ("import os, sys; from scratchnmt.parallel.watchdog import Watchdog; "
            f"one = Watchdog(sys.argv[1], 'rank 1 of 2', 'early', 'late'); {begin} os.kill(os.getpid(), 9)")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "mark")], capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert re.fullmatch(rf"rank 1 of 2 \(process \d+\) died; {words}\n", done.stderr)
    assert (tmp_path / "mark").read_text() == done.stderr  # in case the terminal was gone


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="no /proc")
@pytest.mark.parametrize("reaped", [False, True])
def test_a_death_is_told_while_a_forked_child_still_holds_the_pipe(tmp_path, reaped):
    """Also of a process that nobody has asked for yet."""
    code = ("import os, sys, time; from scratchnmt.parallel.watchdog import Watchdog\n"
            "one = Watchdog(sys.argv[1], 'rank 1 of 2', 'early', 'late')\n"
            "with one.waiting():\n"
            "    child = os.fork()\n"
            "    time.sleep(0 if child else 60)\n"
            "    print(child, flush=True)\n"
            "    one.begin()\n"
            "    os.kill(os.getpid(), 9)")
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path / "mark"], text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)})
    child = int(process.stdout.readline())
    try:
        if reaped:
            process.wait()
        deadline = time.monotonic() + 5
        while not (tmp_path / "mark").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert (tmp_path / "mark").read_text() == f"rank 1 of 2 (process {process.pid}) died; late\n"
    finally:
        os.kill(child, signal.SIGKILL)
        process.communicate()


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="no /proc")
@pytest.mark.slow
@pytest.mark.parametrize("waits", [False, True])
def test_who_does_nothing_is_ended_unless_it_says_that_it_waits(tmp_path, waits):
    """For a FIFO that nobody writes yet, for example, or for processes that it has started."""
    os.mkfifo(tmp_path / "fifo")
    code = ("import sys; from contextlib import nullcontext; from scratchnmt.parallel.watchdog import Watchdog\n"
            "one = Watchdog(sys.argv[1], 'rank 1 of 2', 'early', 'late')\n"
            f"waiting = one.waiting if {waits} else nullcontext\n"
            "with waiting():\n"
            "    with waiting():\n"
            "        print(flush=True)\n"
            "    print(open(sys.argv[2]).read())\n"
            "one.leave()")
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path / "mark", tmp_path / "fifo"], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env=os.environ | {"PYTHONPATH": str(ROOT)})
    process.stdout.readline()
    if waits:
        time.sleep(watchdog.PATIENCE + 2)
        (tmp_path / "fifo").write_text("here it is")
        assert "here it is" in process.communicate(timeout=5)[0] and process.returncode == 0
    else:
        _, error = process.communicate(timeout=watchdog.PATIENCE + 5)
        assert process.returncode == -signal.SIGKILL and "hung for 6 seconds and was ended; early" in error


def test_a_rank_that_hangs_is_ended_also_if_nobody_reads_the_messages(tmp_path):
    reads, writes = full_pipe()
    rank = subprocess.Popen(["sleep", "100"])
    command = [sys.executable, watchdog.__file__, str(rank.pid), tmp_path / "mark", "rank 1", "early", "late"]
    dog = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=writes)
    try:
        time.sleep(1)
        rank.send_signal(signal.SIGSTOP)
        assert rank.wait(timeout=watchdog.PATIENCE + 5) == -signal.SIGKILL
        os.close(writes)
        while len(found := os.read(reads, 1 << 20)) > 4096:
            pass
        while b"early" not in found:
            found += os.read(reads, 4096)
        assert b"rank 1" in found and b"hung for 6 seconds and was ended; early" in found
    finally:
        dog.kill()
        dog.communicate()
        os.close(reads)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_mark_in_the_temporary_folder_does_not_stay(tmp_path):
    """The whole program of a watchdog whose rank has died, but for how long it waits for the others."""
    code = ("import sys; from scratchnmt.parallel import watchdog; watchdog.watch(int(sys.argv[1]), *sys.argv[2:]);"
            "watchdog.forget(sys.argv[2], 0.5)")
    for name, stays in ((".fallen.1", False), ("run/.fallen.2", True)):
        mark = tmp_path / name
        mark.parent.mkdir(exist_ok=True)
        done = subprocess.run([sys.executable, "-c", code, "0", str(mark), "rank 1 of 2", "early", "late"], check=True,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20,
                              env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)})
        assert "rank 1 of 2 (process 0) died; early" in done.stderr and mark.exists()
        deadline = time.monotonic() + (1 if stays else 20)
        while mark.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert mark.exists() == stays


def test_what_differs_is_named_alone():
    options = {"clip": 5.0, "beam": 5, "seed": 1}
    found = on_ranks(3, lambda ranks: ranks.check_alike(options | ({"clip": 3.0} if ranks.rank == 2 else {})))
    assert {str(error) for error in found} == {"clip is 5.0 on rank 0 and 3.0 on rank 2: all ranks need the same files "
                                               "and options"}
    assert on_ranks(3, lambda ranks: ranks.check_alike(options)) == [None] * 3
    assert on_ranks(2, lambda ranks: ranks.check_alike({"rate": float("nan")})) == [None] * 2  # refused elsewhere
    # shown cut, compared whole
    long = on_ranks(2, lambda ranks: ranks.check_alike({"out": "x" * 500 + str(ranks.rank)}))
    assert all("out is " in str(error) for error in long)


def test_ranks_share_the_cores_of_their_machine(monkeypatch):
    cores = [{0, 1, 2, 3}, {0, 1, 2, 3}, {4, 5, 6}]
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cores[0], raising=False)
    monkeypatch.setattr(Ranks, "machine", SimpleNamespace(comm=SimpleNamespace(allgather=lambda own: cores)))
    assert Ranks().cores == 2
    cores.reverse()  # this one is alone on its three
    assert Ranks().cores == 3


def test_other_commands_run_in_one_process(monkeypatch, capsys):
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setenv("PMI_RANK", "0")
    with pytest.raises(SystemExit):
        main(["evaluate", "--model", "m", "--src", "s", "--ref", "r"])
    assert "it runs in one process, and mpirun started 2: leave mpirun out" in capsys.readouterr().err
    monkeypatch.setenv("PMI_RANK", "1")  # the first one has said it
    with pytest.raises(SystemExit):
        main(["evaluate", "--model", "m", "--src", "s", "--ref", "r"])
    assert capsys.readouterr().err == ""


FALL = """
import sys
from scratchnmt.parallel.mpi import world
from scratchnmt.parallel.mpi import together
ranks = world()
with together(ranks, sys.argv[1], "stopped", "; go on"):
    ranks.begin()
    if sys.argv[2] == "all" or ranks.rank == 1:
        raise MemoryError("no room")
    ranks.wait()
"""


# MPICH itself says so most of the time
TOLD = """
import sys
from mpi4py import MPI
from scratchnmt.parallel import mpi
class Told(MPI.Intracomm):
    def Abort(self, status):
        print("abort", file=sys.stderr, flush=True)
        super().Abort(status)
MPI.COMM_WORLD = Told(MPI.COMM_WORLD)
"""


@needs_mpi
@pytest.mark.parametrize("who, name", [("one", "rank 1"), ("all", "rank 0")])
def test_an_error_of_one_rank_ends_all_and_is_said_once(tmp_path, who, name):
    pytest.importorskip("mpi4py")
    began = time.monotonic()
    status, _, error = finished(tmp_path, 2, tmp_path, who, program=["-c", TOLD + FALL])
    assert status == 2 and error.count(f"{name} of 2: not enough memory: no room; go on\n") == 1
    assert error.count("no room") == 1 and "Traceback" not in error
    assert time.monotonic() - began < 10
    assert ("abort" in error.lower()) == (who == "one")


@needs_mpi
def test_how_to_go_on_is_said_once_of_a_worker_that_is_gone(tmp_path):
    """Its own sentence ends with that."""
    pytest.importorskip("mpi4py")
    fall = FALL.replace('MemoryError("no room")', 'WorkerError("worker 2 of 2 died; go on")')
    _, _, error = finished(tmp_path, 2, tmp_path, "one",
                           program=["-c", f"from scratchnmt.errors import WorkerError{fall}"])
    assert "rank 1 of 2: worker 2 of 2 died; go on\n" in error


@needs_mpi
def test_a_mistake_of_ours_keeps_its_traceback(tmp_path):
    pytest.importorskip("mpi4py")
    fall = FALL.replace('MemoryError("no room")', "KeyError(3)")
    _, _, error = finished(tmp_path, 2, tmp_path, "all", program=["-c", fall])
    assert error.startswith("rank 0 of 2: Traceback") and "KeyError: 3; go on" in error and error.count("KeyError") == 1


# translate with mpirun

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
LINES = [" ".join(RNG.choice(list("abcdefgh"), RNG.integers(0, 9))) for _ in range(300)]  # some are blank


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model that says something, and a text."""
    pytest.importorskip("mpi4py")
    from scratchnmt import NMT
    from scratchnmt.checkpoint import save_new_model
    from scratchnmt.data.vocab import WordVocabulary

    folder, vocab = tmp_path_factory.mktemp("ranks"), WordVocabulary(list("abcdefgh"))
    model = NMT(len(vocab), len(vocab), 8, 8, seed=3)
    model.params.flat[...] *= 8
    save_new_model(folder / "model", model, vocab, vocab)
    (folder / "text").write_text("\n".join(LINES) + "\n")
    return folder


@needs_mpi
@pytest.mark.parametrize("options", [["--n-best=3"], ["--sample", "--seed=4"], ["--read-ahead=7"]])
def test_ranks_translate_as_one_process(folder, options):
    command = ["translate", "--model", folder / "model", "--batch-size=4", *options]  # 64 lines a window
    status, expected, _ = finished(folder, 1, *command, "--input", folder / "text")
    assert status == 0 and len(set(expected.splitlines())) > 20
    for count in (2, 3):
        out = folder / f"out{count}"
        status, _, error = finished(folder, count, *command, "--input", folder / "text", "--output", out)
        assert status == 0, error
        assert out.read_text() == expected


@needs_mpi
@pytest.mark.skipif(is_open_mpi(), reason="Open MPI's mpirun of the Python package hands no standard input on")
def test_ranks_translate_standard_input(folder):
    text, command = "\n".join(LINES[:40]), ["translate", "--model", folder / "model", "--batch-size=4"]
    assert finished(folder, 2, *command, text=text)[1] == finished(folder, 1, *command, text=text)[1]


@needs_mpi
@pytest.mark.skipif(is_open_mpi(), reason="Open MPI's mpirun of the Python package hands no standard input on")
def test_a_line_is_answered_before_the_next_is_read(folder):
    process = start(folder, 2, "translate", "--model", folder / "model", "--read-ahead=1")
    for line in LINES[:2]:
        process.stdin.write(line + "\n")
        process.stdin.flush()
        assert process.stdout.readline().endswith("\n")
    _, error = process.communicate(timeout=30)
    assert process.returncode == 0, error


@needs_mpi
def test_what_ends_a_translation_is_said_once_and_nothing_is_written(folder, tmp_path):
    (tmp_path / "bad").write_bytes(b"a b\n" * 100 + b"a \xff\n")
    model = ["translate", "--model", folder / "model"]
    for arguments, words in ((["--input", tmp_path / "bad", "--output", tmp_path / "out"],
                              "line 101: byte 0xff is not UTF-8"),
                             (["--input", tmp_path / "none"], "does not exist"),
                             (["--attention", tmp_path / "a.png"], "--attention draws in one process")):
        status, out, error = finished(tmp_path, 2, *model, *arguments)
        assert status == 2 and not out and error.count(words) == 1
        assert "rank 0 of 2: " in error and "Traceback" not in error
        assert "abort" not in error.lower()
    assert not (tmp_path / "out").exists()
    options = ["--input", folder / "text", "--else", "--beam=3"]
    assert "beam is 5 on rank 0 and 3 on rank 1: all ranks need the same" in finished(tmp_path, 2, *model, *options)[2]


SLOW = """
import sys, time
slow = {sys.argv[1]}
def wait(event, args):
    if event == "open" and str(args[0]).endswith(tuple(slow)):
        slow.clear()
        time.sleep(8)
sys.addaudithook(wait)
from scratchnmt.cli import main
sys.exit(main(sys.argv[2:]))
"""


@needs_mpi
@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="no /proc")
def test_ranks_may_wait_before_they_begin_for_a_disk_or_for_whoever_opens_their_output(folder, tmp_path):
    """Not every disk is waited for in a state that tells of it: one that is mounted by FUSE is not."""
    (tmp_path / "valid").write_text("a b\n")
    os.mkfifo(tmp_path / "output")
    text, valid = folder / "text", tmp_path / "valid"
    translate = ["translate", "--model", folder / "model", "--input", text]
    train = ["train", "--train-src", text, "--train-tgt", text, "--valid-src", valid, "--valid-tgt", valid, "--vocab",
             "word", "--hidden-size=4", "--embed-size=4", "--max-steps=1", "--valid-every=1", "--out", tmp_path / "run"]
    process, *others = [start(tmp_path, 2, slow, *words, program=["-c", SLOW]) for slow, words in (
        ("none", [*translate, "--output", tmp_path / "output"]), ("model.safetensors", translate), ("/valid", train))]
    try:
        errors = [one.communicate(timeout=60)[1] for one in others]
        assert [one.returncode for one in others] == [0, 0], errors
        assert process.poll() is None, process.communicate()
        reader = subprocess.run(["cat", tmp_path / "output"], capture_output=True, timeout=60, check=True)
        assert reader.stdout.count(b"\n") == len(LINES) and process.wait(60) == 0
    finally:
        for one in (process, *others):
            one.kill()
            one.communicate()
