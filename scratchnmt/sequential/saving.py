"""A network in a file, ours or Keras'; nothing is ever unpickled.

Ours is a safetensors file (see ../files/tensors.py): weights under their names, the optimizer's state under
"optimizer/", and as JSON the layers, the dtype, what `compile` was told, and where shuffling and dropout stand.
Keras' are in keras_files.py, keras_config.py and hdf5.py.  A file is written as its name says, and read as its first
bytes say.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import array_module, not_too_large
from ..errors import InputError, look_up, printable, require, shown
from ..files.atomic import write_atomically
from ..files.reading import ZIP, archive, opened
from ..files.tensors import read_tensors, write_tensors
from . import hdf5, keras_files
from .keras_config import KINDS, MOST_LAYERS, described, few
from .keras_files import WEIGHTS
from .layer import Layer
from .model import Sequential
from .optimizers import OPTIMIZERS

STATE = "optimizer/"  # of a tensor's name: no layer has a / in its name
Path_ = str | os.PathLike


def writer(path: Path_, weights_only: bool = False) -> Callable[[Sequential, Path_], None]:
    """What writes a file of this name; InputError if a package that it needs is not there."""
    name = os.fspath(path).lower()
    bytes_of: Callable[[Sequential], bytes] | None = None
    if weights_only:
        bytes_of = keras_files.weights_bytes if name.endswith(".weights.h5") else None
    elif name.endswith(".keras"):
        bytes_of = keras_files.archive_bytes
    elif name.endswith((".h5", ".hdf5")):
        bytes_of = keras_files.h5_bytes
    if bytes_of is None:
        require("safetensors", extra="train")
        return _write_weights if weights_only else _write
    try:
        require("h5py", extra="keras")
    except InputError as error:
        raise InputError(f"{path} would be a file of Keras: {error}; or choose a name without that ending") from error
    return lambda model, path: write_atomically(path, bytes_of(model))


def save(model: Sequential, path: Path_) -> None:
    """See Sequential.save."""
    model.check_shapes_are_known()
    if (many := len(model.layers)) >= MOST_LAYERS:  # Keras' format has one more, of what comes in
        raise InputError(f"the network has {many:,} layers, and a file is read of fewer than {MOST_LAYERS:,}: "
                         "model.save_weights(...)")
    writer(path)(model, path)


def save_weights(model: Sequential, path: Path_) -> None:
    """See Sequential.save_weights."""
    model.check_shapes_are_known()
    writer(path, weights_only=True)(model, path)


def load_model(path: Path_, device: str = "cpu") -> Sequential:
    """The network of a file of `Sequential.save`, ready to train on, or of Keras' NAME.keras or NAME.h5.

    InputError if the file is missing, damaged, or holds what this package does not have.
    """
    if Path(path).is_dir():
        saved = "a SavedModel of TensorFlow" if (Path(path) / "saved_model.pb").exists() else "a folder"
        raise InputError(f"{path} is {saved}, expected a file: of Keras, NAME.keras or NAME.h5")
    with opened(path) as file:
        start = file.read(len(hdf5.FIRST_BYTES))
        if start == hdf5.FIRST_BYTES:
            return keras_files.read_h5(hdf5.FIRST_BYTES + file.read(), path, device)
        if start.startswith(ZIP):
            with archive(file, path) as parts:
                return keras_files.read_archive(parts, device)
    tensors, about = _ours(path)
    with described(path):
        if "layers" not in about:
            raise InputError("it holds weights without the layers: make the network, and then model.load_weights(...)")
        if (kind := about.get("class", "Sequential")) != "Sequential":
            raise InputError(f"it holds {shown(kind)}, expected a Sequential: make the network, and then "
                             "model.load_weights(...)")
        model = Sequential(map(_layer, few(about["layers"])), name=about["name"], dtype=about["dtype"], device=device,
                           trainable=about.get("trainable", True))
        model.build(about["input_shape"])
    _take(model, tensors, path)
    with described(path):
        if compiled := about["compiled"]:
            kind, choices = compiled["optimizer"]
            model.compile(OPTIMIZERS[kind](**choices), compiled["loss"], metrics=compiled["metrics"])
            arrays = {name.removeprefix(STATE): array for name, array in tensors.items() if name.startswith(STATE)}
            if state := arrays | compiled["state"]:
                model.optimizer.load_state(state)
        if random := about.get("random"):
            model.set_random_state(random)
    return model


def load_weights(model: Sequential, path: Path_) -> None:
    """See Sequential.load_weights."""
    model.check_shapes_are_known()
    with opened(path) as file:
        start = file.read(len(hdf5.FIRST_BYTES))
        if start == hdf5.FIRST_BYTES:
            return keras_files.read_weights(model, hdf5.FIRST_BYTES + file.read(), path)
        if start.startswith(ZIP):
            with archive(file, path) as parts:
                return keras_files.read_weights(model, parts.read(WEIGHTS), path)
    _take(model, _ours(path)[0], path)


def _write(model: Sequential, path: Path_) -> None:
    compiled: dict[str, Any] | None = None
    tensors: dict[str, Any] = dict(model.params)
    if model.compiled:
        chosen = model.chosen_optimizer
        kind = next(name for name, kind in OPTIMIZERS.items() if isinstance(chosen, kind))
        compiled = {"loss": model.loss, "metrics": model.metrics, "optimizer": [kind, chosen._asdict()]}
        state = model.optimizer.state() if model.optimizer else {}
        compiled["state"] = {name: value for name, value in state.items() if not hasattr(value, "shape")}
        tensors |= {f"{STATE}{name}": value for name, value in state.items() if hasattr(value, "shape")}
    usual = {"trainable": True, "class": "Sequential"}
    other = {name: value for name, value in (("trainable", model.trainable), ("class", model.full_kind))
             if value != usual[name]}
    write_tensors(path, tensors, {"sequential": {
        "name": model.name, "dtype": model.dtype, "input_shape": model.input_shape, "compiled": compiled,
        "layers": [layer.config() for layer in model.layers], "random": model.random_state(), **other}})


def _write_weights(model: Sequential, path: Path_) -> None:
    write_tensors(path, dict(model.params), {"sequential": {}})


def _ours(path: Path_) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    tensors, info = read_tensors(path)
    if "sequential" not in info:
        raise InputError(f"{path} holds no network of layers, but something else that scratchnmt wrote")
    return tensors, info["sequential"]


def _take(model: Sequential, tensors: Mapping[str, np.ndarray], path: Path_) -> None:
    stored = {name: array.shape for name, array in tensors.items() if not name.startswith(STATE)}
    expected = model.shapes  # and nothing is made of these sizes before
    for name in sorted(stored.keys() | expected.keys()):
        if stored.get(name) != expected.get(name):
            raise InputError(f"{path} does not fit the network: {printable(name)} is {stored.get(name, 'missing')}, "
                             f"expected {expected.get(name, 'nothing of this name')}")
        if (kind := tensors[name].dtype).kind != "f":
            raise InputError(f"{path} does not fit the network: {printable(name)} is of {kind}, expected "
                             "floating-point numbers")
    taken = {}
    for name in expected:
        with not_too_large(f"{path}: {printable(name)}", model.dtype):
            taken[name] = np.asarray(tensors[name], model.dtype)
    with model.filling() as params:
        for name, array in params.items():
            array[...] = array_module(array).asarray(taken[name])


def _layer(config: Mapping[str, Any]) -> Layer:
    """The layer that `Layer.config` told."""
    choices = dict(config)
    kind = look_up("layer", choices.pop("kind"), KINDS)
    if "layer" in choices:
        choices["layer"] = _layer(choices["layer"])
    return kind(**choices)
