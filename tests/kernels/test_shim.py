"""The CPU's stand-in for a GPU sees what a GPU would punish: barriers not reached by all, and races."""

import numpy as np
import pytest
from shim import Shim

from scratchnmt.kernels import launch as launcher
from scratchnmt.kernels.launch import LaunchConfig, launch

TEXT = launcher.read("device.h") + launcher.read("grid.h") + launcher.read("cluster.h") + """
template <typename T>
__global__ void sums(Rows<const T> x, Rows<T> y, int size) {
    T sum = T(0);
    for (int k = threadIdx.x; k < size; k += blockDim.x) sum += x.row(0, blockIdx.x)[k];
    sum = block_sum(block_sum(sum) / Real<T>(blockDim.x));
    const Real<T> number = threadIdx.x, largest = block_max(number), smallest = -block_max(-number - 1);
    y.row(0, blockIdx.x)[threadIdx.x] = sum + T(number * (largest + smallest));
}

template <typename T>
__global__ void left_behind(Rows<T> y) {
    if (threadIdx.x > 7) return;
    __syncthreads();
    y.data[threadIdx.x] = T(1);
}

template <typename T>
__global__ void reverse(Rows<T> y, int first, bool wait) {
    __shared__ T shared[64];
    shared[threadIdx.x] = T(first + int(threadIdx.x));
    if (wait) __syncthreads();
    y.data[threadIdx.x] = shared[63 - threadIdx.x];
}

// Each block adds to its own number that of the next block, as often as it is told; block `absent` does not come.
template <typename T>
__global__ void add_the_next(Rows<T> y, Rows<unsigned> counter, int times, bool wait, int absent) {
    __shared__ T mine;
    T* copy = dynamic_shared<T>();
    if (int(blockIdx.x) == absent) return;
    if (threadIdx.x == 0) mine = T(blockIdx.x + 1);
    for (int k = 0; k < times; k++) {
        T* row = y.row(0, k);
        if (threadIdx.x == 0) row[blockIdx.x] = mine;
        if (wait) wait_for_blocks(counter.data, gridDim.x, k + 1);
        copy[threadIdx.x] = row[(blockIdx.x + 1) % gridDim.x];
        __syncthreads();
        if (threadIdx.x == 0) mine += copy[blockDim.x - 1];
        __syncthreads();
    }
    y.row(0, times)[blockIdx.x] = mine;
}

// Each block of a cluster tells the next one its number, as often as it is told, and adds what it hears to its own.
template <typename T>
__global__ void __cluster_dims__(4) hand_on(Rows<T> y, int times, bool begins, bool ends) {
    T* heard = dynamic_shared<T>();
    T mine = T(blockIdx.x + 1);
    if (begins) wait_for_cluster();
    for (int k = 0; k < times; k++) {
        if (threadIdx.x == 0) *of_block(heard + k % 2, (blockIdx.x % 4 + 1) % 4) = mine;
        if (k + 1 < times || ends) wait_for_cluster();
        mine += heard[k % 2];
    }
    if (threadIdx.x == 0) y.data[blockIdx.x] = mine;
}

template <typename T>
__global__ void as_it_was(Rows<T> y) {
    y.data[threadIdx.x] = dynamic_shared<T>()[threadIdx.x];
}
"""


@pytest.fixture(scope="module")
def small(compiled, tmp_path_factory):
    """A Shim of these kernels alone."""
    return Shim(tmp_path_factory.mktemp("small"), text=lambda file: TEXT)


@pytest.fixture(autouse=True)
def on_cpu(small, monkeypatch):
    monkeypatch.setattr(launcher, "kernel", small.kernel)
    monkeypatch.setattr(launcher, "address", small.address)
    monkeypatch.setattr(small, "backwards", False)


def start(name, threads, *arguments, blocks=1, dtype="float64"):
    launch("small", name, dtype, LaunchConfig((blocks, 1, 1), (threads,)), *arguments)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("threads, size", [(32, 1), (64, 200), (1024, 3000)])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_sums_and_maxima_one_after_another(threads, size, dtype, backwards, small, rng):
    small.backwards = backwards
    x, y = (rng.standard_normal((3, size)) + 1).astype(dtype), np.zeros((3, threads), dtype)
    x = x * (1 + 2j) if dtype == "complex128" else x
    start("sums", threads, x, y, np.int32(size), blocks=3, dtype=dtype)
    expected = x.sum(axis=1)[:, None] + np.arange(threads) * threads  # of threads - 1 and 1
    np.testing.assert_allclose(y, expected, rtol=1e-12)


