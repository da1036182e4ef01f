"""What a layer is: shapes, weights, and a forward pass with the backward pass beside it.

A layer holds choices, no numbers.  Its weights come to `forward` and `backward` as arguments, so that a gradient
check can give it others, and all weights of a network are one vector.  Shapes are without the batch; None is a
length that is not known yet.  Arrays are batch-first, (B, T, ...), as in Keras.  `table` is what `summary` prints.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from itertools import count
from math import isfinite
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import Array, array_module, device_of, not_too_large, to_device
from ..errors import InputError, did_you_mean, encodable, look_up, printable, shown, whole_number
from ..parameters import Parameters

if TYPE_CHECKING:
    from .model import Sequential


MOST_AXES = 31  # of an example: NumPy 1 has 32, and one is the batch's
Shape = tuple[int | None, ...]
Weights = Mapping[str, Array]

_WIDTHS = 35, 25, 12  # of the columns that `table` prints


class Settled(type):
    """Of classes whose objects, once they are made, take no new attributes: a misspelt one would do nothing."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        made.made = True
        return made


class Trained(metaclass=Settled):
    """What may be trained or not: a layer, or a network, with what is inside it."""

    choices: tuple[str, ...] = ()  # attributes that __init__ takes under the same name
    inner: Sequence[Trained] = ()  # layers inside
    made = False
    _trainable = True

    def __setattr__(self, name: str, value: Any) -> None:
        if self.made and self.settled(name) and value != getattr(self, name):
            raise InputError(f"{self!r}: {name} is chosen when it is made, {type(self).__name__}(..., {name}=...)")
        if self.made and not hasattr(self, name):
            known = [known for known in ("trainable", *vars(self)) if known not in self.choices]
            hint = did_you_mean(name, known) or "; what it keeps is made in its __init__"
            raise InputError(f"{self!r} has no attribute {shown(name)}{hint}")
        super().__setattr__(name, value)

    def settled(self, name: str) -> bool:
        """Whether an attribute is chosen when it is made, and not changed later: that would have no effect."""
        return name in self.choices

    @property
    def trainable(self) -> bool:
        """Whether training moves its weights; from the next step on.  Set, it is set for what is inside, too."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = flag(f"{self!r}: trainable", value)
        for layer in self.inner:
            layer.trainable = value


class Layer(Trained):
    """To be written by each kind: `built`, `forward` and `backward`, and what else differs from here.

    input_shape: what comes in, without the batch; input_dim=n: the same as input_shape=(n,).
    """

    inner: Sequence[Layer] = ()

    def __init__(self, *, name: str | None = None, input_shape: Shape | None = None, input_dim: int | None = None,
                 trainable: bool = True, **unknown: Any):
        for option in unknown:
            look_up(f"{self.kind}: option", option, dict.fromkeys(_options(type(self))))
        if input_shape is not None and input_dim is not None:
            raise InputError(f"{self.kind} got input_shape={shown(input_shape)} and input_dim={shown(input_dim)}, "
                             "expected one of them")
        self.name: Any = name if name is None else checked_name(self.kind, name)
        self.input_shape = whole_shape(input_shape if input_dim is None else (input_dim,))
        self.owner: Any = None  # the network or the wrapper that it is part of
        self.shapes: dict[str, tuple[int, ...]] = {}  # of the weights
        self._alone: Parameters | None = None
        self.trainable = trainable

    def settled(self, name):
        return super().settled(name) or name == "input_shape" or name == "name" and self.name is not None

    def built(self, shape: Shape) -> Shape:
        """The output's shape for this input's; fills `shapes`.  InputError if the input does not fit."""
        return shape

    def initial(self, weight: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """How a weight starts."""
        raise NotImplementedError

    def check_input(self, x: np.ndarray) -> None:
        """InputError, before anything is computed, for numbers that the layer does not take, such as unknown ids."""

    def forward(self, x: Array, weights: Weights, mask: Array | None, rng: Any) -> tuple[Array, Array | None, Any]:
        """Output, its mask (B, T) or None, and what backward needs; rng: of dropout, None: not training."""
        raise NotImplementedError

    def backward(self, dy: Array, weights: Weights, cache: Any, grads: MutableMapping[str, Array]) -> Array | None:
        """The gradient of x; those of the weights are put into `grads`.  None where x has none, as ids."""
        raise NotImplementedError

    def keras_weights(self, weights: Weights) -> dict[str, Array]:
        """The weights, or views of them, in Keras' order, under the names that they have in its .weights.h5 files."""
        return {f"vars/{number}": array for number, array in enumerate(weights.values())}

    @property
    def trains(self) -> bool:
        """Whether training moves its weights, as far as it and what is inside it decide."""
        return self.trainable and all(layer.trains for layer in self.inner)

    @property
    def kind(self) -> str:
        return type(self).__name__

    @property
    def full_kind(self) -> str:
        """The same, for a file; of somebody else's class, which may be called as one of ours, "__main__>Dense"."""
        module = type(self).__module__
        return self.kind if module.startswith(f"{__package__}.") else f"{module}>{self.kind}"

    def __repr__(self) -> str:
        return f'"{printable(str(self.name))}" ({self.kind})'

    @property
    def chosen(self) -> dict[str, Any]:
        """The choices in Python's own numbers; InputError for one that a file has no word for."""
        chosen = {}
        for name in self.choices:
            value = getattr(self, name)
            chosen[name] = value = value.item() if isinstance(value, np.generic) else value
            try:
                json.dumps(value)
            except (TypeError, ValueError) as error:
                raise InputError(f"layer {self!r}: {name} is {shown(value)}, which cannot be saved: expected numbers, "
                                 "text, or lists of them") from error
        return chosen

    def config(self) -> dict[str, Any]:
        """What makes the same layer again."""
        frozen = {} if self.trainable else {"trainable": False}
        return {"kind": self.full_kind, "name": self.name, "input_shape": self.input_shape, **self.chosen, **frozen}

    def __call__(self, x: Array, *, mask: Array | None = None, training: bool = False, seed: int = 0) -> Array:
        """The layer on an array: with its network's weights, or, by itself, with some drawn from `seed` at first."""
        y, _, _ = self.forward(x, self._weights(x, seed), mask, _generator(x, seed) if training else None)
        return y

    def get_weights(self) -> list[np.ndarray]:
        """Copies on the host, in Keras' order and shapes; none where it has none yet."""
        return [to_device(array, "cpu").copy() for array in self._own_keras_weights()]

    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Take weights in Keras' order and shapes; InputError, and nothing is changed, if they do not fit."""
        put_weights(f"layer {self!r}: set_weights", weights, self._own_keras_weights())

    def count_params(self) -> int:
        """How many numbers the weights are."""
        return sum(array.size for array in self._own_keras_weights())

    def _own_keras_weights(self) -> list[Array]:
        return list(self.keras_weights(self._own()).values())

    def _own(self) -> Weights:
        """The weights, where they lie: in the network, or by themselves; none if they are not made yet."""
        if isinstance(self.owner, Layer):
            raise InputError(f"layer {self!r} is inside {self.owner!r}, which has its weights: ask that one")
        if self.owner is None:
            return self._alone or {}
        return self.owner.weights_of(self)  # type: ignore[no-any-return]

    def _weights(self, x: Array, seed: int) -> Weights:
        if self.owner is not None:
            return self._own()
        if self._alone is None:
            self.built(x.shape[1:])
            dtype = x.dtype if x.dtype.kind == "f" else "float32"
            self._alone = Parameters(self.shapes, dtype, array_module(x))
            start(self, self._alone, np.random.default_rng(seed))
        return self._alone

    def brought(self) -> Weights | None:
        """Weights that it had before it came into a network."""
        return self._alone

    def refuse(self, shape: Shape, expected: str) -> InputError:
        """The error of an input that does not fit."""
        return InputError(f"layer {self!r} got input of shape {shape_text(shape)}, expected {expected}")


