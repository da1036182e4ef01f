"""Memory of a long training: what it holds at the last step is what it held at an early one.

    python tests/stress/memory.py --steps 20000
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from scratchnmt.arrays import keep_freed_memory
from scratchnmt.cli.demo import write_corpus
from scratchnmt.cli.prepare import prepare
from scratchnmt.data.toy import toy_corpus
from scratchnmt.files.run_folder import RunFolder
from scratchnmt.training import Progress, train

ALLOWED = 0.02


class Watch(Progress):
    """Notes the resident memory at some steps."""

    def __init__(self, at: list[int]):
        super().__init__(total_steps=None, log_every=10**9)
        self.at, self.megabytes = at, {}
        self.began = time.perf_counter()

    def update(self, step: int, *rest) -> None:
        super().update(step, *rest)
        if step in self.at:
            self.megabytes[step] = resident()
            print(f"step {step:,}: {self.megabytes[step]:.1f} MB, {time.perf_counter() - self.began:.0f} s", flush=True)

    def say(self, line: str) -> None:
        """Validations are not of interest."""


def resident() -> float:
    """Resident memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main(steps: int, first: int) -> int:
    keep_freed_memory()  # as the command line does
    with tempfile.TemporaryDirectory() as folder:
        files = write_corpus(Path(folder), toy_corpus(train=2000, valid=50, test=10))
        watch = Watch([first, *range(steps // 5, steps + 1, steps // 5)])
        with RunFolder(f"{folder}/run") as run:
            ready = prepare(run, {**files, "vocab": "word", "embed_size": 64, "hidden_size": 64, "patience": 0,
                                  "max_epochs": None, "max_steps": steps, "valid_every": 500, "save_every": 100})
            train(ready.model, ready.data, ready.options, run, progress=watch)
    growth = watch.megabytes[steps] / watch.megabytes[first] - 1
    print(f"from step {first:,} to step {steps:,}: {100 * growth:+.2f} % (allowed: {100 * ALLOWED:g} %)")
    return int(growth > ALLOWED)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=1000)
    options = parser.parse_args()
    sys.exit(main(options.steps, options.first))
