"""Beside Keras itself: when each hook is called and with what, callbacks, weights of classes, frozen layers."""

import os

import numpy as np
import pytest
from sequential import examples

import scratchnmt.sequential as ours

os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("torch")
keras = pytest.importorskip("keras")
pytestmark = pytest.mark.filterwarnings("ignore:.*copy keyword:DeprecationWarning")
HOOKS = [name for name in dir(keras.callbacks.Callback) if name.startswith("on_")]


def pair(rng, loss="categorical_crossentropy", make=None, shape=(examples.I,), **compiled):
    """(theirs, ours) from the same weights."""
    make = make or (lambda layers: [layers.Dense(7, activation="tanh"),
                                    layers.Dense(examples.CLASSES, activation="softmax")])
    theirs, mine = keras.Sequential([keras.Input(shape), *make(keras.layers)]), ours.Sequential(make(ours))
    mine.build(shape)
    mine.set_weights([rng.standard_normal(w.shape) * 0.4 for w in mine.get_weights()])
    theirs.set_weights(mine.get_weights())
    for model in (theirs, mine):
        model.compile(**{"optimizer": "adam", "loss": loss, "metrics": ["accuracy"]} | compiled)
    return theirs, mine


def data(rng, count=24):
    return examples.vectors(rng, count)[:, 0], examples.one_hot(rng, count)


def spy(package):
    """A callback of either package that writes down every hook."""
    calls = []

    def hook(name):
        def called(self, *arguments, **named):
            *place, logs = *arguments, *named.values()
            calls.append((name, *place, {key: np.round(np.asarray(value), 4).tolist()
                                         for key, value in (logs or {}).items()}))
            getattr(package.Callback, name)(self, *arguments, **named)
        return called

    return type("Spy", (package.Callback,), {name: hook(name) for name in HOOKS})(), calls


def test_our_hooks_are_theirs():
    assert sorted(name for name in dir(ours.Callback) if name.startswith("on_")) == sorted(HOOKS)


def test_every_hook_is_called_when_keras_calls_it_with_what_keras_gives(rng):
    x, y = data(rng)
    found = []
    for model, package in zip(pair(rng), (keras.callbacks, ours), strict=True):
        callback, calls = spy(package)
        model.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0, validation_split=0.25, callbacks=[callback])
        assert callback.params == {"epochs": 2, "steps": 3, "verbose": 0} and callback.model is model
        model.evaluate(x, y, batch_size=16, verbose=0, callbacks=[callback])
        model.predict(x, batch_size=16, verbose=0, callbacks=[callback])
        found.append(calls)
    assert len(found[0]) > 40
    for theirs, mine in zip(*found, strict=True):
        assert mine[:-1] == theirs[:-1] and mine[-1].keys() == theirs[-1].keys(), (mine, theirs)
        for key, value in theirs[-1].items():
            np.testing.assert_allclose(mine[-1][key], value, atol=2e-4)


@pytest.mark.parametrize("name, how", [
    ("ReduceLROnPlateau", {"monitor": "loss", "factor": 0.5, "patience": 2, "min_delta": 0.3}),
    ("ReduceLROnPlateau", {"monitor": "accuracy", "factor": 0.1, "patience": 1, "cooldown": 2, "min_lr": 1e-4}),
    ("LearningRateScheduler", {"schedule": lambda epoch, rate: rate * 0.7}),
    ("LearningRateScheduler", {"schedule": lambda epoch: 0.01 / (1 + epoch)}),
    ("EarlyStopping", {"monitor": "loss", "patience": 2, "min_delta": 0.3, "restore_best_weights": True}),
    ("EarlyStopping", {"monitor": "loss", "patience": 3, "baseline": 0.1, "start_from_epoch": 2}),
    ("EarlyStopping", {"monitor": "accuracy", "patience": 1, "mode": "min"}),
])
def test_callbacks_do_what_theirs_do(name, how, rng):
    x, y = data(rng)
    found = []
    for model, package in zip(pair(rng, optimizer="sgd"), (keras.callbacks, ours), strict=True):
        history = model.fit(x, y, epochs=9, batch_size=8, shuffle=False, verbose=0,
                            callbacks=[getattr(package, name)(**how)]).history
        found.append((history, model.get_weights()))
    (theirs, their_weights), (mine, weights) = found
    assert mine.keys() == theirs.keys() and len(mine["loss"]) == len(theirs["loss"])
    for key in theirs:
        np.testing.assert_allclose(mine[key], theirs[key], rtol=1e-4, err_msg=key)
    for own, other in zip(weights, their_weights, strict=True):
        np.testing.assert_allclose(own, other, atol=1e-5)


