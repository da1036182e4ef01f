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

from collections.abc import Sequence
from math import ceil, log2
from pathlib import Path
from typing import NamedTuple

from scratchnmt.errors import require

from . import measure
from .pictures import _figure, _style

PAIRS = 1e9  # of the corpus that the table is about
PER_MACHINE = 8  # workers
WORKERS = (1, 2, 8, 64, 512)
EACH, ALL = 64, 4096  # sentences of a step: of each worker, or of all together


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


def gain(costs: Costs, workers: int, sentences: float, network: Network) -> float:
    """Sentences a second, as a multiple of those of one worker with as many sentences in all, or, if that is fewer, EACH."""
    return workers * sentences / costs.step(workers, sentences, network) / _alone(costs, EACH)


def _alone(costs: Costs, sentences: float) -> float:
    return sentences / costs.step(1, sentences, NETWORKS[0])


def fit(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """`fixed` and `each` of (1) from (sentences, seconds), by least squares of the relative error."""
    import numpy as np

    sentences, seconds = np.array(points, float).T
    fixed, each = np.linalg.lstsq(np.stack([1 / seconds, sentences / seconds], axis=1), np.ones(len(points)), rcond=None)[0]
    return float(fixed), float(each)


def print_forecast(costs: Costs) -> None:
    """Tables for EACH sentences a worker, and for ALL together."""
    for what, share in ((f"{EACH} sentences a worker", lambda workers: EACH),
                        (f"{ALL} sentences in all", lambda workers: ALL / workers)):
        print(f"\n{what}; a pass over {PAIRS:,.0f} pairs")
        measure.print_table(["workers", "network", "step", "of it the sum", "times one", "efficiency", "hours", "over the wire"],
                            [_forecast(costs, workers, share(workers), network) for network in NETWORKS
                             for workers in WORKERS if workers > PER_MACHINE or network is NETWORKS[0]])


def _forecast(costs: Costs, workers: int, sentences: float, network: Network) -> list[str]:
    step = costs.step(workers, sentences, network)
    summed = step - costs.compute(sentences) - costs.update / min(workers, PER_MACHINE)
    steps, many = PAIRS / (workers * sentences), gain(costs, workers, sentences, network)
    wire = steps * 2 * (machines(workers) - 1) * costs.bytes
    return [str(workers), network.name if workers > PER_MACHINE else "none: one machine", f"{1e3 * step:,.0f} ms",
            f"{100 * max(summed, 0) / step:.0f} %", f"{many:.3g}", f"{100 * many / workers:.0f} %",
            f"{steps * step / 3600:,.0f}", f"{wire / 1e12:,.0f} TB" if wire else "0"]


def draw(costs: Costs, measured: Sequence[tuple[str, int, float]], paths: Sequence[Path]) -> None:
    """How many times one worker's sentences a second, against the workers; measured: what, workers, times."""
    require("matplotlib", extra="train").use("Agg")
    counts = [2**k for k in range(10)]
    with _figure(paths, 2) as axes:
        for place, (title, share) in zip(axes, ((f"{EACH} sentences a worker", lambda n: EACH),
                                                (f"{ALL:,} sentences in all", lambda n: ALL / n))):
            place.loglog(counts, counts, color="0.75", linewidth=1, label="as many times as workers")
            for k, network in enumerate(NETWORKS):
                times = [gain(costs, n, share(n), network) for n in counts]
                place.loglog(counts, times, label=f"model, {network.name}", **_style(k) | {"markersize": 3})
            place.set_title(title, fontsize=9)
            place.set_xlabel(f"workers, {PER_MACHINE} on a machine")
            place.set_xticks(counts, list(map(str, counts)), rotation=45)
            place.set_yticks(counts, list(map(str, counts)))
            place.minorticks_off()
        for k, (what, workers, times) in enumerate(measured):
            axes[0].plot(workers, times, "x+"[k % 2], color="black", markersize=9, label=f"measured, {what}")
        axes[0].set_ylabel("times the sentences a second of one")
        axes[0].legend(frameon=False, fontsize=7)
