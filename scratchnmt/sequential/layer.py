"""What a layer is: shapes, weights, and a forward pass with the backward pass beside it.

A layer holds choices, no numbers.  Its weights come to `forward` and `backward` as arguments, so that a gradient
check can give it others, and all weights of a network are one vector.  Shapes are without the batch; None is a
length that is not known yet.  Arrays are batch-first, (B, T, ...), as in Keras.  `table` is what `summary` prints.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import Array, array_module, to_device
from ..errors import InputError, look_up
from ..parameters import Parameters

if TYPE_CHECKING:
    from .model import Sequential


Shape = tuple[int | None, ...]
Weights = Mapping[str, Array]

_WIDTHS = 35, 25, 12  # of the columns that `table` prints


class Layer:
    """To be written by each kind: `built`, `forward` and `backward`, and what else differs from here."""

    choices: tuple[str, ...] = ()  # attributes that __init__ takes under the same name

    def __init__(self, *, name: str | None = None, input_shape: Shape | None = None, **unknown: Any):
        for option in unknown:
            look_up(f"{self.kind}: option", option, dict.fromkeys((*self.choices, "name", "input_shape")))
        self.name, self.input_shape = name, whole_shape(input_shape)
        self.owner: Any = None  # the network or the wrapper that it is part of
        self.shapes: dict[str, tuple[int, ...]] = {}  # of the weights
        self._alone: Parameters | None = None

    def built(self, shape: Shape) -> Shape:
        """The output's shape for this input's; fills `shapes`.  InputError if the input does not fit."""
        return shape

    def initial(self, weight: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """How a weight starts."""
        raise NotImplementedError

    def forward(self, x: Array, weights: Weights, mask: Array | None, rng: Any) -> tuple[Array, Array | None, Any]:
        """Output, its mask (B, T) or None, and what backward needs; rng: of dropout, None: not training."""
        raise NotImplementedError

    def backward(self, dy: Array, weights: Weights, cache: Any, grads: MutableMapping[str, Array]) -> Array | None:
        """The gradient of x; those of the weights are put into `grads`.  None where x has none, as ids."""
        raise NotImplementedError

    def keras_weights(self, weights: Weights) -> list[Array]:
        """The weights, or views of them, in the order in which Keras lists them."""
        return list(weights.values())

    @property
    def kind(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        return f'"{self.name}" ({self.kind})'

    def config(self) -> dict[str, Any]:
        """What makes the same layer again."""
        chosen = {name: getattr(self, name) for name in self.choices}
        return {"kind": self.kind, "name": self.name, "input_shape": self.input_shape, **chosen}

    def __call__(self, x: Array, *, mask: Array | None = None, training: bool = False, seed: int = 0) -> Array:
        """A layer by itself, on an array; its weights are drawn from `seed` at the first call."""
        y, _, _ = self.forward(x, self._weights(x, seed), mask, _generator(x, seed) if training else None)
        return y

    def _weights(self, x: Array, seed: int) -> Weights:
        if self._alone is None:
            self.built(x.shape[1:])
            dtype = x.dtype if x.dtype.kind == "f" else "float32"
            self._alone = Parameters(self.shapes, dtype, array_module(x))
            start(self, self._alone, np.random.default_rng(seed))
        return self._alone

    def refuse(self, shape: Shape, expected: str) -> InputError:
        """The error of an input that does not fit."""
        return InputError(f"layer {self!r} got input of shape {shape_text(shape)}, expected {expected}")


def start(layer: Layer, weights: Weights, rng: np.random.Generator) -> None:
    """Fill a layer's weights as they start."""
    for name, array in weights.items():
        array[...] = to_device(layer.initial(name, array.shape, rng).astype(array.dtype),
                               "cpu" if array_module(array) is np else f"cuda:{array.device.id}")


def shape_text(shape: Shape) -> str:
    """As Keras shows it, the batch in front: (None, 50, 128)."""
    return f"({', '.join(map(str, (None, *shape)))}{',' if not shape else ''})"


def named(layers: list[Layer]) -> None:
    """Give layers without a name Keras' kind of name, dense, dense_1 ...; InputError if two have the same."""
    taken = {layer.name for layer in layers if layer.name}
    if len(taken) < sum(1 for layer in layers if layer.name):
        raise InputError(f"two layers have the same name: {', '.join(l.name for l in layers if l.name)}")
    if any("." in name or "/" in name for name in taken):
        raise InputError(f"a layer's name has a . or a / in it: {', '.join(sorted(taken))}")
    for layer in layers:
        if layer.name is None:
            base = snake_case(layer.kind)
            layer.name = next(name for k in count() if (name := f"{base}_{k}" if k else base) not in taken)
            taken.add(layer.name)


def snake_case(kind: str) -> str:
    """time_distributed from TimeDistributed, lstm from LSTM, as in Keras' names."""
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", kind).lower()


def whole_shape(given: Any) -> Shape | None:
    """The shape in Python's whole numbers, or None."""
    return None if given is None else tuple(None if n is None else int(n) for n in given)


def _generator(x: Array, seed: int) -> Any:
    return array_module(x).random.default_rng(seed)


def table(model: Sequential) -> str:
    """Layers, shapes with the batch as None, numbers of weights."""
    params, shape = model.params, model.input_shape
    assert shape is not None  # or there would be no weights
    padded = lambda cells: (str(cell).ljust(width) for cell, width in zip(cells, _WIDTHS, strict=False))
    line = lambda *cells: " " + " ".join(padded(cells)).rstrip()
    rows = []
    for layer, weights in zip(model.layers, model.views(params), strict=True):
        shape = layer.built(shape)
        size = sum(weight.size for weight in weights.values())
        rows.append(line(f"{layer.name} ({layer.kind})", shape_text(shape), f"{size:,}"))
    rule = lambda character: character * (sum(_WIDTHS) + 3)
    size = params.flat.nbytes
    unit, per = next(((u, n) for u, n in (("MB", 1 << 20), ("KB", 1 << 10)) if size >= n), ("B", 1))
    return "\n".join([f'Model: "{model.name}"', rule("_"), line("Layer (type)", "Output Shape", "Param #"), rule("="),
                      *rows, rule("="), f"Total params: {params.flat.size:,} ({size / per:.2f} {unit})", rule("_")])
