"""Files that are called as Keras' are, written so that Keras reads them, and Keras' own, of Keras 3 and of Keras 2."""

import io
import json
import os
import re
import sys
import warnings
import zipfile

import numpy as np
import pytest
from sequential import examples

import scratchnmt.sequential as ours
from scratchnmt.errors import InputError
from scratchnmt.sequential import saving

h5py = pytest.importorskip("h5py")
pytestmark = pytest.mark.filterwarnings("ignore:.*copy keyword:DeprecationWarning", "ignore:Skipping variable")

CASES = {  # network, loss, x, y
    "seed": (examples.seed_network, "categorical_crossentropy", examples.vectors,
             lambda rng: examples.one_hot(rng, 24, 4)),
    "classifier": (examples.classifier, "binary_crossentropy", examples.ids,
                   lambda rng: rng.integers(0, 2, (24, 1)).astype("float32")),
    "tagger": (examples.tagger, "sparse_categorical_crossentropy", examples.ids,
               lambda rng: rng.integers(0, examples.CLASSES, (24, examples.T))),
    "regression": (examples.masked_regression, "mean_squared_error", examples.gappy,
                   lambda rng: rng.standard_normal((24, examples.T, 2)).astype("float32")),
}
OPTIMIZERS = {"adam": ours.Adam(0.01), "rmsprop": ours.RMSprop(0.002), "sgd": ours.SGD(0.05),
              "momentum": ours.SGD(0.05, 0.9)}
endings = pytest.mark.parametrize("ending", ["keras", "h5", "hdf5", "safetensors"])


@pytest.fixture
def keras():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    pytest.importorskip("torch")
    return pytest.importorskip("keras")


