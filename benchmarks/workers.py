"""What a training step by many processes takes, from what few of them took: a model of it, as a table and a picture.

    step   = compute + update + sum
    compute = fixed + each * sentences of a worker                                                    (1)
    update  = update of one / workers on a machine      each moves its part of the weights           (2)
    sum     = sum of two / 2 * workers on a machine     all gradients go through the same memory     (3)
            + 2 (M - 1) / M * bytes / bandwidth + 2 log2(M) * latency       between M machines       (4)

(4) is the least that an all-reduce can take: a reduce-scatter and an all-gather (Thakur, Rabenseifner & Gropp 2005,
section 4.5).  Nothing of it happens beside the computing, and nobody waits for anybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, log2
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scratchnmt.errors import require

from . import measure
from .pictures import picture, style

PAIRS = 1e9  # of the corpus that the table is about
PER_MACHINE = 8  # workers
WORKERS = (1, 2, 8, 64, 512)


class Network(NamedTuple):
    name: str
    bandwidth: float  # bytes a second, of a machine, each way
    latency: float  # seconds


NETWORKS = (Network("10 Gbit/s", 1.25e9, 20e-6), Network("100 Gbit/s", 12.5e9, 5e-6))


class Costs(NamedTuple):
    """Seconds, of one worker if nothing else is said."""

    fixed: float  # of a step, however few its sentences
    each: float  # of a sentence
    update: float  # the norm of the gradient and the optimizer
    sum: float  # of the gradients of two on a machine
    bytes: int  # of the gradient

    def compute(self, sentences: float) -> float:
        return self.fixed + self.each * sentences  # (1)

    def between(self, machines: int, network: Network) -> float:
        bytes = 2 * (machines - 1) / machines * self.bytes
        return bytes / network.bandwidth + 2 * ceil(log2(machines)) * network.latency  # (4)

    def step(self, workers: int, sentences: float, network: Network) -> float:
        """Of so many workers with so many sentences each."""
        here = min(workers, PER_MACHINE)
        shared = self.sum / 2 * here if here > 1 else 0.0  # (3)
        return self.compute(sentences) + self.update / here + shared + self.between(machines(workers), network)


def machines(workers: int) -> int:
    return -(-workers // PER_MACHINE)


class Way(NamedTuple):
    """How sentences are shared out: so many to each worker, or so many to all together."""

    sentences: int
    together: bool

    def __str__(self) -> str:
        return f"{self.sentences:,} sentences {'in all' if self.together else 'a worker'}"

    def each(self, workers: int) -> float:
        return self.sentences / workers if self.together else self.sentences

    def gain(self, costs: Costs, workers: int, network: Network) -> float:
        """Sentences a second, as a multiple of those of one worker."""
        alone, many = (n * self.each(n) / costs.step(n, self.each(n), network) for n in (1, workers))
        return many / alone


WAYS = (Way(64, False), Way(64, True), Way(4096, True))


def fit(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """`fixed` and `each` of (1) from (sentences, seconds), by least squares of the relative error."""
    sentences, seconds = np.array(points, float).T
    shares = np.stack([1 / seconds, sentences / seconds], axis=1)
    fixed, each = np.linalg.lstsq(shares, np.ones(len(points)), rcond=None)[0]
    return float(fixed), float(each)


def print_forecast(costs: Costs) -> None:
    """A table for each of WAYS, and from where on data parallelism does not pay."""
    for way in WAYS:
        print(f"\n{way}; a pass over {PAIRS:,.0f} pairs")
        measure.print_table(["workers", "network", "step", "of it the sum", "times one", "efficiency", "hours",
                             "over the wire"],
                            [_forecast(costs, way, workers, network) for network in NETWORKS
                             for workers in WORKERS
                             if way.each(workers) >= 1 and (workers > PER_MACHINE or network is NETWORKS[0])])
    print()
    for network in NETWORKS:
        many = WORKERS[-1]
        rest, between = costs.step(many, 0, network), costs.between(machines(many), network)
        print(f"{many} workers, {network.name}: with fewer than {rest / costs.each:.0f} sentences each, more than half "
              f"of a step is what no sentence needs; the sum between machines takes {1e3 * between:.1f} ms")


def _forecast(costs: Costs, way: Way, workers: int, network: Network) -> list[str]:
    sentences = way.each(workers)
    step, many = costs.step(workers, sentences, network), way.gain(costs, workers, network)
    summed = step - costs.compute(sentences) - costs.update / min(workers, PER_MACHINE)
    steps = PAIRS / (workers * sentences)
    wire = steps * 2 * (machines(workers) - 1) * costs.bytes  # both ways of (4), all machines
    return [str(workers), network.name if workers > PER_MACHINE else "none: one machine", f"{1e3 * step:,.0f} ms",
            f"{100 * max(summed, 0) / step:.0f} %", f"{many:.3g}", f"{100 * many / workers:.0f} %",
            f"{steps * step / 3600:,.0f}", f"{wire / 1e12:,.0f} TB" if wire else "0"]


def draw(costs: Costs, measured: Mapping[Way, tuple[int, float]], paths: Sequence[Path]) -> None:
    """The share of as many times the sentences a second as workers; measured: workers, and how many times."""
    require("matplotlib", extra="train").use("Agg")
    counts = [2**k for k in range(WORKERS[-1].bit_length())]
    with picture(paths, len(WAYS)) as axes:
        for place, way in zip(axes, WAYS, strict=True):
            for k, network in enumerate(NETWORKS):
                shares = [(n, 100 * way.gain(costs, n, network) / n) for n in counts if way.each(n) >= 1]
                place.semilogx(*zip(*shares, strict=True), label=f"model, {network.name}",
                               **style(k) | {"markersize": 3})
            if way in measured:
                workers, times = measured[way]
                place.plot(workers, 100 * times / workers, "x", color="black", markersize=10, label="measured")
            place.set_title(way, fontsize=9)
            place.set_xlabel(f"workers, {PER_MACHINE} on a machine")
            place.set_xticks(counts, list(map(str, counts)), rotation=45)
            place.minorticks_off()
            place.set_ylim(0, 110)
        axes[0].set_ylabel("efficiency, %")
        axes[0].legend(frameon=False, fontsize=8, loc="lower left")
