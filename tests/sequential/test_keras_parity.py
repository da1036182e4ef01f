"""Beside Keras itself: the same weights, the same outputs, the same losses for three epochs, its files read."""

import inspect
import os

import numpy as np
import pytest
from sequential import examples

import scratchnmt.sequential as ours
from scratchnmt.errors import InputError

os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("torch")
keras = pytest.importorskip("keras")
pytestmark = pytest.mark.filterwarnings("ignore:.*copy keyword:DeprecationWarning", "ignore:Skipping variable")

CASES = {  # network, loss, x, y, how
    "seed": (examples.seed_network, "categorical_crossentropy", examples.vectors,
             lambda rng: examples.one_hot(rng, 24, 4), {"validation_split": 0.25}),
    "classifier": (examples.classifier, "binary_crossentropy", examples.ids,
                   lambda rng: rng.integers(0, 2, (24, 1)).astype("float32"), {}),
    "tagger": (examples.tagger, "sparse_categorical_crossentropy", examples.ids,
               lambda rng: rng.integers(0, examples.CLASSES, (24, examples.T)), {}),
    "regression": (examples.masked_regression, "mean_squared_error", examples.gappy,
                   lambda rng: rng.standard_normal((24, examples.T, 2)).astype("float32"), {}),
    "weights": (lambda layers: [layers.LSTM(6), layers.Dense(examples.CLASSES, activation="softmax")],
                "categorical_crossentropy", examples.vectors, lambda rng: examples.one_hot(rng, 24),
                {"sample_weight": np.linspace(0, 2, 24, dtype="float32")}),
}
by_case = pytest.mark.parametrize("name", CASES)


def both(name, rng):
    """(theirs, ours) from the same weights; x, y, how to fit."""
    make, loss, x, y, how = CASES[name]
    x, y = x(rng), y(rng)
    theirs, mine = keras.Sequential(make(keras.layers)), ours.Sequential(make(ours))
    theirs.build((None, *x.shape[1:]))
    mine.build(x.shape[1:])
    theirs.set_weights([rng.standard_normal(w.shape) * 0.4 for w in theirs.get_weights()])
    mine.set_weights(theirs.get_weights())
    return theirs, mine, loss, x, y, how


@by_case
def test_outputs_and_shapes(name, rng):
    theirs, mine, _, x, _, _ = both(name, rng)
    np.testing.assert_allclose(mine.predict(x), theirs.predict(x, verbose=0), atol=1e-6)
    assert mine.output_shape == theirs.output_shape[1:] and mine.count_params() == theirs.count_params()


@by_case
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop"])
def test_losses_of_three_epochs(name, optimizer, rng):
    theirs, mine, loss, x, y, how = both(name, rng)
    found = []
    for network in (theirs, mine):
        network.compile(loss=loss, optimizer=optimizer, metrics=["accuracy"])
        history = network.fit(x, y, epochs=3, batch_size=8, shuffle=False, verbose=0, **how)
        found.append(history.history)
    assert found[0].keys() == found[1].keys()
    for quantity, values in found[0].items():
        np.testing.assert_allclose(found[1][quantity], values, atol=1e-4, err_msg=quantity)
    scores = [network.evaluate(x, y, verbose=0, return_dict=True) for network in (theirs, mine)]
    assert scores[1] == pytest.approx(scores[0], abs=1e-4)


@pytest.mark.parametrize("loss, last", [("mean_squared_error", 4), ("mean_squared_error", 1),
                                        ("binary_crossentropy", 4), ("binary_crossentropy", 1)])
def test_which_accuracy_is_meant(loss, last, rng):
    x, y = examples.vectors(rng)[:, 0], rng.integers(0, 2, (24, last)).astype("float32")
    found = []
    for layers, network in ((keras.layers, keras.Sequential), (ours, ours.Sequential)):
        model = network([layers.Dense(last, activation="sigmoid")])
        model.build((None, examples.I) if network is keras.Sequential else (examples.I,))
        model.set_weights(found[0][0] if found else [rng.standard_normal(w.shape) for w in model.get_weights()])
        model.compile(optimizer="sgd", loss=loss, metrics=["accuracy"])
        found.append((model.get_weights(), model.evaluate(x, y, verbose=0)))
    assert found[1][1] == pytest.approx(found[0][1], abs=1e-6)


@pytest.mark.parametrize("metric", ["accuracy", "acc"])
@pytest.mark.parametrize("targets", [[0, 1, 1, 1], [0.3, 0.7, 0.5, 2.0], [1.0, -1.0, 0.0, 1.0], [0.2, 0.7, 0.5, 0.9]])
@pytest.mark.parametrize("steps", [False, True], ids=["one output", "one output at each step"])
def test_accuracy_of_one_output_against_any_target_and_its_name(metric, targets, steps):
    p, y = np.float32([[0.2], [0.7], [0.5], [0.9]]), np.float32(targets)[:, None]
    if steps:
        p, y = p.reshape(2, 2, 1), y.reshape(2, 2, 1)
    theirs, mine = keras.Sequential([keras.Input(p.shape[1:]), keras.layers.Activation("linear")]), ours.Sequential(
        [ours.Activation("linear", input_shape=p.shape[1:])])
    found = []
    for network in (theirs, mine):
        network.compile(loss="mean_squared_error", optimizer="sgd", metrics=[metric])
        found.append(network.evaluate(p, y, verbose=0, return_dict=True))
    assert found[0].keys() == found[1].keys() and found[1] == pytest.approx(found[0], abs=1e-6)


