"""How many threads, and what a kernel is told about an array: numbers alone, no GPU."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from scratchnmt.kernels import launch as launcher
from scratchnmt.kernels.launch import LaunchConfig, buffer, launch, per_row, per_unit, readable, resident_blocks, rows


@pytest.fixture
def launched(monkeypatch):
    """What would be launched: (file, name, dtype, grid, block, arguments)."""
    calls = []
    monkeypatch.setattr(launcher, "kernel", lambda *what: lambda *how: calls.append((*what, *how)))
    monkeypatch.setattr(launcher, "address", lambda array: array.__array_interface__["data"][0])
    return calls


@pytest.mark.parametrize("shape, grid, threads", [
    ((5,), (1, 1, 1), 32), ((3, 32), (3, 1, 1), 32), ((3, 33), (3, 1, 1), 64), ((2, 7, 256), (7, 1, 2), 256),
    ((64, 257), (64, 2, 1), 256), ((2, 0, 4), (0, 1, 2), 32), ((1, 1, 1000), (1, 4, 1), 256),
])
def test_a_thread_for_every_unit(shape, grid, threads):
    assert per_unit(shape) == LaunchConfig(grid, (threads,))


@pytest.mark.parametrize("shape, size, grid, threads", [
    ((), 10, (1, 1, 1), 32), ((6,), 8000, (6, 1, 1), 256), ((3, 2), 100, (6, 1, 1), 128),
])
def test_a_block_for_every_row(shape, size, grid, threads):
    assert per_row(shape, size) == LaunchConfig(grid, (threads,))


@pytest.mark.parametrize("plan", [per_unit((2, 10**6, 1024)), per_row((10**6, 200), 64), per_row((10**8,), 9)])
def test_a_card_takes_as_many_blocks(plan):
    assert all(blocks <= most for blocks, most in zip(plan.grid, (2**31 - 1, 65_535, 65_535), strict=True))


@pytest.mark.parametrize("view, offset, outer, step", [
    (lambda a: a, 0, 15, 5), (lambda a: a[1], 15, 0, 5), (lambda a: a[1, 2], 25, 0, 0),
    (lambda a: a[:, 1:], 5, 15, 5), (lambda a: a[::-1, :, 2:4], 17, -15, 5), (lambda a: a[:, :, :1], 0, 15, 5),
    (lambda a: np.broadcast_to(a[0, 0], (4, 5)), 0, 0, 0), (lambda a: a.transpose(1, 0, 2), 0, 5, 15),
])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_tell_where_each_row_begins(view, offset, outer, step, dtype, launched):
    array = np.arange(30, dtype=dtype).reshape(2, 3, 5)
    found = rows(view(array))
    assert (found["data"] - array.ctypes.data) // array.itemsize == offset
    assert (found["outer"], found["step"]) == (outer, step) and found.nbytes == 24 and found.size == 1


@pytest.mark.parametrize("array", [np.zeros((3, 4)).T, np.zeros((3, 4))[:, ::2], np.zeros((1, 1, 1, 2))])
def test_what_is_not_in_rows_is_copied_or_refused(array, launched):
    with pytest.raises(ValueError, match="expected at most three axes, the last one contiguous"):
        rows(array)
    if array.ndim < 4:
        copy = readable(array, "float64")
        assert rows(copy)["step"] == copy.shape[1] and (copy == array).all()


def test_arguments_are_used_where_they_lie_when_they_can_be():
    array = np.zeros((4, 6), "float32")
    assert readable(array, "float32") is array and readable(array[1:, 2:4], "float32").base is array
    assert readable(array, "float64").dtype == np.float64


def test_launching(launched):
    array = np.zeros((2, 3))
    launch("file", "name", array.dtype, per_unit((2, 3)), array, np.int32(3))
    (file, name, dtype, grid, block, (struct, number)), = launched
    assert (file, name, dtype, grid, block) == ("file", "name", "float64", (2, 1, 1), (32,))
    assert struct.size == 1 and struct["step"] == 3 and number.nbytes == 4
    launch("file", "name", array.dtype, per_unit((0, 3)), array)
    assert len(launched) == 1


def test_a_buffer():
    like = np.zeros(2)
    assert buffer("op: h", None, like, (3, 4), np.dtype("float32")).shape == (3, 4)
    given = np.zeros((3, 4))
    assert buffer("op: h", given, like, (3, 4), given.dtype) is given
    with pytest.raises(ValueError, match=r"op: h is float64 \(3, 4\) with strides .*, expected float64 \(4, 3\)"):
        buffer("op: h", given, like, (4, 3), given.dtype)


def test_arrays_of_numpy_are_refused_by_a_sentence():
    pytest.importorskip("cupy")
    with pytest.raises(TypeError, match="one array is of numpy"):
        rows(np.zeros(3))


class Compiled:
    """A kernel as CuPy has it: called, or by its Function, which takes more."""

    shared_size_bytes = 8 << 10
    max_dynamic_shared_size_bytes = 40 << 10

    def __init__(self, calls):
        self.calls = calls
        self.kernel = SimpleNamespace(ptr=77)

    def __call__(self, grid, block, values, **more):
        self.calls.append((grid, block, more))


def test_more_shared_memory_and_blocks_that_wait_for_each_other(monkeypatch):
    calls, start = [], Compiled([])
    start.calls = calls
    start.kernel = lambda grid, block, values, **more: calls.append(("function", grid, block, more))
    monkeypatch.setattr(launcher, "kernel", lambda *what: start)
    launch("file", "name", "float32", LaunchConfig((3,), (64,)))
    launch("file", "name", "float32", LaunchConfig((3,), (64,), 100))
    launch("file", "name", "float32", LaunchConfig((3, 1), (64,), 100, True))
    assert calls == [((3,), (64,), {}), ((3,), (64,), {"shared_mem": 100}),
                     ("function", (3, 1), (64,), {"shared_mem": 100, "enable_cooperative_groups": True})]


@pytest.mark.parametrize("shared, blocks", [(1000, 2 * 132), (100 << 10, 2 * 132), (220 << 10, 0)])
def test_how_many_blocks_are_on_a_card_at_once(shared, blocks, monkeypatch):
    start, asked = Compiled([]), []
    device = SimpleNamespace(attributes={"MultiProcessorCount": 132, "MaxSharedMemoryPerBlockOptin": 227 << 10})
    driver = SimpleNamespace(occupancyMaxActiveBlocksPerMultiprocessor=lambda *what: asked.append(what) or 2)
    cuda = SimpleNamespace(Device=lambda: device, driver=driver)
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda))
    monkeypatch.setattr(launcher, "kernel", lambda *what: start)
    assert resident_blocks("file", "name", "float32", LaunchConfig((3, 1), (64, 2), shared, True)) == blocks
    if blocks:
        assert asked == [(77, 128, shared)] and start.max_dynamic_shared_size_bytes == max(shared, 40 << 10)
        resident_blocks("file", "name", "float32", LaunchConfig((3, 1), (64, 2), shared >> 1, True))  # a smaller one
        assert start.max_dynamic_shared_size_bytes == max(shared, 40 << 10)
