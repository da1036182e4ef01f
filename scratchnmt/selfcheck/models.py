"""The whole model in each of its configurations, checked tensor by tensor; its encoder and decoder, each as one op.

An op's arguments include its weights, named as in the model:

    encoder   embedded, lengths, the weights                    -> h_enc, h0, c0 of every layer
    decoder   embedded, tgt_lengths, h_enc, mask, the states,
              the weights                                       -> o, packed

Of these every element of every gradient is checked, of a model a direction per tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, array_module, to_device
from ..data.vocab import BOS, EOS
from ..gradcheck import Report, check_directional
from ..models.config import NMTConfig
from ..models.decoder import decoder_backward, decoder_forward
from ..models.encoder import encoder_backward, encoder_forward
from ..models.nmt import NMT, Teachers
from ..ops.cross_entropy import PAD
from ..ops.expected_risk import expected_risk_backward, expected_risk_forward
from .case import SIZES, Case, Sizes, cases, lengths, prefix_mask

_OP_SIZES: Sizes = dict(T=3, S=3, B=3, E=3, H=2)
_WEIGHTS = {"encoder": ("encoder", "init"), "decoder": ("decoder", "attention", "window", "combine")}


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


class RiskCase(NamedTuple):
    """The expected risk of two translations of each of two sentences, by the whole model in one configuration."""

    name: str  # "nmt, expected risk"
    choices: dict[str, Any]

    def report(self, device: str = "cpu", dtype: str = "float64", seed: int = 0) -> Report:
        """Its gradient by every weight, in float64 whatever the dtype."""
        model, rng = ModelCase(*self).model(device, seed), np.random.default_rng(seed)
        src, src_lengths, tgt = example_batch(np.array([5, 5, 3, 3]), np.array([4, 2, 5, 1]), seed)
        src[:, 1::2] = src[:, ::2]
        risks, mask = rng.random((2, 2)), np.full((2, 2), True)
        risks, mask, drisk = (to_device(array, device) for array in (risks, mask, rng.standard_normal(2)))

        def run(params: Any) -> Any:
            masks = array_module(model.params.flat).random.default_rng(seed)
            losses, cache = (other := model.with_params(params)).sentence_losses(src, src_lengths, tgt, masks)
            risk, above = expected_risk_forward(-losses.reshape(2, 2), risks, mask, alpha=0.5)
            return other, (drisk * risk).sum(), above, cache

        def grads(params: Any) -> Any:
            other, _, above, cache = run(params)
            return other.sentence_losses_backward(-expected_risk_backward(drisk, above).dlog_p.reshape(4), cache)

        return check_directional(lambda params: run(params)[1], grads, model.params, method="complex", seed=seed)


class TeacherCase(NamedTuple):
    """The whole model in one configuration, which learns from two others, one of them with two layers."""

    name: str  # "nmt, two teachers"
    choices: dict[str, Any]

    def report(self, device: str = "cpu", dtype: str = "float64", seed: int = 0) -> Report:
        """The gradient of its loss by every weight, in float64 whatever the dtype."""
        src, src_lengths, tgt = example_batch(np.array([3, 5, 1, 4]), np.array([4, 2, 5, 1]), seed)
        configurations: tuple[dict[str, Any], ...] = ({}, {"layers": 2, "feed": "context"})
        teachers = [ModelCase("", choices).model(device, seed + 1) for choices in configurations]
        return check_model(ModelCase(*self).model(device, seed), to_device(src, device), src_lengths,
                           to_device(tgt, device), dropout_seed=seed, teachers=Teachers(teachers, 0.6), seed=seed)


def check_model(model: NMT, src: Array, src_lengths: Array, tgt: Array, *, dropout_seed: int | None = None,
                check: Callable = check_directional, teachers: Teachers | None = None, **options: Any) -> Report:
    """`check_directional` of any model's loss on one batch, at its own weights, in float64.

    check: what to do it by instead, such as `assert_directional`.  dropout_seed draws the same dropout masks
    for every evaluation; None: no dropout.  teachers: those of NMT.forward.
    """
    def run(params):
        rng = None if dropout_seed is None else array_module(src).random.default_rng(dropout_seed)
        other = model.with_params(params)
        return other, *other.forward(src, src_lengths, tgt, rng=rng, teachers=teachers)

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
    *(ModelCase(f"nmt, multi-head, feeding {feed}", {"attention": "multi-head", "heads": 2, "feed": feed})
      for feed in ("output", "context")),
    ModelCase("nmt, multi-head, two layers, context fed, state read, dropout", {
        "attention": "multi-head", "heads": 2, "layers": 2, "feed": "context", "readout": "state", "dropout": 0.2}),
    ModelCase("nmt, multi-head, the previous state asks, layer normalization, recurrent dropout", {
        "attention": "multi-head", "heads": 2, "query": "previous", "cell": "layer-norm-lstm",
        "recurrent_dropout": 0.3}),
    ModelCase("nmt, one direction", {"bidirectional": False}),
    ModelCase("nmt, two layers, dropout", {"layers": 2, "dropout": 0.3, "embed_dropout": 0.2}),
    ModelCase("nmt, words dropped", {"word_dropout": 0.3, "embed_dropout": 0.2}),
    ModelCase("nmt, recurrent dropout", {"recurrent_dropout": 0.3}),
    ModelCase("nmt, dropout of h_enc, two layers, dropout", {
        "encoder_dropout": 0.3, "layers": 2, "dropout": 0.2}),
    ModelCase("nmt, recurrent dropout, two layers, dropout, context fed", {
        "recurrent_dropout": 0.3, "layers": 2, "dropout": 0.2, "feed": "context"}),
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
    *(ModelCase(f"nmt, layer normalization, feeding {feed}", {"cell": "layer-norm-lstm", "feed": feed})
      for feed in ("output", "context", "start")),
    ModelCase("nmt, layer normalization, two layers, recurrent dropout, the previous state asks", {
        "cell": "layer-norm-lstm", "layers": 2, "dropout": 0.2, "recurrent_dropout": 0.3, "query": "previous"}),
    ModelCase("nmt, tied embeddings, label smoothing", {"tie_embeddings": True, "label_smoothing": 0.1}),
    ModelCase("nmt, r_drop, two layers, every dropout, label smoothing", {
        "r_drop": 0.7, "layers": 2, "dropout": 0.2, "embed_dropout": 0.1, "word_dropout": 0.1,
        "recurrent_dropout": 0.2, "encoder_dropout": 0.1, "label_smoothing": 0.1}),
)

RISKS: tuple[RiskCase, ...] = (
    RiskCase("nmt, expected risk", {}),
    RiskCase("nmt, expected risk, tied embeddings, dropout", {"tie_embeddings": True, "dropout": 0.2}),
)

TEACHERS: tuple[TeacherCase, ...] = (
    TeacherCase("nmt, two teachers, dropout", {"dropout": 0.2}),
    TeacherCase("nmt, two teachers, tied embeddings, label smoothing", {
        "tie_embeddings": True, "label_smoothing": 0.1}),
)


def _shapes(part: str, config: NMTConfig) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, shape in config.shapes().items()
            if name.partition(".")[0] in _WEIGHTS[part]}


def _config(sizes: Sizes, choices: dict[str, Any]) -> NMTConfig:
    return NMTConfig(src_vocab_size=1, tgt_vocab_size=1,  # which do not matter here
                     embed_size=sizes["E"], hidden_size=sizes["H"], **choices)


def _weights(part: str, config: NMTConfig, rng: np.random.Generator) -> dict[str, Array]:
    return {name: rng.standard_normal(shape) for name, shape in _shapes(part, config).items()}


def _buffers(weights: dict[str, Array]) -> dict[str, Array]:
    """What the gradients are written into: NaN, so that none can be left out."""
    return {name: array_module(w).full_like(w, np.nan) for name, w in weights.items()}


def _states(values: dict[str, Array]) -> list[tuple[Array, Array]]:
    """[(h0, c0), ...] from names h0, c0, h0.1, c0.1, ..., which are taken out of `values`."""
    names = sorted((n for n in values if n.startswith("h0")), key=len)
    return [(values.pop(n), values.pop(n.replace("h", "c"))) for n in names]


def _encoder(choices: dict[str, Any]) -> tuple[Callable, Callable, Callable]:
    def arguments(sizes: Sizes, rng: np.random.Generator) -> dict[str, Any]:
        return {"embedded": rng.standard_normal((sizes["S"], sizes["B"], sizes["E"])),
                "lengths": lengths("S")(sizes, rng), "seed": 7,
                **_weights("encoder", _config(sizes, choices), rng)}

    def forward(embedded, lengths, seed, **weights):
        config = _config({"E": embedded.shape[-1], "H": weights["init.Wh"].shape[-1]}, choices)
        rng = array_module(embedded).random.default_rng(seed)  # of dropout, where there is some
        (h_enc, states), cache = encoder_forward(weights, config, embedded, lengths, rng)
        return (h_enc, *(array for state in states for array in state)), (cache, weights)

    def backward(dh_enc, *dstates_and_cache):
        *dstates, (cache, weights) = dstates_and_cache
        grads = _buffers(weights)
        pairs = list(zip(dstates[::2], dstates[1::2], strict=True))
        return {"embedded": encoder_backward(dh_enc, pairs, cache, weights, grads), **grads}

    return arguments, forward, backward


def _decoder(choices: dict[str, Any]) -> tuple[Callable, Callable, Callable]:
    def arguments(sizes: Sizes, rng: np.random.Generator) -> dict[str, Any]:
        config = _config(sizes, choices)
        T, S, B = (sizes[letter] for letter in "TSB")
        names = [f"{state}0.{l}" if l else f"{state}0" for l in range(config.layers) for state in "hc"]
        return {"embedded": rng.standard_normal((T, B, config.embed_size)),
                "tgt_lengths": lengths("T")(sizes, rng),
                "h_enc": rng.standard_normal((S, B, config.memory_size)),
                "mask": prefix_mask(sizes, rng), "seed": 7,
                **{name: rng.standard_normal((B, config.hidden_size)) for name in names},
                **_weights("decoder", config, rng)}

    def forward(embedded, tgt_lengths, h_enc, mask, seed, **weights):
        config = _config({"E": embedded.shape[-1], "H": weights["combine.W"].shape[-1]}, choices)
        states, rng = _states(weights), array_module(embedded).random.default_rng(seed)
        o, cache = decoder_forward(weights, config, embedded, tgt_lengths, h_enc, mask, states, rng)
        return o, (cache, config, weights)

    def backward(do, cache_config_weights):
        cache, config, weights = cache_config_weights
        grads = _buffers(weights)
        dembedded, dh_enc, dstates = decoder_backward(do, cache, weights, config, grads)
        for l, (dh0, dc0) in enumerate(dstates):
            grads[f"h0.{l}" if l else "h0"], grads[f"c0.{l}" if l else "c0"] = dh0, dc0
        return {"embedded": dembedded, "h_enc": dh_enc, **grads}

    return arguments, forward, backward


def _layers(part: str, letters: str, make: Callable, configurations: dict[str, dict[str, Any]]) -> list[Case]:
    made = {name: make(choices) for name, choices in configurations.items()}
    return [case for name, (arguments, forward, backward) in made.items()
            for case in cases(part, forward, backward, {name: (letters, arguments)}, sizes=_OP_SIZES)]


LAYERS: tuple[Case, ...] = (
    *_layers("encoder", "S B E H", _encoder, {
        "one direction": {"bidirectional": False},
        "two directions": {},
        "two directions, two layers, dropout": {"layers": 2, "dropout": 0.3},
        "recurrent dropout": {"recurrent_dropout": 0.3},
        "dropout of its states": {"encoder_dropout": 0.3},
    }),
    *_layers("decoder", "T S B E H", _decoder, {
        "score general, feeding output": {},
        "score general, feeding context": {"feed": "context"},
        "score general, feeding none": {"feed": "none"},
        "score dot, feeding output": {"score": "dot", "bidirectional": False},
        "score concat, feeding output": {"score": "concat"},
        "score location, feeding output": {"score": "location", "max_source": 4},
        "local-m, feeding output": {"attention": "local-m", "window": 1},
        "local-p, feeding output": {"attention": "local-p", "window": 1},
        "local-p, score concat, feeding context": {
            "attention": "local-p", "window": 1, "score": "concat", "feed": "context"},
        "the previous state asks, feeding output": {"query": "previous"},
        "the previous state asks, score concat, feeding context": {
            "query": "previous", "score": "concat", "feed": "context"},
        "score concat, feeding context, two layers, dropout": {
            "score": "concat", "feed": "context", "layers": 2, "dropout": 0.3},
        "recurrent dropout, feeding output": {"recurrent_dropout": 0.3},
    }),
)