def trained(name, rng, optimizer="adam", **how):
    make, loss, x, y = CASES[name]
    x, y = x(rng), y(rng)
    layers = make(ours)
    model = ours.Sequential([*layers[:-1], ours.Dropout(0.3), layers[-1]], **how)
    model.compile(OPTIMIZERS[optimizer], loss, metrics=["accuracy"])
    model.fit(x, y, epochs=2, batch_size=8, verbose=0)
    return model, x, y


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_keras_reads_them_and_says_the_same(name, ending, rng, tmp_path, keras):
    model, x, _ = trained(name, rng)
    model.save(tmp_path / f"network.{ending}")
    theirs = keras.models.load_model(tmp_path / f"network.{ending}")
    np.testing.assert_allclose(theirs.predict(x, verbose=0), model.predict(x), atol=1e-6)
    assert [layer.name for layer in theirs.layers] == [layer.name for layer in model.layers]
    assert float(theirs.optimizer.learning_rate) == pytest.approx(0.01)
    theirs.save(tmp_path / f"theirs.{ending}")
    again = ours.load_model(tmp_path / f"theirs.{ending}")
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    assert again.optimizer.learning_rate == pytest.approx(0.01) and again.loss == model.loss


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_keras_goes_on_training_where_we_were_and_we_where_keras_was(optimizer, rng, tmp_path, keras):
    x, y = examples.vectors(rng), examples.one_hot(rng, 24, 4)
    model = ours.Sequential(examples.seed_network(ours, input_shape=(examples.T, examples.I)))
    model.compile(OPTIMIZERS[optimizer], "categorical_crossentropy", metrics=["accuracy"])
    how = {"epochs": 2, "batch_size": 8, "shuffle": False, "verbose": 0}
    model.fit(x, y, **how)
    model.save(tmp_path / "ours.keras")
    theirs = keras.models.load_model(tmp_path / "ours.keras")
    expected = model.fit(x, y, **how).history
    assert theirs.fit(x, y, **how).history == {key: pytest.approx(n, abs=1e-4) for key, n in expected.items()}
    theirs.save(tmp_path / "theirs.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = ours.load_model(tmp_path / "theirs.keras")
    expected = model.fit(x, y, **how).history
    assert again.fit(x, y, **how).history == {key: pytest.approx(n, abs=1e-4) for key, n in expected.items()}


def test_weights_alone_go_to_keras_and_back(rng, tmp_path, keras):
    model, x, _ = trained("tagger", rng)
    model.save_weights(tmp_path / "a.weights.h5")
    theirs = keras.Sequential(examples.tagger(keras.layers))
    theirs.build((None, examples.T))
    theirs.load_weights(tmp_path / "a.weights.h5")
    np.testing.assert_allclose(theirs.predict(x, verbose=0), model.predict(x), atol=1e-6)
    theirs.save(tmp_path / "legacy.h5")
    other = ours.Sequential(examples.tagger(ours))
    other.build((examples.T,))
    for name in ("a.weights.h5", "legacy.h5"):
        other.params.flat[...] = 0
        other.load_weights(tmp_path / name)
        np.testing.assert_allclose(other.predict(x), model.predict(x), atol=1e-6)


def test_what_is_frozen_is_frozen_in_keras_and_back(rng, tmp_path, keras):
    model, x, y = trained("seed", rng)
    model.layers[0].trainable = False
    for ending in ("keras", "h5", "safetensors"):
        model.save(tmp_path / f"a.{ending}")
        assert [layer.trainable for layer in ours.load_model(tmp_path / f"a.{ending}").layers
                if not isinstance(layer, ours.Input)] == [False, True, True, True, True]
        if ending != "safetensors":
            theirs = keras.models.load_model(tmp_path / f"a.{ending}")
            assert [layer.trainable for layer in theirs.layers] == [False, True, True, True, True]
    theirs.compile("adam", "categorical_crossentropy")
    theirs.fit(x, y, verbose=0)
    theirs.save(tmp_path / "theirs.keras")  # whose optimizer keeps nothing for what is frozen
    assert ours.load_model(tmp_path / "theirs.keras").optimizer.step_count == 1
    model.trainable = False
    for ending in ("keras", "h5", "safetensors"):
        model.save(tmp_path / f"b.{ending}")
        loaded = ours.load_model(tmp_path / f"b.{ending}")
        assert not loaded.trainable and not any(layer.trainable for layer in loaded.layers if layer.shapes)


@endings
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_is_loaded_goes_on_with_the_next_shuffles_and_the_next_dropout(ending, optimizer, rng, tmp_path):
    model, x, y = trained("seed", rng, optimizer, seed=5)
    model.save(tmp_path / f"network.{ending}")
    loaded = ours.load_model(tmp_path / f"network.{ending}")
    assert (loaded.predict(x) == model.predict(x)).all()
    assert loaded.random_state() == model.random_state()
    histories = [one.fit(x, y, epochs=2, batch_size=8, verbose=0).history for one in (model, loaded)]
    if ending == "safetensors":
        assert histories[0] == histories[1] and (loaded.params.flat == model.params.flat).all()
    np.testing.assert_allclose(loaded.params.flat, model.params.flat, atol=1e-6)


@endings
def test_float64_stays_float64(ending, rng, tmp_path):
    model, x, _ = trained("regression", rng, dtype="float64")
    model.save(tmp_path / f"network.{ending}")
    loaded = ours.load_model(tmp_path / f"network.{ending}")
    assert loaded.dtype == "float64" and (loaded.predict(x) == model.predict(x)).all()


@endings
def test_a_failed_save_leaves_the_old_file(ending, rng, tmp_path, monkeypatch):
    model, _, _ = trained("seed", rng)
    path = tmp_path / f"network.{ending}"
    model.save(path)
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match="cannot be written"):
        model.save(path)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == [path.name]


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


@pytest.mark.parametrize("config_of", [lambda layers: {"name": "sequential_1", "layers": layers},
                                       lambda layers: layers], ids=["Keras 2.3", "Keras 2.0"])
