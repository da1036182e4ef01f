"""Time of one training step (forward, backward, clip, Adam) in float32.

Lengths vary from half to whole.  GFLOP counts the matrix products that the tokens need; the share
is of the rate at which this machine multiplies two square float32 matrices, measured in turn.
"""

from __future__ import annotations

import argparse

import numpy as np

from scratchnmt.arrays import keep_freed_memory
from scratchnmt.models.nmt import NMT

from . import measure
from .flops import training_step_flop
from .ours import Contestant, random_batch
from .peers import check_agreement, peer

SIZES = ["8000,256,32,22", "20000,512,64,25"]
SGEMM = "sgemm"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", action="append", metavar="V,H,B,T",
                        help="vocabulary, E = H, sentences, S = T; repeatable "
                             f"(default {' and '.join(SIZES)})")
    parser.add_argument("--rounds", type=int, default=20, help="timed steps of each (default 20)")
    parser.add_argument("--system-memory", action="store_true",
                        help="give freed memory back to the system, as a program does that asks for nothing")
    parser.add_argument("--sgemm-size", type=int, default=2048, help="(default 2048)")


def run(options: argparse.Namespace) -> int:
    print(measure.machine(options.threads))
    if not options.system_memory:
        keep_freed_memory()  # as `scratchnmt train` does; PyTorch's steps profit too
    for text in options.size or SIZES:
        V, H, B, T = map(int, text.split(","))
        print(f"\nV {V:,}, E = H = {H}, B {B}, S = T = {T}")
        one_size(V, H, B, T, options)
    return 0


def one_size(V: int, H: int, B: int, T: int, options: argparse.Namespace) -> None:
    model = NMT(V, V, H, H, dtype="float32", seed=0)
    batch = random_batch(V, V, B, T, T)
    ours = Contestant(model)
    steps = {"scratchnmt": lambda: ours.step(batch)}
    for name in options.peers:
        theirs = peer(name).Contestant(model, options.threads)
        worst = check_agreement(ours, theirs, batch)
        print(f"loss and gradients agree with {theirs.name} {theirs.version} to {worst:.0e}")
        steps[theirs.name] = lambda theirs=theirs: theirs.step(batch)
    steps[SGEMM] = measure.sgemm(options.sgemm_size)
    times = measure.alternate(steps, options.rounds)
    report(times, training_step_flop(batch.src_lengths, batch.tgt_lengths, V, H, H), options.sgemm_size)


def report(times: dict[str, np.ndarray], flop: int, sgemm_size: int) -> None:
    limit = 2 * sgemm_size**3 / np.median(times.pop(SGEMM))
    fastest = np.median(times["scratchnmt"])
    print(f"{flop / 1e9:.1f} GFLOP of matrix products; sgemm {sgemm_size}: {limit / 1e9:.0f} GFLOP/s")
    measure.print_table(
        ["", "ms", "quartiles", "GFLOP/s", "of sgemm", "scratchnmt is faster by"],
        [[name, f"{1e3 * np.median(seconds):.0f}", measure.spread(seconds),
          f"{flop / np.median(seconds) / 1e9:.0f}", f"{100 * flop / np.median(seconds) / limit:.0f} %",
          "" if name == "scratchnmt" else f"{np.median(seconds) / fastest:.2f}"]
         for name, seconds in times.items()])
