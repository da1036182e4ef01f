"""A line for each configuration of the model: what it computes, to the last bit, to compare two states of the code by.

    python -m benchmarks fingerprint > before.txt        # change the code, then
    python -m benchmarks fingerprint | diff before.txt -

Each trains for some steps on drawn sentences, with dropout, in float32 and float64; the line has the last loss and
checksums of the weights and of what greedy and beam search then find, with scores and attention.  One BLAS thread,
whatever --threads says; another machine or NumPy has other bits.
"""

from __future__ import annotations

import argparse
import hashlib
from typing import Any

import numpy as np

from scratchnmt import NMT
from scratchnmt.errors import require
from scratchnmt.models.config import PRESETS
from scratchnmt.optim import Adam, clip_global_norm
from scratchnmt.search import beam_search, greedy_search, sample
from scratchnmt.selfcheck import MODELS, example_batch

SIZES = {"src_vocab_size": 11, "tgt_vocab_size": 12, "embed_size": 6, "hidden_size": 6}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=10, help="of training (default 10)")


def run(options: argparse.Namespace) -> int:
    models = {**{f"preset {name}": choices for name, choices in PRESETS.items()},
              **{case.name: case.choices for case in MODELS}}
    with require("threadpoolctl", extra="train").threadpool_limits(1, user_api="blas"):
        for name, choices in models.items():
            for dtype in ("float32", "float64"):
                print(f"{name}, {dtype}: {line(choices, dtype, options.steps)}", flush=True)
    return 0


def line(choices: dict[str, Any], dtype: str, steps: int) -> str:
    model = NMT(**SIZES, dtype=dtype, init="glorot", **{"dropout": 0.2} | choices)
    optimizer = Adam(model.params, 0.02)
    loss = 0.0
    for step in range(steps):
        rng = np.random.default_rng(step)
        batch = example_batch(rng.integers(1, 9, 5), rng.integers(1, 9, 5), step)
        loss, cache = model.forward(*batch, rng=rng)
        grads = model.backward(cache)
        clip_global_norm(grads, 5.0)
        optimizer.step(grads)
    src, lengths, _ = example_batch(np.array([3, 7, 1, 5]), np.array([2, 2, 2, 2]), seed=99)
    hypotheses = [*greedy_search(model, src, lengths, max_steps=12),
                  *(hypothesis for own in beam_search(model, src, lengths, beam_size=4, n_best=3, max_steps=12)
                    for hypothesis in own),
                  *sample(model, src, lengths, max_steps=12, rng=np.random.default_rng(0))]
    return (f"loss {float(loss)!r}, weights {checksum(model.params.flat)}, "
            f"translations {checksum(*(part for hypothesis in hypotheses for part in hypothesis))}")


def checksum(*values: Any) -> str:
    """Of arrays and numbers, 12 hexadecimal digits."""
    content = hashlib.sha256()
    for value in values:
        content.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    return content.hexdigest()[:12]
