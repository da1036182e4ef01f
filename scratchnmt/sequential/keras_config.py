"""What Keras tells of a network as JSON, read and written: its layers, and how it was compiled.

What there is not here is refused, or warned about where it matters in training alone.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

from ..errors import InputError, listed, look_up, printable, shown
from . import core, hdf5, recurrent
from .layer import Layer, snake_case
from .losses import LOSSES, METRICS, accuracy_named
from .model import Sequential
from .optimizers import OPTIMIZERS

KINDS = {kind.__name__: kind for kind in (core.Activation, core.Dense, core.Dropout, core.Embedding, core.Input,
                                          core.Masking, core.RepeatVector, recurrent.LSTM, recurrent.Bidirectional,
                                          recurrent.TimeDistributed)}
# what Keras says of a layer and we need not, because it has this value in all of ours
ONLY = {"dropout": 0.0, "recurrent_dropout": 0.0, "stateful": False, "time_major": False, "noise_shape": None}
KEPT = ("activation", "recurrent_activation", "use_bias", "trainable")
IN_TRAINING = ("_regularizer", "_constraint", "lora_rank")  # what names of a choice end with that matters there alone
# what Keras says of an optimizer, a loss or a metric that is of no account while the rest of its choices are off
IDLE = ("name", "ema_momentum", "ema_overwrite_frequency", "loss_scale_factor", "jit_compile", "is_legacy_optimizer",
        "fn", "dtype")
# and what is as here with one of these values
AS_HERE = {"reduction": ("sum_over_batch_size", "auto"), "axis": (-1,), "threshold": (0.5,), "ignore_class": (None,)}
MODULES = ("keras", "tf_keras", "builtins")  # of what is Keras' own
MOST_LAYERS = 1000  # of a file


@contextmanager
def described(path: str | os.PathLike) -> Iterator[None]:
    """InputError, naming the file, for whatever its description of a network cannot be made into."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise hdf5.naming(path, error if isinstance(error, InputError) else InputError(
            "it is damaged: its description of the layers cannot be used "
            f"({type(error).__name__}: {printable(str(error))})")) from error


# layers

def make_network(content: Mapping[str, Any], build_shape: Any, device: str) -> Sequential:
    """The network that is described; build_shape: of its input, where the layers tell none."""
    if content["class_name"] != "Sequential":
        raise InputError(f"it holds {shown(content['class_name'])}, expected a Sequential: make the network, and then "
                         "model.load_weights(...)")
    _class(content, "the network")
    config = content["config"]
    config = config if isinstance(config, dict) else {"layers": config}  # Keras before 2.3
    layers = few(config["layers"])
    model = Sequential(map(_from_config, layers), name=config.get("name", "sequential"), dtype=_dtype(layers),
                       device=device, trainable=config.get("trainable", True))
    if model.output_shape is None:
        if not build_shape:
            raise InputError("it tells no input's shape: make the network, and then model.load_weights(...)")
        model.build(build_shape[1:])
    return model


def few(layers: list[Any]) -> list[Any]:
    """The layers; InputError if there are more than any file has."""
    if len(layers) > MOST_LAYERS:
        raise InputError(f"there are {len(layers):,} layers, expected at most {MOST_LAYERS:,}")
    return layers


def _dtype(layers: Sequence[Mapping[str, Any]]) -> str:
    """float64 if all layers but the input say so, else float32: weights of half precision are read as such."""
    def told(layer: Mapping[str, Any]) -> Any:
        dtype = layer["config"].get("dtype")
        return dtype["config"].get("name") if isinstance(dtype, dict) else dtype

    dtypes = [told(layer) for layer in layers if layer["class_name"] != "InputLayer"]
    return "float64" if dtypes and all(dtype == "float64" for dtype in dtypes) else "float32"


