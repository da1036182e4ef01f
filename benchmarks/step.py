"""Time of one training step (forward, backward, clip, Adam).

Lengths vary from half to whole, or, with --lengths multi30k, as in random batches of that text, of which several
take turns.  GFLOP counts the matrix products that the tokens need, padding left out; the share is of the rate
at which this machine multiplies two square matrices.  On a GPU a time is that of --calls steps in a row, divided by
their number, from the first launch to the end of the last one's work: batches are made beforehand and copied
there within the time.
"""

from __future__ import annotations

import argparse
from itertools import cycle

import numpy as np

from scratchnmt.arrays import keep_freed_memory
from scratchnmt.cli.parser import computing
from scratchnmt.data.batches import Batch
from scratchnmt.models.nmt import NMT

from . import limits, measure, peers, rows
from .flops import training_step_flop
from .ours import Contestant, multi30k_batches, random_batch

PEERS = ["workers", "torch", "torch-best", "torch-ddp"]
SIZES = {"cpu": ["8000,256,32,22", "20000,512,64,25"], "cuda": ["8000,256,64,22", "20000,512,128,25"]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", action="append", metavar="V,H,B,T",
                        help="vocabulary, E = H, sentences, S = T; repeatable "
                             f"(default {' and '.join(SIZES['cpu'])}; on a GPU {' and '.join(SIZES['cuda'])})")
    parser.add_argument("--lengths", choices=["half", "multi30k"], default=None,
                        help="from half to whole of T, or as Multi30k's (default: half; on a GPU multi30k)")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32", help="(default float32)")
    parser.add_argument("--rounds", type=int, default=20, help="times of each (default 20)")
    parser.add_argument("--calls", type=int, help="steps in a row (default 4; on a GPU 32)")
    parser.add_argument("--graphs", type=int, default=64, help="sizes recorded at most, on a GPU (default 64)")
    parser.add_argument("--system-memory", action="store_true",
                        help="give freed memory back to the system, as a program does that asks for nothing")
    parser.add_argument("--sgemm-size", type=int, help="of the limit's matrices (default 2048; on a GPU 8192)")


def run(options: argparse.Namespace) -> int:
    print(measure.machine(options.threads, options.device))
    if not options.system_memory:
        keep_freed_memory()  # as `scratchnmt train` does; PyTorch's steps profit too
    bounds = limits.measure(options.device, options.sgemm_size)
    print(bounds)
    measured = [row for text in options.size or SIZES[options.device.partition(":")[0]]
                for row in one_size(*measure.sizes("--size", text, "V,H,B,T"), options, bounds)]
    rows.save(measured, options, bounds)
    return 0


def one_size(V: int, H: int, B: int, T: int, options: argparse.Namespace, bounds: limits.Limits) -> list[rows.Row]:
    on_gpu = options.device != "cpu"
    lengths = options.lengths or ("multi30k" if on_gpu else "half")
    calls = options.calls or (32 if on_gpu else 4)
    batches = [random_batch(V, V, B, T, T)] if lengths == "half" else multi30k_batches(V, B, 8)
    sizes = f"V={V} H={H} B={B}" + (f" T={T}" if lengths == "half" else " multi30k")
    print(f"\nV {V:,}, E = H = {H}, B {B}, " + (f"S = T = {T}" if lengths == "half" else "lengths of Multi30k"))
    contestants = enter(V, H, options, batches[0])
    times = measure.alternate({name: turns(who, batches) for name, who in contestants.items()}, options.rounds,
                              device=options.device, calls=calls, warmup=3 if calls == 1 else 2)
    for who in contestants.values():
        who.close()
    flop = np.mean([training_step_flop(b.src_lengths, b.tgt_lengths, V, H, H) for b in batches])
    tokens = np.mean([b.tgt_lengths.sum() for b in batches])
    measured = [rows.row(seconds, command="step", what="training step", contestant=name, sizes=sizes,
                         device=measure.device_name(options.device), dtype=options.dtype, flop=flop, tokens=tokens,
                         limits=bounds if options.dtype == "float32" else None, matmul=options.matmul)
             for name, seconds in times.items()]
    print(f"{flop / 1e9:.1f} GFLOP of matrix products, {tokens:,.0f} target tokens")
    measure.print_rows(measured, times)
    return measured


def enter(V: int, H: int, options: argparse.Namespace, batch: Batch) -> dict[str, object]:
    """Name -> contestant, all from the same weights; ValueError if a peer's loss or gradient disagrees with ours."""
    make = lambda **how: Contestant(NMT(V, V, H, H, dtype=options.dtype, seed=0, **computing(vars(options)) | how),
                                    graphs=options.graphs)
    ours = make()
    contestants = {"scratchnmt": ours}
    if options.device != "cpu" and options.kernels is None and options.matmul != "tf32":
        contestants["scratchnmt, plain kernels"] = make(kernels="plain")
    return contestants | {theirs.name: theirs for theirs in peers.enter(options.peers, ours, options.threads, batch)}


def turns(contestant, batches: list[Batch]):
    """A call that takes a step, on one batch after another."""
    order = cycle(batches)
    return lambda: contestant.step(next(order))
