"""Keras' files, read, and written so that Keras 3 reads them: JSON as in keras_config.py, weights in HDF5.

    NAME.keras       a zip archive: metadata.json, config.json (1), model.weights.h5 (2)
    NAME.weights.h5  (2) alone: layers/lstm_1/cell/vars/0 ..., a group for each layer, called by kind and number;
                     optimizer/vars/0 ... the step, the rate, and what the optimizer keeps for each weight
    NAME.h5          Keras 2's, which Keras 3 knows: (1) in the attributes model_config and training_config, weights in
                     model_weights, whose attributes list the names in order; or of weights alone, without (1)

See keras/src/saving/saving_lib.py and keras/src/legacy/saving/legacy_h5_format.py.  What Keras has no place for, where
our shuffling and dropout stand, is in a part of its own, `scratchnmt.json`, or the attribute `scratchnmt`.
"""

from __future__ import annotations

import io
import json
import os
import time
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from itertools import groupby, islice
from math import inf
from typing import Any

import numpy as np

from ..arrays import put, to_device
from ..errors import InputError, shown, whole_number
from ..files.reading import DEEPEST, Archive, parse_json, too_deep
from . import core, hdf5
from .keras_config import MOST_LAYERS, compile_as_told, compile_config, described, make_network, network_config
from .layer import number, snake_case
from .model import Sequential

CONFIG, WEIGHTS, OWN, METADATA = "config.json", "model.weights.h5", "scratchnmt.json", "metadata.json"
WRITTEN_AS = "3.0.0"  # the version of Keras whose format is written
TOP_LEVEL = "top_level_model_weights"  # a group of a .h5 beside those of the layers
ORDER = {"kernel": 0, "recurrent_kernel": 1, "bias": 2}  # of a layer's weights; others stay as they are
MOST_WEIGHTS = 100  # of a layer


# what a file is read for

def read_archive(parts: Archive, device: str) -> Sequential:
    """The network of an opened NAME.keras."""
    if CONFIG not in parts.names:
        raise InputError(f"{parts.path} is an archive without {CONFIG}: no file of Keras")
    content = parse_json(parts.read(CONFIG, hdf5.TEXT_LIMIT), parts.path)
    with described(parts.path):
        build = (content.get("build_config") or {}).get("input_shape")
        model = make_network(content, build, device)
    with hdf5.opened(parts.read(WEIGHTS), parts.path) as contents:
        model.set_weights(_taken(contents, _layered(contents, model), model))
        with described(parts.path):
            if compile_as_told(model, content.get("compile_config"), "optimizer", parts.path):
                _take_state(model, _listed_state(contents), contents, parts.path)
    if OWN in parts.names:
        own = parse_json(parts.read(OWN, hdf5.TEXT_LIMIT), parts.path)
        with described(parts.path):
            model.set_random_state(own["random"])
    return model


def read_h5(data: bytes, path: str | os.PathLike, device: str) -> Sequential:
    """The network of a NAME.h5."""
    with hdf5.opened(data, path) as contents:
        file = contents.file
        if "model_config" not in file.texts:
            raise InputError("it holds weights without the layers: make the network, and then model.load_weights(...)")
        with described(path):
            told = _json(contents, "model_config")
            config = told["config"]
            model = make_network(told, config.get("build_input_shape") if isinstance(config, dict) else None, device)
        model.set_weights(_taken(contents, _named_weights(contents, model), model))
        with described(path):
            training = _json(contents, "training_config") if "training_config" in file.texts else None
            if compile_as_told(model, training, "optimizer_config", path):
                _take_state(model, _named_state(contents), contents, path)
            if "scratchnmt" in file.texts:
                model.set_random_state(_json(contents, "scratchnmt")["random"])
    return model


def read_weights(model: Sequential, data: bytes, path: str | os.PathLike) -> None:
    """Put the weights of an HDF5 file of Keras into the network."""
    with hdf5.opened(data, path) as contents:
        file = contents.file
        named = "model_weights" in file.members or "layer_names" in file.texts or "layer_names0" in file.texts
        arrays = _named_weights(contents, model) if named else _layered(contents, model)
        model.set_weights(_taken(contents, arrays, model))


# what is written

def archive_bytes(model: Sequential) -> bytes:
    """NAME.keras."""
    config = {**network_config(model), "compile_config": compile_config(model, "optimizer")}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as parts:
        for name, content in ((METADATA, {"keras_version": WRITTEN_AS,
                                          "date_saved": time.strftime("%Y-%m-%d@%H:%M:%S")}),
                              (CONFIG, config), (OWN, {"random": model.random_state()})):
            parts.writestr(name, _text(content))
        parts.writestr(WEIGHTS, weights_bytes(model))
    return file.getvalue()


