"""A network in a file of its own, and Keras' files read; nothing is ever unpickled.

Ours is a safetensors file (see ../files/tensors.py): weights under their names, the optimizer's state under
"optimizer/", and as JSON the layers, the dtype and what `compile` was told.

Keras' NAME.keras is a zip archive of config.json, the layers, and model.weights.h5, their weights; its
NAME.weights.h5 holds the weights alone (Keras 3, keras/src/saving/saving_lib.py).
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import array_module
from ..errors import InputError, require
from ..files.tensors import read_tensors, write_tensors
from . import core, recurrent, wrappers
from .layer import Layer, snake_case
from .model import Sequential
from .names import look_up
from .optimizers import OPTIMIZERS

if TYPE_CHECKING:
    from collections.abc import Mapping

KINDS = {kind.__name__: kind for kind in (core.Activation, core.Dense, core.Dropout, core.Embedding, core.Input,
                                          core.Masking, core.RepeatVector, recurrent.LSTM, wrappers.Bidirectional,
                                          wrappers.TimeDistributed)}
# what Keras says of a layer and we need not, because it has this value in all of ours
KERAS_ONLY = {"dropout": 0.0, "recurrent_dropout": 0.0, "stateful": False, "noise_shape": None, "trainable": True}
KERAS_KEPT = ("activation", "recurrent_activation", "use_bias")
STATE = "optimizer/"  # of a tensor's name: no layer has a / in its name


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
    if zipfile.is_zipfile(path):  # by what is in it: anybody may call a file of ours NAME.keras
        return _from_keras(path, device)
    tensors, about = _ours(path)
    model = Sequential([_layer(config) for config in about["layers"]], name=about["name"], dtype=about["dtype"],
                       device=device)
    model.build(about["input_shape"])
    _take(model, tensors, path)
    if compiled := about["compiled"]:
        kind, choices = compiled["optimizer"]
        model.compile(OPTIMIZERS[kind](**choices), compiled["loss"], compiled["metrics"])
        arrays = {name.removeprefix(STATE): array for name, array in tensors.items() if name.startswith(STATE)}
        if compiled["state"]:
            model.optimizer.load_state(compiled["state"] | arrays)
    return model


def load_weights(model: Sequential, path: str | os.PathLike) -> None:
    """See Sequential.load_weights."""
    if zipfile.is_zipfile(path):
        model.set_weights(_h5_weights(io.BytesIO(_entry(path, "model.weights.h5")), model, path))
    elif _begins_with(path, b"\x89HDF"):
        model.set_weights(_h5_weights(path, model, path))
    else:
        _take(model, _ours(path)[0], path)


def _begins_with(path: str | os.PathLike, magic: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(magic)) == magic
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def _ours(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    tensors, info = read_tensors(path)
    if "sequential" not in info:
        raise InputError(f"{path} holds no network of layers, but something else that scratchnmt wrote")
    return tensors, info["sequential"]


def _take(model: Sequential, tensors: Mapping[str, np.ndarray], path: str | os.PathLike) -> None:
    found = {name: array.shape for name, array in tensors.items() if not name.startswith(STATE)}
    expected = {name: array.shape for name, array in model.params.items()}
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            raise InputError(f"{path} does not fit the network: {name} is {found.get(name, 'missing')}, expected "
                             f"{expected.get(name, 'nothing of this name')}")
    for name, array in model.params.items():
        array[...] = array_module(array).asarray(tensors[name].astype(model.dtype))


def _layer(config: Mapping[str, Any]) -> Layer:
    """The layer that `Layer.config` told."""
    choices = dict(config)
    kind = look_up("layer", choices.pop("kind"), KINDS)
    if "layer" in choices:
        choices["layer"] = _layer(choices["layer"])
    return kind(**choices)


def _from_keras(path: str | os.PathLike, device: str) -> Sequential:
    try:
        content = json.loads(_entry(path, "config.json"))
        if content["class_name"] != "Sequential":
            raise InputError(f"{path} holds a {content['class_name']}, expected a Sequential")
        layers = [_from_keras_layer(layer) for layer in content["config"]["layers"]]
        model = Sequential(layers, name=content["config"]["name"], device=device)
        if model.output_shape is None:
            model.build(content["build_config"]["input_shape"][1:])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise InputError(f"{path}: {error}") from error
        raise InputError(f"{path} is damaged: its config.json lacks {error}") from error
    load_weights(model, path)
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


def _entry(path: str | os.PathLike, name: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(name)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{path} is no file of Keras 3, or damaged: {error}") from error


def _h5_weights(file: Any, model: Sequential, path: str | os.PathLike) -> list[np.ndarray]:
    """The weights in the order of `get_weights`: a group for each layer, called by its kind and a number."""
    h5py, found = require("h5py", extra="keras"), []
    numbers: dict[str, int] = {}  # of each kind, the last one's
    try:
        with h5py.File(file, "r") as content:
            for layer in model.layers:
                if isinstance(layer, core.Input):
                    continue
                name = snake_case(layer.kind)
                numbers[name] = number = numbers.get(name, -1) + 1
                found += _arrays(content["layers"][f"{name}_{number}" if number else name], h5py)
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} does not hold the weights of this network, or is damaged: {error}") from error
    return found


def _arrays(group: Any, h5py: Any) -> list[np.ndarray]:
    paths: list[str] = []
    group.visititems(lambda name, thing: paths.append(name) if isinstance(thing, h5py.Dataset) else None)
    last = [name for name in paths if name.rpartition("/")[2].isdigit() and "seed_generator" not in name]
    return [group[name][...] for name in sorted(last, key=lambda n: ("backward_layer" in n, int(n.rpartition("/")[2])))]