def _from_config(told: Mapping[str, Any]) -> Layer:
    config, kind = told["config"], told["class_name"]
    shape = config.get("batch_shape", config.get("batch_input_shape"))  # Keras 3's and Keras 2's word
    made = core.Input if kind == "InputLayer" else look_up("layer", kind, KINDS)
    what = f"layer {shown(config['name'])} ({kind})"
    _class(told, what)
    if kind == "InputLayer":
        return core.Input(tuple(shape[1:]), name=config["name"])
    for option, only in ONLY.items():
        if config.get(option, only) != only:
            raise InputError(f"{what} has {option}={config[option]!r}, which there is not here")
    if any(word in str(config.get("dtype")) for word in ("Quantized", "_from_")):  # of which the weights are int8
        raise InputError(f"{what} is quantized, which there is not here")
    of_training = [name for inner in (config, (config.get("backward_layer") or {}).get("config", {}))
                   for name, value in inner.items() if value and name.endswith(IN_TRAINING)]
    if of_training:
        warnings.warn(f"{what} has {listed(of_training)}, which there is not here: it predicts the same, but is "
                      "trained without", stacklevel=2)
    if kind == "Bidirectional":
        _check_backward_layer(config)
    elif config.get("zero_output_for_mask"):
        raise InputError(f"{what} has zero_output_for_mask=True, which there is not here")
    choices = {name: config[name] for name in ("name", *made.choices, *KEPT) if name in config}
    if shape is not None:
        choices["input_shape"] = shape[1:]
    if "layer" in config:
        choices["layer"] = _from_config(config["layer"])
    return made(**choices)


def _check_backward_layer(config: Mapping[str, Any]) -> None:
    """InputError if a Bidirectional's second layer is another than the first, read backwards."""
    if "backward_layer" in config:
        (first, onward), (other, backward) = (_direction(config[layer]) for layer in ("layer", "backward_layer"))
        if other != first or onward == backward:
            raise InputError(f"layer {config['name']!r} (Bidirectional) has two different layers, which there is not "
                             "here")
    config["layer"]["config"].pop("zero_output_for_mask", None)  # which Keras sets, and we do