def weights_bytes(model: Sequential) -> bytes:
    """NAME.weights.h5."""
    def fill(file: Any) -> None:
        for path, array in zip(_paths(model), model.get_weights(), strict=True):
            file[path] = array
        if model.optimizer is not None:
            for number, array in enumerate(_state(model)):
                file[f"optimizer/vars/{number}"] = array

    return hdf5.written(fill)


def h5_bytes(model: Sequential) -> bytes:
    """NAME.h5."""
    def fill(file: Any) -> None:
        file.attrs["keras_version"], file.attrs["backend"] = WRITTEN_AS, "numpy"
        file.attrs["model_config"] = _text(network_config(model))
        file.attrs["scratchnmt"] = json.dumps({"random": model.random_state()})
        group = file.create_group("model_weights")
        group.attrs["keras_version"], group.attrs["backend"] = WRITTEN_AS, "numpy"
        layers = [layer for layer in model.layers if not isinstance(layer, core.Input)]
        names = [layer.name for layer in layers]
        if TOP_LEVEL in names:
            raise InputError(f"a .h5 has another use for the name {TOP_LEVEL} of a layer: save it as a .keras")
        hdf5.set_names(group, "layer_names", names)
        for layer in layers:
            own = layer.keras_weights(model.weights_of(layer))
            hdf5.fill_group(group.create_group(layer.name), {f"{layer.name}/{name}": to_device(array, "cpu")
                                                             for name, array in own.items()})
        hdf5.fill_group(group.create_group(TOP_LEVEL), {})
        if (training := compile_config(model, "optimizer_config")) is not None:
            file.attrs["training_config"] = json.dumps(training)
            if model.optimizer is not None:
                hdf5.fill_group(file.create_group("optimizer_weights"),
                                {f"optimizer/{number}": array for number, array in enumerate(_state(model))})

    return hdf5.written(fill)


def _text(content: Mapping[str, Any]) -> str:
    """JSON; InputError if it is too large, or nested too deep, to be read again."""
    if len(text := json.dumps(content)) > hdf5.TEXT_LIMIT:
        raise InputError(f"the description of the layers has {len(text):,} bytes, expected at most "
                         f"{hdf5.TEXT_LIMIT:,}: give the layers shorter names")
    if too_deep(json.loads(text)):
        raise InputError(f"the description of the layers is nested deeper than {DEEPEST} levels, more than is read: "
                         "save it as a .safetensors, or with fewer layers in one another")
    return text


# what an optimizer keeps

def _kept(model: Sequential) -> dict[str, float]:
    """The vectors of an optimizer's state, in Keras' order, and what to multiply ours by to have Keras'."""
    choices = model.chosen_optimizer
    if hasattr(choices, "beta_1"):
        return {"m": 1 - choices.beta_1, "v": 1 - choices.beta_2}
    if hasattr(choices, "rho"):
        return {"v": 1.0}
    return {"velocity": -model.optimizer.learning_rate} if choices.momentum else {}


def _state(model: Sequential) -> list[np.ndarray]:
    """The optimizer's state as Keras lists it: the step, the rate, and what is kept, weight after weight."""
    vectors = [[to_device(array, "cpu") * factor for array in
                model.keras_weights(model.params.like(getattr(model.optimizer, name)), trained=True)]
               for name, factor in _kept(model).items()]
    return [np.array(model.optimizer.step_count, "int32"), np.array(model.optimizer.learning_rate),
            *(array.astype(model.dtype) for arrays in zip(*vectors, strict=True) for array in arrays)]


def _take_state(model: Sequential, arrays: Iterator[Any], contents: hdf5.Contents,
                path: str | os.PathLike) -> None:
    """Put the state that Keras kept into the optimizer; if it does not fit, warn, and the optimizer begins anew."""
    vectors = {name: model.params.like() for name in _kept(model)}
    of_each = zip(*(model.keras_weights(vector, trained=True) for vector in vectors.values()), strict=True)
    places = [place for places in of_each for place in places]
    kept_arrays = list(islice(arrays, len(places) + 3))
    if not kept_arrays:
        return
    shapes = [getattr(array, "shape", None) for array in kept_arrays]
    if shapes == [(), ()]:  # compiled, and not trained yet
        places = []
    if shapes != [(), (), *(place.shape for place in places)]:
        warnings.warn(f"{path}: what the optimizer keeps is not as Keras 3 writes it: it begins anew", stacklevel=4)
        return
    hdf5.check_numbers(contents, kept_arrays, "iuf")
    step, rate, *kept = kept_arrays
    whole_number("the optimizer's step", int(step), least=0)
    number("the optimizer's learning_rate", float(rate), lambda rate: 0 <= rate < inf, "a number of at least 0")
    for place, array in zip(places, kept, strict=True):
        put("what the optimizer keeps", array, place)
    for vector, factor in zip(vectors.values(), _kept(model).values(), strict=True):
        vector.flat /= factor or 1.0
    model.optimizer.load_state({"step": int(step), "learning_rate": float(rate),
                                **{name: vector.flat for name, vector in vectors.items()}})


