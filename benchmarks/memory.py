"""Peak memory of one training step at a large vocabulary, each contestant in a process of its own.

Total is what the process grew by, from before the model was made to the highest point of a step
(Linux: VmHWM, reset after the weights are there).  Every contestant must hold weights, gradient and
two moments of Adam, 16 bytes for each weight; the last column is what it holds beyond those.

On a GPU total is what the card's free memory shrank by, the pools of CuPy and PyTorch included, and the CUDA
libraries that a first small step has loaded not.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import itertools
import json
import subprocess
import sys
from contextlib import suppress
from typing import NamedTuple

from scratchnmt.arrays import device_module
from scratchnmt.cli.parser import computing
from scratchnmt.models.nmt import NMT

from . import measure, rows
from .ours import Contestant, random_batch
from .peers import peer

PEERS = ["torch", "torch-best"]
MIB = 2**20


class Sizes(NamedTuple):
    V: int
    H: int
    B: int
    T: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--vocab", type=int, action="append", help="repeatable (default 50000)")
    parser.add_argument("--hidden", type=int, default=256, help="E = H (default 256)")
    parser.add_argument("--steps", type=int, action="append", help="S = T; repeatable (default 25)")
    parser.add_argument("--batch", type=int, action="append",
                        help="sentences; repeatable (default 32 and 128)")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    if options.contestant:
        sizes = Sizes(options.vocab[0], options.hidden, options.batch[0], options.steps[0])
        print(json.dumps(peak(options.contestant, options, sizes)))
        return 0
    print(measure.machine(options.threads, options.device))
    measured = []
    given = (options.vocab or [50_000], [options.hidden], options.batch or [32, 128], options.steps or [25])
    for sizes in itertools.starmap(Sizes, itertools.product(*given)):
        print(f"\nV {sizes.V:,}, E = H = {sizes.H}, B {sizes.B}, S = T = {sizes.T}")
        results = {name: in_subprocess(name, options, sizes) for name in ["scratchnmt", *options.peers]}
        ours = results["scratchnmt"]
        for name, row in results.items():
            if abs(row["loss"] / ours["loss"] - 1) > 1e-4:
                raise ValueError(f"{name} and scratchnmt disagree: loss {row['loss']} and {ours['loss']}")
        measure.print_table(
            ["", "total MiB", "beyond weights, gradient, Adam", "scratchnmt / it", "beyond / beyond"],
            [[name, f"{row['total'] / MIB:.0f}", f"{row['beyond'] / MIB:.0f}",
              f"{ours['total'] / row['total']:.2f}", f"{ours['beyond'] / row['beyond']:.2f}"]
             for name, row in results.items()])
        measured += [rows.Row("memory", "peak of a step", name, measure.device_name(options.device), "float32",
                              f"V={sizes.V} H={sizes.H} B={sizes.B} T={sizes.T}", "", "", "",
                              gbyte=round(row["total"] / 1e9, 4)) for name, row in results.items()]
    rows.save(measured, options)
    return 0


def in_subprocess(contestant: str, options: argparse.Namespace, sizes: Sizes) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks", "memory", "--contestant", contestant, "--batch", sizes.B,
               "--vocab", sizes.V, "--hidden", sizes.H, "--steps", sizes.T,
               "--threads", options.threads, "--device", options.device, "--matmul", options.matmul,
               *(["--kernels", options.kernels] if options.kernels else [])]
    done = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def peak(name: str, options: argparse.Namespace, sizes: Sizes) -> dict[str, float]:
    """Bytes at the highest point of some steps, and the first loss, of one contestant in this process."""
    make = Contestant if name == "scratchnmt" else lambda model: peer(name).Contestant(model, options.threads)
    how = computing(vars(options))
    on_gpu = options.device != "cpu"
    make(NMT(50, 50, 8, 8, **how)).step_loss(random_batch(50, 50, 4, 5, 5))  # threads and libraries' own buffers
    collect()
    before = used(options.device) if on_gpu else status("VmRSS")
    model = NMT(sizes.V, sizes.V, sizes.H, sizes.H, dtype="float32", seed=0, **how)
    contestant = make(model)
    weights = sum(array.size for array in model.params.values())
    if name != "scratchnmt":
        contestant.params = None
        del model
    collect()
    if on_gpu:
        device_module(options.device).get_default_memory_pool().free_all_blocks()  # the copy that PyTorch took over
    else:
        reset_peak()
    work = random_batch(sizes.V, sizes.V, sizes.B, sizes.T, sizes.T)
    losses = [contestant.step_loss(work) for _ in range(3)]  # the second is recorded, the third repeated, on a GPU
    total = (used(options.device) if on_gpu else status("VmHWM")) - before
    return {"total": total, "beyond": total - 16 * weights, "loss": losses[0]}


def used(device: str) -> int:
    """Bytes of a card that are taken, by whomever."""
    free, total = device_module(device).cuda.runtime.memGetInfo()
    return total - free


def collect() -> None:
    """Give back what is free, so that it is not counted."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def status(field: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def reset_peak() -> None:
    with open("/proc/self/clear_refs", "w", encoding="ascii") as control:
        control.write("5")
