"""Time of every operation, forward, backward and both: NumPy, or CuPy's array code beside the fused kernel.

The operations are those that `scratchnmt gradcheck` walks, with arguments of any size: one that is added there is
here too, and a kernel is found by the names of its functions.  Before anything is timed, results and gradients are
compared with the plain operation's in float64.  GB counts the least that must move, each array read or written
once; the share is of the rate of copying.  With --peers torch,keras,jax,onnxruntime the LSTM runs beside theirs.
"""

from __future__ import annotations

import argparse
import itertools
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from scratchnmt.arrays import array_module, to_device
from scratchnmt.errors import InputError
from scratchnmt.kernels import KERNELS, choose
from scratchnmt.ops.layer_norm_lstm import layer_norm_lstm_forward
from scratchnmt.ops.lstm import lstm_forward
from scratchnmt.ops.packing import Packing, packed
from scratchnmt.ops.plain import Kernels
from scratchnmt.selfcheck import CASES
from scratchnmt.selfcheck import choose as chosen
from scratchnmt.selfcheck.case import Case, placed

from . import limits, lstm_peers, measure, rows
from .flops import operations
from .trees import arrays, flat

# Sizes of all letters at once, those of a training step; --sweep varies one of them.
SIZES = dict(T=25, S=25, B=64, Q=1, N=1600, I=256, O=256, E=256, H=256, M=512, A=256, V=8000)
SWEEPS = dict(T=(5, 10, 25, 50, 100), B=(1, 8, 32, 64, 128, 256), H=(64, 128, 256, 512, 1024),
              V=(1000, 8000, 20000, 50000))
# The LSTMs of DeepBench (Baidu Research 2016): hidden units, sentences, steps
DEEPBENCH = ((512, 16, 25), (512, 32, 25), (512, 64, 25), (512, 128, 25), (1024, 16, 25), (1024, 32, 25),
             (1024, 64, 25), (1024, 128, 25), (2048, 16, 25), (2048, 32, 25), (2048, 64, 25), (2048, 128, 25),
             (4096, 16, 25), (4096, 32, 25), (4096, 64, 25), (4096, 128, 25), (1536, 8, 50), (1536, 16, 50),
             (1536, 32, 50), (256, 16, 150), (256, 32, 150), (256, 64, 150))
PARTS = ("forward", "backward", "both")
PEERS = ["torch"]
COLD = 256 << 20  # bytes: more than caches hold
SEQUENCES = (lstm_forward, layer_norm_lstm_forward)  # which are given a backend
AGREEMENT = 1e-4  # of a result's norm, float32 against float64


class Op(NamedTuple):
    """One way to compute an operation."""

    name: str
    forward: Callable
    backward: Callable | None  # None: it has none
    recorded: bool = False  # its launches, once, as a CUDA graph: what it takes without a host that makes them


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="words of the operations' names (default: all)")
    parser.add_argument("--size", action="append", default=[], metavar="LETTER=N",
                        help=f"of one letter; repeatable (default {' '.join(f'{k}={v}' for k, v in SIZES.items())})")
    parser.add_argument("--sweep", choices=SWEEPS, help="sizes of one letter, one after the other")
    parser.add_argument("--deepbench", action="store_true", help="the LSTM at DeepBench's sizes")
    parser.add_argument("--cold", action="store_true",
                        help="many copies of the arguments in turn, so that none is still in a cache")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32", help="(default float32)")
    parser.add_argument("--rounds", type=int, default=15, help="(default 15)")


def run(options: argparse.Namespace) -> int:
    print(measure.machine(options.threads, options.device))
    bounds = limits.measure(options.device)
    print(bounds)
    wanted = [(case, sizes) for case in chosen(options.names) if case in CASES for sizes in all_sizes(options)
              if (not options.deepbench or case.name == "lstm")
              and (options.sweep is None or options.sweep in case.letters.split())]
    if not wanted:
        raise InputError("no operation of that name has that size")
    for case, sizes in wanted:
        rows.save(one_case(case, sizes, options, bounds), options, bounds)  # at once: the rest may take hours
    return 0