# where the weights are

def _json(contents: hdf5.Contents, name: str) -> Any:
    """What an attribute of the file tells."""
    return parse_json(contents.text(contents.file, name), f"its attribute {name}")


def _paths(model: Sequential) -> Iterator[str]:
    """Where a .weights.h5 has each weight, in order."""
    numbers: dict[str, int] = {}  # of each kind, the last one's
    for layer in model.layers:
        if not isinstance(layer, core.Input):
            name = snake_case(layer.kind)
            numbers[name] = number = numbers.get(name, -1) + 1
            group = f"{name}_{number}" if number else name
            shapes = {weight: np.broadcast_to(np.int8(0), shape) for weight, shape in layer.shapes.items()}
            yield from (f"layers/{group}/{path}" for path in layer.keras_weights(shapes))


def _layered(contents: hdf5.Contents, model: Sequential) -> Iterator[Any]:
    """The weights of a .weights.h5, in the order of `get_weights`; then as many as there are beside."""
    paths = list(_paths(model))
    yield from map(contents.at, paths)
    if "layers" in contents.file.members:
        yield from islice(hdf5.arrays_below(contents.group("layers")), len(paths), None)


def _named_weights(contents: hdf5.Contents, model: Sequential) -> Iterator[Any]:
    """Those of a .h5, whose layers without weights count for nothing."""
    group = contents.group("model_weights") if "model_weights" in contents.file.members else contents.file
    ours = groupby(_paths(model), lambda path: path.split("/")[1])  # layer after layer
    for name in contents.names(group, "layer_names", MOST_LAYERS):
        layer = contents.group(name, group)
        if weights := contents.names(layer, "weight_names", MOST_WEIGHTS):
            _, paths = next(ours, ("", ()))
            yield from (contents.at(weight, layer) for weight in _in_order(name, weights, list(paths)))


def _in_order(layer: str, names: list[str], paths: list[str]) -> list[str]:
    """The names of a layer's weights, such as bidirectional/forward_lstm/lstm_cell/kernel:0, in the order of ours.

    A .h5 has those last that are not trained, one direction of a Bidirectional, say.
    """
    if paths and len(names) != len(paths):
        raise InputError(f"its layer {shown(layer)} has {len(names)} weights, expected {len(paths)}")
    parts = [name.split("/", 99) for name in names]  # no name has more, and one of a hostile file costs no more
    kinds = [ORDER.get(part[-1].removesuffix(":0"), 0) for part in parts]
    backward = [False] * len(names)
    if any("backward_layer" in path.split("/")[2:] for path in paths):
        backward = _read_backward(layer, parts)
    return [name for *_, name in sorted(zip(backward, kinds, names, strict=True), key=lambda one: one[:2])]


def _read_backward(layer: str, parts: list[list[str]]) -> list[bool]:
    """Which weights are of the second direction, by the first part in which their names differ."""
    at = len(os.path.commonprefix(parts))
    backward = [not part[at].startswith("forward_") if at < len(part) else True for part in parts]
    if 2 * sum(backward) != len(parts):
        raise InputError(f"its layer {shown(layer)} has weights whose names do not tell which of them read forward")
    return backward


def _listed_state(contents: hdf5.Contents) -> Iterator[Any]:
    """The optimizer's state in a .weights.h5."""
    if "optimizer" in contents.file.members:
        group = contents.group("optimizer/vars")
        yield from (contents.at(str(number), group) for number in range(len(group.members)))


def _named_state(contents: hdf5.Contents) -> Iterator[Any]:
    """The same in a .h5."""
    if "optimizer_weights" in contents.file.members:
        group = contents.group("optimizer_weights")
        names = contents.names(group, "weight_names", MOST_LAYERS * MOST_WEIGHTS)
        yield from (contents.at(name, group) for name in names)


def _taken(contents: hdf5.Contents, arrays: Iterator[Any], model: Sequential) -> list[np.ndarray]:
    """The network's weights, once they are known to fit it; a file can name one many times."""
    most = sum(1 for _ in _paths(model))
    taken = list(islice(arrays, most + 1))
    if len(taken) > most:
        raise InputError(f"it has more weights than this network, which has {most}")
    model.check_weights([getattr(array, "shape", ()) for array in taken])
    hdf5.check_numbers(contents, taken, "f")
    return taken
