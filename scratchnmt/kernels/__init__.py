"""The operations fused for the GPU: for each one X.cu, the kernels, and X.py, functions that launch them.

    from scratchnmt.kernels import KERNELS
    lstm_gates = KERNELS["lstm_gates"]              # a module, imported now
    (h, c), cache = lstm_gates.lstm_gates_forward(z, c_prev)      # arrays of cupy

A module here has functions of the same names as its plain twin in `ops`, with the same arguments, results
and cache, so that one can stand in for the other; the equation numbers of the twin's docstring tie the lines
of both together, and `python -m scratchnmt.kernels NAME` prints them side by side.  `choose` says which of the two a
model uses.

Tests and benchmarks walk this list: a kernel is tested by being listed.  They are held to the plain ops on
the CPU (their text compiles as C++ too, see tests/kernels/shim.h), compiled for real cards, and compared
again on a GPU where there is one.  The headers of the `.cu` files say how many bytes each must move, which is the
limit, and how long it took.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from types import ModuleType

from ..errors import InputError, check_choice
from ..ops.plain import PLAIN, DecoderStep, Kernels, LSTMSteps

CHOICES = ("plain", "fused", "persistent")
MATMULS = ("float32", "tf32")


class _Modules(Mapping[str, ModuleType]):
    """name -> the module beside this file, imported when it is asked for; CuPy only when a kernel is launched."""

    def __init__(self, *names: str):
        self.names = names

    def __getitem__(self, name: str) -> ModuleType:
        if name not in self.names:
            raise KeyError(name)
        return import_module(f".{name}", __name__)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


KERNELS = _Modules("lstm_gates", "layer_norm_gates", "lstm_step", "lstm_persistent", "lstm_cluster", "decoder_step",
                   "attention", "tanh_dropout", "cross_entropy", "embedding", "dropout", "optim")


def choose(kernels: str | None, matmul: str, device: str, dtype: str) -> Kernels:
    """The operations of a model on `device`, "cpu" or a GPU.

    kernels: "plain" array code, or "fused" for a GPU, products by cuBLAS included; "persistent": the same with all
    steps of an encoder's LSTM in one launch, by clusters of blocks or by all blocks together, where one of these fits
    on the GPU, and the products of a decoder's step in one launch each with what is pointwise beside them.  None:
    fused on a GPU.
    matmul: "float32", or "tf32": fused products of float32 read only ten bits of their factors' fractions, on the
    matrix units of a card (compute capability 8.0 or later).  Raises InputError for what does not go together.
    """
    on_gpu = device != "cpu"
    kernels = kernels or CHOICES[on_gpu]
    for name, value, known in (("kernels", kernels, CHOICES), ("matmul", matmul, MATMULS)):
        check_choice(name, value, known)
    if kernels != "plain" and not on_gpu:
        raise InputError(f'kernels "{kernels}" needs a GPU: choose device "cuda", or kernels "plain"')
    if matmul == "tf32" and (kernels, dtype) != ("fused", "float32"):
        raise InputError(f'matmul "tf32" is of kernels "fused" in float32 alone, not of {kernels} in {dtype}')
    if kernels == "plain":
        return PLAIN
    return fused(matmul, *((KERNELS["lstm_cluster"], KERNELS["decoder_step"]) if kernels == "persistent" else ()))


def fused(matmul: str = "float32", lstm_steps: LSTMSteps | None = None, decoder_step: DecoderStep | None = None
          ) -> Kernels:
    """The kernels here, with products by cuBLAS; what has no kernel here is array code.

    lstm_steps: who makes the steps of an LSTM, of the modules lstm_step, lstm_persistent and lstm_cluster; None:
    ops/lstm.py.
    decoder_step: the module of that name; None: models/decoder.py has its step made of parts.
    """
    from . import branches
    from .product import Products

    # what PLAIN does without, such as decoder_step, is only there if it is asked for
    modules = {name: KERNELS[name] for name in PLAIN._fields if name in KERNELS and getattr(PLAIN, name) is not None}
    return PLAIN._replace(product=Products(matmul), lstm_steps=lstm_steps, decoder_step=decoder_step, branches=branches,
                          **modules)