def _options(kind: Any) -> list[str]:
    """What a kind of layer can be given by name: what its __init__ names, and what that of any layer does."""
    given = {**inspect.signature(kind.__init__).parameters, **inspect.signature(Layer.__init__).parameters}
    return [name for name, one in given.items() if name != "self" and one.kind is not one.VAR_KEYWORD]


def start(layer: Layer, weights: Weights, rng: np.random.Generator) -> None:
    """Fill a layer's weights as they start, or with those that it had before it came into a network."""
    brought = layer.brought()
    for name, array in weights.items():
        first = layer.initial(name, array.shape, rng)
        if brought is not None and brought is not weights:
            first = to_device(brought[name], "cpu")
            if first.shape != array.shape:
                raise InputError(f"layer {layer!r} has weights already: {name} is {first.shape}, its network's input "
                                 f"wants {array.shape}")
        with not_too_large(f"layer {layer!r}: {name}", array.dtype):
            array[...] = to_device(first.astype(array.dtype), device_of(array))


def put_weights(what: str, new: Sequence[Any], old: Sequence[Array]) -> None:
    """Copy arrays into others; InputError, and nothing is changed, if they do not fit."""
    check_shapes(what, [np.shape(array) for array in new], [array.shape for array in old])
    arrays = []
    for place, (given, own) in enumerate(zip(new, old, strict=True)):
        with not_too_large(f"{what}: array {place}", own.dtype):
            try:
                arrays.append(np.asarray(to_device(given, "cpu"), own.dtype))
            except (TypeError, ValueError) as error:
                raise InputError(f"{what}: {error}, expected arrays of numbers") from error
    for given, own in zip(arrays, old, strict=True):
        own[...] = array_module(own).asarray(given)


