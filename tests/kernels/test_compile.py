"""Every kernel compiles for real cards (by NVRTC, without one), and for every type; what is asked of a source."""

import re
import sys
from types import SimpleNamespace

import numpy as np
import nvrtc
import pytest

from scratchnmt.errors import InputError
from scratchnmt.kernels import KERNELS, lstm_cluster, lstm_persistent
from scratchnmt.kernels import launch as launcher
from scratchnmt.kernels.lstm_step import THREADS

CARDS = ("sm_75", "sm_80", "sm_90")
CLUSTERS = CARDS[2:]
# CUDA C++ Programming Guide, "Compute Capabilities": of a multiprocessor, and of that what one block may have at most
REGISTERS = 65536
ALL_SHARED = {"sm_80": 164 << 10, "sm_90": 228 << 10}
SHARED = {"sm_80": 163 << 10, "sm_90": 227 << 10}
by_kernel = pytest.mark.parametrize("file", KERNELS)


@pytest.fixture(scope="module")
def nvidia():
    library = nvrtc.library()
    if library is None:
        pytest.skip("NVRTC is not installed: pip install nvidia-cuda-nvrtc-cu12")
    return nvrtc.Compiler(library)


def expressions(file, *c_types):
    return [f"{name}<{c_type}>" for name in launcher.names(file) for c_type in c_types]


@pytest.mark.parametrize("file, card", [(file, card) for file in KERNELS for card in CARDS
                                        if file != "lstm_cluster" or card in CLUSTERS])
def test_every_kernel_of_every_type_for_every_card(file, card, nvidia):
    options = [*launcher.OPTIONS, f"--gpu-architecture={card}"]
    code = nvidia.compile(launcher.source(file), expressions(file, *launcher.C_TYPES.values()), options)
    assert code.startswith(b"\x7fELF")


@pytest.mark.parametrize("file", ["lstm_step", "lstm_persistent", "decoder_step"])
@pytest.mark.parametrize("card", ["sm_80", "sm_90"])
def test_what_an_lstm_layer_takes_of_a_card(file, card, nvidia):
    """No register goes to memory, two blocks of the layers in use are on a multiprocessor at once, in float32."""
    options = [*launcher.OPTIONS, f"--gpu-architecture={card}"]
    for dtype, c_type in launcher.C_TYPES.items():
        code = nvidia.compile(launcher.source(file), expressions(file, c_type), options)
        found = nvrtc.resources(code)
        assert len(found) == len(launcher.names(file))
        for name, takes in found.items():
            assert takes.stack == 0 and takes.registers * THREADS <= REGISTERS, name
            asked = {H: lstm_persistent.config(1, H, dtype).shared if file == "lstm_persistent" else 0
                     for H in (256, 512, 768)}
            for H in asked:
                shared = takes.shared + asked[H]
                assert shared <= SHARED[card] or (H, dtype, card) == (768, "float64", "sm_80"), (name, H)
            if dtype == "float32":
                shared = takes.shared + asked[512]
                assert 2 * takes.registers * THREADS <= REGISTERS and 2 * (shared + 1024) <= ALL_SHARED[card], name


@pytest.mark.parametrize("card", CLUSTERS)
def test_what_a_cluster_takes_of_a_card(card, nvidia):
    """No register goes to memory; the largest layer finds room in float32, and half of it in float64."""
    options = [*launcher.OPTIONS, f"--gpu-architecture={card}"]
    for (dtype, c_type), H in zip(launcher.C_TYPES.items(), (256, 128), strict=True):
        found = nvrtc.resources(nvidia.compile(launcher.source("lstm_cluster"), expressions("lstm_cluster", c_type),
                                               options))
        for name in launcher.names("lstm_cluster"):
            takes, = (takes for mangled, takes in found.items() if name in mangled)
            assert takes.stack == 0 and takes.registers * THREADS <= REGISTERS, name
            assert takes.shared + lstm_cluster.config(name, 2, 64, H, dtype).shared <= SHARED[card], name


@pytest.mark.parametrize("card", CARDS)
def test_what_a_block_of_a_normalised_row_takes_of_a_card(card, nvidia):
    """No register goes to memory, and the largest block finds as many as it needs, in float32 and float64."""
    options = [*launcher.OPTIONS, f"--gpu-architecture={card}"]
    file, types = "layer_norm_gates", launcher.C_TYPES.values()
    found = nvrtc.resources(nvidia.compile(launcher.source(file), expressions(file, *types), options))
    assert len(found) == 4
    for name, takes in found.items():
        assert takes.stack == 0 and takes.registers * 512 <= REGISTERS, name


