"""A network in a file of its own, and Keras' files read; nothing is ever unpickled.

Ours is a safetensors file (see ../files/tensors.py): weights under their names, the optimizer's state under
"optimizer/", and as JSON the layers, the dtype and what `compile` was told.

Keras' NAME.keras is a zip archive of config.json, the layers, and model.weights.h5, their weights; its
NAME.weights.h5 holds the weights alone (Keras 3, keras/src/saving/saving_lib.py).
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ..arrays import array_module
from ..errors import InputError, look_up, printable, require, shown
from ..files.reading import Archive, archive, is_archive, opened, parse_json
from ..files.tensors import read_tensors, write_tensors
from . import core, recurrent, wrappers
from .layer import Layer, snake_case
from .model import OPTIMIZERS, Sequential

if TYPE_CHECKING:
    from collections.abc import Mapping

KINDS = {kind.__name__: kind for kind in (core.Activation, core.Dense, core.Dropout, core.Embedding, core.Input,
                                          core.Masking, core.RepeatVector, recurrent.LSTM, wrappers.Bidirectional,
                                          wrappers.TimeDistributed)}
# what Keras says of a layer and we need not, because it has this value in all of ours
KERAS_ONLY = {"dropout": 0.0, "recurrent_dropout": 0.0, "stateful": False, "noise_shape": None, "trainable": True}
KERAS_KEPT = ("activation", "recurrent_activation", "use_bias")
STATE = "optimizer/"  # of a tensor's name: no layer has a / in its name
CONFIG, WEIGHTS = "config.json", "model.weights.h5"  # in Keras' archives
CONFIG_LIMIT = 1 << 22  # bytes: Keras writes some 1,500 for a layer
MOST_LAYERS = 1000  # of a file


def save(model: Sequential, path: str | os.PathLike) -> None:
    """See Sequential.save."""
    compiled: dict[str, Any] | None = None
    tensors: dict[str, Any] = dict(model.params)
    if model.compiled:
        kind = next(name for name, kind in OPTIMIZERS.items() if isinstance(model.choices, kind))
        compiled = {"loss": model.loss, "metrics": model.metrics, "optimizer": [kind, model.choices._asdict()]}
        state = model.optimizer.state() if model.optimizer else {}
        compiled["state"] = {name: value for name, value in state.items() if not hasattr(value, "shape")}
        tensors |= {f"{STATE}{name}": value for name, value in state.items() if hasattr(value, "shape")}
    write_tensors(path, tensors, {"sequential": {
        "name": model.name, "dtype": model.dtype, "input_shape": model.input_shape, "compiled": compiled,
        "layers": [layer.config() for layer in model.layers]}})


def load_model(path: str | os.PathLike, device: str = "cpu") -> Sequential:
    """The network of a file of `Sequential.save`, ready to train on, or of Keras' NAME.keras.

    InputError if the file is missing, damaged, or holds what this package does not have.
    """
    with opened(path) as file:
        if is_archive(file):  # by what is in it: anybody may call a file of ours NAME.keras
            with archive(file, path) as parts:
                return _from_keras(parts, device)
    tensors, about = _ours(path)
    with _described(path):
        model = Sequential(map(_layer, _few(about["layers"])), name=about["name"], dtype=about["dtype"], device=device)
        model.build(about["input_shape"])
    _take(model, tensors, path)
    with _described(path):
        if compiled := about["compiled"]:
            kind, choices = compiled["optimizer"]
            model.compile(OPTIMIZERS[kind](**choices), compiled["loss"], metrics=compiled["metrics"])
            arrays = {name.removeprefix(STATE): array for name, array in tensors.items() if name.startswith(STATE)}
            if state := arrays | compiled["state"]:
                model.optimizer.load_state(state)
    return model


def load_weights(model: Sequential, path: str | os.PathLike) -> None:
    """See Sequential.load_weights."""
    with opened(path) as file:
        if is_archive(file):
            with archive(file, path) as parts:
                return _take_h5(model, io.BytesIO(parts.read(WEIGHTS)), path)
        file.seek(0)
        if file.read(4) == b"\x89HDF":
            return _take_h5(model, file, path)
    _take(model, _ours(path)[0], path)


@contextmanager
def _described(path: str | os.PathLike) -> Iterator[None]:
    """InputError, naming the file, for whatever its description of a network cannot be made into."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        if isinstance(error, InputError):
            raise InputError(f"{path}: {error}") from error
        raise InputError(f"{path} is damaged: its description of the layers cannot be used "
                         f"({type(error).__name__}: {printable(str(error))})") from error


def _few(layers: list[Any]) -> list[Any]:
    if len(layers) > MOST_LAYERS:
        raise InputError(f"there are {len(layers):,} layers, expected at most {MOST_LAYERS:,}")
    return layers


