"""The whole model in each of its configurations, checked tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, array_module, to_device
from ..data.vocab import BOS, EOS
from ..gradcheck import Report, check_directional
from ..models.nmt import NMT
from ..ops.cross_entropy import PAD
from .case import SIZES


class ModelCase(NamedTuple):
    """The whole model in one configuration."""

    name: str  # "nmt, score dot"
    choices: dict[str, Any]  # further fields of NMTConfig

    def model(self, device: str = "cpu", seed: int = 0, kernels: str = "plain") -> NMT:
        """A small float64 model, its weights larger than a training starts from: no gradient is negligible."""
        vocab, H = SIZES["V"], 4  # score "dot" wants an even number of units
        model = NMT(vocab + 4, vocab + 5, H if self.choices.get("tie_embeddings") else 5, H, dtype="float64",
                    device=device, seed=seed, kernels=kernels, **self.choices)
        normal = 0.5 * np.random.default_rng(seed).standard_normal(model.params.flat.size)
        model.params.flat[...] = to_device(normal, device)
        return model

    def check(self, src: Array, src_lengths: Array, tgt: Array, *, device: str = "cpu", seed: int = 0,
              **options: Any) -> Report:
        """`check_model` with weights and, where the configuration has it, dropout drawn from the seed."""
        src, tgt = to_device(src, device), to_device(tgt, device)
        model = self.model(device, seed)
        return check_model(model, src, src_lengths, tgt, dropout_seed=seed, seed=seed, **options)

    def report(self, device: str = "cpu", dtype: str = "float64", seed: int = 0) -> Report:
        """The check on one random batch, in float64 whatever the dtype."""
        batch = example_batch(np.array([3, 5, 1, 4]), np.array([4, 2, 5, 1]), seed)
        return self.check(*batch, device=device, seed=seed)


def check_model(model: NMT, src: Array, src_lengths: Array, tgt: Array, *, dropout_seed: int | None = None,
                check: Callable = check_directional, **options: Any) -> Report:
    """`check_directional` of any model's loss on one batch, at its own weights, in float64.

    check: what to do it by instead, such as `assert_directional`.  dropout_seed draws the same dropout masks
    for every evaluation; None: no dropout.
    """
    def run(params):
        rng = None if dropout_seed is None else array_module(src).random.default_rng(dropout_seed)
        other = model.with_params(params)
        return other, *other.forward(src, src_lengths, tgt, rng=rng)

    def grads(params):
        other, _, cache = run(params)
        return other.backward(cache)

    return check(lambda params: run(params)[1], grads, model.params, **{"method": "complex", **options})


def example_batch(src_lengths: Array, tgt_lengths: Array, seed: int = 0) -> tuple[Array, Array, Array]:
    """src (S, B), src_lengths (B,), tgt (T+1, B): random words, padded with 0; target lengths count </s>."""
    rng = np.random.default_rng(seed)
    S, T, B, V = max(src_lengths), max(tgt_lengths), len(src_lengths), SIZES["V"]
    src = np.where(np.arange(S)[:, None] < src_lengths, rng.integers(3, V + 4, (S, B)), PAD)
    words = np.where(np.arange(T)[:, None] < tgt_lengths - 1, rng.integers(3, V + 5, (T, B)), PAD)
    words[tgt_lengths - 1, np.arange(B)] = EOS
    return src, src_lengths, np.concatenate([np.full((1, B), BOS), words])


MODELS: tuple[ModelCase, ...] = (
    *(ModelCase(f"nmt, score {score}, feeding {feed}", {"score": score, "feed": feed, "max_source": 12})
      for score in ("general", "dot", "concat", "location") for feed in ("output", "context", "none")),
    *(ModelCase(f"nmt, {attention}, score {score}",
                {"attention": attention, "score": score, "window": 1, "max_source": 12})
      for attention in ("local-m", "local-p") for score in ("general", "dot", "concat", "location")),
    ModelCase("nmt, local-p, two layers, context fed, state read, dropout", {
        "attention": "local-p", "window": 2, "layers": 2, "feed": "context", "readout": "state", "dropout": 0.2}),
    *(ModelCase(f"nmt, the previous state asks, feeding {feed}", {"query": "previous", "feed": feed})
      for feed in ("output", "context", "start", "none")),
    ModelCase("nmt, the previous state asks, concat, two layers, context fed, state read", {
        "query": "previous", "score": "concat", "layers": 2, "feed": "context", "readout": "state"}),
    ModelCase("nmt, local-p, the previous state asks, concat", {
        "attention": "local-p", "window": 1, "query": "previous", "score": "concat"}),
    ModelCase("nmt, one direction", {"bidirectional": False}),
    ModelCase("nmt, two layers, dropout", {"layers": 2, "dropout": 0.3, "embed_dropout": 0.2}),
    ModelCase("nmt, two layers, one direction, concat, context", {
        "layers": 2, "bidirectional": False, "score": "concat", "feed": "context", "dropout": 0.2}),
    ModelCase("nmt, context fed, state read", {"feed": "context", "readout": "state", "dropout": 0.3}),
    ModelCase("nmt, score none, feeding output", {"score": "none"}),
    ModelCase("nmt, score none, state read, reversed source, two layers", {
        "score": "none", "feed": "none", "readout": "state", "bidirectional": False, "reverse_source": True,
        "layers": 2, "dropout": 0.2}),
    ModelCase("nmt, score none, state read, feeding start", {
        "score": "none", "feed": "start", "readout": "state"}),
    ModelCase("nmt, feeding start, two layers", {"feed": "start", "layers": 2}),
    ModelCase("nmt, tied embeddings, label smoothing", {"tie_embeddings": True, "label_smoothing": 0.1}),
)
