"""An LSTM layer in versions that build on each other, from array code to one launch for all steps.

Each version is held to v0, results and gradients, before any is timed.  Without a GPU the kernels' own source is
compiled for the CPU (tests/kernels/shim.h) and run at sizes that are cut to what that can do: it says whether they are
right and nothing about their time.  docs/kernel-ladder.md has a section on each version.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np

from scratchnmt.arrays import Array
from scratchnmt.errors import InputError
from scratchnmt.gradcheck import check_variant
from scratchnmt.kernels import KERNELS, fused
from scratchnmt.kernels import launch as launcher
from scratchnmt.ops import product
from scratchnmt.ops.lstm import LSTMCache, lstm_backward, lstm_forward
from scratchnmt.ops.plain import PLAIN, Kernels
from scratchnmt.selfcheck.case import Case, placed

from . import limits, measure, ops, rows

PEERS: list[str] = []
SHIM = Path(__file__).parents[1] / "tests" / "kernels" / "shim.py"
WEIGHTS = ("Wx", "Wh", "b")


class Size(NamedTuple):
    """T steps, B sentences, `layers` layers of H units in D directions, and where these numbers are from."""

    name: str
    T: int
    B: int
    H: int
    layers: int = 1
    D: int = 1
    random_lengths: bool = False  # from half of T to T; else all are T

    def __str__(self) -> str:
        return f"T={self.T} B={self.B} H={self.H} layers={self.layers} D={self.D}"


SIZES = (Size("ours", 25, 64, 256, D=2, random_lengths=True),
         Size("ours, large", 25, 128, 512, D=2, random_lengths=True),
         Size("FlashRNN (Pöppel et al. 2025)", 1024, 16, 768),
         Size("Appleyard et al. 2016", 100, 64, 512, layers=4))


class Version(NamedTuple):
    """A way to compute a layer: ops/lstm.py with these kernels."""

    name: str
    kernels: Callable[[str], Kernels]  # of the precision of products
    recorded: bool = False  # on a GPU as one graph
    most_units: float = math.inf  # of a larger layer it is the version before


VERSIONS = (
    Version("v0 array code", lambda matmul: PLAIN),
    Version("v1 fused gates", lambda matmul: fused(matmul)),
    Version("v2 recorded", lambda matmul: fused(matmul), recorded=True),
    Version("v3 product and gates", lambda matmul: fused(matmul, KERNELS["lstm_step"]), recorded=True),
    Version("v4 persistent", lambda matmul: fused(matmul, KERNELS["lstm_persistent"]), recorded=True),
    Version("v5 clusters", lambda matmul: fused(matmul, KERNELS["lstm_cluster"]), recorded=True, most_units=256),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=15, help="(default 15)")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32", help="(default float32)")


def run(options: argparse.Namespace) -> int:
    print(measure.machine(options.threads, options.device))
    if options.device == "cpu":
        with kernels_on_cpu():
            for size in SIZES:
                checked(smaller(size), options)
        print("\nNo times: kernels are timed on a GPU, with --device cuda.")
        return 0
    bounds = limits.measure(options.device)
    print(bounds)
    for size in SIZES:
        args = checked(size, options)
        rows.save(timed(size, args, options, bounds), options, bounds)
    return 0


def smaller(size: Size) -> Size:
    """What a CPU can do of it: several blocks, of which the last one has three units, and several tiles."""
    return size._replace(T=min(size.T, 6), B=size.B // 6 + 1, H=size.H // 16 + 3)


def versions(size: Size) -> list[Version]:
    """Those that can have so many units, in their order."""
    return [version for version in VERSIONS if version.most_units >= size.H]


def checked(size: Size, options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of a size; InputError if a version is not v0 by them, else a table of the errors."""
    args = arguments(size)
    here = placed(args, options.device, options.dtype)
    wrt = [name for name in args if name != "lengths"]
    print(f"\n{size.name}: {size}")
    table = []
    for version in versions(size)[1:]:
        if version.name.startswith("v2"):  # the same launches as v1
            continue
        report = check_variant((stack(PLAIN), stack_backward), (stack(kernels(version, options)), stack_backward), here,
                               wrt=wrt, steps=size.T * size.layers)
        if not report.ok:
            raise InputError(f"{version.name} is not {VERSIONS[0].name}; nothing is timed:\n{report}")
        table.append([version.name, f"{report.max_error:.1e}", f"{report.rtol:.1e}"])
    measure.print_table(["", "largest error", "of at most"], table)
    return here


def kernels(version: Version, options: argparse.Namespace) -> Kernels:
    made = version.kernels(options.matmul)
    return made if options.device != "cpu" else made._replace(product=product)  # for which cuBLAS needs a GPU