def all_sizes(options: argparse.Namespace) -> list[dict[str, int]]:
    """Sizes of every letter, one dict for each measurement."""
    given = dict(SIZES)
    for text in options.size:
        letter, _, number = text.partition("=")
        if letter not in given or not number.isdigit() or not int(number):
            raise InputError(f"--size is {text!r}, expected one of the letters {', '.join(given)}, = and a whole "
                             "number")
        given[letter] = int(number)
    if options.deepbench:
        return [given | {"H": H, "I": H, "B": B, "T": T} for H, B, T in DEEPBENCH]
    return [given | {options.sweep: n} for n in SWEEPS[options.sweep]] if options.sweep else [given]


def one_case(case: Case, sizes: Mapping[str, int], options: argparse.Namespace,
             bounds: limits.Limits) -> list[rows.Row]:
    args = tame(case.arguments(dict(sizes), np.random.default_rng(0)))
    ways = ways_to_compute(case, args, options)
    here = placed(args, options.device, options.dtype)
    copies = copied(here) if options.cold else [here]
    shown = " ".join(f"{letter}={sizes[letter]}" for letter in case.letters.split())
    print(f"\n{case.name}, {shown}")
    compare(ways, here, placed(args, options.device, "float64"))
    calls = {(way.name, part): call for way in ways for part, call in parts(way, copies).items()}
    moved = least_bytes(ways[0], here)
    in_a_row = 1 if options.device == "cpu" else 8  # one alone would be timed with the wait for its launch
    times = measure.alternate(calls, options.rounds, warmup=2, device=options.device, calls=in_a_row)
    forward, backward = operations(case.op, args)
    flop = {"forward": forward, "backward": backward, "both": forward + backward}
    measured = []
    for (name, part), seconds in times.items():
        measured.append(rows.row(seconds, command="ops", what=f"{case.name}, {part}", contestant=name, sizes=shown,
                                 device=measure.device_name(options.device), dtype=options.dtype, flop=flop[part],
                                 bytes=moved[part], limits=bounds if options.dtype == "float32" else None,
                                 matmul=options.matmul))
    measure.print_table(["", *[f"{part} ms" for part in PARTS], *[f"{part} GB/s" for part in PARTS], "of the bound"],
                        [[way.name, *_three(f"{row.ms:.4g}" for row in own),
                          *_three(f"{row.gbyte_per_s:.3g}" for row in own),
                          ", ".join(f"{100 * row.share:.0f} % of {row.bound}" if row.bound else "-" for row in own)]
                         for way in ways if (own := [row for row in measured if row.contestant == way.name])])
    return measured


def tame(args: dict[str, Any]) -> dict[str, Any]:
    """Weights of the size that a training starts from: an LSTM of large ones magnifies its rounding at every step.

    And chunks of the size that is meant for use, not one that makes a small check go through several.
    """
    return {name: value / value.shape[-2] ** 0.5 if name.startswith("W") and value is not None else value
            for name, value in args.items() if name != "chunk_bytes"}


def _three(cells: Iterable[str]) -> list[str]:
    """Filled up where a way has no backward pass."""
    return [*cells, "", ""][:3]


def ways_to_compute(case: Case, args: Mapping[str, Any], options: argparse.Namespace) -> list[Op]:
    """The plain operation, on a GPU its kernel, and whoever runs beside."""
    plain = "NumPy" if options.device == "cpu" else "CuPy, plain"
    ways = [Op(plain, case.forward, case.own_backward)]
    if options.device != "cpu" and (fused := kernel_of(case, options)) is not None:
        ways += [fused, recordable(fused, case)]
    if case.forward is lstm_forward:
        ways += [Op(*way) for name in options.peers for way in lstm_peers.ways(name, args, options)]
    return ways


def kernel_of(case: Case, options: argparse.Namespace) -> Op | None:
    """The fused twin of a case's operation, if there is one."""
    if case.forward in SEQUENCES:
        kernels: Kernels = choose("fused", options.matmul, options.device, options.dtype)
        return Op("CuPy, fused", lambda **args: case.forward(**args, kernels=kernels), case.own_backward)
    names = (case.forward.__name__, case.own_backward.__name__)
    for name in KERNELS:
        module = KERNELS[name]
        if all(getattr(module, n, None) is not None for n in names) and "concat" not in case.name:
            return Op("CuPy, fused", *(getattr(module, n) for n in names))
    return None