def _ours(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    tensors, info = read_tensors(path)
    if "sequential" not in info:
        raise InputError(f"{path} holds no network of layers, but something else that scratchnmt wrote")
    return tensors, info["sequential"]


def _take(model: Sequential, tensors: Mapping[str, np.ndarray], path: str | os.PathLike) -> None:
    found = {name: array.shape for name, array in tensors.items() if not name.startswith(STATE)}
    expected = model.shapes  # and nothing is made of these sizes before
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            raise InputError(f"{path} does not fit the network: {printable(name)} is {found.get(name, 'missing')}, "
                             f"expected {expected.get(name, 'nothing of this name')}")
        if (kind := tensors[name].dtype).kind != "f":
            raise InputError(f"{path} does not fit the network: {name} is of {kind}, expected floating-point numbers")
    for name, array in model.params.items():
        array[...] = array_module(array).asarray(tensors[name].astype(model.dtype))


def _layer(config: Mapping[str, Any]) -> Layer:
    """The layer that `Layer.config` told."""
    choices = dict(config)
    kind = look_up("layer", choices.pop("kind"), KINDS)
    if "layer" in choices:
        choices["layer"] = _layer(choices["layer"])
    return kind(**choices)


def _from_keras(parts: Archive, device: str) -> Sequential:
    content = parse_json(parts.read(CONFIG, CONFIG_LIMIT), parts.path)
    with _described(parts.path):
        if content["class_name"] != "Sequential":
            raise InputError(f"it holds {shown(content['class_name'])}, expected a Sequential")
        layers = map(_from_keras_layer, _few(content["config"]["layers"]))
        model = Sequential(layers, name=content["config"]["name"], device=device)
        if model.output_shape is None:
            model.build(content["build_config"]["input_shape"][1:])
    _take_h5(model, io.BytesIO(parts.read(WEIGHTS)), parts.path)
    return model


def _from_keras_layer(told: Mapping[str, Any]) -> Layer:
    config, kind = told["config"], told["class_name"]
    if kind == "InputLayer":
        return core.Input(tuple(config.get("batch_shape", config.get("batch_input_shape"))[1:]), name=config["name"])
    made = look_up("layer", kind, KINDS)
    for option, only in KERAS_ONLY.items():
        if config.get(option, only) != only:
            raise InputError(f"layer {config['name']!r} ({kind}) has {option}={config[option]!r}, which there is "
                             "not here")
    if kind == "Bidirectional":
        _check_backward_layer(config)
    elif config.get("zero_output_for_mask"):
        raise InputError(f"layer {config['name']!r} ({kind}) has zero_output_for_mask=True, which there is not here")
    choices = {name: config[name] for name in ("name", *made.choices, *KERAS_KEPT) if name in config}
    if "layer" in config:
        choices["layer"] = _from_keras_layer(config["layer"])
    return made(**choices)


def _check_backward_layer(config: Mapping[str, Any]) -> None:
    """InputError if a Bidirectional's second layer is another than the first, read backwards."""
    first, *others = ({name: value for name, value in config[layer]["config"].items()
                      if name in (*recurrent.LSTM.choices, *KERAS_KEPT) and name != "go_backwards"}
                     for layer in ("layer", "backward_layer") if layer in config)
    if any(other != first for other in others):
        raise InputError(f"layer {config['name']!r} (Bidirectional) has two different layers, which there is not here")
    config["layer"]["config"].pop("zero_output_for_mask", None)  # which Keras sets, and we do


def _take_h5(model: Sequential, file: BinaryIO, path: str | os.PathLike) -> None:
    """Put the weights of Keras' HDF5 file into the network.

    HDF5 can leave numbers out, pack them, or look for them in other files, which Keras does not: what is read is what
    lies in this file, as many bytes as the network's weights have, known before memory is taken.
    """
    h5py = require("h5py", extra="keras")
    try:
        with h5py.File(file, "r") as content:
            arrays = _h5_arrays(content, model, h5py)
            model.check_weights([array.shape for array in arrays])
            for array in arrays:
                plain = array.dtype.kind == "f" and array.chunks is None and not array.is_virtual and not array.external
                if not plain or array.id.get_storage_size() != prod(array.shape) * array.dtype.itemsize:
                    raise InputError(f"{path} is damaged: its weights are not numbers that lie in it, "
                                     "unpacked, as Keras saves them")
            if sum(array.nbytes for array in arrays) > file.seek(0, os.SEEK_END):
                raise InputError(f"{path} is damaged: its weights are larger than the file")
            weights = [array[...] for array in arrays]
    except (InputError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  the library does not document its kinds
        raise InputError(f"{path} does not hold the weights of this network, or is damaged: "
                         f"{printable(str(error))}") from error
    model.set_weights(weights)


def _h5_arrays(content: Any, model: Sequential, h5py: Any) -> list[Any]:
    """The arrays, not read yet, in the order of `get_weights`: a group for each layer, called by kind and number."""
    found: list[Any] = []
    numbers: dict[str, int] = {}  # of each kind, the last one's
    layers = _own(content, "layers", h5py)
    for layer in model.layers:
        if not isinstance(layer, core.Input):
            name = snake_case(layer.kind)
            numbers[name] = number = numbers.get(name, -1) + 1
            found += _arrays(_own(layers, f"{name}_{number}" if number else name, h5py), h5py)
    return found


def _own(group: Any, name: str, h5py: Any) -> Any:
    """What lies in a group under this name; KeyError if it is a link to somewhere else, perhaps another file."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise KeyError(f"{name} is not there")
    return group[name]


def _arrays(group: Any, h5py: Any) -> list[Any]:
    names: list[str] = []

    def visit(name: str) -> bool | None:
        names.append(name)
        return len(names) > MOST_LAYERS or None  # anything but None ends it

    group.visit(visit)  # which follows no links to other files
    last = [name for name in names if name.rpartition("/")[2].isdigit() and "seed_generator" not in name]
    arrays = [(name, array) for name in last if isinstance(array := group[name], h5py.Dataset)]
    arrays.sort(key=lambda one: ("backward_layer" in one[0], int(one[0].rpartition("/")[2])))
    return [array for _, array in arrays]
