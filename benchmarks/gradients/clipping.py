"""The norm of the gradient over a real training, and what clipping it changes.

A small model of the default kind learns the demo's sentences, by SGD and by Adam, each with a moderate and a large
learning rate, without clipping and with several thresholds.  The norm is that of the mean gradient of a sentence before
clipping, as `scratchnmt train --clip` takes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scratchnmt import NMT
from scratchnmt.data.corpus import Corpus, Epoch
from scratchnmt.data.encode import encode_parallel
from scratchnmt.data.toy import toy_corpus
from scratchnmt.data.vocab import WordVocabulary
from scratchnmt.optim import SGD, Adam, clip_factor, global_norm

from .. import measure
from ..pictures import picture, style
from . import Point

SIZE, PAIRS, EPOCHS, BATCH = 64, 6000, 3, 32
WAYS = {"SGD, rate 0.5": (SGD, 0.5), "SGD, rate 2": (SGD, 2.0),
        "Adam, rate 0.004": (Adam, 0.004), "Adam, rate 0.02": (Adam, 0.02)}
THRESHOLDS = (math.inf, 5.0, 1.0, 0.2)
DIVERGED = 1000.0  # a perplexity: a word drawn from the vocabulary has less
SHARES = (50, 90, 99, 100)  # per cent
NORM, PERPLEXITY = "norm", "perplexity"


class Run(NamedTuple):
    norms: np.ndarray  # (steps,)
    perplexity: float  # of held-out sentences, at the end

    def text(self, threshold: float) -> str:
        quality = f"{self.perplexity:.2f}" if self.perplexity < DIVERGED else "diverged"
        return f"{quality} ({np.mean(self.norms > threshold):.0%})" if threshold < math.inf else quality


def measured(steps: int | None) -> list[Point]:
    train, valid, sizes = corpora()
    points, norms, quality = [], [], []
    for name, (make, rate) in WAYS.items():
        runs = {threshold: trained(train, valid, sizes, make, rate, threshold, steps) for threshold in THRESHOLDS}
        best = min(runs, key=lambda threshold: runs[threshold].perplexity)
        line, tenth = f"{name}, {threshold_text(best)}", max(1, len(runs[best].norms) // 10)
        parts = runs[best].norms[:tenth], runs[best].norms[tenth:]
        norms.append([line, *(f"{np.percentile(part, share):.1f}" for part in parts for share in SHARES)])
        quality.append([name, *(run.text(threshold) for threshold, run in runs.items())])
        points += [Point(NORM, line, step, float(norm)) for step, norm in enumerate(runs[best].norms, start=1)]
        points += [Point(PERPLEXITY, name, threshold, run.perplexity) for threshold, run in runs.items()]
        print(name, flush=True)
    measure.print_table(["perplexity (steps that were clipped)", *map(threshold_text, THRESHOLDS)], quality)
    shares = [f"{share} %" if share < 100 else "largest" for share in SHARES]
    measure.print_table(["norm, of the best of these", *(f"first tenth: {share}" for share in shares),
                         *(f"later: {share}" for share in shares)], norms)
    return points


def threshold_text(threshold: float) -> str:
    return f"clip {threshold:g}" if threshold < math.inf else "no clipping"


def corpora() -> tuple[Corpus, Corpus, tuple[int, int]]:
    """Sentences to train on, to validate on; the sizes of the vocabularies."""
    corpus = toy_corpus(train=PAIRS)
    vocabularies = [WordVocabulary.build(side, min_count=1) for side in corpus.train]
    train, valid = (encode_parallel(*lines, *vocabularies)[0] for lines in (corpus.train, corpus.valid))
    return train, valid, (len(vocabularies[0]), len(vocabularies[1]))


def trained(train: Corpus, valid: Corpus, sizes: tuple[int, int], make: type, rate: float, threshold: float,
            steps: int | None) -> Run:
    model = NMT(*sizes, SIZE, SIZE, init="glorot", seed=0)
    optimizer, grads, norms = make(model.params, rate), model.params.like(), []
    epochs = [numbers for epoch in range(EPOCHS) for numbers in Epoch(train, BATCH, "sentences", 1, [0, epoch])]
    for numbers in epochs[:steps]:
        batch = train.batch(numbers)
        _, cache = model.forward(batch.src, batch.src_lengths, batch.tgt, out=grads)
        model.backward(cache, out=grads)
        norms.append(global_norm(grads) / len(numbers))
        if math.isfinite(norms[-1]):
            optimizer.step(grads, clip_factor(norms[-1], threshold) / len(numbers))
    batch = valid.batch(range(len(valid)))
    words = int(batch.tgt_lengths.sum())
    return Run(np.array(norms), math.exp(min(model.nll(batch.src, batch.src_lengths, batch.tgt) / words, 99)))


def draw(points: Sequence[Point], paths: Sequence[Path]) -> None:
    with picture(paths, 2) as (left, right):
        for k, line in enumerate(dict.fromkeys(point.line for point in points if point.panel == NORM)):
            norms = [point.y for point in points if point.line == line]
            piece = max(1, len(norms) // 40)
            middles = [float(np.median(norms[i : i + piece])) for i in range(0, len(norms), piece)]
            left.semilogy(norms, ",", color="0.75", zorder=0)
            left.semilogy(range(0, len(norms), piece), middles, label=line, **style(k) | {"markersize": 3})
        for k, name in enumerate(WAYS):
            quality = [min(point.y, DIVERGED) for point in points if (point.panel, point.line) == (PERPLEXITY, name)]
            right.semilogy(quality, label=name, **style(k))
        left.set_xlabel("step")
        left.set_ylabel("norm of the gradient before clipping")
        left.legend(frameon=False, fontsize=7)
        right.set_xticks(range(len(THRESHOLDS)), list(map(threshold_text, THRESHOLDS)), fontsize=8)
        right.set_ylabel(f"perplexity of held-out sentences; {DIVERGED:,.0f}: diverged", fontsize=8)
        right.legend(frameon=False, fontsize=7)
