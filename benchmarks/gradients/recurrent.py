"""Norms of the gradient at each step back: plain RNNs, LSTMs with forget bias 0 and 1, untrained and trained.

The task is to name the first of STEPS drawn symbols after the last one, so that the loss is at the end alone and what
arrives at step t has come all the way.  Trained: until 99 % are right, or to the limit.  Means over SEEDS networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from .. import measure
from ..pictures import picture
from . import Point, draw_lines
from .nets import Net, recall, train

STEPS, SYMBOLS, H, BATCH, SEEDS = 20, 8, 32, 64, 5
LIMIT, PIECE = 4000, 100  # training steps at most; between two looks at the accuracy
NETS = {"plain RNN": (None, 1.0), "plain RNN, Wh halved": (None, 0.5),  # forget bias, factor of Wh
        "LSTM, forget bias 0": (0.0, 1.0), "LSTM, forget bias 1": (1.0, 1.0)}
UNTRAINED, TRAINED = "untrained", "trained"


def measured(limit: int | None) -> list[Point]:
    points, table = [], []
    test = next(recall(STEPS, 512, seed=100))
    for name, (bias, factor) in NETS.items():
        nets = [Net(SYMBOLS + 1, H, bias, seed) for seed in range(SEEDS)]
        for net in nets:
            net.params["Wh"][...] *= factor
        untrained = norms(nets, test, name, UNTRAINED)
        steps = [train_until_right(net, test, limit or LIMIT) for net in nets]
        trained = norms(nets, test, name, TRAINED)
        points += untrained + trained
        table.append([name, f"{median(steps):,.0f}", f"{median(net.accuracy(test) for net in nets):.2f}",
                      f"{per_step(untrained):.2f}", f"{per_step(trained):.2f}"])
        print(f"{name}: steps {steps}", flush=True)
    measure.print_table(["network", "steps", "right", "a step back, untrained", "trained"], table)
    print(f"a step back: the factor of the norm of dh or dc, the geometric mean over {STEPS - 2} steps")
    return points


def train_until_right(net: Net, test: tuple, limit: int) -> int:
    """The number of training steps."""
    batches, steps = recall(STEPS, BATCH, seed=2), 0
    while steps < limit and net.accuracy(test) < 0.99:
        train(net, batches, min(PIECE, limit - steps), learning_rate=0.003)
        steps += min(PIECE, limit - steps)
    return steps


def norms(nets: Sequence[Net], test: tuple, name: str, when: str) -> list[Point]:
    """Of dc, or of dh of a plain RNN, at each step back, relative to the last step but one: their geometric mean."""
    logs = []
    for net in nets:
        _, dh, dc = net.backward(net.forward(*test)[1])
        logs.append(np.log((dc if net.lstm else dh)[-2::-1]))
    means = np.exp(np.mean(np.array(logs) - np.array(logs)[:, :1], axis=0))
    what = "dc" if nets[0].lstm else "dh"
    return [Point(when, f"{name}: {what}", k, y) for k, y in enumerate(means.tolist(), start=1)]


def per_step(points: Sequence[Point]) -> float:
    return (points[-1].y / points[0].y) ** (1 / (len(points) - 1))


def draw(points: Sequence[Point], paths: Sequence[Path]) -> None:
    with picture(paths, 2) as places:
        for place, when in zip(places, (UNTRAINED, TRAINED), strict=True):
            draw_lines(place.semilogy, [point for point in points if point.panel == when])
            place.set_title(when, fontsize=9)
            place.set_xlabel("steps back from the loss")
            place.set_xticks(range(1, STEPS, 3))
        places[0].set_ylabel("norm of the gradient, relative")
        places[0].legend(frameon=False, fontsize=7, loc="lower left")
