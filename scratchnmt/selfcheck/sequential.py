"""The layers, losses and networks of scratchnmt.sequential, each as one op whose arguments include its weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..arrays import Array, array_module, device_of
from ..parameters import Parameters
from ..sequential import (
    LSTM,
    Activation,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    Masking,
    RepeatVector,
    Sequential,
    TimeDistributed,
    fitting,
    losses,
)
from ..sequential.layer import Layer
from .case import Case, Draw, Sizes, cases, ids, mask, normal

_SIZES: Sizes = dict(T=3, B=3, I=2, K=3)
_MASK = mask("B T")


def _layer(layer: Layer, inputs: str, **fixed: Any) -> tuple[Callable, Callable, Draw]:
    """Forward, backward and arguments of a layer on x of `inputs`, "T I" say, behind the batch."""
    draw_inputs = normal(f"x B {inputs}", **fixed) if "x" not in fixed else normal(**fixed)

    def arguments(sizes: Sizes, rng: np.random.Generator) -> dict[str, Any]:
        args = draw_inputs(sizes, rng)
        layer.name = "layer"
        layer.built(args["x"].shape[1:])
        return {**args, **{name: rng.standard_normal(shape) for name, shape in layer.shapes.items()}}

    def forward(x, mask=None, seed=None, **weights):
        rng = None if seed is None else array_module(*weights.values(), x).random.default_rng(seed)
        y, _, cache = layer.forward(x, weights, mask, rng)
        return y, (cache, weights)

    def backward(dy: Array, cache: Any) -> dict[str, Array]:
        grads: dict[str, Array] = {}
        dx = layer.backward(dy, cache[1], cache[0], grads)
        return grads if dx is None else {"x": dx, **grads}

    return forward, backward, arguments


def _states() -> tuple[Callable, Callable, Draw]:
    """An LSTM from given states to its last ones, under a mask, read backwards."""
    layer = LSTM(3, return_state=True, go_backwards=True)

    def forward(x, mask, h0, c0, **weights):
        return layer.run(x, weights, mask, h0, c0)

    def backward(dy: Array, dh: Array, dc: Array, cache: Any) -> dict[str, Array]:
        grads: dict[str, Array] = {}
        dx, dh0, dc0 = layer.run_back(dy, dh, dc, cache, grads)
        return {"x": dx, "h0": dh0, "c0": dc0, **grads}

    return forward, backward, normal("x B T I", "h0 B 3", "c0 B 3", "Wx I 12", "Wh 3 12", "b 12", mask=_MASK)


def _network(make: Callable[[], list[Layer]], loss: str, inputs: Draw, y: Draw) -> tuple[Callable, Callable, Draw]:
    """The loss of a whole network, weighted by example, as `fit` computes it."""
    def network(x: Array, dtype: str = "float64") -> Sequential:
        model = Sequential(make(), dtype=dtype, device=device_of(x))
        model.build(x.shape[1:])
        model.loss, model.metrics = loss, []
        return model

    def arguments(sizes: Sizes, rng: np.random.Generator) -> dict[str, Any]:
        args = {"x": inputs(sizes, rng), "y": y(sizes, rng), "weight": rng.random(sizes["B"])}
        shapes = network(args["x"]).params.shapes
        return {**args, **{name: rng.standard_normal(shape) for name, shape in shapes.items()}}

    def forward(x, y, weight, **weights):
        model = network(x, "float32" if weight.dtype.name == "float32" else "float64")
        flat = np.concatenate([weights[name].reshape(-1) for name in model.params.shapes])
        output, cache = model.forward(x, params=Parameters(model.params.shapes, flat=flat))
        value, dy = fitting.weighted_loss(model, output, y, weight)
        return value, (model, dy, cache)

    def backward(dvalue, model_dy_cache):
        model, dy, cache = model_dy_cache
        return {name: dvalue * g for name, g in model.backward(dy, cache).items()}

    return forward, backward, arguments


def _loss(name: str, p: Draw, y: Draw) -> tuple[Callable, Callable, Draw]:
    loss = losses.LOSSES[name]
    return (loss.forward, lambda dloss, cache: {"p": loss.backward(dloss, cache)},
            lambda sizes, rng: {"p": p(sizes, rng), "y": y(sizes, rng)})


def _cases(op: str, letters: str, wrt: tuple[str, ...] | None = None,
           **configurations: tuple[Callable, Callable, Draw]) -> list[Case]:
    return [case for name, (forward, backward, arguments) in configurations.items()
            for case in cases(f"sequential {op}", forward, backward,
                              {name.replace("_", " "): (letters, arguments)}, wrt, _SIZES)]


def _normal(sizes: Sizes, rng: np.random.Generator) -> Array:
    return rng.standard_normal((sizes["B"], sizes["T"], sizes["I"]))


def _one_hot(sizes: Sizes, rng: np.random.Generator) -> Array:
    return np.eye(sizes["K"])[rng.integers(0, sizes["K"], (sizes["B"], sizes["T"]))]


def _between(sizes: Sizes, rng: np.random.Generator) -> Array:
    """(B, T, K) of numbers between 0.1 and 0.9."""
    return 0.1 + 0.8 * rng.random((sizes["B"], sizes["T"], sizes["K"]))


_IDS, _LABELS = ids("B T", "K"), ids("B T", "K")

SEQUENTIAL: tuple[Case, ...] = (
    *_cases("lstm", "B T I", sequences=_layer(LSTM(3, return_sequences=True), "T I"),
            last_output=_layer(LSTM(3), "T I"),
            sequences_under_a_mask=_layer(LSTM(3, return_sequences=True), "T I", mask=_MASK),
            from_states_to_states_backwards_under_a_mask=_states()),
    *_cases("bidirectional", "B T I", concat=_layer(Bidirectional(LSTM(2)), "T I"),
            sum_under_a_mask=_layer(Bidirectional(LSTM(2, return_sequences=True), "sum"), "T I", mask=_MASK)),
    *_cases("dense", "B T I", relu=_layer(Dense(3, "relu"), "T I"), no_bias=_layer(Dense(3, use_bias=False), "I")),
    *_cases("time distributed", "B T I", dense=_layer(TimeDistributed(Dense(3, "softmax")), "T I")),
    *_cases("embedding", "B T K", zero_is_padding=_layer(Embedding(3, 2, mask_zero=True), "T", x=_IDS)),
    *_cases("masking", "B T I", no_padding=_layer(Masking(), "T I")),
    *_cases("repeat vector", "B I", twice=_layer(RepeatVector(2), "I")),
    *_cases("dropout", "B T I", a_generator=_layer(Dropout(0.3), "T I", seed=7)),
    *_cases("activation", "B I", by_name=_layer(Activation("sigmoid"), "I")),
    *_cases("loss", "B T K", ("p",), categorical_crossentropy=_loss("categorical_crossentropy", _between, _one_hot),
            sparse_categorical_crossentropy=_loss("sparse_categorical_crossentropy", _between, _LABELS),
            binary_crossentropy=_loss("binary_crossentropy", _between, _one_hot),
            mean_squared_error=_loss("mean_squared_error", _between, _one_hot)),
    *_cases("network", "B T I K", ("lstm.Wx", "lstm.Wh", "lstm.b", "lstm_1.Wx", "lstm_1.Wh", "lstm_1.b",
                                   "time_distributed.W", "time_distributed.b"),
            repeat_vector=_network(
        lambda: [LSTM(2), RepeatVector(3), LSTM(2, return_sequences=True),
                 TimeDistributed(Dense(3, activation="softmax"))],
        "categorical_crossentropy", _normal, _one_hot)),
    *_cases("network", "B T K", ("embedding.W", "bidirectional.Wx", "bidirectional.Wh", "bidirectional.b", "dense.W",
                                 "dense.b"),
            tagger_with_padding=_network(
        lambda: [Embedding(3, 2, mask_zero=True), Bidirectional(LSTM(2, return_sequences=True)), Dense(3, "softmax")],
        "sparse_categorical_crossentropy", _IDS, _LABELS)),
)
