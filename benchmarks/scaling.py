"""Time of a training step against one size at a time, with the exponent of growth fitted on log axes.

An exponent of 1 is time in proportion; below it, what does not depend on that size still weighs.
"""

from __future__ import annotations

import argparse

import numpy as np

from scratchnmt.arrays import keep_freed_memory

from . import limits, measure, rows, step

PEERS = ["torch", "torch-best"]
BASE = dict(V=8000, H=256, B=32, T=22)
SWEEPS = dict(V=(1000, 2000, 4000, 8000, 16000, 32000), H=(64, 128, 256, 512), B=(4, 8, 16, 32, 64, 128),
              T=(6, 11, 22, 44))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--letter", action="append", choices=SWEEPS, help="repeatable (default: each)")
    parser.add_argument("--base", default=",".join(map(str, BASE.values())), metavar="V,H,B,T",
                        help="the other sizes (default %(default)s)")
    parser.add_argument("--points", type=int, help="so many sizes of each letter, the smallest (default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="(default 7)")
    parser.add_argument("--calls", type=int, help="steps in a row (default 1; on a GPU 32)")
    parser.set_defaults(lengths="half", dtype="float32", graphs=64)


def run(options: argparse.Namespace) -> int:
    print(measure.machine(options.threads, options.device))
    keep_freed_memory()
    base = dict(zip(BASE, measure.sizes("--base", options.base, ",".join(BASE)), strict=True))
    bounds = limits.measure(options.device)
    print(bounds)
    measured = []
    for letter in options.letter or SWEEPS:
        sizes = SWEEPS[letter][: options.points]
        own = [(n, row) for n in sizes for row in step.one_size(**(base | {letter: n}), options=options, bounds=bounds)]
        for _, row in own:
            row.command, row.what = "scaling", f"training step by {letter}"
        measured += [row for _, row in own]
        print()
        for name in dict.fromkeys(row.contestant for _, row in own):
            points = [(n, row.ms) for n, row in own if row.contestant == name]
            print(f"{name}: time grows as {letter}^{exponent(points):.2f} from {letter} = {points[0][0]} to "
                  f"{points[-1][0]}")
    rows.save(measured, options, bounds)
    return 0


def exponent(points: list[tuple[float, float]]) -> float:
    """The slope of a straight line through (size, time) on log axes, by least squares; NaN of a single point."""
    x, y = np.log(np.array(points, float)).T
    return float(np.polyfit(x, y, 1)[0]) if len(points) > 1 else float("nan")
