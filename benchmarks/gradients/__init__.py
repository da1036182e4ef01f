"""Where the gradient goes: back through time, through the decoder's paths, truncated, and clipped.

recurrent: the norm of the gradient at each step back, for a plain RNN and an LSTM, untrained and trained.
paths: what each path of the decoder carries, with and without attention and input feeding, by the textbook.
truncated: how far the gradient of truncated backpropagation through time is from the true one.
clipping: the gradient's norm over a real training, and what clipping changes.
Each part writes gradients-PART.csv and gradients-PART.png to --out (default: benchmarks/results).
"""

from __future__ import annotations

import argparse
import csv
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scratchnmt.errors import InputError, require

from .. import measure, rows
from ..pictures import style

PARTS = ["recurrent", "paths", "truncated", "clipping"]


class Point(NamedTuple):
    """One number of a picture."""

    panel: str
    line: str
    x: float | str
    y: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", type=lambda text: text.split(","), default=PARTS, metavar="PART,...",
                        help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--steps", type=int, metavar="N",
                        help="training steps of each network (default: what it takes)")


def run(options: argparse.Namespace) -> int:
    for part in options.only:
        if part not in PARTS:
            raise InputError(f"--only {part!r} is not known: expected some of {', '.join(PARTS)}")
    if options.steps is not None and options.steps < 1:
        raise InputError(f"--steps is {options.steps}, expected at least 1")
    require("matplotlib", extra="train").use("Agg")
    folder = Path(options.out or rows.RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    print(measure.machine(options.threads))
    for part in options.only:
        module = importlib.import_module(f".{part}", __name__)
        points = module.measured(options.steps)
        write(points, folder / f"gradients-{part}.csv")
        module.draw(points, [folder / f"gradients-{part}.png"])
    return 0


def write(points: Sequence[Point], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Point._fields)
        writer.writerows([panel, line, x, f"{y:.4g}"] for panel, line, x, y in points)


def draw_lines(plot: Callable[..., Any], points: Sequence[Point], **options: Any) -> None:
    """Each line of the points, by a function of the axes, such as `semilogy`."""
    for k, line in enumerate(dict.fromkeys(point.line for point in points)):
        own = [(point.x, point.y) for point in points if point.line == line]
        plot(*zip(*own, strict=True), label=line, **style(k), **options)
