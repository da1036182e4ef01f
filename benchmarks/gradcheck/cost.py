"""What our checker costs: all ops, a whole model, the start of pytest."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np

from scratchnmt.models.nmt import NMT
from scratchnmt.selfcheck import CASES, LAYERS, check_model

from .. import measure
from ..ours import random_batch
from .tables import Printer

VOCAB, HIDDEN = 3600, 256  # five million weights
SENTENCES, STEPS = 4, 8
PLUGIN = "scratchnmt.gradcheck.plugin"
STARTS = 21  # of Python or pytest


def measured(checkers: Sequence, options: argparse.Namespace, printer: Printer) -> None:
    model = NMT(VOCAB, VOCAB, HIDDEN, HIDDEN, dtype="float64", seed=0)
    printer.title("What ours costs")
    rows = [every_element("every element of every op", CASES, 60),
            every_element("every element of every op and layer", (*CASES, *LAYERS), 60),
            whole_model(model), plugin_import(), pytest_start()]
    printer.table(["", "median", "quartiles", "to be below"], rows)


def every_element(what: str, cases: Sequence, limit: float) -> list[str]:
    reports = []
    seconds = repeat(lambda: reports.extend(case.report() for case in cases), 3)
    assert all(report.ok for report in reports)
    elements = sum(report.elements for report in reports[: len(cases)])
    return row(f"{what}: {len(cases)} checks, {elements:,} elements", seconds, "s", limit)


def whole_model(model: NMT) -> list[str]:
    batch = random_batch(VOCAB, VOCAB, SENTENCES, STEPS, STEPS)
    seconds = repeat(lambda: check_model(model, batch.src, batch.src_lengths, batch.tgt), 3)
    weights = sum(array.size for array in model.params.values())
    return row(f"check_directional, NMT of {weights:,} weights in {len(model.params)} arrays, {SENTENCES} "
               f"sentences of up to {STEPS} words", seconds, "s", 3)


def plugin_import() -> list[str]:
    """What -X importtime says of the plugin, in a process that has imported pytest."""
    command = [sys.executable, "-X", "importtime", "-c", f"import pytest, {PLUGIN}"]

    def seconds() -> float:
        said = subprocess.run(command, check=True, stderr=subprocess.PIPE, text=True).stderr
        return int(re.search(rf"(\d+) \| +{re.escape(PLUGIN)}$", said, re.MULTILINE)[1]) / 1e6
    return row("import of the pytest plugin", np.array([seconds() for _ in range(STARTS)]), "ms", 10)


def pytest_start() -> list[str]:
    """`pytest -VV` in an empty folder, which loads all plugins: with ours and without, in turns."""
    command = [sys.executable, "-m", "pytest", "--version", "--version"]
    with tempfile.TemporaryDirectory() as folder:
        def start(*options: str) -> Callable[[], object]:
            return lambda: subprocess.run([*command, *options], check=True, cwd=folder, capture_output=True)

        times = measure.alternate({"with": start(), "without": start("-p", "no:scratchnmt.gradcheck.plugin")}, STARTS)
    with_it, without = (np.array([s.device for s in times[name]]) for name in ("with", "without"))
    return row(f"start of pytest with the plugin, less that without ({1e3 * np.median(without):.0f} ms)",
               with_it - without, "ms", 10)


def repeat(work: Callable[[], object], rounds: int) -> np.ndarray:
    """Seconds of each call after a first one that does not count."""
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return np.array(times)


def row(what: str, seconds: np.ndarray, unit: str, limit: float) -> list[str]:
    low, middle, high = np.percentile(seconds, [25, 50, 75]) * (1e3 if unit == "ms" else 1)
    return [what, f"{middle:.2f} {unit}", f"{low:.2f} to {high:.2f}", f"{limit:.0f} {unit}"]