def check_shapes(what: str, given: Sequence[tuple[int, ...]], own: Sequence[tuple[int, ...]]) -> None:
    """InputError unless these are the shapes of the weights in Keras' order."""
    if len(given) != len(own):
        raise InputError(f"{what} got {len(given)} arrays, expected {len(own)}")
    for number, (new, old) in enumerate(zip(given, own, strict=True)):
        if new != old:
            raise InputError(f"{what}: array {number} has shape {new}, expected {old}")


def shape_text(shape: Shape) -> str:
    """As Keras shows it, the batch in front: (None, 50, 128)."""
    return f"({', '.join(map(str, (None, *shape)))}{',' if not shape else ''})"


def give_name(layer: Layer, others: Collection[str]) -> None:
    """Give a layer without a name Keras' kind of name, dense, dense_1 ...; InputError for one that cannot be used."""
    if layer.name is None:
        base = snake_case(layer.kind)
        layer.name = next(name for k in count() if (name := f"{base}_{k}" if k else base) not in others)
    name = checked_name("a layer", layer.name)
    if name in others:
        raise InputError(f"two layers have the same name: {shown(name)}")
    if not name or "." in name or "/" in name:
        raise InputError(f"a layer's name is empty, or has a . or a / in it: {shown(name)}")


def checked_name(what: str, name: Any) -> str:
    """The name; InputError if it is none that a file can hold, as with a NUL or half a character, "\\ud800"."""
    if not isinstance(name, str) or encodable(name) != name:
        raise InputError(f"{what}: name is {shown(name)}, expected text without control characters and half ones")
    return name


def snake_case(kind: str) -> str:
    """time_distributed from TimeDistributed, lstm from LSTM, as in Keras' names."""
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", kind).lower()


def whole_shape(given: Any) -> Shape | None:
    """The shape in Python's whole numbers, or None; InputError if it is none."""
    if given is None:
        return None
    if isinstance(given, (str, bytes, Integral)) or not hasattr(given, "__iter__"):
        raise InputError(f"input_shape is {shown(given)}, expected sizes without the batch, such as (50, 27) or (4,)")
    if len(given := tuple(given)) > MOST_AXES:
        raise InputError(f"input_shape has {len(given):,} sizes, expected at most {MOST_AXES}")
    return tuple(None if n is None else whole_number("input_shape: a size", n) for n in given)


def flag(what: str, value: Any) -> bool:
    """The value, True or False; InputError otherwise."""
    if not isinstance(value, (bool, np.bool_)):
        raise InputError(f"{what} is {shown(value)}, expected True or False")
    return bool(value)


def number(what: str, value: Any, fits: Callable[[float], bool] = isfinite, expected: str = "a finite number") -> float:
    """The value, a number that fits; InputError otherwise."""
    if isinstance(value, bool) or not isinstance(value, Real) or not fits(float(value)):
        raise InputError(f"{what} is {shown(value)}, expected {expected}")
    return float(value)


def finite(what: str, array: np.ndarray, dtype: Any) -> np.ndarray:
    """The numbers in a dtype; InputError, naming the number, if one is not finite, or is not in that dtype."""
    with np.errstate(over="ignore"):
        taken = array.astype(dtype, copy=False)
    if taken.dtype.kind == "f" and not np.isfinite(taken).all():
        wrong = array[~np.isfinite(taken)][0]
        raise InputError(f"{what} holds {wrong}, expected finite numbers" + f" of {dtype}" * bool(np.isfinite(wrong)))
    return taken


def _generator(x: Array, seed: int) -> Any:
    return array_module(x).random.default_rng(seed)


def table(model: Sequential) -> str:
    """Layers, shapes with the batch as None, numbers of weights."""
    params, shape = model.params, model.input_shape
    assert shape is not None  # or there would be no weights
    padded = lambda cells: (str(cell).ljust(width) for cell, width in zip(cells, _WIDTHS, strict=False))
    line = lambda *cells: " " + " ".join(padded(cells)).rstrip()
    rows, frozen = [], 0
    for layer, weights in zip(model.layers, model.views(params), strict=True):
        shape = layer.built(shape)
        size = sum(weight.size for weight in weights.values())
        frozen += 0 if model.trainable and layer.trains else size
        rows.append(line(f"{layer.name} ({layer.kind})", shape_text(shape), f"{size:,}"))
    rule = lambda character: character * (sum(_WIDTHS) + 3)
    whole = params.flat.size
    counts = [f"{name} params: {n:,} ({_bytes(n * params.flat.itemsize)})"
              for name, n in (("Total", whole), ("Trainable", whole - frozen), ("Non-trainable", frozen))]
    lines = [f'Model: "{model.name}"', rule("_"), line("Layer (type)", "Output Shape", "Param #"), rule("="),
             *rows, rule("="), *counts, rule("_")]
    return encodable("\n".join(lines))


def _bytes(size: int) -> str:
    unit, per = next(((u, n) for u, n in (("MB", 1 << 20), ("KB", 1 << 10)) if size >= n), ("B", 1))
    return f"{size / per:.2f} {unit}"