def test_a_barrier_that_some_threads_never_reach():
    with pytest.raises(RuntimeError, match="left_behind: some threads wait at a barrier that others do not reach"):
        start("left_behind", 32, np.zeros(32))


def test_a_missing_barrier_shows_when_threads_run_in_the_opposite_order(small):
    right = []
    for first, (wait, small.backwards) in enumerate([(False, False), (False, True), (True, False), (True, True)]):
        y = np.zeros(64)
        start("reverse", 64, y, np.int32(100 * first), np.bool_(wait))
        right.append(y.tolist() == [100.0 * first + 63 - k for k in range(64)])
    assert right == [False, False, True, True]


BLOCKS = 5


def together(times=4, wait=True, absent=-1, cooperative=True, dtype="float64"):
    """The blocks' numbers after each round, (times + 1, BLOCKS)."""
    y, counter = np.full((times + 1, BLOCKS), np.nan, dtype), np.zeros(1, np.uint32)
    launch("small", "add_the_next", dtype, LaunchConfig((BLOCKS, 1), (64,), 64 * y.itemsize, cooperative), y, counter,
           np.int32(times), np.bool_(wait), np.int32(absent))
    return y


def expected(times=4):
    rows = [np.arange(1.0, BLOCKS + 1)]
    for _ in range(times):
        rows.append(rows[-1] + np.roll(rows[-1], -1))
    return np.array(rows)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_blocks_that_wait_for_each_other(dtype, backwards, small):
    small.backwards = backwards
    np.testing.assert_array_equal(together(dtype=dtype), expected())


@pytest.mark.parametrize("backwards", [False, True])
def test_without_the_barrier_across_the_grid_numbers_are_wrong(backwards, small):
    small.backwards = backwards
    assert np.isnan(together(wait=False)[-1]).any()


@pytest.mark.parametrize("absent", [0, 2, BLOCKS - 1])
def test_a_block_that_never_arrives_is_told_of(absent):
    with pytest.raises(RuntimeError, match="add_the_next: some blocks wait for others, which have ended, wait too"):
        together(absent=absent)
    np.testing.assert_array_equal(together(), expected())  # and nothing is left of it


def test_a_barrier_across_the_grid_needs_a_cooperative_launch():
    with pytest.raises(RuntimeError, match="some blocks wait for others, which .* do not run beside them"):
        together(cooperative=False)


def test_threads_left_behind_in_a_cooperative_launch():
    with pytest.raises(RuntimeError, match="left_behind: some threads wait at a barrier that others do not reach"):
        launch("small", "left_behind", "float64", LaunchConfig((2, 1), (32,), 0, True), np.zeros(32))


def handed_on(begins=True, ends=True, dtype="float64"):
    y = np.zeros(8, dtype)
    launch("small", "hand_on", dtype, LaunchConfig((8, 1), (64,), 2 * y.itemsize, cluster=4), y, np.int32(3),
           np.bool_(begins), np.bool_(ends))
    return y


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_blocks_of_a_cluster_write_into_each_others_memory(dtype, backwards, small):
    small.backwards = backwards
    expected = np.arange(1.0, 9).reshape(2, 4)
    for _ in range(3):
        expected = expected + np.roll(expected, 1, axis=1)
    np.testing.assert_array_equal(handed_on(dtype=dtype), expected.ravel())


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("left", ["begins", "ends"])
def test_the_memory_of_a_block_that_has_not_begun_or_has_ended(left, backwards, small):
    small.backwards = backwards
    with pytest.raises(RuntimeError, match="hand_on: a block reaches into the shared memory of one that has not begun"):
        handed_on(**{left: False})
    handed_on()


def test_shared_memory_begins_as_numbers_that_show():
    y = np.zeros(32)
    launch("small", "as_it_was", y.dtype, LaunchConfig((1, 1), (32,), y.nbytes), y)
    assert np.isnan(y).all()
