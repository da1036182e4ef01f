"""A training step by one worker and by two: strong and weak scaling, and what a model of it says of many.

Each worker has one thread.  One, two, and one process with two threads take turns, `python -m benchmarks.ranks CASE`
each time; batches have the lengths of Multi30k.  Peers take the same steps, after them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from scratchnmt.arrays import keep_freed_memory
from scratchnmt.errors import InputError
from scratchnmt.models.nmt import NMT
from scratchnmt.parallel.ranks import Ranks
from scratchnmt.parallel.workers import in_workers
from scratchnmt.training.step import Part, Place, Recipe, StepAtOnce

from . import measure, peers, rows, workers
from .clock import HostClock, Seconds
from .ours import Contestant, multi30k_batches, share
from .step import turns

SENTENCES = (8, 16, 32, 64, 128)  # of one process, to fit the model
TOGETHER = (32, 64, 128)  # of two
CLIP = 5.0
PEERS = ["torch-best", "torch-ddp"]
PARTS = ("compute", "wait", "sum", "update", "step")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", default="8000,256", metavar="V,H", help="(default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each kind (default 3)")
    parser.add_argument("--steps", type=int, default=16, help="of each batch size in a round (default 16)")


def run(options: argparse.Namespace) -> int:
    V, H = measure.sizes("--sizes", options.sizes, "V,H")
    print(measure.machine(1))
    all_times: dict[tuple[int, int], dict[str, list[float]]] = {}  # workers, sentences -> part -> seconds
    threads: dict[int, list[float]] = {}  # sentences -> seconds of a step by two threads
    for _ in range(options.rounds):
        for count, sizes in ((1, SENTENCES), (2, TOGETHER)):
            for case in _by_workers(count, 1, sizes, options):
                times = all_times.setdefault((count, case["sentences"]), {part: [] for part in (*PARTS, "tokens")})
                for part, seconds in case["times"].items():
                    times[part] += seconds
        for case in _by_workers(1, 2, TOGETHER, options):
            threads.setdefault(case["sentences"], []).extend(case["times"]["step"])
    bytes = 4 * NMT(V, V, H, H).params.flat.size
    middle = {key: {part: median(values) for part, values in times.items()} for key, times in all_times.items()}
    costs = _costs(middle, bytes)
    _print(middle, {sentences: median(seconds) for sentences, seconds in threads.items()}, costs)
    beside = _beside(V, H, options)
    for sentences in TOGETHER:
        seconds = {f"scratchnmt, {count} workers": times["step"] for (count, n), times in middle.items()
                   if n == sentences} | {"scratchnmt, 2 threads": median(threads[sentences])}
        seconds |= {name: median(times) for (name, n), times in beside.items() if n == sentences}
        print(f"\n{sentences} sentences in all")
        measure.print_table(["", "ms", "2 workers are faster by"], [
            [name, f"{1e3 * s:.1f}", f"{s / seconds['scratchnmt, 2 workers']:.2f}"] for name, s in seconds.items()])
        measure.print_headline({name: 1 / s for name, s in seconds.items()})
    workers.print_forecast(costs)
    if options.out:
        rows.save([_row(count, part, times, f"V={V} H={H} B={sentences} multi30k")
                   for (count, sentences), times in all_times.items() for part in PARTS]
                  + [_row(1, "step", {"step": seconds}, f"V={V} H={H} B={sentences} multi30k", threads=2)
                     for sentences, seconds in threads.items()]
                  + [_row_of(name, "step", seconds, f"V={V} H={H} B={sentences} multi30k")
                     for (name, sentences), seconds in beside.items()], options)
        _draw(middle, costs, [Path(options.out) / f"ranks.{kind}" for kind in ("png", "svg")])
    return 0


def _by_workers(count: int, threads: int, sizes: Sequence[int], options: argparse.Namespace) -> list[dict[str, Any]]:
    """What `count` workers measure: times of a step for each of the sizes."""
    case = json.dumps({"workers": count, "sentences": sizes, "sizes": options.sizes, "steps": options.steps})
    environment = os.environ | dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), str(threads))
    done = subprocess.run([sys.executable, "-m", "benchmarks.ranks", case], env=environment, capture_output=True,
                          text=True, check=False, cwd=Path(__file__).parents[1])
    if done.returncode:
        raise InputError(f"{count} workers failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def _row(count: int, part: str, times: Mapping[str, list[float]], sizes: str, threads: int = 1) -> rows.Row:
    name = f"{count} workers" if threads == 1 else f"{threads} threads"
    tokens = round(median(times["tokens"])) if part == "step" and "tokens" in times else None
    return _row_of(name, part, times[part], sizes, tokens)


def _row_of(contestant: str, part: str, seconds: Sequence[float], sizes: str, tokens: int | None = None) -> rows.Row:
    return rows.row([Seconds(s, s) for s in seconds], command="ranks", what=part, contestant=contestant,
                    device=measure.device_name("cpu"), dtype="float32", sizes=sizes, tokens=tokens)


def _beside(V: int, H: int, options: argparse.Namespace) -> dict[tuple[str, int], list[float]]:
    """Seconds of the peers' steps, by name and sentences."""
    keep_freed_memory()
    found: dict[tuple[str, int], list[float]] = {}
    ours = Contestant(NMT(V, V, H, H, dropout=0.2, seed=0))
    for theirs in peers.enter(options.peers, ours, options.threads, multi30k_batches(V, TOGETHER[0], 1)[0]):
        for sentences in TOGETHER:
            step = turns(theirs, multi30k_batches(V, sentences, 8))
            times = [HostClock().time(step).host for _ in range(options.rounds * options.steps + 2)]
            found[theirs.name, sentences] = times[2:]
        theirs.close()
    return found