def copied(args: Mapping[str, Any]) -> list[dict[str, Any]]:
    """As many copies of the arguments as fill COLD bytes, at least two and at most 64."""
    count = max(2, min(64, COLD // sum(array.nbytes for array in arrays(args))))
    return [{name: value.copy() if hasattr(value, "nbytes") else value for name, value in args.items()}
            for _ in range(count)]


def recordable(fused: Op, case: Case) -> Op:
    """The same for a graph: an LSTM's rows are then laid out beforehand, by the host."""
    def forward(**args):
        if case.forward in SEQUENCES:
            x, lengths = args["x"], to_device(args["lengths"], "cpu")
            args["lengths"] = read_inputs(tuple(lengths), len(x), array_module(x))
        return fused.forward(**args)

    @lru_cache
    def read_inputs(lengths: tuple[int, ...], T: int, xp: ModuleType) -> Packing:
        return packed(np.array(lengths), T, xp)

    return Op("CuPy, recorded", forward, fused.backward, recorded=True)


def parts(way: Op, copies: list[Mapping[str, Any]]) -> dict[str, Callable[[], object]]:
    """The calls to time, on one copy of the arguments after the other; dy is drawn once, like the first result.

    Of a way to be recorded, those that the driver lets.
    """
    results, caches = zip(*(way.forward(**args) for args in copies), strict=True)
    rng = np.random.default_rng(1)
    xp = array_module(*arrays(results[0]))
    dys = [xp.asarray(rng.standard_normal(y.shape).astype(y.dtype)) for y in flat(results[0])]
    by_part = {"forward": [partial(way.forward, **args) for args in copies]}
    if way.backward:
        by_part["backward"] = [partial(way.backward, *dys, cache) for cache in caches]
        by_part["both"] = [lambda run=run: way.backward(*dys, run()[1]) for run in by_part["forward"]]
    if way.recorded:
        by_part = {part: graphs for part, calls in by_part.items() if (graphs := recorded(calls))}
    return {part: in_turn(calls) for part, calls in by_part.items()}


def in_turn(calls: Sequence[Callable[[], object]]) -> Callable[[], object]:
    turn = itertools.cycle(calls)
    return lambda: next(turn)()


def recorded(calls: Sequence[Callable[[], object]]) -> list[Callable[[], object]]:
    """Each as one launch; none if a call asks for what a recording does not allow, a copy from the host, say."""
    from scratchnmt.kernels.graph import Graphs

    graphs = Graphs(len(calls))

    def repeat(number: int) -> None:
        with graphs.turn():
            graphs.run(number, calls[number])

    repeats = [partial(repeat, number) for number in range(len(calls))]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", RuntimeWarning)
        for call in [*repeats, *repeats]:  # as it is, then recorded
            call()
    if len(graphs.graphs) == len(calls):
        return repeats
    for message in dict.fromkeys(str(one.message) for one in told):
        print(message)
    return []


def compare(ways: list[Op], args: Mapping[str, Any], exact: Mapping[str, Any]) -> None:
    """ValueError if a way's result or gradients are not those of the plain operation in float64."""
    expected = None
    for way in [ways[0]._replace(name="float64"), *ways]:
        result, cache = way.forward(**(exact if way.name == "float64" else args))
        rng = np.random.default_rng(1)
        dys = [rng.standard_normal(y.shape) for y in flat(result)]
        xp = array_module(*arrays(result))
        dys = [xp.asarray(dy.astype(y.dtype)) for dy, y in zip(dys, flat(result), strict=True)]
        grads = way.backward(*dys, cache) if way.backward else ()
        computed = [np.asarray(to_device(array, "cpu"), "float64") for array in (*arrays(result), *arrays(grads))]
        if expected is None:
            expected = computed
            continue
        for a, b in zip(computed, expected, strict=False):  # a peer may have fewer gradients: of the first states, say
            if not np.linalg.norm(a - b) <= AGREEMENT * max(np.linalg.norm(b), 1e-30):
                raise ValueError(f"{way.name} disagrees with the plain operation in float64 by "
                                 f"{np.linalg.norm(a - b) / np.linalg.norm(b):.1e}; nothing is timed")


def least_bytes(way: Op, args: Mapping[str, Any]) -> dict[str, int]:
    """What must be read and written at least: arguments and results of each pass, its cache included, once."""
    result, cache = way.forward(**args)
    grads = way.backward(*flat(result), cache)
    size = lambda *trees: sum({id(a): a.nbytes for tree in trees for a in arrays(tree)}.values())
    forward, backward = size(args, result, cache), size(result, cache, grads)
    return {"forward": forward, "backward": backward, "both": forward + backward}
