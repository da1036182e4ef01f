"""What a GPU does during one training step: every kernel on a line of time, before and after it is recorded.

Each way of taking the step is watched by PyTorch's profiler, which sees all CUDA work of the process, CuPy's too, and
makes the host's part of a launch slower.  Shown is the middle one of three steps in a row, from the end of the one
before; idle is the share of that time during which nothing runs on the GPU.  Writes timeline.png, timeline.svg and
timeline.csv to --out.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scratchnmt.errors import InputError, require
from scratchnmt.models.nmt import NMT

from . import measure, rows
from .ours import Contestant, multi30k_batches

STEPS = 3  # in a row; the middle one is shown
WINDOWS = 300  # of the picture, from left to right
KINDS = {"products": ("gemm", "cutlass", "splitk", "cublas"), "LSTM gates": ("lstm_gates", "layer_norm_gates"),
         "attention": ("attention",), "vocabulary": ("cross_entropy",), "optimizer": ("adam", "global_norm", "sgd"),
         "copies": ("memcpy", "memset")}


class Span(NamedTuple):
    """A piece of work on the GPU, in microseconds."""

    name: str
    start: float
    end: float

    @property
    def kind(self) -> str:
        name = self.name.lower()
        return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "other")


class Line(NamedTuple):
    """One way to take a step."""

    name: str
    spans: list[Span]  # of one step
    start: float  # of its time: the work of the step before was done

    @property
    def length(self) -> float:
        return max(span.end for span in self.spans) - self.start

    @property
    def idle(self) -> float:
        """The share of its length during which nothing runs."""
        busy, end = 0.0, self.start
        for span in sorted(self.spans, key=lambda span: span.start):
            busy += max(0.0, span.end - max(span.start, end))
            end = max(end, span.end)
        return 1 - busy / self.length


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", default="8000,256,64", metavar="V,H,B", help="(default 8000,256,64)")


def run(options: argparse.Namespace) -> int:
    if options.device == "cpu":
        raise InputError("timeline shows what a GPU does: choose --device cuda")
    print(measure.machine(options.threads, options.device))
    V, H, B = measure.sizes("--size", options.size, "V,H,B")
    (batch,) = multi30k_batches(V, B, 1)
    lines = []
    for name, how, graphs in (("plain arrays", "plain", 0), ("fused kernels", "fused", 0),
                              ("fused kernels, recorded", "fused", 64)):
        contestant = Contestant(NMT(V, V, H, H, device=options.device, kernels=how), graphs=graphs)
        lines.append(Line(name, *watched(partial(contestant.step, batch))))
        contestant.close()
    for line in lines:
        print(f"{line.name}: {len(line.spans)} pieces of work in {line.length / 1e3:.2f} ms, {line.idle:.0%} idle")
    folder = Path(options.out or rows.RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    write(lines, folder / "timeline.csv")
    draw(lines, [folder / "timeline.png", folder / "timeline.svg"], measure.device_name(options.device))
    return 0


def watched(step: Callable[[], object]) -> tuple[list[Span], float]:
    """All work of the GPU for the middle one of some steps in a row, and when the work before it was done."""
    profiler = require("torch", extra="peers").profiler
    for _ in range(5):
        step()
    with profiler.profile(activities=[profiler.ProfilerActivity.CUDA], acc_events=True) as watch:
        for _ in range(STEPS):
            step()
    spans = sorted((Span(event.name, event.time_range.start, event.time_range.end) for event in watch.events()
                    if event.device_type.name == "CUDA"), key=lambda span: span.start)
    each, rest = divmod(len(spans), STEPS)
    if rest or not each:
        raise ValueError(f"timeline: the profiler saw {len(spans)} pieces of work in {STEPS} steps of the same batch, "
                         "expected as many in each")
    before, middle = spans[:each], spans[each : 2 * each]
    return middle, max(span.end for span in before)


def write(lines: Sequence[Line], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["way", "kind", "name", "start_us", "end_us"])
        for line in lines:
            writer.writerows([line.name, span.kind, span.name, round(span.start - line.start, 2),
                              round(span.end - line.start, 2)] for span in line.spans)


def draw(lines: Sequence[Line], paths: Sequence[Path], device: str) -> None:
    """A panel for each way, on its own scale of time; a lane for each kind of work, as high as the GPU is busy."""
    require("matplotlib", extra="train").use("Agg")
    import matplotlib.pyplot as plt

    kinds = [*KINDS, "other"]
    figure, panels = plt.subplots(len(lines), figsize=(11, 0.6 + 1.7 * len(lines)), squeeze=False,
                                  layout="constrained")
    for axes, line in zip(panels[:, 0], lines, strict=True):
        for lane, kind in enumerate(reversed(kinds)):
            edges, share = busy(line, kind)
            axes.stairs(lane + share, edges / 1e3, baseline=lane, fill=True, color="black")
            axes.axhline(lane, color="black", linewidth=0.3)
        axes.set_yticks(np.arange(len(kinds)) + 0.4, kinds[::-1], fontsize=7)
        axes.set(xlim=(0, line.length / 1e3), ylim=(0, len(kinds)))
        axes.set_title(f"{line.name}: {line.length / 1e3:.2f} ms, {line.idle:.0%} idle", loc="left", fontsize=9)
        axes.tick_params(left=False)
        axes.spines[["top", "right", "left"]].set_visible(False)
    panels[-1, 0].set_xlabel(f"milliseconds of one training step, {device}; a full lane: busy with this all the time")
    for path in paths:
        figure.savefig(path, dpi=150)
    plt.close(figure)


def busy(line: Line, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Edges of WINDOWS windows of its time, in microseconds, and the share of each that work of a kind takes."""
    edges = np.linspace(0, line.length, WINDOWS + 1)
    own = [(span.start - line.start, span.end - line.start) for span in line.spans if span.kind == kind]
    done = sum(np.clip(edges - start, 0, end - start) for start, end in own) if own else 0 * edges
    return edges, np.minimum(np.diff(done) / np.diff(edges), 1)
