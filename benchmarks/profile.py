"""Where the time of one training step goes on the CPU, by operation, each with its share of the machine's limit.

The model's operations are wrapped with a clock, which costs some microseconds a call; products are told apart by
the function that asks for them.  The rest is what is left of the whole: indexing, sums, Python.  Writes
profile.csv, .svg and .png to --out.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from scratchnmt import optim
from scratchnmt.arrays import keep_freed_memory
from scratchnmt.errors import InputError, require
from scratchnmt.models.nmt import NMT
from scratchnmt.ops.plain import PLAIN, Kernels
from scratchnmt.training import step

from . import limits, measure
from .ours import Contestant, random_batch

SIZES = ("8000,256,32,22", "20000,512,64,25")
PARTS = {  # the function that asks for a product -> what it is
    "lstm_forward": "encoder: products forward", "lstm_backward": "encoder: products backward",
    "steps_backward": "encoder: products backward",
    "encoder_forward": "first states", "encoder_backward": "first states",
    "attention_keys": "attention: keys and values", "attention_keys_backward": "attention: keys and values",
    "_sums": "attention: keys and values", "dkeys": "attention: keys and values",
    "query_gradients": "attention: keys and values", "backward": "attention: keys and values",
    "_layer_rows": "decoder: products forward", "_layers_forward": "decoder: products forward",
    "inputs": "decoder: products forward",
    "step": "decoder: products forward", "step_backward": "decoder: products backward",
    "_layers_backward": "decoder: products backward", "_start_gradients": "decoder: products backward",
    "_weight_gradients": "decoder: weights' gradients", "weight_gradients": "decoder: weights' gradients",
    "_by_chunks": "vocabulary: products", "_add_product": "vocabulary: products",
}
NAMES = {"lstm_gates": "LSTM gates", "attention": "attention: steps", "tanh_dropout": "tanh and dropout",
         "cross_entropy": "vocabulary: softmax", "r_drop": "vocabulary: softmax", "embedding": "embedding",
         "dropout": "dropout", "rows": "rows moved, added and summed", "local": "windows of local attention"}


class Part(NamedTuple):
    name: str
    ms: float
    flop: float


class Watch:
    """Adds up the seconds and operations of each part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.flop: dict[str, float] = defaultdict(float)

    def kernels(self) -> Kernels:
        """The plain operations, every function with a clock around it."""
        def wrapped(name: str, module: Any) -> SimpleNamespace:
            functions = {key: value for key, value in vars(module).items() if callable(value) and key.islower()}
            return SimpleNamespace(**{key: self.timed(value, NAMES.get(name)) for key, value in functions.items()})

        return Kernels(**{name: wrapped(name, module) for name, module in PLAIN._asdict().items() if module})

    def timed(self, function: Callable, part: str | None) -> Callable:
        """The function with a clock; a product without a part has that of its caller."""
        def call(*args: Any, **options: Any) -> Any:
            name = part or PARTS.get(sys._getframe(1).f_code.co_name, "other products")
            start = time.perf_counter()
            result = function(*args, **options)
            self.seconds[name] += time.perf_counter() - start
            if part is None:
                self.flop[name] += 2 * result.size * args[0].shape[-1]
            return result

        return call


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", action="append", metavar="V,H,B,T", help=f"(default {' and '.join(SIZES)})")
    parser.add_argument("--rounds", type=int, default=10, help="(default 10)")


def run(options: argparse.Namespace) -> int:
    if options.device != "cpu":
        raise InputError("profile is of the CPU: for a GPU there is timeline")
    print(measure.machine(options.threads))
    keep_freed_memory()
    bounds = limits.measure("cpu")
    print(bounds)
    by_size = {}
    for text in options.size or SIZES:
        V, H, B, T = measure.sizes("--size", text, "V,H,B,T")
        title = f"V {V:,}, E = H = {H}, B {B}, S = T = {T}"
        by_size[title] = parts = profile(V, H, B, T, options.rounds)
        total = sum(part.ms for part in parts)
        print(f"\n{title}: {total:.0f} ms")
        measure.print_table(["", "ms", "of the step", "GFLOP/s", "of sgemm"], [
            [part.name, f"{part.ms:.1f}", f"{part.ms / total:.0%}", *_rate(part, bounds)] for part in parts])
    if options.out:
        write(by_size, Path(options.out), bounds)
    return 0


def profile(V: int, H: int, B: int, T: int, rounds: int) -> list[Part]:
    """Medians over several steps, the longest part first, what is left last."""
    model, batch = NMT(V, V, H, H, seed=0), random_batch(V, V, B, T, T)
    contestant, rows = Contestant(model), []
    flop: dict[str, float] = {}
    adam_step = optim.Adam.step
    for turn in range(-2, rounds):
        watch = Watch()
        model.kernels = watch.kernels()
        optim.Adam.step = watch.timed(adam_step, "Adam")  # type: ignore[method-assign]
        step.optim = SimpleNamespace(**{**vars(optim), "norm_by_parts": watch.timed(optim.norm_by_parts, "norm")})
        start = time.perf_counter()
        contestant.step(batch)
        whole = time.perf_counter() - start
        step.optim, optim.Adam.step = optim, adam_step  # type: ignore[method-assign]
        if turn >= 0:
            rows.append(watch.seconds | {"indexing, sums, Python": whole - sum(watch.seconds.values())})
            flop = watch.flop
    medians = {name: 1e3 * float(np.median([row[name] for row in rows])) for name in rows[0]}
    return sorted((Part(name, ms, flop.get(name, 0)) for name, ms in medians.items()), key=lambda part: -part.ms)


def _rate(part: Part, bounds: limits.Limits) -> list[str]:
    if not part.flop:
        return ["", ""]
    rate = part.flop / part.ms * 1e3
    return [f"{rate / 1e9:.0f}", f"{rate / bounds.sgemm:.0%}"]


def write(by_size: dict[str, list[Part]], folder: Path, bounds: limits.Limits) -> None:
    """profile.csv and the picture: a bar for each part, its share of the product's limit written beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "profile.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["size", "part", "part_ms", "gflop"])
        writer.writerows([title, part.name, round(part.ms, 3), part.flop / 1e9] for title, parts in by_size.items()
                         for part in parts)
    require("matplotlib", extra="train").use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "scratchnmt"  # the same picture is the same file
    figure, panels = plt.subplots(1, len(by_size), figsize=(5.6 * len(by_size), 4.2), squeeze=False,
                                  layout="constrained")
    for axes, (title, parts) in zip(panels[0], by_size.items(), strict=True):
        products = [bool(part.flop) for part in parts]
        bars = axes.barh([part.name for part in parts], [part.ms for part in parts], edgecolor="black",
                         color=["0.75" if product else "white" for product in products])
        axes.bar_label(bars, [" ".join(["", *(_rate(part, bounds)[1:] if part.flop else [])]) for part in parts],
                       padding=3, fontsize=7)
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(f"{title}: {sum(part.ms for part in parts):.0f} ms", fontsize=9)
        axes.set_xlabel("milliseconds; grey: products, with their share of the sgemm rate", fontsize=8)
        axes.tick_params(labelsize=8)
    for name in ("profile.svg", "profile.png"):
        figure.savefig(folder / name, dpi=150, metadata={"Date": None} if name.endswith("svg") else None)
    plt.close(figure)