def timed(size: Size, args: dict[str, Any], options: argparse.Namespace, bounds: limits.Limits) -> list[rows.Row]:
    """Rows of all versions; of what the driver does not record, launch by launch."""
    calls = {}
    for version in versions(size):
        way = ops.Op(version.name, stack(kernels(version, options)), stack_backward)
        parts = {}
        if version.recorded:
            # `recordable` lays the rows out beforehand for the one forward that it knows by itself
            parts = ops.parts(ops.recordable(way, Case("lstm", lstm_forward, lstm_backward, "", arguments)), [args])
        if not parts:
            print(f"{version.name}: launch by launch")
            parts = ops.parts(way, [args])
        calls.update({(version.name, part): call for part, call in parts.items()})
    times = measure.alternate(calls, options.rounds, warmup=2, device=options.device, calls=8)
    tokens = int(np.sum(args["lengths"]))
    forward = 2 * tokens * sum(W.size for name, W in args.items() if name.startswith("W"))
    flop = {"forward": forward, "backward": 2 * forward, "both": 3 * forward}
    measured = [rows.row(seconds, command="ladder", what=f"LSTM, {part}", contestant=name, sizes=str(size),
                         device=measure.device_name(options.device), dtype=options.dtype, flop=flop[part],
                         limits=bounds if options.dtype == "float32" else None, matmul=options.matmul)
                for (name, part), seconds in times.items()]
    measure.print_table(["", "part", "ms", "us a step", "share"], [
        [row.contestant, row.what, f"{row.ms:.4g}", f"{1e3 * row.ms / (size.T * size.layers):.4g}",
         f"{100 * row.share:.0f} % of {row.bound}" if row.bound else "-"] for row in measured])
    return measured


def arguments(size: Size) -> dict[str, Any]:
    """x (T, B, H), lengths (B,) and of layer l the weights Wx0 (D, I, 4H), Wh0 (D, H, 4H), b0 (D, 4H)."""
    rng = np.random.default_rng(0)
    T, B, H, D = size.T, size.B, size.H, size.D
    lengths = rng.permutation(np.append(rng.integers(-(-T // 2), T + 1, B - 1), T))
    args = {"x": rng.standard_normal((T, B, H)), "lengths": lengths if size.random_lengths else np.full(B, T)}
    for layer in range(size.layers):
        I = D * H if layer else H
        args |= {f"Wx{layer}": rng.standard_normal((D, I, 4 * H)) / I**0.5,
                 f"Wh{layer}": rng.standard_normal((D, H, 4 * H)) / H**0.5,
                 f"b{layer}": rng.standard_normal((D, 4 * H))}
    return args


def stack(kernels: Kernels) -> Callable:
    """Layers, each of which reads the outputs of the one before: the forward pass, with y (T, B, DH) as its result."""
    def forward(x: Array, lengths: Any, **weights: Array) -> tuple[Array, list[LSTMCache]]:
        caches = []
        for layer in range(len(weights) // len(WEIGHTS)):
            own = {name: weights[f"{name}{layer}"] for name in WEIGHTS}
            (x, *_), cache = lstm_forward(x, lengths, **own, kernels=kernels)
            caches.append(cache)
        return x, caches

    return forward


def stack_backward(dy: Array, caches: list[LSTMCache]) -> dict[str, Array]:
    """Gradients of x and of all weights; nothing comes for the last states."""
    grads: dict[str, Array] = {}
    for layer in reversed(range(len(caches))):
        B = caches[layer].packing.sentences
        nothing = np.zeros_like(caches[layer].h[:, :B], dy.dtype)
        found = lstm_backward(dy, nothing, nothing.copy(), caches[layer])
        dy = found.dx
        grads |= {f"d{name}{layer}": getattr(found, f"d{name}") for name in WEIGHTS}
    return {"dx": dy, **grads}


@contextmanager
def kernels_on_cpu() -> Iterator[None]:
    """Inside, kernels are launched on NumPy's arrays: their text as C++; InputError without g++ or the tests."""
    if shutil.which("g++") is None or not SHIM.exists():
        raise InputError("ladder on a CPU compiles the kernels by g++ and tests/kernels/shim.py: install g++, work in "
                         "the repository's folder, or choose --device cuda")
    spec = importlib.util.spec_from_file_location("shim", SHIM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with tempfile.TemporaryDirectory() as folder:
        shim = module.Shim(Path(folder))
        with patch.multiple(launcher, kernel=shim.kernel, address=shim.address, resident_blocks=shim.resident_blocks):
            yield
