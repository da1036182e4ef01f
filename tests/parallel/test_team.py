"""Workers: forks that share a piece of work, and fall together."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pytest
from full_pipe import full_pipe

from scratchnmt import NMT
from scratchnmt.arrays import _quota, core_count, for_ranges, limit_threads, threads_wanted
from scratchnmt.errors import ArgumentError, InputError, MachineError, WorkerError
from scratchnmt.optim import Adam
from scratchnmt.parallel import Workers, machine, watchdog, workers
from scratchnmt.parallel.ranks import Ranks, divide
from scratchnmt.parallel.team import Team
from scratchnmt.parallel.workers import available, check_workers, each, in_workers, worth

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch):
    """No process that was forked, and no thread that looked after one."""
    forked, fork = [], os.fork
    monkeypatch.setattr(os, "fork", lambda: forked.append(fork()) or forked[-1])
    yield
    for pid in forked:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    deadline = time.monotonic() + 2
    while any(one.name == "scratchnmt-lookout" for one in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_they_talk_as_ranks_do(size):
    def work(ranks):
        comm, vector = ranks.comm, np.arange(4.0) + ranks.rank
        told = [ranks.from_first(lambda: ranks.rank + 7), ranks.each(range(9), lambda item: item**2),
                list(ranks.same("abcd", 3))]
        ranks.add_up(vector)
        ranks.wait()
        whole = np.where(np.arange(7) // 2 == ranks.rank, np.arange(7), 0)
        if comm:
            comm.gather_parts(whole, [min(2 * n, 7) for n in range(size)] + [7])
        return told, vector, whole, ranks.agree(ranks.rank == 1, 3.0 + ranks.rank)

    told, vector, whole, agreed = in_workers(work, size, stopped="stopped")
    assert told == [7, [item**2 for item in range(9)], list("abcd")]
    assert vector.tolist() == (size * np.arange(4.0) + sum(range(size))).tolist()
    assert size == 1 or size == 2 or whole.tolist()[: 2 * size] == list(range(7))[: 2 * size]
    assert agreed == (size > 1, 3.0)


def test_each_gives_all_in_order_and_no_more_processes_than_items():
    def work(item):
        return item, os.getpid()

    done = each(Ranks(), range(7), work, 3, "stopped")
    assert [item for item, _ in done] == list(range(7)) and len({pid for _, pid in done}) == 3
    assert len({pid for _, pid in each(Ranks(), range(2), work, 9, "stopped")}) == 2
    assert {pid for _, pid in each(Ranks(), [1], work, 9, "stopped")} == {os.getpid()}
    assert each(Ranks(), [], work, 9, "stopped") == []


class NotPickled(Exception):
    def __reduce__(self):
        raise TypeError("no")


class NotUnpickled(Exception):
    def __init__(self, what, how):
        super().__init__(f"{what} {how}")


@pytest.mark.parametrize("error, raised, words", [
    (InputError("line 3"), InputError, "^line 3$"), (KeyError("here"), KeyError, "here"),
    (NotPickled("secret"), RuntimeError, "secret"), (NotUnpickled("no", "disk"), RuntimeError, "no disk")])
@pytest.mark.parametrize("by", [0, 1, 2])
def test_what_one_raises_is_raised_and_says_where(error, raised, words, by):
    def work(ranks):
        if ranks.rank == by:
            raise error
        ranks.wait()

    def one(item):
        if item == by:
            raise error

    with pytest.raises((raised, type(error)), match=words) as info:
        in_workers(work, 3, stopped="stopped")
    if by:
        assert f"in worker {by + 1} of 3:\nTraceback" in str(info.value.__cause__) and "raise error" in str(
            info.value.__cause__)
    with pytest.raises((raised, type(error)), match=words):
        each(Ranks(), range(3), one, 3, "stopped")
    with pytest.raises((raised, type(error)), match=words):
        in_workers(lambda ranks: ranks.from_first(lambda: one(by)), 3, stopped="stopped")


def test_ctrl_c_that_one_had_is_everyones():
    """Twice in a moment, it may be twice to a worker and once to the first one."""
    def work(ranks):
        if ranks.rank == 1:
            raise KeyboardInterrupt
        ranks.wait()

    with pytest.raises(KeyboardInterrupt):
        in_workers(work, 3, stopped="stopped")


@pytest.mark.parametrize("work, words", [(lambda team: None, None), (lambda team: os._exit(3), "worker 2 of 2")])
def test_a_team_ends_without_another_one_that_was_started_at_the_same_moment(work, words):
    """By another thread, between the pipes of the one and its forks."""
    first, second = Team(2, "stopped", "stopped"), Team(2, "stopped", "stopped")
    try:
        second.fork(lambda team: team.bcast(None))  # waits for a word
        first.fork(work)
        ended = lambda: first.join() if words is None else first.gather(1)
        with ThreadPoolExecutor(1) as thread:
            found = thread.submit(ended)
            done, _ = wait([found], timeout=20)
            second.end()
    finally:
        first.end()
        second.end()
    assert done and (words or "None") in str(found.exception())


@pytest.mark.slow
def test_threads_that_start_and_end_teams_all_the_time():
    def again_and_again(end):
        while time.monotonic() < end:
            team = Team(3, "stopped", "stopped")
            try:
                team.fork(lambda team: team.gather(1))
                assert team.gather(1) == [1, 1, 1]
                team.join()
            finally:
                team.end()

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(again_and_again, time.monotonic() + 20) for _ in range(2)]:
            done.result()


@pytest.mark.parametrize("error", [InputError("late"), OSError(28, "too late"), EOFError("late")])
def test_what_is_raised_after_the_last_word_is_raised_too(error):
    def work(ranks):
        if ranks.rank:
            raise error

    with pytest.raises(type(error), match="late"):
        in_workers(work, 2, stopped="stopped")


@pytest.mark.parametrize("begun, left", [(False, "it stopped before it took a step"),
                                         (True, "it stopped; the last save is intact; go on")])
def test_one_that_dies_is_named_and_takes_all_down(begun, left):
    def work(ranks):
        if begun:
            ranks.begin()
        ranks.wait()
        if ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        ranks.wait()
        ranks.wait()

    with pytest.raises(WorkerError, match=rf"^worker 2 of 3 \(process \d+\) died; {left}$"):
        in_workers(work, 3, stopped="it stopped", resume="; go on")


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="no /proc")
@pytest.mark.parametrize("by", [1, 2])
def test_one_that_is_stopped_is_ended(monkeypatch, by):
    monkeypatch.setattr(watchdog, "PATIENCE", 1.5)

    def work(ranks):
        if ranks.rank == by:
            os.kill(os.getpid(), signal.SIGSTOP)
        ranks.wait()

    with pytest.raises(WorkerError, match=rf"worker {by + 1} of 3 .* hung for 1.5 seconds and was ended; stopped$"):
        in_workers(work, 3, stopped="stopped")


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="no /proc")
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_one_that_is_stopped_is_ended_also_if_who_looks_after_it_is_no_more(monkeypatch, number):
    monkeypatch.setattr(watchdog, "PATIENCE", 1.5)

    def work(ranks):
        if ranks.rank:
            os.kill(os.getpid(), number if ranks.rank == 3 else signal.SIGSTOP)
        ranks.wait()

    with pytest.raises(WorkerError, match=r"worker 2 of 4 .* hung for 1.5 seconds and was ended; stopped$"):
        in_workers(work, 4, stopped="stopped")


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="no /proc")
def test_one_that_is_slow_or_waits_is_left_alone(monkeypatch):
    monkeypatch.setattr(watchdog, "PATIENCE", 1.0)

    def work(ranks):
        if ranks.rank == 1:
            with ranks.waiting():
                time.sleep(2.5)
        elif ranks.rank == 2:
            began = time.monotonic()
            while time.monotonic() < began + 2.5:
                pass
        ranks.wait()
        return "done"

    assert in_workers(work, 3, stopped="stopped") == "done"


FIRST_DIES = """
import os, signal, sys, time
from scratchnmt.parallel.ranks import Ranks
from scratchnmt.parallel.watchdog import Waits
from scratchnmt.parallel.workers import in_workers
def work(ranks):
    pids = ranks.comm.allgather(os.getpid())
    if ranks.first:
        print(*pids, flush=True)
        time.sleep(60)
    while sys.argv[1] == "computes":
        pass
    if sys.argv[1] == "is stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    ranks.wait()