def test_a_tutorials_h5_of_keras_2_is_read(config_of, rng, tmp_path):
    weights = keras2(tmp_path / "old.h5", config_of=config_of, training=TRAINING)
    model = ours.load_model(tmp_path / "old.h5")
    assert [layer.name for layer in model.layers] == ["lstm_1", "dense_1"] and model.input_shape == (7, 5)
    for own, expected in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(own, expected)
    assert model.compiled and model.metrics == ["accuracy"] and model.optimizer.learning_rate == 0.002
    other = ours.Sequential([ours.LSTM(4, input_shape=(7, 5)), ours.Dense(3)])
    other.load_weights(tmp_path / "old.h5")
    np.testing.assert_array_equal(other.get_weights()[3], weights[3])


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


@pytest.mark.parametrize("loss, metric, known", [
    (cross_entropy(), metric("SparseCategoricalAccuracy"), "sparse_categorical_crossentropy"),
    ({**cross_entropy(), "module": "tf_keras.src.losses"}, "acc", "sparse_categorical_crossentropy"),
    ({"class_name": "CategoricalCrossentropy", "config": {"name": "mine"}}, metric("CategoricalAccuracy"),
     "categorical_crossentropy"),
    (function("mean_squared_error"), metric("MeanMetricWrapper", fn=function("categorical_accuracy")),
     "mean_squared_error"),
])
def test_a_loss_and_a_metric_that_are_told_as_objects(loss, metric, known, tmp_path):
    keras2(tmp_path / "old.h5", training={**TRAINING, "loss": loss, "metrics": [metric]})
    model = ours.load_model(tmp_path / "old.h5")
    assert (model.loss, model.metrics) == (known, ["acc"])


@pytest.mark.parametrize("training, words", [
    ({**TRAINING, "loss": "poisson"}, "loss 'poisson' is not known"),
    ({**TRAINING, "metrics": [["mae"]]}, "metric 'mae' is not known"),
    ({**TRAINING, "optimizer_config": {"class_name": "Nadam", "config": {}}}, "optimizer 'nadam' is not known"),
    ({**TRAINING, "optimizer_config": {"class_name": "Custom>SGD", "config": {"nesterov": True}}}, "nesterov=True"),
    ({**TRAINING, "loss_weights": [0.5]}, r"loss_weights=\[0.5\]"),
    ({**TRAINING, "weighted_metrics": ["acc"]}, "weighted_metrics="),
    ({**TRAINING, "loss": cross_entropy(from_logits=True)}, "SparseCategoricalCrossentropy has from_logits=True"),
    ({**TRAINING, "loss": cross_entropy(reduction="sum")}, "has reduction='sum'"),
    ({**TRAINING, "loss": cross_entropy(ignore_class=0)}, "has ignore_class=0"),
    ({**TRAINING, "metrics": [{"class_name": "BinaryAccuracy", "config": {"name": "acc", "threshold": 0.9}}]},
     "BinaryAccuracy has threshold=0.9"),
    # an object is what its class is, not what it is called
    ({**TRAINING, "loss": {"class_name": "MeanAbsoluteError", "config": {"name": "mse"}}},
     "loss 'mean_absolute_error' is not known"),
    ({**TRAINING, "metrics": [metric("Accuracy", "accuracy")]},
     "metric 'accuracy' is not what accuracy is of these outputs, categorical_accuracy"),
    ({**TRAINING, "metrics": [function("accuracy")]}, "metric 'accuracy' is not what"),
    ({**TRAINING, "metrics": [[metric("BinaryAccuracy", threshold=0.5)]]}, "metric 'binary_accuracy' is not what"),
    ({**TRAINING, "metrics": [metric("SparseCategoricalAccuracy")]}, "metric 'sparse_categorical_accuracy' is not"),
    ({**TRAINING, "metrics": [metric("MeanMetricWrapper", fn=function("hinge"))]}, "metric 'hinge' is not what"),
    ({**TRAINING, "loss": {**cross_entropy(), "module": "mine"}},
     "is of a class 'SparseCategoricalCrossentropy' that is not Keras'"),
    ({**TRAINING, "metrics": [metric("CategoricalAccuracy", module="mine")]}, "that is not Keras'"),
    ({**TRAINING, "loss": {**function("mean_squared_error"), "registered_name": "mine>mean_squared_error"}},
     "'mine>mean_squared_error' that is not Keras'"),
    ({**TRAINING, "optimizer_config": {"class_name": "mine>Adam", "config": {}}},
     "optimizer is of a class 'mine>Adam' that is not Keras'"),
    ({**TRAINING, "optimizer_config": {"class_name": "Adam", "module": "__main__", "registered_name": "Adam",
                                       "config": {}}}, "optimizer is of a class 'Adam' that is not Keras'"),
])
def test_how_it_was_compiled_is_taken_over_or_not_with_a_word(training, words, tmp_path):
    keras2(tmp_path / "old.h5", training=training)
    with pytest.warns(UserWarning, match=f"old.h5: the network is not compiled as it was: .*{words}"):
        assert not ours.load_model(tmp_path / "old.h5").compiled


