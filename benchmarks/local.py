"""Time of global and local attention against the length of the source, the target's length fixed.

Two parts: what is done once for each sentence (keys, and the sums for keys and values on the way back), which grows
with the source as the encoder does, and the steps of the decoder's loop, forward and backward, which with local
attention see a window and do not.
"""

from __future__ import annotations

import argparse

import numpy as np

from scratchnmt.arrays import device_module, keep_freed_memory, to_device
from scratchnmt.kernels import choose
from scratchnmt.models.attention import ATTENTIONS, attention_class
from scratchnmt.models.config import NMTConfig
from scratchnmt.ops.packing import whole
from scratchnmt.parameters import Parameters

from . import measure, rows
from .scaling import exponent

LENGTHS = (25, 50, 100, 200, 400, 800)
PARTS = ("once for a sentence", "the steps")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", default="256,32,25", metavar="H,B,T", help="(default %(default)s)")
    parser.add_argument("--window", type=int, default=10, help="tokens on each side (default 10)")
    parser.add_argument("--points", type=int, help=f"so many of the lengths {LENGTHS}, the shortest (default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="(default 7)")


def run(options: argparse.Namespace) -> int:
    print(measure.machine(options.threads, options.device))
    keep_freed_memory()
    H, B, T = measure.sizes("--sizes", options.sizes, "H,B,T")
    measured = {}
    for S in LENGTHS[: options.points]:
        calls = {(name, part): call for name in ATTENTIONS
                 for part, call in zip(PARTS, parts(name, S, H, B, T, options), strict=True)}
        times = measure.alternate(calls, options.rounds, device=options.device, warmup=2)
        for (name, part), seconds in times.items():
            measured[name, part, S] = rows.row(
                seconds, command="local", what=f"attention, {part}", contestant=name, dtype="float32",
                sizes=f"S={S} T={T} B={B} H={H} D={options.window}", device=measure.device_name(options.device))
    lengths = LENGTHS[: options.points]
    measure.print_table(["ms", "part", *(f"S {S}" for S in lengths), "grows as"], [
        [name, part, *(f"{measured[name, part, S].ms:.3g}" for S in lengths),
         f"S^{exponent([(S, measured[name, part, S].ms) for S in lengths]):.2f}"]
        for name in ATTENTIONS for part in PARTS])
    rows.save(list(measured.values()), options)
    return 0


def parts(attention: str, S: int, H: int, B: int, T: int, options: argparse.Namespace):
    """Both PARTS as functions without arguments, forward and backward, for B sentences of S and T tokens."""
    config = NMTConfig(1, 1, H, H, attention=attention, window=options.window)
    xp, kernels = device_module(options.device), choose(options.kernels, options.matmul, options.device, "float32")
    rng = np.random.default_rng(0)
    normal = lambda *shape: to_device(rng.standard_normal(shape, dtype="float32"), options.device)
    params = Parameters(config.shapes(), "float32", xp)
    params.flat[...] = 0.1 * normal(params.flat.size)
    grads, packing = params.like(), whole(T, B)
    h_enc, mask = normal(S, B, config.memory_size), xp.ones((S, B), bool)
    h, dcontext, dh = normal(T * B, H), normal(T * B, config.context_size), normal(T * B, H)
    context = xp.empty_like(dcontext)
    prepare = lambda: attention_class(config)(config, params, h_enc, mask, kernels)
    sources = prepare()
    kept = sources.rows(T * B, "float32")
    dkept = sources.gradient_rows(kept, "float32")
    steps = [(t, slice(t * B, (t + 1) * B)) for t in range(T)]

    def once():
        prepare()
        sources.backward(kept, dkept, h, dcontext, packing, grads)

    def every_step():
        for t, now in steps:
            sources.training_step(kept, h[now], t, now, context[now])
        for t, now in reversed(steps):
            sources.step_backward(kept, dkept, h[now], t, now, dcontext[now], dh[now])

    every_step()  # fills the rows that `once` reads
    return once, every_step
