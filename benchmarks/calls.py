"""How many Python calls a training step makes, and how often control goes from one module to another.

The more of them, the more there is to follow for whoever reads along with a debugger.  Of the default model on the CPU,
forward and backward, after a first step; with a table of the modules that are called most.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from itertools import pairwise
from types import FrameType
from typing import Any

from scratchnmt import NMT
from scratchnmt.trace import is_named

from . import measure
from .ours import random_batch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", default="200,64,4,22", metavar="V,H,B,T", help="(default 200,64,4,22)")


def run(options: argparse.Namespace) -> int:
    V, H, B, T = measure.sizes("--size", options.size, "V,H,B,T")
    model, batch = NMT(V, V, H, H, seed=0), random_batch(V, V, B, T, T)

    def step() -> None:
        _, cache = model.forward(batch.src, batch.src_lengths, batch.tgt)
        model.backward(cache)

    step()  # what is made once is made here
    modules = called(step)
    changes = sum(one != other for one, other in pairwise(modules))
    print(f"{len(modules):,} calls, {changes:,} changes of module")
    measure.print_table(["module", "calls"], [[name, f"{count:,}"] for name, count in Counter(modules).most_common(12)])
    return 0


def called(function: Any) -> list[str]:
    """The module of each function of the package that is called, in order."""
    modules: list[str] = []

    def profile(frame: FrameType, event: str, _: Any) -> None:
        name = frame.f_globals.get("__name__", "")
        if event == "call" and name.startswith("scratchnmt") and is_named(frame.f_code):
            modules.append(name.removeprefix("scratchnmt."))

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return modules
