"""A network as a list of layers: built, compiled, trained, asked.

The weights of all layers are views of one vector, `params`, and so are their gradients; a training step is a forward
pass through the list, the loss, and a backward pass through the list from its end.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..arrays import Array, device_module, to_device
from ..errors import ArgumentError, InputError, look_up, printable, shown, whole_number
from ..parameters import Parameters
from . import fitting, losses
from .callbacks import Callbacks, History
from .core import Dropout, Embedding, Input
from .layer import (
    Layer,
    Shape,
    Trained,
    Weights,
    check_shapes,
    checked_name,
    finite,
    flag,
    give_name,
    put_weights,
    shape_text,
    start,
    whole_shape,
)
from .optimizers import optimizer_named
from .recurrent import TimeDistributed


class Sequential(Trained):
    """Layers one after the other, the first of which says what comes in: LSTM(128, input_shape=(50, 27)).

    dtype "float32" or "float64", device "cpu" or "cuda"; seed: of weights, shuffling and dropout.  InputError where
    a layer's input does not fit.
    """

    choices = ("dtype", "device", "seed")
    inner: list[Layer]

    def __init__(self, layers: Iterable[Layer] | None = None, *, trainable: bool = True, name: str = "sequential",
                 dtype: str = "float32", device: str = "cpu", seed: int = 0):
        self.name, self.dtype, self.device, self.seed = checked_name("Sequential", name), dtype, device, seed
        look_up("dtype", dtype, dict.fromkeys(("float32", "float64")))
        self.inner = []
        self.trainable = trainable
        self.input_shape: Shape | None = None
        self.output_shape: Shape | None = None
        self.optimizer: Any = None  # None: not compiled
        self.stop_training = False
        self._params: Parameters | None = None
        self.shuffler = np.random.default_rng(seed)
        self.dropper = device_module(device).random.default_rng(seed)
        self.loss = ""
        self.metrics: list[str] = []
        self.chosen_optimizer: Any = None
        self.compiled = False
        self.history: History | None = None  # of the last `fit`
        for layer in layers or ():
            self.add(layer)

    def __repr__(self) -> str:
        return f'"{printable(str(self.name))}" (Sequential)'

    @property
    def full_kind(self) -> str:
        """For a file: Sequential, or, of a class that does something else with the layers, "__main__>Scaled"."""
        kind = type(self)
        own = any(getattr(kind, name) is not getattr(Sequential, name)
                  for name in ("forward", "backward", "inputs", "predict"))
        return f"{kind.__module__}>{kind.__name__}" if own else "Sequential"

    @property
    def layers(self) -> list[Layer]:
        """A copy of the list: `add` makes it longer."""
        return list(self.inner)

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer of this name, or in this place; InputError if there is none."""
        if index is not None:
            if name is not None:
                raise InputError(f"get_layer got name={shown(name)} and index={index}, expected one of them")
            if not -len(self.inner) <= index < len(self.inner):
                raise InputError(f"get_layer: index is {index}, but there are {len(self.inner)} layers")
            return self.inner[index]
        return look_up("layer", name, {layer.name: layer for layer in self.inner})

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
        give_name(layer, {other.name for other in self.inner})
        first = layer.input_shape if not self.inner else self.input_shape
        last = layer.input_shape if not self.inner else self.output_shape
        output = None if last is None else _built(layer, last, self.inner[-1:])
        self.inner.append(layer)
        self.input_shape, self.output_shape, layer.owner = first, output, self

    def build(self, input_shape: Shape) -> None:
        """Say what comes in, without the batch, where no layer did; InputError, and nothing is said, if it cannot."""
        if not self.inner:
            raise InputError("the network has no layers: add some")
        if self.input_shape is None:
            output = first = whole_shape(input_shape) or ()
            for number, layer in enumerate(self.inner):
                output = _built(layer, output, self.inner[number - 1 : number] if number else [])
            self.input_shape, self.output_shape = first, output

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the weights, under their names, once it is known what comes in."""
        return {f"{layer.name}.{w}": shape for layer in self.inner for w, shape in layer.shapes.items()}

    @property
    def params(self) -> Parameters:
        """The weights, "lstm.Wx", "dense.W" ..., made when they are first asked for."""
        if self._params is None:
            with self.filling() as drawn:
                rng = np.random.default_rng(self.seed)
                for layer, weights in zip(self.inner, self.views(drawn), strict=True):
                    start(layer, weights, rng)
        assert self._params is not None
        return self._params

    def check_shapes_are_known(self) -> None:
        """InputError if there are no weights yet, and there cannot be any."""
        if self._params is None and self.output_shape is None:
            raise InputError("the network does not know what comes in: give its first layer input_shape=..., "
                             "without the batch, or begin with Input(shape=...)")

    @contextmanager
    def filling(self) -> Iterator[Parameters]:
        """The weights, for whoever puts all of them in, as a file does: if they are not made yet, none are drawn.

        To draw them takes longer than to read them, by far if they are wide and orthogonal.  New ones are kept only if
        no error is raised.
        """
        self.check_shapes_are_known()
        own = self._params
        params = Parameters(self.shapes, self.dtype, device_module(self.device)) if own is None else own
        yield params
        self._params = params

    def weights_of(self, layer: Layer) -> Weights:
        """Those of one of its layers, under the names that it knows them by."""
        return {w: self.params[f"{layer.name}.{w}"] for w in layer.shapes}

    def views(self, params: Weights) -> list[Weights]:
        """The weights, or gradients, of each layer under the names that it knows them by."""
        return [{w: params[f"{layer.name}.{w}"] for w in layer.shapes} for layer in self.inner]

    def forward(self, x: Array, rng: Any = None, params: Parameters | None = None):
        """(output, mask), cache of a batch on the network's device; rng: of dropout, None: not training."""
        mask, caches, weights = None, [], self.views(self.params if params is None else params)
        for layer, own in zip(self.inner, weights, strict=True):
            x, mask, cache = layer.forward(x, own, mask, rng)
            caches.append(cache)
        return (x, mask), (caches, weights)

    def backward(self, dy: Array, cache: Any) -> Parameters:
        """Gradients of all weights, from that of the output; zeros for layers that are not trained."""
        caches, weights = cache
        grads = self.params.like()
        of_each = list(zip(self.inner, weights, self.views(grads), caches, strict=True))
        first = next((n for n, layer in enumerate(self.inner) if layer.shapes and self._trains(layer)), len(of_each))
        for layer, own, into, kept in reversed(of_each[first:]):
            gradients: dict[str, Array] = {}
            dy = layer.backward(dy, own, kept, gradients)
            for name, gradient in gradients.items() if self._trains(layer) else ():
                into[name][...] = gradient
        return grads

    def _trains(self, layer: Layer) -> bool:
        return self.trainable and layer.trains

    def step(self, grads: Parameters) -> None:
        """Move the weights of the layers that are trained along their gradients."""
        frozen = [(own, [own[w].copy() for w in own]) for own, layer in zip(self.views(self.params), self.inner,
                                                                           strict=True) if not self._trains(layer)]
        self.optimizer.step(grads)
        for own, before in frozen:  # an optimizer with momentum moves also what has no gradient
            for array, kept in zip(own.values(), before, strict=True):
                array[...] = kept

    def compile(self, optimizer: Any = "rmsprop", loss: str | None = None, *, metrics: Sequence[str] = ()) -> None:
        """Choose how to train: names, or an optimizer such as Adam(learning_rate=0.01)."""
        known = look_up("loss", loss, {name: name for name in losses.LOSSES})
        if isinstance(metrics, str):
            raise InputError(f"compile: metrics is {metrics!r}, expected a list, [{metrics!r}]")
        metrics = list(metrics or ())
        for name in metrics:
            look_up("metric", name, losses.METRICS)
        choices = optimizer_named(optimizer)
        choices.of(Parameters({}))  # tells what is out of range before anything is changed
        self.loss, self.metrics, self.chosen_optimizer = known, metrics, choices
        self.optimizer, self.compiled = None, True
        if self.output_shape is not None:
            self._start_optimizer()

    def _start_optimizer(self) -> None:
        self.optimizer = self.chosen_optimizer.of(self.params)
        assert self.output_shape is not None  # or there would be no weights
        if self.output_shape and (K := self.output_shape[-1]):
            for doubt in losses.doubts(self.loss, _last_activation(self.inner), K):
                warnings.warn(doubt, stacklevel=3)

    def fit(self, x: Any, y: Any, batch_size: int | None = None, epochs: int = 1, verbose: int | str = "auto",
            callbacks: Any = (), validation_split: float = 0.0, validation_data: tuple | None = None,
            shuffle: bool = True, class_weight: Mapping[int, float] | None = None, sample_weight: Any = None,
            initial_epoch: int = 0, *, on_nonfinite: str = "stop") -> History:
        """Train; returns a History.  Examples are along the first axis of x, y and sample_weight; 32 are a batch.

        validation_split: the share of examples, from the end, that are validated on instead; validation_data: (x, y)
        or (x, y, sample_weight).  verbose 0: silent, 1: a progress line, 2: a line an epoch.  class_weight: what the
        examples of a class count, {0: 1.0, 1: 5.0}, in training; sample_weight: what each counts.  initial_epoch:
        the number of the first, counted from 0; epochs: of the last, counted from 1.  on_nonfinite: "stop" at a step
        whose loss or gradient is not finite, or "skip" it, 20 in a row at most; it moves nothing.

        InputError before anything is trained if something does not fit; at such a step; and if an epoch leaves weights
        that are not finite: they are then again what they were before it.
        """
        look_up("on_nonfinite", on_nonfinite, dict.fromkeys(fitting.ON_NONFINITE))
        plan = fitting.Plan(batch_size=_batch_size(batch_size), epochs=whole_number("epochs", epochs),
                            initial_epoch=whole_number("initial_epoch", initial_epoch, least=0),
                            verbose=_verbose(verbose), shuffle=flag("shuffle", shuffle), on_nonfinite=on_nonfinite)
        if plan.initial_epoch >= plan.epochs:
            raise InputError(f"fit: initial_epoch is {initial_epoch} and epochs {epochs}, expected more: epochs is the "
                             "number of the last one")
        if class_weight is not None and sample_weight is not None:
            raise InputError("fit: class_weight and sample_weight exclude each other: multiply the one into the other")
        if validation_data is not None and validation_split:
            raise InputError("fit: validation_split and validation_data exclude each other: leave one out")
        if validation_data is None:
            data, valid = fitting.split(self._ready("fit", x, y, sample_weight), validation_split)
        else:
            if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
                raise InputError("validation_data: expected (x, y) or (x, y, sample_weight)")
            data = self._ready("fit", x, y, sample_weight)
            x, y, sample_weight = (*validation_data, None)[:3]
            valid = self.data(x, y, sample_weight, prefix="validation_data: ")
        if class_weight is not None:
            data = fitting.weighted(self, data, class_weight)
        if not any(layer.shapes and self._trains(layer) for layer in self.inner):
            warnings.warn("no layer with weights is trainable: fit changes nothing", stacklevel=2)
        return fitting.fit(self, data, valid, plan, callbacks)

    def evaluate(self, x: Any, y: Any, batch_size: int | None = None, verbose: int | str = "auto",
                 sample_weight: Any = None, *, callbacks: Any = (), return_dict: bool = False,
                 ) -> float | list[float] | dict[str, float]:
        """The loss, or with metrics [loss, accuracy], on these examples."""
        data = self._ready("evaluate", x, y, sample_weight)
        told, size = self._callbacks(callbacks, batch_size, len(data.x), verbose)
        logs = fitting.evaluate(self, data, size, told)
        if _verbose(verbose):
            print(" - ".join(f"{name}: {value:.4f}" for name, value in sorted(logs.items())))
        values = list(logs.values())
        return logs if return_dict else values if len(values) > 1 else values[0]

    def predict(self, x: Any, batch_size: int | None = None, verbose: int | str = 0, *,
                callbacks: Any = ()) -> np.ndarray:
        """The outputs, on the host; always silent."""
        x = self.inputs(x)
        told, size = self._callbacks(callbacks, batch_size, len(x), verbose)
        parts = []
        told("on_predict_begin", {})
        for step, at in enumerate(range(0, len(x), size)):
            told("on_predict_batch_begin", step, {})
            parts.append(to_device(self.forward(self.there(x[at : at + size]))[0][0], "cpu"))
            told("on_predict_batch_end", step, {"outputs": parts[-1]})
        told("on_predict_end", {})
        return np.concatenate(parts)

    def _callbacks(self, given: Any, batch_size: int | None, examples: int, verbose: int | str
                   ) -> tuple[Callbacks, int]:
        size = _batch_size(batch_size)
        return Callbacks(given, self, epochs=1, steps=-(-examples // size), verbose=_verbose(verbose)), size

    def data(self, x: Any, y: Any, sample_weight: Any, prefix: str = "") -> fitting.Data:
        """Arrays on the host that fit the network, its loss and each other; InputError otherwise."""
        x = self.inputs(x, f"{prefix}x")
        if isinstance(y, (list, tuple)) and len(y) == 1 != len(x):
            y = y[0]  # a list of all targets, of which there is one
        y = fitting.host_array(f"{prefix}y", y)
        (p, _), _ = self.forward(self.there(x[:1]))
        if not y.ndim or len(y) != len(x):
            raise InputError(f"{prefix}x holds {len(x)} examples and y {len(y) if y.ndim else 'a single number'}, "
                             "expected as many")
        y = losses.check_targets(self.loss, y, (len(x), *p.shape[1:]), self.dtype)
        weight = (np.ones(len(x), self.dtype) if sample_weight is None
                  else fitting.host_array("sample_weight", sample_weight).astype(self.dtype))
        if not (np.isfinite(weight) & (weight >= 0)).all():
            wrong = weight[~(np.isfinite(weight) & (weight >= 0))][0]
            raise InputError(f"sample_weight holds {wrong}, expected numbers of at least 0")
        if weight.shape == (len(x), 1) and p.ndim == 2:
            weight = weight[:, 0]
        if weight.shape[:1] != (len(x),) or weight.shape != (len(x), *p.shape[1:-1])[: weight.ndim]:
            raise InputError(f"sample_weight has shape {weight.shape}, expected ({len(x)},), a number for each example")
        return fitting.Data(x, y, weight)

    def inputs(self, given: Any, what: str = "x") -> np.ndarray:
        """x on the host, in the network's dtype unless it is ids; InputError if it does not fit."""
        if isinstance(given, (list, tuple)) and len(given) > 1 and self.input_shape is not None and all(
                len(getattr(one, "shape", ())) == len(self.input_shape) + 1 for one in given):
            raise InputError(f"{what} is a list of {len(given)} arrays, but the network takes one input, "
                             f"{shape_text(self.input_shape)}")
        x = fitting.host_array(what, given)
        if x.ndim == 1 and self.input_shape == (1,):
            x = x[:, None]
        if x.ndim < 2 or not len(x):
            raise InputError(f"{what} is {x.dtype} {x.shape}, expected numbers (examples, ...), at least one example")
        self.build(x.shape[1:])
        assert self.input_shape is not None  # known since `build`
        fits = len(x.shape) - 1 == len(self.input_shape) and all(
            want in (None, n) for want, n in zip(self.input_shape, x.shape[1:], strict=False))
        if not fits:
            raise InputError(f"{what} has shape {x.shape}, but the network takes {shape_text(self.input_shape)}")
        first = next((layer for layer in self.inner if not isinstance(layer, Input)), None)
        x = finite(what, x, x.dtype if isinstance(first, Embedding) else self.dtype)
        if first is not None:
            first.check_input(x)
        return x

    def there(self, array: np.ndarray) -> Array:
        """On the network's device."""
        return to_device(array, self.device)

    def _ready(self, what: str, x: Any, y: Any, sample_weight: Any) -> fitting.Data:
        """What was given, as `data` has it, once there is an optimizer."""
        if not self.compiled:
            raise InputError(f"{what} before compile: say model.compile(loss=..., optimizer=...) first")
        data = self.data(x, y, sample_weight)
        if self.optimizer is None:
            self._start_optimizer()
        return data

    def random_state(self) -> dict[str, Any]:
        """Where shuffling and dropout stand, for `set_random_state`; a GPU's generator does not tell."""
        return {name: one.bit_generator.state if isinstance(one, np.random.Generator) else None
                for name, one in (("shuffler", self.shuffler), ("dropper", self.dropper))}

    def set_random_state(self, state: Mapping[str, Any]) -> None:
        """Go on from there; dropout on a GPU, or from one, with other numbers than would have come.

        ValueError for a state in which no generator can be, such as one with an even increment.
        """
        for one in (state["shuffler"], state["dropper"]):
            if one is not None:
                _check_generator(one["state"])
        self.shuffler.bit_generator.state = state["shuffler"]
        if isinstance(self.dropper, np.random.Generator) and state["dropper"] is not None:
            self.dropper.bit_generator.state = state["dropper"]
        else:
            seed = int(state["shuffler"]["state"]["state"]) % (1 << 63)
            self.dropper = device_module(self.device).random.default_rng(seed)

    def get_weights(self) -> list[np.ndarray]:
        """Copies on the host, in Keras' order and shapes."""
        return [to_device(array, "cpu").copy() for array in self.keras_weights(self.params)]

    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Take weights in Keras' order and shapes; InputError, and nothing is changed, if they do not fit."""
        with self.filling() as params:
            put_weights("set_weights", weights, self.keras_weights(params))

    def check_weights(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """InputError unless these are the shapes of the weights in Keras' order; no memory is taken."""
        own = self.keras_weights({name: np.broadcast_to(np.int8(0), shape) for name, shape in self.shapes.items()})
        check_shapes("set_weights", shapes, [array.shape for array in own])

    def keras_weights(self, params: Weights, trained: bool = False) -> list[Array]:
        """Weights, or what has their names and shapes, in Keras' order and shapes; of those that are trained alone."""
        return [array for layer, own in zip(self.inner, self.views(params), strict=True)
                if self._trains(layer) or not trained for array in layer.keras_weights(own).values()]

    def count_params(self) -> int:
        """How many numbers the weights are."""
        return int(self.params.flat.size)

    def summary(self) -> None:
        """Print a table of the layers, their outputs' shapes and how many weights they have."""
        from .layer import table

        print(table(self))

    def save(self, path: str | os.PathLike) -> None:
        """Write layers, weights, how it was compiled, and what to go on training needs, to one file, atomically.

        NAME.keras and NAME.h5 are written as Keras does, any other name in a format of our own.
        """
        from .saving import save

        save(self, path)

    def save_weights(self, path: str | os.PathLike) -> None:
        """Write the weights alone: NAME.weights.h5 as Keras does, any other name in a format of our own."""
        from .saving import save_weights

        save_weights(self, path)

    def load_weights(self, path: str | os.PathLike) -> None:
        """Take the weights of a file of `save`, or of Keras' NAME.weights.h5, NAME.keras or NAME.h5."""
        from .saving import load_weights

        load_weights(self, path)


def _batch_size(given: Any) -> int:
    return 32 if given is None else whole_number("batch_size", given)


def _verbose(given: Any) -> int:
    return look_up("verbose", str(given), fitting.VERBOSE)


def _last_activation(layers: list[Layer]) -> str | None:
    """Of the outputs, None if they are those of no activation."""
    last: Any = next((layer for layer in reversed(layers) if not isinstance(layer, Dropout)), None)
    while isinstance(last, TimeDistributed):
        last = last.layer
    return getattr(last, "activation", None)


def _built(layer: Layer, given: Shape, before: list[Layer]) -> Shape:
    """What it returns for what the layer before it returns."""
    try:
        returned = layer.built(given)
    except InputError as error:
        if not before:
            raise
        raise InputError(f"{error}; {before[0]!r} before it returns {shape_text(given)}") from error
    told = layer.input_shape or given
    if len(told) != len(given) or any(a != b for a, b in zip(told, given, strict=True) if None not in (a, b)):
        warnings.warn(f"layer {layer!r} was told the input_shape {shape_text(told)}, and gets {shape_text(given)}",
                      stacklevel=4)
    return returned


def _check_generator(numbers: Mapping[str, Any]) -> None:
    """ValueError for numbers in which PCG cannot be."""
    if any(type(value) is not int or not 0 <= value < 1 << 128 for value in (numbers["state"], numbers["inc"])):
        raise ArgumentError("the numbers of a random generator are not whole ones below 2^128")
    if numbers["inc"] % 2 == 0:  # it is odd: else the generator can stay in one place for ever
        raise ArgumentError("the increment of a random generator is even")
