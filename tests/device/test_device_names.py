"""Which card is chosen, what is said when there is none, and what is refused of arrays in different places."""

import builtins
import sys

import numpy as np
import pytest

from scratchnmt.arrays import array_module, device_module, device_of, to_device, to_device_of
from scratchnmt.errors import InputError
from scratchnmt.models.nmt import NMT
from scratchnmt.ops.lstm import lstm_forward
from scratchnmt.ops.lstm_gates import lstm_gates_forward

INSTALL = "pip install cupy-cuda12x, or cupy-cuda13x for a driver of CUDA 13"


def refusal(device="cuda"):
    with pytest.raises(InputError) as error:
        to_device(np.zeros(2), device)
    return str(error.value)


def test_a_card_is_chosen_by_its_number(cupy, machine):
    for device, card in (("cuda", 0), ("cuda:1", 1), ("cuda:0", 0)):
        assert device_module(device) is cupy and machine.card == card
        array = to_device(np.arange(3.0), device)
        assert device_of(array) == f"cuda:{card}" and array_module(array) is cupy
        assert NMT(5, 5, 2, 2, device=device).params.flat.device.id == card
    assert device_of(np.zeros(1)) == "cpu"


def test_arrays_move_between_host_and_cards():
    first = to_device(np.arange(3.0), "cuda:0")
    second = to_device(first, "cuda:1")
    assert (device_of(first), device_of(second)) == ("cuda:0", "cuda:1")
    np.testing.assert_array_equal(to_device(second, "cpu"), np.arange(3.0))
    assert to_device(second, "cuda:1") is second


def test_a_card_that_is_not_there():
    assert refusal("cuda:2") == "device 'cuda:2' is not there: this machine has 2 of them, cuda:0, cuda:1"


def test_no_gpu_and_no_driver(machine):
    machine.status = 100
    assert refusal() == ("device 'cuda' is not there: cudaErrorNoDevice: no CUDA-capable device is detected (this "
                         "machine has no NVIDIA GPU, or hides it); it needs an NVIDIA GPU, its driver, and the "
                         f"cupy that fits the driver, {INSTALL}")
    machine.status = 35
    assert "(NVIDIA's driver is missing, or too old for this cupy)" in refusal() and INSTALL in refusal()


def test_no_cupy_and_a_broken_one(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert refusal("cuda:1") == f"device 'cuda:1' needs cupy: {INSTALL}"

    def broken(name, *rest):
        if name == "cupy":
            raise ImportError("\n=====\nCuPy is not correctly installed.\n\nMany more lines.\n=====")
        return original(name, *rest)

    original = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", broken)
    assert refusal() == ("device 'cuda': cupy is installed, but cannot be imported (CuPy is not correctly "
                         f"installed.): install the one that fits the driver, {INSTALL}")


def test_arrays_of_two_modules_are_refused_by_name(cupy):
    here, there = np.zeros((3, 5), "float32"), cupy.zeros(2)
    with pytest.raises(TypeError) as error:
        array_module(there, here)
    assert str(error.value) == ("arrays of numpy and of cupy in one call: float64 (2,) on cuda:0, "
                                "float32 (3, 5) on cpu; move them to one device with to_device")
    with pytest.raises(TypeError, match="numpy and of cupy in one call"):
        lstm_forward(cupy.zeros((3, 2, 8)), np.array([3, 2]), *map(np.zeros, ((1, 8, 8), (1, 2, 8), (1, 8))))
    with pytest.raises(TypeError, match="Unsupported type"):  # CuPy's own words: a step asks for no module
        lstm_gates_forward(cupy.zeros((2, 8)), np.zeros((2, 2)))
    with pytest.raises(TypeError, match=r"int64 \(2,\) on cuda:0, float64 \(3,\) on cpu"):
        to_device_of(cupy.zeros(2, "int64"), np.zeros(3))


def test_arrays_of_two_cards_are_refused_by_name(cupy):
    first, second = to_device(np.zeros(2), "cuda:0"), to_device(np.zeros((1, 2)), "cuda:1")
    with pytest.raises(TypeError, match=r"arrays of two cards in one call: float64 \(2,\) on cuda:0, "
                                        r"float64 \(1, 2\) on cuda:1; move them"):
        array_module(first, second)
    model = NMT(9, 9, 2, 2, device="cuda:0")
    device_module("cuda:1")  # what comes from the host goes to the current card
    src = np.array([[3, 4]])
    with pytest.raises(TypeError, match=r"two cards .*: int64 \(1, 2\) on cuda:1, float32 \(9, 2\) on cuda:0"):
        model.forward(src, np.array([1, 1]), np.concatenate([src, src]))


def test_what_a_card_keeps_is_not_taken_for_another(cupy):
    gates = {device: lstm_gates_forward(to_device(np.ones((2, 8)), device), to_device(np.ones((2, 2)), device))
             for device in ("cuda:0", "cuda:1", "cuda:0", "cpu")}
    for (h, c), cache in gates.values():
        assert len({device_of(a) for a in (h, c, *cache)}) == 1
    np.testing.assert_array_equal(gates["cuda:1"][0][0].get(), gates["cpu"][0][0])
