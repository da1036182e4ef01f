"""An LSTM layer in versions that build on each other, from array code to one launch for all steps.

Each version is held to v0, results and gradients, before any is timed.  Without a GPU the kernels' own source is
compiled for the CPU (tests/kernels/shim.h) and run at sizes that are cut to what that can do: it says whether they are
right and nothing about their time.  What each version does is told in docs/kernel-ladder.md and docs/gpu.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np

from scratchnmt.arrays import Array, array_module, to_device
from scratchnmt.errors import InputError
from scratchnmt.gradcheck import check_variant
from scratchnmt.kernels import KERNELS, fused, lstm_cluster, lstm_persistent
from scratchnmt.kernels import launch as launcher
from scratchnmt.ops import product
from scratchnmt.ops.lstm import LSTMCache, lstm_backward, lstm_forward
from scratchnmt.ops.plain import PLAIN, Kernels
from scratchnmt.selfcheck.case import Case, placed

from . import limits, measure, ops, peers, rows

PEERS, KNOWN_PEERS = ["numpy", "torch"], ["numpy", "torch", "flashrnn"]
TF32 = 2e-2  # the largest error of a number, relative, where products read ten bits of a fraction
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


FLASHRNN = "FlashRNN (Pöppel et al. 2025)"
SIZES = {
    "ours": (Size("ours", 25, 64, 256, D=2, random_lengths=True),
             Size("ours, large", 25, 128, 512, D=2, random_lengths=True)),
    "flashrnn": (Size(FLASHRNN, 1024, 16, 768),),
    "flashrnn-batches": tuple(Size(FLASHRNN, 1024, B, 768) for B in (2, 4, 8, 32, 64, 128, 256)),
    "appleyard": (Size("Appleyard et al. 2016", 100, 64, 512, layers=4),),
    "deepbench": tuple(Size("DeepBench (Baidu Research 2016)", T, B, H) for H, B, T in ops.DEEPBENCH),
}
DEFAULT = ["ours", "flashrnn", "appleyard"]


def persistent_fits(size: Size, dtype: str, device: str) -> bool:
    return all(lstm_persistent.fits(name, dtype, size.D, size.H, device) for name in lstm_persistent.TWINS)


def cluster_fits(size: Size, dtype: str, device: str) -> bool:
    return all(lstm_cluster.fits(name, dtype, size.H, device) for name in lstm_cluster.TWINS)


class Version(NamedTuple):
    """A way to compute a layer: ops/lstm.py with these kernels."""

    name: str
    kernels: Callable[[str], Kernels]  # of the precision of products
    recorded: bool = False  # on a GPU as one graph
    fits: Callable[[Size, str, str], bool] = lambda size, dtype, device: True  # else it would be the version before


VERSIONS = (
    Version("v0 array code", lambda matmul: PLAIN),
    Version("v1 fused gates", lambda matmul: fused(matmul)),
    Version("v2 recorded", lambda matmul: fused(matmul), recorded=True),
    Version("v3 product and gates", lambda matmul: fused(matmul, KERNELS["lstm_step"]), recorded=True),
    Version("v4 persistent", lambda matmul: fused(matmul, KERNELS["lstm_persistent"]), recorded=True,
            fits=persistent_fits),
    Version("v5 clusters", lambda matmul: fused(matmul, KERNELS["lstm_cluster"]), recorded=True,
            fits=cluster_fits),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", type=lambda text: text.split(","), default=DEFAULT, metavar="NAME,...",
                        help=f"of {', '.join(SIZES)} (default {','.join(DEFAULT)})")
    parser.add_argument("--rounds", type=int, default=15, help="(default 15)")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32", help="(default float32)")


def run(options: argparse.Namespace) -> int:
    for option, given, known in (("--sizes", options.sizes, list(SIZES)), ("--peers", options.peers, KNOWN_PEERS)):
        if wrong := [name for name in given if name not in known]:
            raise InputError(f"{option} has {wrong[0]!r}, expected some of {', '.join(known)}")
    sizes = [size for name in options.sizes for size in SIZES[name]]
    print(measure.machine(options.threads, options.device))
    if options.device == "cpu":
        with kernels_on_cpu():
            for size in sizes:
                with_peers(smaller(size), checked(smaller(size), options), options)
        print("\nNo times: kernels are timed on a GPU, with --device cuda.")
        return 0
    bounds = limits.measure(options.device)
    print(bounds)
    for size in sizes:
        args = checked(size, options)
        rows.save(timed(size, args, with_peers(size, args, options), options, bounds), options, bounds)
    return 0


def smaller(size: Size) -> Size:
    """What a CPU can do of it: several blocks, of which the last one has three units, and several tiles."""
    return size._replace(T=min(size.T, 6), B=size.B // 6 + 1, H=size.H // 16 + 3)


def versions(size: Size, options: argparse.Namespace) -> list[Version]:
    """Those that fit on the device, in their order; one that does not would run as the one before it."""
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # that it is the version before
        return [version for version in VERSIONS if version.fits(size, options.dtype, options.device)]


def checked(size: Size, options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of a size; InputError if a version, or its graph, is not v0 by them, else a table of the errors."""
    args = arguments(size)
    here = placed(args, options.device, options.dtype)
    wrt = [name for name in args if name != "lengths"]
    print(f"\n{size.name}: {size}")
    table, ready = [], versions(size, options)
    for version in VERSIONS[1:]:
        if version not in ready:
            table.append([version.name, "does not fit on this device", "", ""])
            continue
        if options.device == "cpu" and version.name.startswith("v2"):  # which records nothing here
            continue
        report = check_variant((stack(PLAIN), stack_backward), (stack(kernels(version, options)), stack_backward), here,
                               wrt=wrt, steps=size.T * size.layers, rtol=TF32 if options.matmul == "tf32" else None)
        if not report.ok:
            raise InputError(f"{version.name} is not {VERSIONS[0].name}; nothing is timed:\n{report}")
        repeated = repeated_error(version, here, options)
        if repeated is not None and not repeated <= report.rtol:
            raise InputError(f"{version.name} differs from itself by {repeated:.1e} when its graph is repeated; "
                             "nothing is timed")
        table.append([version.name, f"{report.max_error:.1e}", f"{report.rtol:.1e}",
                      "-" if repeated is None else f"{repeated:.1e}"])
    measure.print_table(["", "largest error", "of at most", "of its graph"], table)
    return here


