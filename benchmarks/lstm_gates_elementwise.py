"""The pointwise part of an LSTM step as CuPy's ElementwiseKernel: between plain arrays and lstm_gates.cu.

CuPy writes the loop and finds each element, whatever the strides; only the equations are left, and they become one
launch instead of some ten.  It is kept to be compared with: the same functions as `lstm_gates`, the same bytes
moved, but an index made into places by divisions for every array that is not contiguous, as blocks of gates are.

    (1)  i, f, g, o = blocks of z           the four pre-activations, H columns each
    (2)  i, f, o = sigmoid(i, f, o),  g = tanh(g)
    (3)  c = f * c_prev + i * g
    (4)  h = o * tanh(c)
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from scratchnmt.arrays import Array, array_module
from scratchnmt.errors import require
from scratchnmt.ops.lstm_gates import LSTMGatesCache, LSTMGatesGradients

SIGMOID = "template <typename T> __device__ T sigmoid(T x) { return T(0.5) * (T(1) + tanh(T(0.5) * x)); }"
FORWARD = ("T z_i, T z_f, T z_g, T z_o, T c_prev", "T gate_i, T gate_f, T gate_g, T gate_o, T h, T c, T tanh_c", """
    gate_i = sigmoid(z_i);  // (2)
    gate_f = sigmoid(z_f);
    gate_g = tanh(z_g);
    gate_o = sigmoid(z_o);
    c = gate_f * c_prev + gate_i * gate_g;  // (3)
    tanh_c = tanh(c);  // (4)
    h = gate_o * tanh_c;
""", "lstm_gates_forward")
BACKWARD = ("T dh, T dc, T gate_i, T gate_f, T gate_g, T gate_o, T c_prev, T tanh_c",
            "T d_i, T d_f, T d_g, T d_o, T dc_prev", """
    // in the forward pass this was (4) h = o * tanh(c); dc: what came in, and what came through h
    const T all_dc = dc + dh * gate_o * (T(1) - tanh_c * tanh_c);
    // in the forward pass this was (3) c = f * c_prev + i * g, and (2)
    d_i = all_dc * gate_g * gate_i * (T(1) - gate_i);
    d_f = all_dc * c_prev * gate_f * (T(1) - gate_f);
    d_g = all_dc * gate_i * (T(1) - gate_g * gate_g);
    d_o = dh * tanh_c * gate_o * (T(1) - gate_o);
    dc_prev = all_dc * gate_f;
""", "lstm_gates_backward")  # CuPy keeps the name i for itself


def lstm_gates_forward(z: Array, c_prev: Array, *, h: Array | None = None, c: Array | None = None,
                       tanh_c: Array | None = None, overwrite: bool = False):
    """(h, c), cache from the pre-activations z (..., 4H), c_prev (..., H); buffers as in the plain op."""
    xp = array_module(z, c_prev)
    dtype = xp.result_type(z, c_prev)
    gates = z if overwrite else xp.empty(z.shape, dtype)
    h, c, tanh_c = (xp.empty(c_prev.shape, dtype) if given is None else given for given in (h, c, tanh_c))
    _kernel(*FORWARD)(*_blocks(z), c_prev, *_blocks(gates), h, c, tanh_c)  # (1)
    return (h, c), LSTMGatesCache(gates, c_prev, tanh_c)


def lstm_gates_backward(dh: Array, dc: Array, cache: LSTMGatesCache, *,
                        dz: Array | None = None, dc_prev: Array | None = None) -> LSTMGatesGradients:
    """Gradients of z and c_prev from dh, dc (..., H); dz and dc_prev may be buffers to be filled."""
    gates, c_prev, tanh_c = cache
    xp = array_module(dh, dc, gates)
    dtype = xp.result_type(dh, dc, gates)
    dz = xp.empty(gates.shape, dtype) if dz is None else dz
    dc_prev = xp.empty(c_prev.shape, dtype) if dc_prev is None else dc_prev
    _kernel(*BACKWARD)(dh, dc, *_blocks(gates), c_prev, tanh_c, *_blocks(dz), dc_prev)  # (1)
    return LSTMGatesGradients(dz, dc_prev)


def _blocks(array: Array) -> list[Array]:
    """Views of the blocks i, f, g, o."""
    H = array.shape[-1] // 4
    return [array[..., k * H : (k + 1) * H] for k in range(4)]


@lru_cache
def _kernel(inputs: str, outputs: str, body: str, name: str) -> Any:
    return require("cupy", "cuda12").ElementwiseKernel(inputs, outputs, body, name, preamble=SIGMOID)