above = Ranks(watchdog=Waits()) if sys.argv[2] == "watched" else None
in_workers(work, 3, stopped="it stopped", ranks=above)
"""


STOPPED = pytest.param("is stopped", "alone", marks=pytest.mark.skipif(sys.platform != "linux", reason="no prctl"))


@pytest.mark.parametrize("what, who", [("computes", "alone"), ("waits", "alone"), ("waits", "watched"),
                                       ("waits", "unread"), STOPPED])
def test_none_is_left_when_the_first_one_is_killed(what, who):
    """Who is watched has somebody else to say that it died; nobody may be there to read it."""
    reads, writes = full_pipe() if who == "unread" else os.pipe()
    process = subprocess.Popen([sys.executable, "-c", FIRST_DIES, what, who], stdout=subprocess.PIPE, text=True,
                               stderr=writes, env=os.environ | {"PYTHONPATH": str(ROOT)})
    os.close(writes)
    pids = [int(pid) for pid in process.stdout.readline().split()]
    if what == "is stopped":
        time.sleep(0.5)
    process.kill()
    process.communicate(timeout=10)  # at the end of the others, who have the same pipe
    with open(reads, encoding="ascii") as file:
        assert file.read().strip("x\n") == f"worker 1 of 3 (process {pids[0]}) died; it stopped" * (who == "alone")
    deadline = time.monotonic() + 5
    for pid in pids[1:]:
        with pytest.raises(ProcessLookupError):
            while time.monotonic() < deadline:
                os.kill(pid, 0)
                time.sleep(0.05)


def test_a_system_without_room_for_another_process(monkeypatch):
    real, forked = os.fork, []

    def fork():
        if forked:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        forked.append(real())
        return forked[0]

    monkeypatch.setattr(os, "fork", fork)
    with pytest.raises(MachineError, match=r"worker 3 of 3 cannot be started \(Resource .*\): choose fewer workers"):
        in_workers(lambda ranks: ranks.wait(), 3, stopped="stopped")


@pytest.mark.parametrize("where", ["first", "fork"])
def test_a_system_without_room_for_another_thread(monkeypatch, where):
    real, first = threading.Thread.start, os.getpid()

    def start(thread):
        if (os.getpid() == first) == (where == "first"):
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(MachineError, match=r"worker 2 of 2 cannot be started \(can't start .*\): choose fewer workers"):
        in_workers(lambda ranks: ranks.wait(), 2, stopped="stopped")


def test_a_system_without_room_for_another_file():
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, before[1]))
    try:
        with pytest.raises(MachineError, match=r"worker \d+ of 300 cannot be started \(Too many .*\): choose fewer"):
            in_workers(lambda ranks: ranks.wait(), 300, stopped="stopped")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


CTRL_C = """
import os, signal
from scratchnmt.parallel.workers import in_workers
real = os.fork
def fork():
    pid = real()
    if not pid:
        os.kill(os.getpid(), signal.SIGINT)
    return pid
