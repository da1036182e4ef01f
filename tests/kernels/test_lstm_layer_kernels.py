"""An LSTM layer with a launch for each step, and with one for all steps, on the CPU: against array code, by complex
step through the kernels' own text, for every pattern of lengths; and what happens without its barriers."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shim import Shim

from scratchnmt.gradcheck import strategies
from scratchnmt.gradcheck.convention import cast
from scratchnmt.kernels import KERNELS, fused
from scratchnmt.kernels import launch as launcher
from scratchnmt.kernels import lstm_persistent as persistent
from scratchnmt.ops import product
from scratchnmt.ops.lstm import lstm_backward, lstm_forward
from scratchnmt.ops.packing import pack_whole
from scratchnmt.selfcheck import CASES, SIZES

PLAIN = lstm_forward, lstm_backward
SEQUENCES = [case for case in CASES if case.forward is lstm_forward]
by_case = pytest.mark.parametrize("case", SEQUENCES, ids=lambda case: case.name)
by_version = pytest.mark.parametrize("version", ["lstm_step", "lstm_persistent", "lstm_cluster"])
by_order = pytest.mark.parametrize("backwards", [False, True], ids=["first block first", "last block first"])
LARGE = dict(T=5, B=19, I=3, H=35)  # five blocks, the last one not full; three tiles of sentences


def layer(version, lengths=None):
    """(forward, backward) of an LSTM layer whose steps are this module's; lengths: a layout instead of those given."""
    kernels = fused(lstm_steps=KERNELS[version])._replace(product=product)

    def forward(**args):
        return lstm_forward(**(args if lengths is None else {**args, "lengths": lengths}), kernels=kernels)

    return forward, lstm_backward


def tame(args):
    """Weights of the size that a training starts from."""
    return {name: value / 4 if name.startswith("W") else value for name, value in args.items()}


@by_version
@pytest.mark.parametrize("case", [  # the last two have what is in the others
    pytest.param(case, id=case.name, marks=[pytest.mark.slow] * (case not in SEQUENCES[-2:])) for case in SEQUENCES])
def test_gradients_by_complex_step_through_the_kernels_themselves(case, version, on_cpu, rng, gradcheck):
    report = gradcheck.assert_gradients(*layer(version), case.arguments(SIZES, rng), wrt=case.wrt, max_elements=16)
    assert report.rtol == 1e-12 and {*on_cpu.launched} == {f"{version}_forward", f"{version}_backward"}