def test_what_has_no_effect_here_is_told(tmp_path):
    keras2(tmp_path / "old.h5", lstm={"\x1b[2J_regularizer": 1, **{f"{n:01000}_regularizer": 1 for n in range(40)}})
    with pytest.warns(UserWarning, match="'lstm_1' .LSTM. has ") as warned:
        ours.load_model(tmp_path / "old.h5")
    assert all(str(one.message).isprintable() and len(str(one.message)) < 6000 for one in warned)
    keras2(tmp_path / "old.h5", lstm={"kernel_regularizer": {"class_name": "L2", "config": {"l2": 0.1}}})
    with pytest.warns(UserWarning, match="'lstm_1' .LSTM. has kernel_regularizer, which there is not here"):
        ours.load_model(tmp_path / "old.h5")
    keras2(tmp_path / "older.h5", training=TRAINING, optimizer=True)
    with pytest.warns(UserWarning, match="older.h5: what the optimizer keeps is not as Keras 3 writes it"):
        ours.load_model(tmp_path / "older.h5")


@pytest.mark.parametrize("lstm, words", [({"recurrent_activation": "hard_sigmoid"}, "'hard_sigmoid' is not known"),
                                         ({"dropout": 0.5}, "dropout=0.5, which there is not here"),
                                         ({"time_major": True}, "time_major=True, which there is not here"),
                                         ({"units": -1}, "units is -1"), ({"batch_input_shape": 3}, "damaged")])
def test_what_there_is_not_here_is_refused_by_name(lstm, words, tmp_path):
    keras2(tmp_path / "old.h5", lstm=lstm)
    with pytest.raises(InputError, match=f"old.h5.*{words}"):
        ours.load_model(tmp_path / "old.h5")