def repeated_error(version: Version, args: dict[str, Any], options: argparse.Namespace) -> float | None:
    """How far y or a gradient of the repeated graph is from that of single launches; None if nothing is recorded."""
    if options.device == "cpu" or not version.recorded:
        return None
    way = recordable(version, options)
    y, cache = way.forward(**args)
    dy = drawn_like(y)
    expected = [array.copy() for array in (y, *way.backward(dy, cache).values())]
    places = [np.zeros_like(array) for array in expected]

    def work() -> None:
        y, cache = way.forward(**args)
        for place, array in zip(places, (y, *way.backward(dy, cache).values()), strict=True):
            place[...] = array

    repeat = ops.recorded([work])
    if not repeat:
        return None
    for place in places:
        place[...] = np.nan
    repeat[0]()
    return largest_error(*([to_device(array, "cpu") for array in arrays] for arrays in (places, expected)))


def largest_error(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """Of the norms of the differences, each relative to that of what is expected; NaN if one is."""
    errors = [np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(found, expected, strict=True)]
    return float(np.max(errors))  # Python's max loses a NaN


def drawn_like(y: Array) -> Array:
    """A gradient of y, the same in every call."""
    return array_module(y).asarray(np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype))


def recordable(version: Version, options: argparse.Namespace) -> ops.Op:
    """`ops.recordable` lays the rows out beforehand for the one forward that it knows by itself."""
    case = Case("lstm", lstm_forward, lstm_backward, "", arguments)
    return ops.recordable(ops.Op(version.name, stack(kernels(version, options)), stack_backward), case)


def kernels(version: Version, options: argparse.Namespace) -> Kernels:
    made = version.kernels(options.matmul)
    return made if options.device != "cpu" else made._replace(product=product)  # for which cuBLAS needs a GPU


def with_peers(size: Size, args: dict[str, Any], options: argparse.Namespace) -> list[tuple[Any, dict[str, Callable]]]:
    """The peers that compute the same, and their calls: of sentences that are all T long, which is what they know."""
    names = [name for name in options.peers if name != "numpy"]
    if not names:
        return []
    peers.peer("torch")  # InputError where it is not installed
    from . import ladder_peers

    args = {**args, "lengths": np.full(size.B, size.T)}
    y, caches = stack(PLAIN)(**args)
    dy = drawn_like(y)
    return ladder_peers.checked(names, args, y, dy, stack_backward(dy, caches)["dx"], options.device)


def timed(size: Size, args: dict[str, Any], others: list[tuple[Any, dict[str, Callable]]],
          options: argparse.Namespace, bounds: limits.Limits) -> list[rows.Row]:
    """Rows of all versions and of the others; of what the driver does not record, launch by launch."""
    calls = {version.name: passes(version, args, options) for version in versions(size, options)}
    kinds = dict.fromkeys(calls, (options.device, options.dtype, options.matmul))
    calls |= {peer.name: own for peer, own in others}
    kinds |= {peer.name: (options.device, *peer.computes_in) for peer, _ in others}
    times = measure.alternate(by_part(calls), options.rounds, warmup=2, device=options.device, calls=8)
    if "numpy" in options.peers:
        numpy = f"{VERSIONS[0].name}, NumPy"  # apart, since the GPU would idle beside it
        on_cpu = ops.parts(ops.Op(numpy, stack(PLAIN), stack_backward), [placed(arguments(size), "cpu", options.dtype)])
        times |= measure.alternate(by_part({numpy: on_cpu}), min(3, options.rounds), warmup=1)
        kinds[numpy] = ("cpu", options.dtype, "float32")
    tokens = int(np.sum(args["lengths"]))
    forward = 2 * tokens * sum(W.size for name, W in args.items() if name.startswith("W"))
    flop = {"forward": forward, "backward": 2 * forward, "both": 3 * forward}
    measured = []
    for (name, part), seconds in times.items():
        device, dtype, matmul = kinds[name]
        measured.append(rows.row(seconds, command="ladder", what=f"LSTM, {part}", contestant=name, sizes=str(size),
                                 device=measure.device_name(device), dtype=dtype, flop=flop[part], matmul=matmul,
                                 limits=bounds if (device, dtype) == (options.device, "float32") else None))
    measure.print_table(["", "part", "ms", "us a step", "share"], [
        [row.contestant, row.what, f"{row.ms:.4g}", f"{1e3 * row.ms / (size.T * size.layers):.4g}",
         f"{100 * row.share:.0f} % of {row.bound}" if row.bound else "-"] for row in measured])
    return measured


def passes(version: Version, args: dict[str, Any], options: argparse.Namespace) -> dict[str, Callable]:
    """The calls to time, recorded if the version is and the driver lets them be."""
    if version.recorded and (recorded := ops.parts(recordable(version, options), [args])):
        return recorded
    print(f"{version.name}: launch by launch")
    return ops.parts(ops.Op(version.name, stack(kernels(version, options)), stack_backward), [args])


def by_part(calls: dict[str, dict[str, Callable]]) -> dict[tuple[str, str], Callable]:
    return {(name, part): call for name, own in calls.items() for part, call in own.items()}


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