def _direction(told: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """What a layer of a Bidirectional has in common with the other one, and whether it reads backwards."""
    known = {name: value for name, value in told["config"].items() if name in (*recurrent.LSTM.choices, *KEPT, *ONLY)}
    backward = bool(known.pop("go_backwards", False))
    return {"class": _class(told, "a layer of a Bidirectional"), **ONLY, **known}, backward


def _entry(kind: str, config: dict[str, Any], module: str = "keras.layers") -> dict[str, Any]:
    return {"module": module, "class_name": kind, "config": config, "registered_name": None}


def network_config(model: Sequential) -> dict[str, Any]:
    """The layers of a network that was built."""
    assert model.input_shape is not None  # or it would have no weights
    shape = [None, *model.input_shape]
    layers = [layer for layer in model.layers if not isinstance(layer, core.Input)]
    names = {layer.name for layer in layers}
    first = next(name for number in count() if (name := f"input_layer_{number}" if number else "input_layer")
                 not in names)
    config = {"name": model.name, "trainable": model.trainable, "build_input_shape": shape, "layers": [
        _entry("InputLayer", {"batch_shape": shape, "dtype": model.dtype, "name": first}),
        *(_config(layer, model.dtype) for layer in layers)]}
    return {**_entry(model.full_kind, config, "keras"), "build_config": {"input_shape": shape}}


def _config(layer: Layer, dtype: str, **other: Any) -> dict[str, Any]:
    config = {"name": layer.name, "trainable": layer.trainable, "dtype": dtype, **layer.chosen, **other}
    if isinstance(layer, recurrent.Bidirectional):
        name = layer.layer.name.removeprefix("forward_")
        both = [_config(layer.layer, dtype, name=f"{way}_{name}", go_backwards=way == "backward")
                for way in ("forward", "backward")]
        config |= {"layer": both[0], "backward_layer": both[1]}
    elif isinstance(layer, recurrent.TimeDistributed):
        config["layer"] = _config(layer.layer, dtype)
    return _entry(layer.full_kind, config)


# how it was compiled

def compile_config(model: Sequential, optimizer: str) -> dict[str, Any] | None:
    """How it was compiled, with the optimizer under this name; None if it was not."""
    if not model.compiled:
        return None
    config = dict(model.chosen_optimizer._asdict())
    if model.optimizer is not None:
        config["learning_rate"] = model.optimizer.learning_rate
    kind = type(model.chosen_optimizer).__name__
    return {"loss": model.loss, "loss_weights": None, "metrics": list(model.metrics) or None, "weighted_metrics": None,
            "run_eagerly": False, "steps_per_execution": 1, "jit_compile": False,
            optimizer: _entry(kind, config, "keras.optimizers")}


def compile_as_told(model: Sequential, told: Any, optimizer: str, path: str | os.PathLike) -> bool:
    """Compile the network as it was told; if that cannot be done here, warn, and it is not compiled."""
    if not told:
        return False
    try:
        kind, config = told[optimizer]["class_name"], told[optimizer]["config"]
        made = look_up("optimizer", _class(told[optimizer], "the optimizer").lower(), OPTIMIZERS)
        config = {"learning_rate" if name == "lr" else name: value for name, value in config.items()}
        _check_choices(kind, config, made._fields)
        _check_choices("the network", {name: told.get(name) for name in ("loss_weights", "weighted_metrics")})
        first, *others = _flat(told["loss"] or [None])
        if others:
            raise InputError(f"it has {1 + len(others)} losses, which there is not here")
        loss = look_up("loss", _function(first), {name: name for name in LOSSES})
        assert model.output_shape is not None  # it has weights
        meant = accuracy_named(loss, int(model.output_shape[-1] or 0))
        metrics = [_metric(one, meant) for one in _flat(told.get("metrics") or [])]
        model.compile(made(**{name: config[name] for name in made._fields if name in config}), loss, metrics=metrics)
    except InputError as error:
        warnings.warn(f"{path}: the network is not compiled as it was: {error}", stacklevel=3)
        return False
    return True


def _check_choices(what: Any, config: Mapping[str, Any], known: Sequence[str] = ()) -> None:
    """InputError for the first choice of an object of Keras' that is not ours, and does something."""
    for name, value in config.items():
        idle = value in AS_HERE[name] if name in AS_HERE else not value
        if name not in known and name not in IDLE and not idle:
            raise InputError(f"{printable(str(what))} has {printable(name)}={shown(value)}, which there is not here")


def _class(told: Mapping[str, Any], what: str) -> str:
    """The name of an object's class, or "function"; InputError if it is another than Keras' own of that name.

    Keras 3 tells the module; a package stands before a name that was registered, and of Keras' own is "Custom".
    """
    kind = told["class_name"]
    name, registered = (str(one).removeprefix("Custom>") for one in (kind, told.get("registered_name") or kind))
    module = str(told.get("module") or "keras").partition(".")[0]
    if name != registered or ">" in name or module not in MODULES:
        raise InputError(f"{what} is of a class {shown(registered)} that is not Keras', which there is not here")
    return name


def _function(told: Any) -> Any:
    """The name of a loss's or metric's function, of which an object may be told; InputError for others' choices."""
    if not isinstance(told, dict):
        return told
    kind, config = _class(told, "a loss or metric"), told.get("config")
    if kind == "function":
        return config
    if not isinstance(config, dict):
        return snake_case(kind)
    _check_choices(kind, config)
    return _function(config["fn"]) if config.get("fn") else snake_case(kind)


def _metric(told: Any, meant: str) -> str:
    """The name of a metric; InputError if it is another than the accuracy that is meant here."""
    kind, name = _function(told), told
    if isinstance(told, dict):
        if kind != meant:
            raise InputError(f"metric {shown(kind)} is not what accuracy is of these outputs, {meant}")
        name = told["config"].get("name") if isinstance(told["config"], dict) else kind
    return look_up("metric", name, {name: name for name in METRICS})


def _flat(told: Any) -> Iterator[Any]:
    """One after the other what is told in lists, and in objects that name outputs."""
    if isinstance(told, dict) and "class_name" not in told:
        told = list(told.values())
    if isinstance(told, list):
        for one in told:
            yield from _flat(one)
    else:
        yield told