def _costs(middle: Mapping[tuple[int, int], Mapping[str, float]], bytes: int) -> workers.Costs:
    fixed, each = workers.fit([(n, times["compute"]) for (count, n), times in middle.items() if count == 1])
    update = median(times["update"] for (count, _), times in middle.items() if count == 1)
    summed = median(times["sum"] for (count, _), times in middle.items() if count == 2)
    return workers.Costs(fixed, each, update, summed, bytes)


def _print(middle: Mapping[tuple[int, int], Mapping[str, float]], threads: Mapping[int, float],
           costs: workers.Costs) -> None:
    fixed, each, update, summed = (f"{1e3 * seconds:.3g} ms" for seconds in costs[:4])
    print(f"\nmodel: a step computes {fixed} and {each} for a sentence; norm and optimizer take {update}, "
          f"the sum of two gradients of {costs.bytes / 1e6:.1f} MB {summed}")
    table = []
    for (count, sentences), times in middle.items():
        step, said = times["step"], costs.step(count, sentences / count, workers.NETWORKS[0])
        same, alone = (middle.get((1, n)) for n in (sentences, sentences // count))
        strong = f"{same['step'] / step:.2f}" if count > 1 and same else ""
        weak = f"{count * alone['step'] / step:.2f}" if count > 1 and alone else ""
        table.append([str(count), str(sentences), *(f"{1e3 * times[part]:.1f}" for part in PARTS),
                      f"{times['tokens'] / step:,.0f}", strong, weak,
                      f"{threads[sentences] / step:.2f}" if count > 1 else "", f"{1e3 * said:.1f}",
                      f"{100 * (said / step - 1):+.0f} %"])
    measure.print_table(["workers", "sentences", *(f"{part} ms" for part in PARTS), "tokens/s", "strong", "weak",
                         "times 2 threads", "model ms", "off by"], table)


def _draw(middle: Mapping[tuple[int, int], Mapping[str, float]], costs: workers.Costs, paths: Sequence[Path]) -> None:
    one, two, weak = middle[1, 64]["step"], middle[2, 64]["step"], middle[2, 128]["step"]
    workers.draw(costs, {workers.Way(64, True): (2, one / two), workers.Way(64, False): (2, 2 * one / weak)}, paths)


# in each worker


class _Timed(StepAtOnce):
    """Notes the seconds of each part of a step; before the sum all wait for the last, to tell the two apart."""

    def __init__(self, model: NMT, ranks: Ranks):
        recipe = Recipe(CLIP, seed=0, graphs=0, generator=lambda step, part: np.random.default_rng(step))
        super().__init__(model, lambda module: module.Adam(model.params), recipe, ranks)
        self.times: dict[str, list[float]] = {part: [] for part in PARTS}
        add_up = self.gradients.add_up

        def timed() -> None:
            self._lap("compute")
            ranks.wait()
            self._lap("wait")
            add_up()

        self.gradients.add_up = timed

    def take(self, *step: Any) -> None:
        self.ranks.wait()
        began = self.last = time.perf_counter()
        super().take(*step)
        self._lap("update")
        self.times["step"].append(time.perf_counter() - began)

    def _add_up(self, parts: Sequence[Part], place: Place) -> float:
        nats = super()._add_up(parts, place)
        self._lap("sum")
        return nats

    def _lap(self, part: str) -> None:
        now = time.perf_counter()
        self.times[part].append(now - self.last)
        self.last = now


def _measure(case: Mapping[str, Any], ranks: Ranks) -> list[dict[str, Any]]:
    """The times of `steps` steps for each number of sentences."""
    V, H = measure.sizes("--sizes", case["sizes"], "V,H")
    steps, timings = _Timed(NMT(V, V, H, H, dropout=0.2, seed=0), ranks), []
    for sentences in case["sentences"]:
        steps.times, tokens = {part: [] for part in PARTS}, []
        for number, batch in enumerate(islice(cycle(multi30k_batches(V, sentences, 8)), case["steps"] + 2)):
            tokens.append(int(batch.tgt_lengths.sum()))
            part = Part(ranks.rank, share(batch, ranks.rank, ranks.size))
            steps.take([part], sentences, Place(number + 1, 1, tokens[-1]), 1e-3)
        timings.append({"sentences": sentences, "times": {part: seconds[2:] for part, seconds in steps.times.items()}
                        | {"tokens": tokens[2:]}})
    return timings


if __name__ == "__main__":
    keep_freed_memory()
    case = json.loads(sys.argv[1])
    print(json.dumps(in_workers(lambda ranks: _measure(case, ranks), case["workers"], stopped="not measured")))