def test_a_metric_is_logged_by_the_name_that_it_was_given(rng):
    x, y = examples.vectors(rng)[:, 0], rng.integers(0, 2, (24, 1)).astype("float32")
    logged = []
    for layers, network in ((keras.layers, keras.Sequential), (ours, ours.Sequential)):
        model = network([layers.Dense(1, activation="sigmoid")])
        model.compile(optimizer="sgd", loss="binary_crossentropy", metrics=["acc"])
        logged.append(set(model.fit(x, y, epochs=1, verbose=0, validation_split=0.25).history))
    assert logged[0] == logged[1] == {"loss", "acc", "val_loss", "val_acc"}


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop", "LSTM", "Dense", "Embedding", "Dropout", "Activation",
                                  "Masking", "RepeatVector", "TimeDistributed", "Bidirectional", "Input",
                                  "EarlyStopping", "ModelCheckpoint", "ReduceLROnPlateau", "LearningRateScheduler",
                                  "CSVLogger", "compile", "fit", "evaluate", "predict"])
def test_what_is_given_by_place_means_the_same(name):
    """Our positional parameters are the first of Keras', in its order."""
    def parameters(where, network):
        thing = getattr(network, name) if name.islower() else getattr(where, name)
        found = inspect.signature(thing).parameters.values()
        return [one for one in found if one.name != "self" and one.kind is one.POSITIONAL_OR_KEYWORD]

    place = next((p for p in (keras.optimizers, keras.layers, keras.callbacks) if hasattr(p, name)), None)
    theirs, mine = parameters(place, keras.Sequential), parameters(ours, ours.Sequential)
    assert [one.name for one in mine] == [one.name for one in theirs][: len(mine)]


@pytest.mark.parametrize("optimizer", ["Adam", "RMSprop", "SGD"])
def test_steps_along_gradients_as_small_as_epsilon(optimizer, rng):
    """Where Adam adds its epsilon shows only there."""
    x, y = examples.vectors(rng)[:, 0] * 1e-4, np.zeros((24, 3), "float32")
    found = []
    for layers, package, network in ((keras.layers, keras.optimizers, keras.Sequential), (ours, ours, ours.Sequential)):
        model = network([layers.Dense(3, use_bias=False)])
        model.build((None, examples.I) if package is keras.optimizers else (examples.I,))
        model.set_weights([np.full((examples.I, 3), 0.5, "float32")])
        model.compile(optimizer=getattr(package, optimizer)(learning_rate=0.1), loss="mean_squared_error")
        model.fit(x, y, epochs=3, batch_size=8, shuffle=False, verbose=0)
        found.append(model.get_weights()[0])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)


def test_states_in_and_out(rng):
    x, h, c = examples.vectors(rng, 3), *rng.standard_normal((2, 3, 4)).astype("float32")
    theirs, mine = (layers.LSTM(4, return_sequences=True, return_state=True) for layers in (keras.layers, ours))
    mine(x)
    theirs.build(x.shape)
    theirs.set_weights(list(mine._alone.values()))
    for expected, found in zip(theirs(x, initial_state=[h, c]), mine(x, initial_state=[h, c]), strict=True):
        np.testing.assert_allclose(found, expected.detach().cpu(), atol=1e-6)


@by_case
def test_its_files_are_read(name, rng, tmp_path):
    pytest.importorskip("h5py")
    theirs, mine, loss, x, _, _ = both(name, rng)
    theirs.compile(loss=loss, optimizer="adam")
    theirs.save(tmp_path / "network.keras")
    theirs.save_weights(tmp_path / "network.weights.h5")
    expected = theirs.predict(x, verbose=0)
    np.testing.assert_allclose(ours.load_model(tmp_path / "network.keras").predict(x), expected, atol=1e-6)
    mine.params.flat[...] = 0
    mine.load_weights(tmp_path / "network.weights.h5")
    np.testing.assert_allclose(mine.predict(x), expected, atol=1e-6)


@pytest.mark.parametrize("layer, parts", [
    (lambda: keras.layers.LSTM(3, recurrent_dropout=0.5), ["recurrent_dropout=0.5"]),
    (lambda: keras.layers.GRU(3), ["layer 'GRU' is not known"]),
    (lambda: keras.layers.LSTM(3, activation="relu"), ["LSTM: activation 'relu' is not known"]),
])
def test_what_there_is_not_here_is_refused_by_name(layer, parts, tmp_path):
    keras.Sequential([keras.Input((4, 2)), layer()]).save(tmp_path / "network.keras")
    with pytest.raises(InputError) as caught:
        ours.load_model(tmp_path / "network.keras")
    assert all(part in str(caught.value) for part in [*parts, "network.keras"])


def test_the_weights_of_another_network(tmp_path):
    pytest.importorskip("h5py")
    keras.Sequential([keras.Input((4, 2)), keras.layers.LSTM(3)]).save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(InputError, match="array 0 has shape"):
        ours.Sequential([ours.LSTM(4, input_shape=(4, 2))]).load_weights(tmp_path / "a.weights.h5")
    with pytest.raises(InputError, match="does not hold the weights of this network"):
        ours.Sequential([ours.Dense(4, input_shape=(2,))]).load_weights(tmp_path / "a.weights.h5")
