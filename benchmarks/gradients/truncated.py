"""How far the gradient of truncated backpropagation through time is from the true one, by the steps that are kept.

The text is read in pieces of k steps: the state goes on from one to the next, the gradient does not come back.  Two
LSTMs: one predicts the next word of the demo's English sentences, one after the other; one has the task of `recurrent`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from scratchnmt.data.toy import toy_corpus
from scratchnmt.data.vocab import WordVocabulary

from .. import measure
from ..pictures import picture
from . import Point, draw_lines
from .nets import Batch, Net, recall, train
from .recurrent import SYMBOLS, train_until_right

T, B, H = 64, 32, 64
KEPT = (1, 2, 4, 8, 16, 32)
ERROR, COSINE = "relative error", "cosine"


def measured(steps: int | None) -> list[Point]:
    vocabulary, text = sentences()
    batches = lambda seed: pieces(text, np.random.default_rng(seed))
    points = []
    net = Net(len(vocabulary), H, forget_bias=1.0)
    points += errors(net, next(batches(1)), "next word, untrained")
    train(net, batches(2), steps or 1500, learning_rate=0.003)
    words, targets = next(batches(1))
    print(f"next word: {net.forward(words, targets)[0] / targets.size:.2f} nats a word after {steps or 1500:,} steps")
    points += errors(net, next(batches(1)), "next word, trained")

    net, test = Net(SYMBOLS + 1, 32, forget_bias=1.0), next(recall(20, 512, seed=100))
    points += errors(net, test, "first of 20 symbols, untrained")
    train_until_right(net, test, steps or 4000)
    points += errors(net, test, "first of 20 symbols, trained")
    table = {point.line: [point.line] for point in points}
    for point in points:
        table[point.line].append(f"{point.y:.3f}")
    measure.print_table(["", *(f"{what} {k}" for k in KEPT for what in ("error", "cosine"))], list(table.values()))
    return points


def sentences() -> tuple[WordVocabulary, np.ndarray]:
    """The words of the demo's sentences as one text, (N,); </s> between two sentences."""
    lines = toy_corpus().train.src
    vocabulary = WordVocabulary.build(lines, min_count=1)
    return vocabulary, np.array([word for line in lines for word in (*vocabulary.encode(line), 2)])


def pieces(text: np.ndarray, rng: np.random.Generator) -> Iterator[Batch]:
    """T words from B places of the text, and the word after each."""
    while True:
        at = rng.integers(0, len(text) - T - 1, B) + np.arange(T)[:, None]
        yield text[at], text[at + 1]


def errors(net: Net, batch: Batch, line: str) -> list[Point]:
    """|truncated - true| / |true| of the weights in the loop, and the cosine of the two, for each number of steps."""
    _, cache = net.forward(*batch)
    loop = lambda keep: np.concatenate([net.backward(cache, keep)[0][name].ravel() for name in ("Wx", "Wh", "b")])
    true, points = loop(None), []
    for k in KEPT:
        g = loop(k)
        points.append(Point(ERROR, line, k, float(np.linalg.norm(g - true) / np.linalg.norm(true))))
        points.append(Point(COSINE, line, k, float(g @ true / np.linalg.norm(g) / np.linalg.norm(true))))
    return points


def draw(points: Sequence[Point], paths: Sequence[Path]) -> None:
    with picture(paths, 2) as places:
        for place, what in zip(places, (ERROR, COSINE), strict=True):
            draw_lines(place.semilogx, [point for point in points if point.panel == what], base=2)
            place.set_xlabel("steps that are kept")
            place.set_xticks(KEPT, list(map(str, KEPT)))
            place.set_ylabel(f"{what} of the gradient")
        places[0].legend(frameon=False, fontsize=7, loc="lower left")
