"""Files and descriptions of networks as Keras writes them, made by hand."""

import json
import zipfile

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")


def keras2(path, *, version="2.4.0", config_of=lambda layers: {"name": "sequential_1", "layers": layers},
           lstm=None, training=None, optimizer=None):
    """A whole model as Keras 2 wrote it, an LSTM and a Dense; returns the weights."""
    rng = np.random.default_rng(1)
    weights = [rng.standard_normal(shape).astype("float32") * 0.4
               for shape in ((5, 16), (4, 16), (16,), (4, 3), (3,))]
    layers = [
        {"class_name": "LSTM", "config": {
            "name": "lstm_1", "trainable": True, "batch_input_shape": [None, 7, 5], "dtype": "float32",
            "return_sequences": False, "return_state": False, "go_backwards": False, "stateful": False,
            "unroll": False, "time_major": False, "units": 4, "activation": "tanh",
            "recurrent_activation": "sigmoid", "use_bias": True, "unit_forget_bias": True,
            "kernel_regularizer": None, "dropout": 0.0, "recurrent_dropout": 0.0, "implementation": 2, **(lstm or {})}},
        {"class_name": "Dense", "config": {"name": "dense_1", "trainable": True, "dtype": "float32", "units": 3,
                                           "activation": "softmax", "use_bias": True}}]
    names = {b"lstm_1": [b"lstm_1/kernel:0", b"lstm_1/recurrent_kernel:0", b"lstm_1/bias:0"],
             b"dense_1": [b"dense_1/kernel:0", b"dense_1/bias:0"]}
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"], file.attrs["backend"] = version.encode(), b"tensorflow"
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": config_of(layers)}).encode()
        if training:
            file.attrs["training_config"] = json.dumps(training).encode()
        group, left = file.create_group("model_weights"), list(weights)
        group.attrs["layer_names"] = list(names)
        for layer, own in names.items():
            part = group.create_group(layer)
            part.attrs["weight_names"] = own
            for name in own:
                part.create_dataset(name, data=left.pop(0))
        if optimizer:
            part = file.create_group("optimizer_weights")
            part.attrs["weight_names"] = [b"iterations:0"]
            part.create_dataset("iterations:0", data=np.int64(7))
    return weights


TRAINING = {"optimizer_config": {"class_name": "Adam", "config": {
                "lr": 0.002, "beta_1": 0.9, "beta_2": 0.999, "decay": 0.0, "epsilon": 1e-07, "amsgrad": False}},
            "loss": "categorical_crossentropy", "metrics": ["accuracy"], "sample_weight_mode": None,
            "loss_weights": None}


def cross_entropy(**choices):
    """A loss as an object, as Keras 3 tells it."""
    return {"class_name": "SparseCategoricalCrossentropy", "module": "keras.losses", "registered_name": None,
            "config": {"name": "sparse_categorical_crossentropy", "reduction": "sum_over_batch_size",
                       "from_logits": False, "ignore_class": None, **choices}}


def metric(kind, name="acc", module="keras.metrics", **choices):
    return {"class_name": kind, "module": module, "registered_name": None,
            "config": {"name": name, "dtype": "float32", **choices}}


def function(name):
    """A function of Keras, as Keras 3 tells it."""
    return {"module": "builtins", "class_name": "function", "config": name, "registered_name": "function"}


def changed(path, model, change):
    """The .keras file of a network whose description was changed."""
    model.save(path)
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    told = json.loads(parts["config.json"])
    change(told)
    with zipfile.ZipFile(path, "w") as file:
        for name, part in {**parts, "config.json": json.dumps(told).encode()}.items():
            file.writestr(name, part)