def test_what_blocks_tell_each_other_is_read_anew(nvidia):
    """No h or dz of another block through the cache that nothing empties, and the barrier's two words are a card's."""
    options = [*launcher.OPTIONS, "--gpu-architecture=compute_80"]
    text = nvidia.compile(launcher.source("lstm_persistent"), expressions("lstm_persistent", "float"), options,
                          kind="PTX").decode()
    assert "ld.acquire.gpu.global.u32" in text and "red.release.gpu.global.add.u32" in text
    assert "ld.global.nc" not in text


def test_a_cluster_is_in_the_kernel_and_its_barrier_releases_and_acquires(nvidia):
    options = [*launcher.OPTIONS, "--gpu-architecture=compute_90"]
    text = nvidia.compile(launcher.source("lstm_cluster"), expressions("lstm_cluster", "float"), options,
                          kind="PTX").decode()
    assert len(re.findall(rf"\.reqnctapercluster {lstm_cluster.BLOCKS}\b", text)) == 2
    arrive, wait = (text.count(f"barrier.cluster.{word}") for word in ("arrive.release;", "wait.acquire;"))
    assert arrive == wait == 4 and "mapa.u64" in text and "ld.global.nc" not in text


def test_spilled_registers_are_seen(nvidia):
    text = launcher.source("lstm_step").replace("__launch_bounds__(THREADS)", "__launch_bounds__(THREADS, 8)")
    code = nvidia.compile(text, expressions("lstm_step", "double"), [*launcher.OPTIONS, "--gpu-architecture=sm_80"])
    assert all(takes.stack > 0 and takes.registers <= 32 for takes in nvrtc.resources(code).values())


@pytest.mark.parametrize("file", sorted({*KERNELS} - {"optim"}))
def test_a_kernel_for_float_computes_in_float(file, nvidia):
    """No constant such as 0.5 makes it compute in double, at a small part of the speed; optim does on purpose."""
    options = [*launcher.OPTIONS, f"--gpu-architecture=compute_{90 if file == 'lstm_cluster' else 80}"]
    text = nvidia.compile(launcher.source(file), expressions(file, "float"), options, kind="PTX").decode()
    assert not re.findall(r"^.*\.f64.*$", text, re.MULTILINE)


def test_a_slip_is_reported_with_its_file_and_line(nvidia):
    text = launcher.source("lstm_gates").replace("const T tanh_c = tanh(c);", "const T tanh_c = tan_h(c);")
    assert text != launcher.source("lstm_gates")
    line = 1 + text[: text.index("tan_h")].count("\n")
    lines = launcher.read("lstm_gates.cu").split("\n")
    number = next(n for n, own in enumerate(lines, 1) if "tanh(c);" in own)
    assert line != number
    with pytest.raises(AssertionError, match=rf'lstm_gates\.cu\({number}\): error: identifier "tan_h" is undef'):
        nvidia.compile(text, expressions("lstm_gates", "float"), launcher.OPTIONS)


@by_kernel
def test_a_source_is_whole_and_includes_nothing(file):
    assert launcher.names(file) and "#include" not in launcher.source(file)
    assert len(re.findall("__global__", launcher.source(file))) == len(launcher.names(file))


def test_kernels_are_compiled_by_cupy_when_first_launched(monkeypatch):
    built = []

    class RawModule:
        def __init__(self, **options):
            built.append(options)

        def get_function(self, expression):
            return expression

    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(RawModule=RawModule))
    launcher._module.cache_clear()
    try:
        for name in "lstm_gates_forward", "lstm_gates_backward":
            assert launcher.kernel.__wrapped__("lstm_gates", name, "float32") == f"{name}<float>"
    finally:
        launcher._module.cache_clear()
    assert len(built) == 1 and built[0]["options"] == ("-std=c++17",)
    assert built[0]["name_expressions"] == ["lstm_gates_forward<float>", "lstm_gates_backward<float>"]


def test_without_cupy_or_for_other_types_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(InputError, match=r"cupy is not installed: pip install cupy-cuda12x"):
        launcher.kernel("lstm_gates", "lstm_gates_forward", "float32")
    with pytest.raises(TypeError, match="lstm_gates_forward: arrays of float16, expected float32 or float64"):
        launcher.kernel("lstm_gates", "lstm_gates_forward", "float16")


def test_arrays_elsewhere_are_refused(monkeypatch):
    class Array:
        def __init__(self, card):
            self.data = SimpleNamespace(ptr=4096, device_id=card)

    cuda = SimpleNamespace(runtime=SimpleNamespace(getDevice=lambda: 0))
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda))
    assert launcher.address(Array(0)) == 4096
    with pytest.raises(ValueError, match="one array lies on cuda:1, but this step runs on cuda:0"):
        launcher.address(Array(1))
    with pytest.raises(TypeError, match="the kernels work on a GPU, but one array is of numpy"):
        launcher.address(np.ones(1))