@pytest.mark.parametrize("option", [{"dropout": 0.5}, {"stateful": True}, {"units": 3}])
def test_a_second_direction_that_is_another_layer_is_refused(option, tmp_path):
    model = ours.Sequential([ours.Bidirectional(ours.LSTM(2), input_shape=(3, 4))])
    model.save(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        told = json.loads(file.attrs["model_config"])
        told["config"]["layers"][1]["config"]["backward_layer"]["config"] |= option
        file.attrs["model_config"] = json.dumps(told)
    with pytest.raises(InputError, match="two different layers, which there is not here"):
        ours.load_model(tmp_path / "a.h5")


@endings
def test_a_layer_of_somebody_elses_does_not_come_back_as_ours_of_its_name(ending, rng, tmp_path):
    other = type("Dense", (ours.Dense,), {"__module__": "theirs"})
    model = ours.Sequential([ours.TimeDistributed(other(3), input_shape=(5, 2))])
    model.set_weights([rng.standard_normal((2, 3)), rng.standard_normal(3)])
    model.save(tmp_path / f"a.{ending}")
    with pytest.raises(InputError, match=f"a.{ending}: layer 'theirs>Dense' is not known"):
        ours.load_model(tmp_path / f"a.{ending}")
    again = ours.Sequential([ours.TimeDistributed(ours.Dense(3), input_shape=(5, 2))])
    again.load_weights(tmp_path / f"a.{ending}")
    assert all(map(np.array_equal, again.get_weights(), model.get_weights()))


@endings
def test_a_network_of_a_class_with_a_forward_pass_of_its_own_does_not_come_back_as_ours(ending, rng, tmp_path):
    class Doubled(ours.Sequential):
        def forward(self, x, rng=None, params=None):
            (y, mask), cache = super().forward(x, rng, params)
            return (2 * y, mask), cache

    class Named(ours.Sequential):
        def __init__(self):
            super().__init__([ours.Dense(3, input_shape=(2,))])

    path, x = tmp_path / f"a.{ending}", rng.standard_normal((5, 2)).astype("float32")
    model = Doubled([ours.Dense(3, input_shape=(2,))])
    model.save(path)
    with pytest.raises(InputError, match=f"a.{ending}: it holds '.*Doubled', expected a Sequential: .*load_weights"):
        ours.load_model(path)
    again = Doubled([ours.Dense(3, input_shape=(2,))], seed=1)
    again.load_weights(path)
    assert (again.predict(x) == model.predict(x)).all()
    model = Named()
    model.save(path)
    assert (ours.load_model(path).predict(x) == model.predict(x)).all()


@endings
def test_a_network_of_more_layers_than_are_read_is_not_written(ending, tmp_path):
    path = tmp_path / f"a.{ending}"
    model = ours.Sequential([ours.Input((1,)), *(ours.Activation("relu") for _ in range(999))])
    with pytest.raises(InputError, match="1,000 layers, and a file is read of fewer than 1,000: .*save_weights"):
        model.save(path)
    assert not path.exists()
    ours.Sequential([ours.Activation("relu", input_shape=(1,)) for _ in range(999)]).save(path)
    assert len(ours.load_model(path).layers) in (999, 1000)


def test_a_class_that_is_not_keras_is_not_read_as_that_of_its_name(tmp_path, keras):
    class Dense(keras.layers.Dense):
        def call(self, x):
            return 2 * super().call(x)

    keras.Sequential([keras.layers.Input((2,)), Dense(3, name="twice")]).save(tmp_path / "a.keras")
    with pytest.raises(InputError, match=r"a.keras: layer 'twice' .Dense. is of a class 'Dense' that is not Keras'"):
        ours.load_model(tmp_path / "a.keras")


@pytest.mark.parametrize("name", ["a.safetensors", "a.keras", "a.h5", "a.weights.h5"])
def test_weights_for_a_network_that_does_not_know_what_comes_in(name, tmp_path):
    model = ours.Sequential([ours.Dense(3, input_shape=(2,))])
    (model.save_weights if "weights" in name else model.save)(tmp_path / name)
    with pytest.raises(InputError, match="^the network does not know what comes in: give its first layer input_shape"):
        ours.Sequential([ours.Dense(3)]).load_weights(tmp_path / name)


def test_an_hdf5_file_is_known_by_its_first_bytes_whatever_its_name(rng, tmp_path, monkeypatch):
    model, x, _ = trained("seed", rng)
    model.save(tmp_path / "a.h5")
    (tmp_path / "model").write_bytes((tmp_path / "a.h5").read_bytes())
    assert (ours.load_model(tmp_path / "model").predict(x) == model.predict(x)).all()
    model.save_weights(tmp_path / "weights.weights.h5")
    with pytest.raises(InputError, match="weights.weights.h5 holds weights without the layers: .*load_weights"):
        ours.load_model(tmp_path / "weights.weights.h5")
    model.save_weights(tmp_path / "weights")
    with pytest.raises(InputError, match="weights.* holds weights without the layers: .*load_weights"):
        ours.load_model(tmp_path / "weights")
    model.params.flat[...] = 0
    model.load_weights(tmp_path / "weights")
    assert (ours.load_model(tmp_path / "model").predict(x) == model.predict(x)).all()
    monkeypatch.setitem(sys.modules, "h5py", None)
    for name in ("a.h5", "model"):
        with pytest.raises(InputError, match=f"{name} is an HDF5 file of Keras: h5py .*keras"):
            ours.load_model(tmp_path / name)


def test_without_h5py_nothing_is_trained_in_vain(rng, tmp_path, monkeypatch):
    model, x, y = trained("seed", rng)
    monkeypatch.setitem(sys.modules, "h5py", None)
    before = model.params.flat.copy()
    for name in ("best.keras", "best.h5"):
        with pytest.raises(InputError, match=f"{name} would be a file of Keras: h5py .*or choose a name without"):
            model.fit(x, y, verbose=0, callbacks=[ours.ModelCheckpoint(tmp_path / name, "loss")])
        with pytest.raises(InputError, match="h5py"):
            model.save(tmp_path / name)
    assert (model.params.flat == before).all() and not list(tmp_path.iterdir())
    model.save(tmp_path / "network.safetensors")


def test_what_is_no_file_of_ours_is_called_by_its_name(tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(InputError, match="saved is a SavedModel of TensorFlow, expected a file"):
        ours.load_model(tmp_path / "saved")
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as file:
        file.writestr("data.pkl", b"")
    with pytest.raises(InputError, match="a.keras is an archive without config.json: no file of Keras"):
        ours.load_model(tmp_path / "a.keras")


def names_elsewhere(file):
    other = file.filename + ".secret"
    with h5py.File(other, "w") as content:
        content["kernel"] = np.zeros((4, 3), "f4")
    del file["model_weights/dense_1/dense_1/kernel:0"]
    file["model_weights/dense_1/dense_1/kernel:0"] = h5py.ExternalLink(other, "/kernel")


def names_itself(file):
    file["model_weights/other"] = h5py.SoftLink("/model_weights/dense_1")
    file["model_weights"].attrs["layer_names"] = [b"lstm_1", b"other"]


def packed(file):
    del file["model_weights/dense_1/dense_1/kernel:0"]
    file.create_dataset("model_weights/dense_1/dense_1/kernel:0", data=np.zeros((4, 3), "f4"), compression="gzip")


def many_names(file):
    file["model_weights"].attrs["layer_names"] = [b"lstm_1"] * 3000


def no_json(file):
    file.attrs["model_config"] = b"{"


def no_text(file):
    value = np.empty(1, object)
    value[0] = np.arange(3, dtype="i4")
    file.attrs.create("scratchnmt", value, dtype=h5py.vlen_dtype("i4"))


def a_number(file):
    file.attrs["model_config"] = 3


@pytest.mark.parametrize("place, value, words", [("optimizer/vars/0", np.int32(-3), "step|below 0"),
                                                 ("optimizer/vars/1", np.float32("nan"), "learning_rate"),
                                                 ("optimizer/vars/1", np.float32(-1), "learning_rate")])
def test_an_optimizers_state_that_there_cannot_be(place, value, words, rng, tmp_path):
    model, _, _ = trained("seed", rng)
    file = io.BytesIO(saving.keras_files.weights_bytes(model))
    with h5py.File(file, "a") as content:
        del content[place]
        content[place] = value
    whole = saving.keras_files.archive_bytes(model)
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(tmp_path / "a.keras", "w") as new:
        for name in old.namelist():
            new.writestr(name, file.getvalue() if name.endswith("weights.h5") else old.read(name))
    with pytest.raises(InputError, match=f"a.keras: .*({words})"):
        saving.load_model(tmp_path / "a.keras")


@pytest.mark.parametrize("spoil", [names_elsewhere, names_itself, packed, many_names, no_json, no_text, a_number])
def test_a_spoilt_h5_is_refused(spoil, tmp_path):
    keras2(tmp_path / "old.h5")
    with h5py.File(tmp_path / "old.h5", "a") as file:
        spoil(file)
    with pytest.raises(InputError, match="old.h5"):
        ours.load_model(tmp_path / "old.h5")


def test_an_h5_with_any_wrong_byte_is_read_or_refused(rng, tmp_path):
    path = tmp_path / "old.h5"
    keras2(path, training=TRAINING)
    right = path.read_bytes()
    for at in rng.integers(0, len(right), 150):
        path.write_bytes(right[:at] + bytes([rng.integers(256)]) + right[at + 1 :])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ours.load_model(path)
        except InputError as error:
            assert "old.h5" in str(error)
    for size in (0, 8, 100, len(right) // 2):
        path.write_bytes(right[:size])
        with pytest.raises(InputError, match="old.h5"):
            ours.load_model(path)


@pytest.mark.parametrize("length", [0, 8, (1 << 64) - 16])
def test_a_heap_of_strings_that_the_library_would_walk_without_end(length, tmp_path):
    keras2(tmp_path / "old.h5")
    data = (tmp_path / "old.h5").read_bytes()
    place = data.index(b"GCOL") + 16
    while int.from_bytes(data[place : place + 2], "little"):
        last, place = place, place + 16 + -(-int.from_bytes(data[place + 8 : place + 16], "little") // 8) * 8
    at = 8 + (last if length > 100 else place)  # of the last string, or of the free space after it
    (tmp_path / "old.h5").write_bytes(data[:at] + length.to_bytes(8, "little") + data[at + 8 :])
    with pytest.raises(InputError, match="old.h5.* its strings have lengths that there cannot be"):
        ours.load_model(tmp_path / "old.h5")


def test_names_that_one_attribute_has_no_place_for(tmp_path):
    file = io.BytesIO()
    with h5py.File(file, "w") as content:
        names = [f"layer_{n}_{'y' * 90}" for n in range(1500)]
        saving.hdf5.set_names(content, "layer_names", names)
        assert "layer_names" not in content.attrs
    with saving.hdf5.opened(file.getvalue(), "f") as (content, attributes):
        assert attributes.names(content, "layer_names", 1500) == names
        with pytest.raises(InputError, match="its layer_names are 1,500, expected at most 1,499"):
            attributes.names(content, "layer_names", 1499)


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


THEIRS = {"module": "theirs", "registered_name": "theirs>That"}


@pytest.mark.parametrize("change, words", [
    (lambda told: told.update(THEIRS), "the network is of a class 'theirs>That' that is not Keras'"),
    (lambda told: told["config"]["layers"][0].update(THEIRS), "(InputLayer) is of a class 'theirs>That'"),
    (lambda told: told["config"]["layers"][1]["config"]["backward_layer"].update(THEIRS), "of a class 'theirs>That'"),
    (lambda told: told["config"]["layers"][1]["config"]["backward_layer"].update(class_name="GRU"),
     "has two different layers"),
    (lambda told: told["config"]["layers"][1]["config"]["backward_layer"]["config"].update(go_backwards=False),
     "has two different layers"),
    (lambda told: (told.update(build_config=None), told["config"]["layers"].pop(0)), "it tells no input's shape: make"),
])
def test_a_network_that_is_not_keras_all_through_is_refused(change, words, tmp_path):
    changed(tmp_path / "a.keras", ours.Sequential([ours.Bidirectional(ours.LSTM(2), input_shape=(5, 3))]), change)
    with pytest.raises(InputError, match=f"a.keras: .*{re.escape(words)}"):
        ours.load_model(tmp_path / "a.keras")


@pytest.mark.parametrize("name", ["array", "weights", "h"])
def test_a_file_whose_name_is_a_word_of_the_sentence_is_named(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ours.Sequential([ours.Dense(2, input_shape=(3,))]).save_weights("a.weights.h5")
    os.rename("a.weights.h5", name)
    with pytest.raises(InputError, match=f"^{name}: set_weights: array 0 has shape"):
        ours.Sequential([ours.Dense(2, input_shape=(4,))]).load_weights(name)


def test_a_group_with_more_in_its_header_than_keras_writes_is_refused(tmp_path):
    """The library searches a header from its start at each step of a way."""
    model = ours.Sequential([ours.Dense(2, input_shape=(3,))])
    model.save(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        for number in range(1001):
            file["model_weights"].attrs[f"{number}"] = np.int8(0)
    with pytest.raises(InputError, match="a.h5: it is damaged: a group holds more in its header than Keras writes"):
        model.load_weights(tmp_path / "a.h5")
