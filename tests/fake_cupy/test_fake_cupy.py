"""The stand-in is as strict as CuPy, and has no name that CuPy lacks, where it is installed (no GPU needed)."""

import importlib.util
import inspect
import sys

import numpy as np
import pytest

import fake_cupy
from fake_cupy import functions
from fake_cupy.array import ndarray
from fake_cupy.ufunc import UFUNCS


@pytest.fixture
def cupy():
    with fake_cupy.installed() as module:
        yield module


def test_it_comes_and_goes():
    before = sys.modules.get("cupy")
    with fake_cupy.installed() as module:
        assert sys.modules["cupy"] is module
    assert sys.modules.get("cupy") is before


@pytest.mark.parametrize("mixed", [
    lambda gpu, host: gpu + host, lambda gpu, host: host + gpu, lambda gpu, host: host @ gpu,
    lambda gpu, host: np.multiply(gpu, host), lambda gpu, host: np.exp(host, out=gpu),
    lambda gpu, host: np.asarray(gpu), lambda gpu, host: np.concatenate([host, gpu]),
    lambda gpu, host: np.sort(gpu), lambda gpu, host: host.__setitem__(slice(None), gpu),
    lambda gpu, host: range(gpu[0]), lambda gpu, host: hash(gpu),
])
def test_arrays_of_both_kinds_do_not_mix(cupy, mixed):
    with pytest.raises(TypeError):
        mixed(cupy.arange(3), np.arange(3))


def test_what_a_host_array_may_do(cupy):
    a = cupy.arange(5)
    np.testing.assert_array_equal(a[np.array([1, 3])].get(), [1, 3])  # an index is copied
    a[np.array([0, 2])] = np.array([7, 8])  # and a value beside it
    np.testing.assert_array_equal(a.get(), [7, 1, 8, 3, 4])
    with pytest.raises(ValueError, match="cannot be used for fill"):
        a[1:3] = np.array([1, 2])
    assert float(np.float64(2) * a[0]) == 14  # a number of NumPy's is a number
    assert len(fake_cupy.MACHINE.uploads) == 3


def test_indices_wrap_around_and_whole_numbers_are_taken_first(cupy):
    a = cupy.asarray(np.arange(24).reshape(2, 3, 4))
    np.testing.assert_array_equal(a[:, cupy.asarray([3, -1]), 1].get(), a.get()[:, [0, 2], 1])
    rows = cupy.asarray([1, 1, 0, 0, 1])
    assert a[None, rows, :, 2].shape == (1, 5, 3) and a.get()[None, rows.get(), :, 2].shape == (5, 1, 3)
    with pytest.raises(AssertionError, match="several values for one place"):
        a[rows, 0, 0] = cupy.arange(5)


def test_what_waits_for_the_card_is_counted(cupy):
    a, waits = cupy.ones(3), fake_cupy.MACHINE.waits
    for k, wait in enumerate((lambda: float(a.sum()), lambda: bool(a[0]), lambda: a.get(), lambda: a[a > 0],
                              lambda: a.nonzero(), lambda: a[0].item(), lambda: f"{a[0]:.1f}"), start=1):
        wait()
        assert len(waits) == k
    a.sum().max().reshape(1, 1).astype("float32")
    assert len(waits) == k


def test_only_add_can_be_reduced_at(cupy):
    a, starts = np.arange(12.0).reshape(6, 2), np.array([0, 1, 4])
    found = cupy.add.reduceat(cupy.asarray(a), cupy.asarray(starts), axis=0)
    np.testing.assert_allclose(found.get(), np.add.reduceat(a, starts, axis=0))
    with pytest.raises(NotImplementedError):
        cupy.maximum.reduceat(cupy.asarray(a), cupy.asarray(starts))
    with pytest.raises(TypeError, match="Wrong arguments"):
        cupy.exp(cupy.asarray(a), where=cupy.asarray(a > 1))


def test_an_empty_array_holds_nothing_that_looks_right(cupy):
    assert np.isnan(cupy.empty(2).get()).all() and cupy.empty(2, "int64").get().min() > 1e9


def test_every_name_is_one_of_cupys():
    if importlib.util.find_spec("cupy") is None:
        pytest.skip("CuPy is not installed")
    import cupy

    ours = {name for name in vars(fake_cupy.CUPY) if not name.startswith("_")}
    assert ours <= set(dir(cupy))
    inside = {"_array", "_card", "_number", "_reduce", "__bool__"}  # Cython's name of the last is __nonzero__
    assert set(vars(ndarray)) - inside <= {*dir(cupy.ndarray), "__module__", "__weakref__", "__slots__"}
    assert {type(getattr(cupy, name)).__name__ for name in UFUNCS} == {"ufunc"}
    for name in ("Device", "Event", "Graph", "Memory", "MemoryPointer", "MemoryPool", "Stream"):
        public = {attribute for attribute in vars(getattr(fake_cupy.CUPY.cuda, name)) if not attribute.startswith("_")}
        assert public <= set(dir(getattr(cupy.cuda, name))), name
    for name in ("alloc_pinned_memory", "get_current_stream", "using_allocator"):
        assert callable(getattr(cupy.cuda, name))
    assert {*vars(fake_cupy.CUPY.cuda.runtime)} <= {*dir(cupy.cuda.runtime)}
    assert callable(cupy.cuda.device.get_cublas_handle)
    for name, function in vars(functions).items():
        if name in ours - {"ndarray", "size", "matmul", "einsum"}:  # compiled, or with *operands
            known = inspect.signature(getattr(cupy, name)).parameters
            assert set(inspect.signature(function).parameters) <= set(known), name