os.fork = fork
try:
    in_workers(lambda ranks: ranks.wait(), 2, stopped="it stopped")
finally:
    print("once", flush=True)
"""


def test_ctrl_c_meets_a_fork_that_has_just_begun():
    """Nothing of the program that was forked is its own to go on with."""
    done = subprocess.run([sys.executable, "-c", CTRL_C], capture_output=True, text=True, timeout=30,
                          env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.stdout == "once\n"
    assert done.stderr.count("Traceback") == 1 and done.stderr.endswith("KeyboardInterrupt\n")


# memory that they share

def share(size):
    def work(ranks):
        memory = machine.share_memory(ranks.comm, 5, "float32")
        if memory is None:
            return None
        begins = memory.tolist()
        ranks.wait()
        memory[ranks.rank] = ranks.rank + 1
        ranks.wait()
        return begins, memory.tolist()

    return in_workers(work, size, stopped="stopped")


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="no memfd_create")
def test_common_memory_is_zeros_and_all_see_it():
    assert share(3) == ([0.0] * 5, [1.0, 2.0, 3.0, 0.0, 0.0])


def no_room(*_):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("what", ["memfd_create", "posix_fallocate"])
def test_without_common_memory(monkeypatch, what):
    monkeypatch.setattr(os, what, no_room, raising=False)
    assert share(3) is None


# the gradients of a user's own loop

def batch(rng, count=9):
    lengths = rng.integers(2, 7, (count, 2))
    src, tgt = np.zeros((7, count), int), np.zeros((8, count), int)
    for b, (S, T) in enumerate(lengths):
        src[:S, b], tgt[0, b], tgt[1:T, b], tgt[T, b] = rng.integers(4, 20, S), 1, rng.integers(4, 20, T - 1), 2
    return src, lengths[:, 0], tgt, lengths


def small(**more):
    return NMT(20, 20, 6, 7, seed=1, dtype="float64", **more)


@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_the_gradient_is_the_sum_over_the_parts(rng, count):
    src, src_lengths, tgt, lengths = batch(rng)
    model = small(dropout=0.3)
    rngs = np.random.default_rng(3).spawn(count)
    expected, loss = np.zeros_like(model.params.flat), 0.0
    for part, one in zip(divide(np.arange(9), lengths, count), rngs, strict=True):
        if len(part):
            nats, cache = model.forward(src[:, part], src_lengths[part], tgt[:, part], one)
            loss, expected = loss + nats, expected + model.backward(cache).flat
    before = model.params.flat.copy()
    with Workers(model, count) as one:
        found, grads = one.gradient(src, src_lengths, tgt, np.random.default_rng(3))
        np.testing.assert_allclose(grads.flat, expected, rtol=1e-12, atol=1e-14)
        assert found == pytest.approx(loss, rel=1e-12) and np.array_equal(model.params.flat, before)


@pytest.fixture(params=["common", pytest.param("own", marks=pytest.mark.filterwarnings(
    "ignore:the processes of this machine cannot have memory in common"))])
def memory(request, monkeypatch):
    """Where weights and gradients of several processes lie."""
    if request.param == "own":
        monkeypatch.setattr(machine, "_reserve", lambda bytes, mark: None)
    return request.param


def test_an_optimizer_of_before_moves_the_weights_of_all(rng, memory):
    src, src_lengths, tgt, _ = batch(rng)
    models = small(), small()
    optimizers = [Adam(model.params, 0.01) for model in models]
    with Workers(models[1], 2) as two:
        for _ in range(5):
            loss, cache = models[0].forward(src, src_lengths, tgt)
            optimizers[0].step(models[0].backward(cache))
            found, grads = two.gradient(src, src_lengths, tgt)
            optimizers[1].step(grads)
            assert found == pytest.approx(float(loss), rel=1e-9)
    np.testing.assert_allclose(models[1].params.flat, models[0].params.flat, rtol=1e-7)
    assert models[1].params["embed.src"].base is not None


def test_workers_whose_model_others_have_taken_over_do_not_compute_with_its_old_weights(rng, memory):
    src, src_lengths, tgt, _ = batch(rng)
    model = small()
    with Workers(model, 1) as alone, Workers(model, 2) as before, Workers(model, 2) as last:
        model.params.flat[...] = rng.standard_normal(model.params.flat.size)
        loss = float(model.forward(src, src_lengths, tgt)[0])
        for one in alone, last:
            assert one.gradient(src, src_lengths, tgt)[0] == pytest.approx(loss, rel=1e-12)
        if memory == "own":
            assert before.gradient(src, src_lengths, tgt)[0] == pytest.approx(loss, rel=1e-12)
        else:
            with pytest.raises(InputError, match="no more where these workers see them: .*make new ones"):
                before.gradient(src, src_lengths, tgt)


def test_a_batch_that_does_not_fit_is_refused_as_by_one_process(rng):
    src, src_lengths, tgt, _ = batch(rng)
    endless = tgt.copy()
    endless[3, 0], endless[-1, 0] = 0, 5
    wider = np.concatenate([src, src[:, :1]], axis=1)
    for given in (wider, src_lengths, tgt), (src, src_lengths[:5], tgt), (src, src_lengths, endless):
        with pytest.raises(ArgumentError):
            small().forward(*given)
        with pytest.raises(ArgumentError), Workers(small(), 2) as two:
            two.gradient(*given)
    with Workers(small(), 2) as two:
        listed = two.gradient(src.tolist(), src_lengths.tolist(), tgt.tolist())[0]
        assert listed == two.gradient(src, src_lengths, tgt)[0]


def test_workers_that_are_gone_are_told(rng):
    src, src_lengths, tgt, _ = batch(rng)
    with Workers(small(), 2) as two, pytest.raises(InputError, match="these workers have ended: make new ones"):
        with pytest.raises(IndexError):
            two.gradient(src + 100, src_lengths, tgt)
        two.gradient(src, src_lengths, tgt)
    with pytest.raises(WorkerError, match=r"worker 2 of 2 \(process \d+\) died; its gradient is lost"), Workers(
            small(), 2) as two:
        os.kill(two.team.pids[1], signal.SIGKILL)
        two.gradient(src, src_lengths, tgt)
    two.team.end()  # twice


def test_a_number_that_was_a_workers_once_is_not_ended_again(monkeypatch):
    """It may be that of another process by then."""
    with Workers(small(), 2) as two:
        pass
    ended = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "waitpid", lambda *_: (0, 0))
        patch.setattr(os, "kill", lambda *given: ended.append(given))
        two.team.end()
    assert not ended


def test_workers_that_nobody_needs_any_more_end():
    some = Workers(small(), 2)
    pid = some.team.pids[1]
    del some
    gc.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


FORGOTTEN = """
from scratchnmt import NMT
from scratchnmt.parallel import Workers
some = Workers(NMT(20, 20, 6, 7), 2)
"""


def test_workers_that_were_not_closed_end_with_the_script_without_a_word():
    done = subprocess.run([sys.executable, "-c", FORGOTTEN], capture_output=True, text=True, timeout=30,
                          env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# how many

def test_how_many_are_worth_it(monkeypatch):
    assert worth(8, 1e12, 64) == 8 and worth(8, 1e12, 17) == 2 and worth(8, 1e7, 64) == 1 and worth(8, 1e12, 1) == 1
    monkeypatch.setattr(Ranks, "cores", 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    assert available() == 2 and available(device="cuda") == 1 and threads_wanted() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "16")
    assert available() == 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "no")
    assert available() == 8 and threads_wanted() is None
    monkeypatch.setattr(Ranks, "cores", 4096)
    check_workers(available())
    monkeypatch.setattr(Ranks, "cores", 9)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with Workers(small()) as some:
        assert some.team.size == 3


@pytest.mark.parametrize("given, device, words", [
    (0, "cpu", "workers is 0, expected a whole number of at least 1"), (True, "cpu", "workers is True"),
    (1.5, "cpu", "workers is 1.5"), (2, "cuda", "for several cards, mpirun -n 2")])
def test_numbers_that_cannot_be(given, device, words):
    with pytest.raises(InputError, match=words):
        check_workers(given, device)
    check_workers(1, "cuda")


def test_a_system_that_cannot_fork(monkeypatch):
    monkeypatch.delattr(workers.os, "fork")
    assert available() == 1
    with pytest.raises(InputError, match="this system cannot fork a process: choose 1"):
        check_workers(2)


@pytest.mark.parametrize("files, cores", [
    ({"cgroup": "0::/", "cpu.max": "max 100000"}, sys.maxsize), ({"cgroup": "0::/", "cpu.max": "150000 100000"}, 2),
    ({"cgroup": "0::/a/b", "a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3),
    ({"cgroup": "0::/gone/on/the/host", "cpu.max": "100000 100000"}, 1),
    ({"cgroup": "4:memory:/\n3:cpu,cpuacct:/a", "cpu,cpuacct/a/cpu.cfs_quota_us": "50000",
      "cpu,cpuacct/a/cpu.cfs_period_us": "100000"}, 1),
    ({"cgroup": "3:cpu:/", "cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, sys.maxsize),
    ({"cgroup": "nonsense"}, sys.maxsize), ({}, sys.maxsize)])
def test_the_quota_of_a_container(tmp_path, files, cores):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert _quota(tmp_path, tmp_path / "cgroup") == cores


def test_threads_that_limit_blas_at_once_leave_it_as_it_was():
    info = pytest.importorskip("threadpoolctl").threadpool_info
    threads = lambda: [pool["num_threads"] for pool in info() if pool["user_api"] == "blas"]
    with limit_threads(2):
        before = threads()
        first, second = limit_threads(1), limit_threads(1)
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        during = threads()
        second.__exit__(None, None, None)
        assert threads() == before and set(during) == {1}


def test_no_more_threads_than_are_allowed(monkeypatch):
    monkeypatch.setattr("scratchnmt.arrays._workers", lambda process: (4, None))
    parts = []
    with limit_threads(1):
        for_ranges(lambda start, stop: parts.append((start, stop)), 100, 1)
    assert parts == [(0, 100)] and core_count() >= 1
