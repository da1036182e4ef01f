"""What a GPU does during one training step: every kernel on a line of time, before and after it is recorded.

Each way of taking the step is watched by PyTorch's profiler, which sees all CUDA work of the process, CuPy's too.
Idle is the share of a step during which nothing runs on the GPU.  Writes timeline.png, timeline.svg and
timeline.csv to --out.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from scratchnmt.errors import InputError, require
from scratchnmt.models.nmt import NMT

from . import measure, rows
from .ours import Contestant, multi30k_batches

STEPS = 3  # watched; the middle one is shown
KINDS = {"products": ("gemm", "cutlass", "splitk", "cublas"), "LSTM gates": ("lstm_gates",),
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
    spans: list[Span]

    @property
    def length(self) -> float:
        return max(span.end for span in self.spans) - min(span.start for span in self.spans)

    @property
    def idle(self) -> float:
        """The share of its length during which nothing runs."""
        busy, end = 0.0, float("-inf")
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
    V, H, B = map(int, options.size.split(","))
    (batch,) = multi30k_batches(V, B, 1)
    lines = []
    for name, how, graphs in (("plain arrays", "plain", 0), ("fused kernels", "fused", 0),
                              ("fused kernels, recorded", "fused", 64)):
        contestant = Contestant(NMT(V, V, H, H, device=options.device, kernels=how), graphs=graphs)
        lines.append(Line(name, watched(lambda: contestant.step_loss(batch))))
        contestant.close()
    for line in lines:
        print(f"{line.name}: {len(line.spans)} pieces of work in {line.length / 1e3:.2f} ms, {line.idle:.0%} idle")
    folder = Path(options.out or rows.RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    write(lines, folder / "timeline.csv")
    draw(lines, [folder / "timeline.png", folder / "timeline.svg"], measure.device_name(options.device))
    return 0


def watched(step: Callable[[], object]) -> list[Span]:
    """All work of the GPU during one step, after some that do not count."""
    profiler = require("torch", extra="peers").profiler
    for _ in range(5):
        step()
    found: list[list[Span]] = []
    for _ in range(STEPS):
        with profiler.profile(activities=[profiler.ProfilerActivity.CUDA]) as watch:
            step()
        events = [event for event in watch.events() if event.device_type.name == "CUDA"]
        found.append([Span(event.name, event.time_range.start, event.time_range.end) for event in events])
    return sorted(found, key=lambda spans: Line("", spans).length)[STEPS // 2]


def write(lines: Sequence[Line], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["way", "kind", "name", "start_us", "end_us"])
        for line in lines:
            first = min(span.start for span in line.spans)
            writer.writerows([line.name, span.kind, span.name, round(span.start - first, 2), round(span.end - first, 2)]
                             for span in line.spans)


def draw(lines: Sequence[Line], paths: Sequence[Path], device: str) -> None:
    """A panel for each way, a lane for each kind of work, all on one scale of time."""
    require("matplotlib", extra="train").use("Agg")
    import matplotlib.pyplot as plt

    kinds = [*KINDS, "other"]
    figure, panels = plt.subplots(len(lines), figsize=(11, 0.6 + 1.5 * len(lines)), sharex=True, squeeze=False,
                                  layout="constrained")
    for axes, line in zip(panels[:, 0], lines):
        first = min(span.start for span in line.spans)
        for lane, kind in enumerate(reversed(kinds)):
            axes.broken_barh([((s.start - first) / 1e3, (s.end - s.start) / 1e3) for s in line.spans
                              if s.kind == kind], (lane - 0.4, 0.8), facecolor="black")
        axes.set_yticks(range(len(kinds)), kinds[::-1], fontsize=7)
        axes.set_ylim(-0.6, len(kinds) - 0.4)
        axes.set_title(f"{line.name}: {line.length / 1e3:.2f} ms, {line.idle:.0%} idle", loc="left", fontsize=9)
        axes.grid(axis="x", linewidth=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1, 0].set_xlabel(f"milliseconds of one training step, {device}")
    for path in paths:
        figure.savefig(path, dpi=150)
    plt.close(figure)
