"""Which module an array belongs to, the words of a shape error, and work split over threads."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchnmt import arrays
from scratchnmt.arrays import (
    _workers,
    array_module,
    check_shapes,
    device_module,
    for_ranges,
    lazy_zeros_like,
    to_device,
)
from scratchnmt.errors import InputError


def test_without_cupy_there_is_the_cpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # import cupy fails
    array = np.arange(3.0)
    assert to_device(array, "cpu") is array
    assert array_module(array, array) is device_module("cpu") is np
    for device, message in (("gpu", 'expected "cpu", "cuda" or "cuda:N"'), ("cuda:x", "not known"),
                            ("cuda:1", r"needs cupy: pip install cupy-cuda12x")):
        with pytest.raises(InputError, match=message):
            to_device(np.zeros(2), device)


def shapes(**arguments):
    return {name: (spec, np.empty(shape)) for name, (spec, shape) in arguments.items()}


def test_shapes_that_fit_give_their_letters():
    arguments = shapes(x=("B I", (3, 2)), Wh=("H 4H", (5, 20)), W=("H+I A", (7, 1)), two=("2 B", (2, 3)))
    sizes = check_shapes("op", **arguments)
    assert sizes == dict(B=3, I=2, H=5, A=1)


@pytest.mark.parametrize("arguments, message", [
    (dict(h_prev=("B H", (3, 5)), Wh=("H 4H", (5, 16))),
     "op: Wh has shape (5, 16), expected (H, 4H) = (5, 20), where H = 5 comes from h_prev (3, 5)"),
    (dict(x=("B I", (3, 2)), y=("B I", (2, 3))),
     "op: y has shape (2, 3), expected (B, I) = (3, 2), "
     "where B = 3 comes from x (3, 2), I = 2 comes from x (3, 2)"),
    (dict(x=("B I", (3, 2, 1))), "op: x has shape (3, 2, 1), expected (B, I)"),
    (dict(Wh=("H 4H", (5, 16))), "op: Wh has shape (5, 16), expected (H, 4H) = (5, 20)"),
    (dict(h=("B H", (3, 5)), m=("B M", (3, 2)), W=("H+M A", (8, 4))),
     "op: W has shape (8, 4), expected (H+M, A) = (7, 4), "
     "where H = 5 comes from h (3, 5), M = 2 comes from m (3, 2)"),
    (dict(x=("2 B", (3, 4))), "op: x has shape (3, 4), expected (2, B) = (2, 4)"),
])
def test_the_words_of_a_shape_error(arguments, message):
    with pytest.raises(ValueError) as error:
        check_shapes("op", **shapes(**arguments))
    assert str(error.value) == message


@pytest.fixture(scope="module")
def four_threads():
    patch = pytest.MonkeyPatch()
    with ThreadPoolExecutor(4) as pool, patch.context() as context:
        context.setattr(arrays, "_workers", lambda process: (4, pool))
        yield


@given(size=st.integers(0, 50), grain=st.integers(1, 20))
def test_ranges_hold_every_index_once(four_threads, size, grain):
    parts = []
    for_ranges(lambda start, stop: parts.append((start, stop)), size, grain)
    assert [i for part in sorted(parts) for i in range(*part)] == list(range(size))
    assert len(parts) == max(1, min(4, size // grain))
    assert len(parts) == 1 or min(stop - start for start, stop in parts) >= grain


def test_ranges_run_side_by_side(four_threads):
    barrier = threading.Barrier(4)
    for_ranges(lambda start, stop: barrier.wait(timeout=5), 4, 1)  # would break if one waited for another


def test_after_an_exception_no_range_is_still_at_work(four_threads):
    ended = []

    def task(start, stop):
        if start == 0:
            raise KeyboardInterrupt
        time.sleep(0.02)
        ended.append(start)

    with pytest.raises(KeyboardInterrupt):
        for_ranges(task, 4, 1)
    assert sorted(ended) == [1, 2, 3]


@pytest.mark.parametrize("wanted, cores, count", [
    ("3", {0, 5}, 3), ("", {0, 5}, 2), ("0", {0, 5}, 2), ("4,2", {0, 5}, 2), ("", None, os.cpu_count()),
])
def test_threads_are_as_many_as_asked_for_or_as_cores(monkeypatch, wanted, cores, count):
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: cores, raising=False)
    if cores is None:
        monkeypatch.delattr(os, "sched_getaffinity")  # macOS and Windows have none
    assert _workers.__wrapped__(0)[0] == count


FORKING = """
import os
from scratchnmt.arrays import for_ranges
done = []
for_ranges(lambda start, stop: done.append(stop - start), 4, 1)
if os.fork() == 0:
    for_ranges(lambda start, stop: done.append(stop - start), 4, 1)
    os._exit(0 if done == [2, 2, 2, 2] else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_makes_threads_of_its_own():
    """Or it would wait for ever for those that it lacks."""
    subprocess.run([sys.executable, "-c", FORKING], env={**os.environ, "OMP_NUM_THREADS": "2"}, timeout=20, check=True)


@pytest.mark.parametrize("failing", range(4))
def test_an_exception_in_any_range_reaches_the_caller(four_threads, failing):
    def task(start, stop):
        if start == failing:
            raise IndexError(f"range {start}")

    with pytest.raises(IndexError, match=f"range {failing}"):
        for_ranges(task, 4, 1)


FAULTS = """
import resource, sys
import numpy as np
from scratchnmt.arrays import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        np.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

default = faults()
kept = keep_freed_memory()
faults()  # the first array is new in any case
print(int(kept), default, faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the C library's own setting")
def test_kept_memory_is_not_fetched_from_the_system_again():
    result = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    kept, default, after = map(int, result.stdout.split())
    if not kept:
        pytest.skip("this C library has no mallopt")
    assert after < default / 10


RESIDENT = """
import numpy as np
from scratchnmt.arrays import keep_freed_memory, lazy_zeros_like

def resident():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])

keep_freed_memory()
vector = np.ones(10_000_000)
np.ones(10_000_000)  # freed, and kept
before = resident()
zeros = lazy_zeros_like(vector)
made = resident() - before
zeros[:5_000_000] += vector[:5_000_000]
print(made, resident() - before, zeros.sum(), len(zeros), zeros.dtype)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_lazy_zeros_take_the_memory_of_what_is_written():
    result = subprocess.run([sys.executable, "-c", RESIDENT], capture_output=True, text=True, check=True)
    made, half, total, length, dtype = result.stdout.split()
    assert int(made) < 1_000
    assert 38_000 < int(half) < 48_000  # KiB, of 78,125
    assert (float(total), int(length), dtype) == (5e6, 10_000_000, "float64")


def test_lazy_zeros_of_nothing():
    assert lazy_zeros_like(np.ones(0, "float32")).shape == (0,)