@by_version
@by_case
@settings(max_examples=12, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_every_pattern_of_lengths(case, version, data, on_cpu, gradcheck):
    sizes = data.draw(strategies.sizes(case.letters, max_size=11))
    args = case.arguments(sizes, np.random.default_rng(data.draw(strategies.seeds())))
    args["lengths"] = data.draw(strategies.lengths(sizes["T"], sizes["B"]))
    on_cpu.backwards = data.draw(st.booleans())
    gradcheck.assert_variant(PLAIN, layer(version), args, wrt=case.wrt, steps=sizes["T"])


@by_version
@by_order
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_several_blocks_and_tiles(dtype, backwards, version, on_cpu, rng, gradcheck):
    case = SEQUENCES[-1]
    on_cpu.backwards = backwards
    args = cast(tame(case.arguments(LARGE, rng)), dtype)
    report = gradcheck.assert_variant(PLAIN, layer(version), args, wrt=case.wrt, steps=LARGE["T"])
    assert report.dtype == dtype


@by_version
def test_padding_that_is_computed_too(version, on_cpu, rng, gradcheck):
    """The layout of a recorded step, every sentence at every step."""
    args = SEQUENCES[-1].arguments(SIZES, rng)
    whole = pack_whole(args["lengths"], SIZES["T"])
    gradcheck.assert_variant(PLAIN, layer(version, whole), args, wrt=SEQUENCES[-1].wrt, steps=SIZES["T"])


@by_version
@by_case
def test_what_every_operation_promises(case, version, on_cpu, rng, gradcheck):
    gradcheck.assert_contract(*layer(version), case.arguments(SIZES, rng), wrt=case.wrt)


def test_how_many_launches(on_cpu, rng):
    args = SEQUENCES[0].arguments(SIZES, rng)
    for version, launches in ("lstm_step", SIZES["T"]), ("lstm_persistent", 1), ("lstm_cluster", 1):
        forward, backward = layer(version)
        on_cpu.launched.clear()
        ys, cache = forward(**args)
        assert on_cpu.launched == [f"{version}_forward"] * launches
        on_cpu.launched.clear()
        backward(*ys, cache)
        assert on_cpu.launched == [f"{version}_backward"] * (launches + (version == "lstm_step"))


@by_version
def test_arrays_of_several_dtypes(version, on_cpu, rng):
    """Weights may be of another one; gradients of one that would have to be written elsewhere are refused."""
    args = SEQUENCES[0].arguments(SIZES, rng)
    forward, backward = layer(version)
    ys, cache = forward(**{**args, "Wh": args["Wh"].astype("float32")})
    expected, _ = lstm_forward(**{**args, "Wh": args["Wh"].astype("float32")})
    np.testing.assert_allclose(ys[0], expected[0], rtol=1e-12)
    with pytest.raises(ValueError, match="lstm_steps: dc is float32, expected float64 as dh"):
        backward(ys[0], ys[1], ys[2].astype("float32"), cache)


class Sabotage(NamedTuple):
    version: str
    forward: bool
    right: str
    wrong: str


SABOTAGES = {
    "forward, none waits": Sabotage("lstm_persistent", True, "gridDim.x, t + 1);", "0, t + 1);"),
    "forward, a step early": Sabotage("lstm_persistent", True, "gridDim.x, t + 1);", "gridDim.x, t);"),
    "backward, none waits": Sabotage("lstm_persistent", False, "gridDim.x, steps - t);", "0, steps - t);"),
    "forward, one place for h": Sabotage("lstm_cluster", True, "(t + 1) % 2 * H + j", "t % 2 * H + j"),
    "backward, the other place": Sabotage("lstm_cluster", False, "(t % 2 * BLOCKS + b", "((t + 1) % 2 * BLOCKS + b"),
}


@pytest.fixture(scope="module", params=SABOTAGES.values(), ids=SABOTAGES)
def sabotaged(request, tmp_path_factory):
    """A Shim of kernels with another barrier."""
    version, _, right, wrong = request.param
    text = launcher.source(version)
    assert text.count(right) == 1
    return request.param, Shim(tmp_path_factory.mktemp("sabotaged"), text=lambda file: text.replace(right, wrong))


@by_order
def test_without_the_barrier_the_numbers_are_wrong(backwards, sabotaged, on_cpu, rng, monkeypatch):
    args = tame(SEQUENCES[2].arguments(LARGE, rng))
    ys, cache = lstm_forward(**args)
    dys = [rng.standard_normal(y.shape) for y in ys]
    expected = lstm_backward(*dys, cache)
    (version, of_forward, *_), broken = sabotaged
    broken.backwards = backwards
    forward, backward = layer(version)
    if of_forward:
        monkeypatch.setattr(launcher, "kernel", broken.kernel)
    found, cache = forward(**args)
    monkeypatch.setattr(launcher, "kernel", broken.kernel)
    error = lambda a, b: np.linalg.norm(a - b) / np.linalg.norm(b)
    if of_forward:
        assert not error(found[0], ys[0]) < 1e-2
    else:
        assert error(found[0], ys[0]) < 1e-12 and not error(backward(*dys, cache).dx, expected.dx) < 1e-2


@pytest.mark.parametrize("left, way", [(0, "forward"), (1, "forward"), (2, "backward"), (3, "backward")])
def test_a_cluster_without_one_of_its_barriers_reaches_into_nothing(left, way, on_cpu, rng, monkeypatch, tmp_path):
    """A block writes to one that has not begun, or has ended: the barriers before and in the loop of each kernel."""
    parts = launcher.source("lstm_cluster").split("    wait_for_cluster();\n")
    assert len(parts) == 5
    text = "".join(part + "    wait_for_cluster();\n" * (k != left) for k, part in enumerate(parts[:-1])) + parts[-1]
    broken = Shim(tmp_path, text=lambda file: text)
    args = tame(SEQUENCES[2].arguments(LARGE, rng))
    forward, backward = layer("lstm_cluster")
    ys, cache = forward(**args)
    monkeypatch.setattr(launcher, "kernel", broken.kernel)
    for broken.backwards in False, True:
        with pytest.raises(RuntimeError, match=f"cluster_{way}: a block reaches into the shared memory of one that"):
            forward(**args) if way == "forward" else backward(*ys, cache)


def test_a_layer_too_large_for_the_card_takes_a_launch_for_each_step(on_cpu, rng, monkeypatch):
    args = SEQUENCES[2].arguments(LARGE, rng)
    monkeypatch.setattr(launcher, "resident_blocks", lambda file, name, dtype, config: 2 * 5 - 1)
    forward, backward = layer("lstm_persistent")
    with pytest.warns(RuntimeWarning, match="35 units in float64 is 10 blocks of 8 KiB, of which cpu holds 9 at once"):
        ys, cache = forward(**args)
    with pytest.warns(RuntimeWarning, match="its steps go on one launch each"):
        backward(*ys, cache)
    assert {*on_cpu.launched} == {"lstm_step_forward", "lstm_step_backward"}
    forward(**args)  # and says so once


@pytest.mark.parametrize("D, H, dtype, grid, shared", [
    (1, 256, "float32", (32, 1), 32 << 10), (2, 512, "float32", (64, 2), 64 << 10),
    (1, 35, "float64", (5, 1), 32 * 35 * 8)])
def test_the_launch(D, H, dtype, grid, shared):
    assert persistent.config(D, H, dtype) == launcher.LaunchConfig(grid, (256,), shared, True)


@pytest.mark.gpu
@by_version
@by_case
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [SIZES, LARGE, dict(T=20, B=64, I=16, H=256)], ids=str)
def test_on_a_gpu(sizes, dtype, case, version, cupy, rng, gradcheck):
    args = tame(case.arguments(sizes, rng))
    here = {name: cupy.asarray(value) if name != "lengths" and value is not None else value
            for name, value in cast(args, dtype).items()}
    report = gradcheck.assert_variant(PLAIN, layer_on_gpu(version), here, wrt=case.wrt, steps=sizes["T"])
    assert report.device == "cuda"


def layer_on_gpu(version):
    kernels = fused(lstm_steps=KERNELS[version])
    return (lambda **args: lstm_forward(**args, kernels=kernels)), lstm_backward
