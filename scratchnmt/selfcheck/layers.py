"""The encoder and the decoder, each as one op whose arguments include its weights, named as in the model.

    encoder   embedded, lengths, the weights                    -> h_enc, h0, c0 of every layer
    decoder   embedded, tgt_lengths, h_enc, mask, the states,
              the weights                                       -> o, packed

Every element of every gradient is checked, while `ModelCase` asks along a direction per tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..arrays import Array, array_module
from ..models.config import NMTConfig
from ..models.decoder import decoder_backward, decoder_forward
from ..models.encoder import encoder_backward, encoder_forward
from .case import Case, Sizes, cases, lengths, prefix_mask

_SIZES: Sizes = dict(T=3, S=3, B=3, E=3, H=2)
_WEIGHTS = {"encoder": ("encoder", "init"), "decoder": ("decoder", "attention", "window", "combine")}


def _shapes(part: str, config: NMTConfig) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, shape in config.shapes().items()
            if name.partition(".")[0] in _WEIGHTS[part]}


def _config(sizes: Sizes, choices: dict[str, Any]) -> NMTConfig:
    return NMTConfig(1, 1, sizes["E"], sizes["H"], **choices)  # the vocabularies do not matter here


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
            for case in cases(part, forward, backward, {name: (letters, arguments)}, sizes=_SIZES)]


LAYERS: tuple[Case, ...] = (
    *_layers("encoder", "S B E H", _encoder, {
        "one direction": {"bidirectional": False},
        "two directions": {},
        "two directions, two layers, dropout": {"layers": 2, "dropout": 0.3},
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
    }),
)