def test_momentum_at_a_rate_that_changes_is_as_in_pytorch(rng):
    import torch

    x, y = examples.vectors(rng)[:, 0], rng.standard_normal((24, 1)).astype("float32")
    _, mine = pair(rng, "mse", lambda layers: [layers.Dense(1)])
    mine.compile(ours.SGD(0.1, 0.9), "mse")
    theirs = [torch.tensor(weight, requires_grad=True) for weight in mine.get_weights()]
    optimizer = torch.optim.SGD(theirs, 0.1, 0.9)
    rates = 0.1, 0.1, 0.01, 0.001
    mine.fit(x, y, epochs=4, batch_size=24, verbose=0, callbacks=ours.LearningRateScheduler(lambda epoch: rates[epoch]))
    for optimizer.param_groups[0]["lr"] in rates:
        optimizer.zero_grad()
        ((torch.tensor(x) @ theirs[0] + theirs[1] - torch.tensor(y)) ** 2).mean().backward()
        optimizer.step()
    for own, other in zip(mine.get_weights(), theirs, strict=True):
        np.testing.assert_allclose(own, other.detach().numpy(), atol=1e-5)


def test_the_lines_of_a_csv_logger(rng, tmp_path):
    x, y = data(rng)
    for model, package, name in zip(pair(rng), (keras.callbacks, ours), ("theirs", "ours"), strict=True):
        for append in (False, True):
            model.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0, validation_split=0.25,
                      callbacks=[package.CSVLogger(str(tmp_path / name), separator=";", append=append)])
    theirs, mine = ((tmp_path / name).read_text().splitlines() for name in ("theirs", "ours"))
    assert mine[0] == theirs[0] == "epoch;accuracy;loss;val_accuracy;val_loss" and len(mine) == len(theirs) == 5
    for own, other in zip(mine[1:], theirs[1:], strict=True):
        np.testing.assert_allclose([float(n) for n in own.split(";")], [float(n) for n in other.split(";")], rtol=1e-4)


@pytest.mark.parametrize("loss, last", [("categorical_crossentropy", (3, "softmax")),
                                        ("sparse_categorical_crossentropy", (3, "softmax")),
                                        ("binary_crossentropy", (1, "sigmoid"))])
def test_weights_of_classes_count_in_training_alone(loss, last, rng):
    x, labels = examples.vectors(rng)[:, 0], rng.integers(0, last[0] if last[0] > 1 else 2, 24)
    y = np.eye(3, dtype="float32")[labels] if loss == "categorical_crossentropy" else labels.astype("float32")
    found = []
    for model in pair(rng, loss, lambda layers: [layers.Dense(last[0], activation=last[1])]):
        found.append(model.fit(x, y, epochs=3, batch_size=8, shuffle=False, verbose=0, validation_split=0.25,
                               class_weight={0: 0.25, 1: 4.0}).history)
    assert found[1].keys() == found[0].keys()
    for key, values in found[0].items():
        np.testing.assert_allclose(found[1][key], values, atol=1e-4, err_msg=key)


def freeze_first(model):
    model.layers[0].trainable = False


def freeze_all_but_the_last(model):
    model.trainable = False
    model.trainable = True
    for layer in model.layers[:-1]:
        layer.trainable = False


def freeze_inside(model):
    model.layers[-1].layer.trainable = False


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop"])
@pytest.mark.parametrize("freeze, make, shape", [
    (freeze_first, None, (examples.I,)),
    (freeze_all_but_the_last, lambda layers: [layers.Bidirectional(layers.LSTM(3)), layers.RepeatVector(2),
                                              layers.LSTM(4, return_sequences=True), layers.Dense(examples.CLASSES)],
     (examples.T, examples.I)),
    (freeze_inside, lambda layers: [layers.LSTM(4, return_sequences=True),
                                    layers.TimeDistributed(layers.Dense(examples.CLASSES))],
     (examples.T, examples.I)),
])
def test_frozen_layers_stay_and_the_others_move_as_theirs(freeze, make, shape, optimizer, rng):
    x = examples.vectors(rng) if len(shape) > 1 else examples.vectors(rng)[:, 0]
    theirs, mine = pair(rng, "mean_squared_error", make, shape)
    before = mine.get_weights()
    y = rng.standard_normal(mine.predict(x).shape)
    for model in (theirs, mine):
        freeze(model)
        model.compile(optimizer, "mean_squared_error")
        model.fit(x, y, epochs=3, batch_size=8, shuffle=False, verbose=0)
    moved = [not np.array_equal(old, new) for old, new in zip(before, mine.get_weights(), strict=True)]
    assert any(moved) and not all(moved)
    for own, other in zip(mine.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(own, other, atol=1e-4 if optimizer != "rmsprop" else 1e-3)


def test_accuracy_leaves_padding_out_as_theirs_does(rng):
    words, labels = examples.ids(rng), rng.integers(0, examples.CLASSES, (24, examples.T))
    theirs, mine = keras.Sequential(examples.tagger(keras.layers)), ours.Sequential(examples.tagger(ours))
    theirs.build((None, examples.T))
    mine.build((examples.T,))
    mine.set_weights(theirs.get_weights())
    found = []
    for model in (theirs, mine):
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        found.append(model.evaluate(words, labels, batch_size=5, verbose=0))
    right = mine.predict(words).argmax(axis=-1) == labels
    assert found[1][1] == pytest.approx(right[words != 0].mean()) and right[words != 0].mean() != right.mean()
    assert found[1] == pytest.approx(found[0], abs=1e-5)
