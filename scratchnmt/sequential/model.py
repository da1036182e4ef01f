"""A network as a list of layers: built, compiled, trained, asked.

The weights of all layers are views of one vector, `params`, and so are their gradients; a training step is a forward
pass through the list, the loss, and a backward pass through the list from its end.

The optimizers of scratchnmt.optim have Keras' names, order and defaults here, for compile(optimizer=...).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import optim
from ..arrays import Array, array_module, device_module, to_device
from ..errors import InputError, look_up, whole_number
from ..parameters import Parameters
from . import fitting, losses
from .core import Embedding, Input
from .layer import Layer, Shape, Weights, named, shape_text, start, whole_shape


class Sequential:
    """Layers one after the other, the first of which says what comes in: LSTM(128, input_shape=(50, 27)).

    dtype "float32" or "float64", device "cpu" or "cuda"; seed: of weights, shuffling and dropout.  InputError where
    a layer's input does not fit.
    """

    def __init__(self, layers: Iterable[Layer] = (), *, name: str = "sequential", dtype: str = "float32",
                 device: str = "cpu", seed: int = 0):
        self.name, self.dtype, self.device, self.seed = name, dtype, device, seed
        look_up("dtype", dtype, dict.fromkeys(("float32", "float64")))
        self.layers: list[Layer] = []
        self.input_shape: Shape | None = None
        self.output_shape: Shape | None = None
        self.optimizer: Any = None  # None: not compiled
        self.stop_training = False
        self._params: Parameters | None = None
        self.shuffler = np.random.default_rng(seed)
        self.dropper = device_module(device).random.default_rng(seed)
        for layer in layers:
            self.add(layer)

    def add(self, layer: Layer) -> None:
        """One more layer at the end."""
        if not isinstance(layer, Layer):
            raise InputError(f"add got a {type(layer).__name__}, expected a layer, such as Dense(10)")
        if layer.owner is not None:
            raise InputError(f"layer {layer!r} is in {'this' if layer.owner is self else 'another'} network already, "
                             "and weights are not shared here: make a second one")
        if self._params is not None:
            raise InputError(f"add({layer.kind}): the network has its weights already; add layers before the first "
                             "summary, compile, fit or predict")
        if getattr(layer, "return_state", False):
            raise InputError(f"layer {layer!r} returns its states too, which a list of layers has no place for: call "
                             "it by itself")
        named([*self.layers, layer])
        first = layer.input_shape if not self.layers else self.input_shape
        last = layer.input_shape if not self.layers else self.output_shape
        output = None if last is None else _built(layer, last, self.layers[-1:])
        self.layers.append(layer)
        self.input_shape, self.output_shape, layer.owner = first, output, self

    def build(self, input_shape: Shape) -> None:
        """Say what comes in, without the batch, where no layer did; InputError, and nothing is said, if it cannot."""
        if not self.layers:
            raise InputError("the network has no layers: add some")
        if self.input_shape is None:
            output = first = whole_shape(input_shape) or ()
            for number, layer in enumerate(self.layers):
                output = _built(layer, output, self.layers[number - 1 : number] if number else [])
            self.input_shape, self.output_shape = first, output

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the weights, under their names, once it is known what comes in."""
        return {f"{layer.name}.{w}": shape for layer in self.layers for w, shape in layer.shapes.items()}

    @property
    def params(self) -> Parameters:
        """The weights, "lstm.Wx", "dense.W" ..., made when they are first asked for."""
        if self._params is None:
            if self.output_shape is None:
                raise InputError("the network does not know what comes in: give its first layer input_shape=..., "
                                 "without the batch, or begin with Input(shape=...)")
            self._params = Parameters(self.shapes, self.dtype, device_module(self.device))
            rng = np.random.default_rng(self.seed)
            for layer, weights in zip(self.layers, self.views(self._params), strict=True):
                start(layer, weights, rng)
        return self._params

    def views(self, params: Weights) -> list[Weights]:
        """The weights, or gradients, of each layer under the names that it knows them by."""
        return [{w: params[f"{layer.name}.{w}"] for w in layer.shapes} for layer in self.layers]

    def forward(self, x: Array, rng: Any = None, params: Parameters | None = None):
        """(output, mask), cache of a batch on the network's device; rng: of dropout, None: not training."""
        mask, caches, weights = None, [], self.views(self.params if params is None else params)
        for layer, own in zip(self.layers, weights, strict=True):
            x, mask, cache = layer.forward(x, own, mask, rng)
            caches.append(cache)
        return (x, mask), (caches, weights)

    def backward(self, dy: Array, cache: Any) -> Parameters:
        """Gradients of all weights, from that of the output."""
        caches, weights = cache
        grads = self.params.like()
        of_each = list(zip(self.layers, weights, self.views(grads), caches, strict=True))
        for layer, own, into, kept in reversed(of_each):
            found: dict[str, Array] = {}
            dy = layer.backward(dy, own, kept, found)
            for name, gradient in found.items():
                into[name][...] = gradient
        return grads

    def compile(self, optimizer: Any = "rmsprop", loss: str | None = None, *, metrics: Sequence[str] = ()) -> None:
        """Choose how to train: names, or an optimizer such as Adam(learning_rate=0.01)."""
        known = look_up("loss", loss, {name: name for name in losses.LOSSES})
        metrics = list(metrics or ())
        for name in metrics:
            look_up("metric", name, losses.METRICS)
        choices = optimizer_named(optimizer)
        self.loss, self.metrics, self.choices = known, metrics, choices
        self.optimizer = self.choices.of(self.params) if self.output_shape is not None else None
        self.compiled = True

    compiled = False

    def fit(self, x: Any, y: Any, batch_size: int = 32, epochs: int = 1, verbose: int | str = "auto",
            callbacks: Any = (), validation_split: float = 0.0, validation_data: tuple | None = None,
            shuffle: bool = True, *, sample_weight: Any = None, on_nonfinite: str = "stop"):
        """Train; returns a History.  Examples are along the first axis of x, y and sample_weight.

        validation_split: the share of examples, from the end, that are validated on instead; validation_data: (x, y)
        or (x, y, sample_weight).  verbose 0: silent, 1: a progress line, 2: a line an epoch.  on_nonfinite: "stop"
        at a step whose loss or gradient is not finite, or "skip" it, 20 in a row at most; it moves nothing.

        InputError before anything is trained if something does not fit; at such a step; and if an epoch leaves weights
        that are not finite: they are then again what they were before it.
        """
        look_up("on_nonfinite", on_nonfinite, dict.fromkeys(fitting.ON_NONFINITE))
        data = self._ready("fit", x, y, sample_weight)
        return fitting.fit(self, data, whole_number("batch_size", batch_size),
                           whole_number("epochs", epochs), look_up("verbose", str(verbose), fitting.VERBOSE),
                           callbacks if isinstance(callbacks, (list, tuple)) else [callbacks] if callbacks else [],
                           validation_split, validation_data, shuffle, on_nonfinite)

    def evaluate(self, x: Any, y: Any, batch_size: int = 32, verbose: int | str = "auto", sample_weight: Any = None, *,
                 return_dict: bool = False) -> float | list[float] | dict[str, float]:
        """The loss, or with metrics [loss, accuracy], on these examples."""
        data = self._ready("evaluate", x, y, sample_weight)
        found = fitting.evaluate(self, data, whole_number("batch_size", batch_size))
        if look_up("verbose", str(verbose), fitting.VERBOSE):
            print(" - ".join(f"{name}: {value:.4f}" for name, value in sorted(found.items())))
        values = list(found.values())
        return found if return_dict else values if len(values) > 1 else values[0]

    def predict(self, x: Any, batch_size: int = 32, verbose: int | str = 0) -> np.ndarray:
        """The outputs, on the host; always silent."""
        x = self.inputs(x)
        parts = [to_device(self.forward(self.there(x[at : at + batch_size]))[0][0], "cpu")
                 for at in range(0, len(x), whole_number("batch_size", batch_size))]
        return np.concatenate(parts)

    def data(self, x: Any, y: Any, sample_weight: Any) -> fitting.Data:
        """Arrays on the host that fit the network, its loss and each other; InputError otherwise."""
        x = self.inputs(x)
        (p, _), _ = self.forward(self.there(x[:1]))
        if len(np.shape(y)) == 0 or len(y) != len(x):
            raise InputError(f"x holds {len(x)} examples and y {len(y) if np.ndim(y) else 'a single number'}, expected "
                             "as many")
        y = losses.check_targets(self.loss, y, (len(x), *p.shape[1:]))
        weight = np.ones(len(x), self.dtype) if sample_weight is None else np.asarray(sample_weight, self.dtype)
        if not (np.isfinite(weight) & (weight >= 0)).all():
            wrong = weight[~(np.isfinite(weight) & (weight >= 0))][0]
            raise InputError(f"sample_weight holds {wrong}, expected numbers of at least 0")
        if weight.shape[:1] != (len(x),) or weight.shape != (len(x), *p.shape[1:-1])[: weight.ndim]:
            raise InputError(f"sample_weight has shape {weight.shape}, expected ({len(x)},), a number for each example")
        return fitting.Data(x, y if losses.LOSSES[self.loss].sparse else y.astype(self.dtype), weight)

    def inputs(self, x: Any) -> np.ndarray:
        """x on the host, in the network's dtype unless it is ids; InputError if it does not fit."""
        x = np.asarray(to_device(x, "cpu") if hasattr(x, "dtype") else x)
        if x.dtype.kind not in "fiub" or x.ndim < 2 or not len(x):
            raise InputError(f"x is {x.dtype} {x.shape}, expected numbers (examples, ...), at least one example")
        self.build(x.shape[1:])
        assert self.input_shape is not None  # known since `build`
        fits = len(x.shape) - 1 == len(self.input_shape) and all(
            want in (None, n) for want, n in zip(self.input_shape, x.shape[1:], strict=False))
        if not fits:
            raise InputError(f"x has shape {x.shape}, but the network takes {shape_text(self.input_shape)}")
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            raise InputError(f"x holds {x[~np.isfinite(x)][0]}, expected finite numbers")
        first = next((layer for layer in self.layers if not isinstance(layer, Input)), None)
        return x if isinstance(first, Embedding) else x.astype(self.dtype, copy=False)

    def there(self, array: np.ndarray) -> Array:
        """On the network's device."""
        return to_device(array, self.device)

    def _ready(self, what: str, x: Any, y: Any, sample_weight: Any) -> fitting.Data:
        """What was given, as `data` has it, once there is an optimizer."""
        if not self.compiled:
            raise InputError(f"{what} before compile: say model.compile(loss=..., optimizer=...) first")
        data = self.data(x, y, sample_weight)
        if self.optimizer is None:
            self.optimizer = self.choices.of(self.params)
        return data

    def get_weights(self) -> list[np.ndarray]:
        """Copies on the host, in Keras' order and shapes."""
        return [to_device(array, "cpu").copy() for array in self._keras_weights(self.params)]

    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Take weights in Keras' order and shapes; InputError, and nothing is changed, if they do not fit."""
        self.check_weights([np.shape(new) for new in weights])
        for new, old in zip(weights, self._keras_weights(self.params), strict=True):
            old[...] = array_module(old).asarray(np.asarray(new, self.dtype))

    def check_weights(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """InputError unless these are the shapes of the weights in Keras' order; no memory is taken."""
        own = self._keras_weights({name: np.broadcast_to(np.int8(0), shape) for name, shape in self.shapes.items()})
        if len(shapes) != len(own):
            raise InputError(f"set_weights got {len(shapes)} arrays, expected {len(own)}")
        for number, (new, old) in enumerate(zip(shapes, own, strict=True)):
            if new != old.shape:
                raise InputError(f"set_weights: array {number} has shape {new}, expected {old.shape}")

    def _keras_weights(self, params: Weights) -> list[Array]:
        return [a for layer, own in zip(self.layers, self.views(params), strict=True) for a in layer.keras_weights(own)]

    def count_params(self) -> int:
        """How many numbers the weights are."""
        return int(self.params.flat.size)

    def summary(self) -> None:
        """Print a table of the layers, their outputs' shapes and how many weights they have."""
        from .layer import table

        print(table(self))

    def save(self, path: str | os.PathLike) -> None:
        """Write layers, weights, and how it was compiled to one file, atomically."""
        from .saving import save

        save(self, path)

    def load_weights(self, path: str | os.PathLike) -> None:
        """Take the weights of a file of `save`, or of Keras' NAME.weights.h5 or NAME.keras."""
        from .saving import load_weights

        load_weights(self, path)


def _built(layer: Layer, given: Shape, before: list[Layer]) -> Shape:
    """What it returns for what the layer before it returns."""
    try:
        return layer.built(given)
    except InputError as error:
        if not before:
            raise
        raise InputError(f"{error}; {before[0]!r} before it returns {shape_text(given)}") from error


class SGD(NamedTuple):
    learning_rate: float = 0.01
    momentum: float = 0.0

    def of(self, params: Parameters) -> optim.SGD:
        return optim.SGD(params, self.learning_rate, self.momentum)


class Adam(NamedTuple):
    learning_rate: float = 1e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7

    def of(self, params: Parameters) -> optim.Adam:
        return optim.Adam(params, self.learning_rate, (self.beta_1, self.beta_2), self.epsilon, eps_hat=True)


class RMSprop(NamedTuple):
    learning_rate: float = 1e-3
    rho: float = 0.9
    momentum: float = 0.0  # there is no other here; it has its place in the order of arguments
    epsilon: float = 1e-7

    def of(self, params: Parameters) -> optim.RMSprop:
        return optim.RMSprop(params, self.learning_rate, self.rho, self.epsilon)


OPTIMIZERS: dict[str, type[SGD] | type[Adam] | type[RMSprop]] = {"sgd": SGD, "adam": Adam, "rmsprop": RMSprop}


def optimizer_named(given: Any) -> SGD | Adam | RMSprop:
    """An optimizer's choices, by its name or as they are; InputError for one that there is not."""
    if isinstance(given, RMSprop) and given.momentum:
        raise InputError(f"RMSprop: momentum is {given.momentum}, which there is not here: choose 0.0, or SGD or Adam")
    if isinstance(given, (SGD, Adam, RMSprop)):
        return type(given)(*map(float, given))
    return look_up("optimizer", given.lower() if isinstance(given, str) else given, OPTIMIZERS)()
