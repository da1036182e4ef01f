"""Files that are called as Keras' are, written so that Keras reads them, and Keras' own, of Keras 3 and of Keras 2."""

import sys
import warnings

import numpy as np
import pytest
from sequential import examples
from sequential.keras_parts import TRAINING, keras2

import scratchnmt.sequential as ours
from scratchnmt.errors import InputError

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


def freeze_forward(layer):
    layer.forward_layer.trainable = False


def freeze_forward_inside(layer):
    layer.layer.forward_layer.trainable = False


def freeze_kernel_and_bias(layer):
    layer.cell.kernel.trainable = layer.cell.bias.trainable = False


WITH_A_FROZEN_PART = {  # layer, what of it is frozen, what comes in
    "a direction": (lambda of: of.Bidirectional(of.LSTM(3, return_sequences=True)), freeze_forward, (6, 3)),
    "a direction of every step": (lambda of: of.TimeDistributed(of.Bidirectional(of.LSTM(3))), freeze_forward_inside,
                                  (2, 6, 3)),
    "two weights of three": (lambda of: of.LSTM(3, return_sequences=True), freeze_kernel_and_bias, (6, 3)),
}


@pytest.mark.parametrize("layer, freeze, shape", WITH_A_FROZEN_PART.values(), ids=WITH_A_FROZEN_PART)
def test_weights_of_a_h5_are_told_by_name_where_those_that_are_frozen_stand_last(layer, freeze, shape, rng, tmp_path,
                                                                                 keras):
    theirs = keras.Sequential([keras.layers.Input(shape), layer(keras.layers), keras.layers.Dense(3)])
    freeze(theirs.layers[0])
    theirs.save(tmp_path / "a.h5")
    model = ours.Sequential([ours.Input(shape), layer(ours), ours.Dense(3)])
    model.load_weights(tmp_path / "a.h5")
    x = rng.standard_normal((4, *shape)).astype("float32")
    np.testing.assert_allclose(model.predict(x), theirs.predict(x, verbose=0), atol=1e-6)


@pytest.mark.parametrize("name, taken", [("back", True), ("forward_too", False)])
def test_a_second_direction_with_a_name_of_its_own(name, taken, rng, tmp_path, keras):
    layers = keras.layers
    theirs = keras.Sequential([layers.Input((6, 3)), layers.Bidirectional(
        layers.LSTM(3), backward_layer=layers.LSTM(3, go_backwards=True, name=name))])
    freeze_forward(theirs.layers[0])
    theirs.save(tmp_path / "a.h5")
    model = ours.Sequential([ours.Bidirectional(ours.LSTM(3), input_shape=(6, 3))])
    if not taken:
        with pytest.raises(InputError, match="a.h5: its layer 'bidirectional.*' has weights whose names do not tell "
                                             "which of them read forward"):
            model.load_weights(tmp_path / "a.h5")
        return
    model.load_weights(tmp_path / "a.h5")
    x = rng.standard_normal((4, 6, 3)).astype("float32")
    np.testing.assert_allclose(model.predict(x), theirs.predict(x, verbose=0), atol=1e-6)


def test_a_network_inside_a_network_is_not_taken_apart(tmp_path, keras):
    inner = keras.Sequential([keras.layers.Dense(3, trainable=False), keras.layers.Dense(3)])  # the second stands first
    keras.Sequential([keras.layers.Input((3,)), inner]).save(tmp_path / "a.h5")
    with pytest.raises(InputError, match="a.h5: its layer 'sequential.*' has 4 weights, expected 2"):
        ours.Sequential([ours.Dense(3, input_shape=(3,)), ours.Dense(3)]).load_weights(tmp_path / "a.h5")


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


@pytest.mark.parametrize("name, what", [("a.h5", "set_weights: array 3"), ("a.keras", "set_weights: array 3"),
                                        ("a.weights.h5", "set_weights: array 3"), ("a.safetensors", "out.b")])
def test_weights_that_are_too_large_for_the_networks_dtype(name, what, rng, tmp_path):
    wide, narrow = (ours.Sequential([ours.Dense(2, input_shape=(2,)), ours.Dense(3, name="out")], dtype=dtype)
                    for dtype in ("float64", "float32"))
    wide.set_weights([rng.standard_normal((2, 2)), [0, np.inf], rng.standard_normal((2, 3)), [0, 1, 1e300]])
    before = narrow.get_weights()
    (wide.save_weights if "weights" in name else wide.save)(tmp_path / name)
    with pytest.raises(InputError, match=f"{name}: {what} holds a number that is too large for float32"):
        narrow.load_weights(tmp_path / name)
    assert all(map(np.array_equal, narrow.get_weights(), before))
    wide.layers[1].set_weights([np.ones((2, 3)), [0, 1, np.inf]])  # infinite already
    (wide.save_weights if "weights" in name else wide.save)(tmp_path / name)
    narrow.load_weights(tmp_path / name)
    assert all(map(np.array_equal, narrow.layers[1].get_weights(), wide.layers[1].get_weights()))


def test_as_many_layers_as_are_saved_are_read(tmp_path):
    """The library takes memory for each group and array that is open."""
    model = ours.Sequential([ours.Dense(1, input_shape=(1,)), *(ours.Dense(1) for _ in range(997))])
    model.compile("adam", loss="mse")
    model.fit(np.ones((1, 1)), np.ones((1, 1)), verbose=0)
    model.save(tmp_path / "a.keras")
    assert all(map(np.array_equal, ours.load_model(tmp_path / "a.keras").get_weights(), model.get_weights()))


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


def test_an_hdf5_file_is_known_by_its_first_bytes_whatever_its_name(rng, tmp_path, monkeypatch):
    model, x, _ = trained("seed", rng)
    model.save(tmp_path / "a.h5")
    (tmp_path / "model").write_bytes((tmp_path / "a.h5").read_bytes())
    assert (ours.load_model(tmp_path / "model").predict(x) == model.predict(x)).all()
    model.save_weights(tmp_path / "weights.weights.h5")
    with pytest.raises(InputError, match="weights.weights.h5: it holds weights without the layers: .*load_weights"):
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


@pytest.mark.parametrize("form", [{}, {"libver": "earliest"}, {"libver": "latest"}, {"track_order": True}], ids=str)
def test_weights_in_any_form_of_hdf5_beside_numbers_of_ones_own(form, rng, tmp_path):
    """Such as the places of what is in the file, which might be taken for something else."""
    def small():
        return ours.Sequential([ours.Embedding(3, 1, input_shape=(2,)), ours.Bidirectional(ours.LSTM(1)),
                                ours.Dense(1)])

    model = small()
    model.save_weights(tmp_path / "of ours.weights.h5")
    with h5py.File(tmp_path / "of ours.weights.h5") as own, h5py.File(tmp_path / "f.weights.h5", "w", **form) as file:
        names = []
        own.visit(names.append)
        for name in names:
            if isinstance(own[name], h5py.Dataset):
                file[name] = own[name][...]
    data = (tmp_path / "f.weights.h5").read_bytes()
    places = [at for word in (b"HEAP", b"GCOL", b"TREE", b"SNOD", b"OHDR") for at in range(len(data))
              if data.startswith(word, at)]
    with h5py.File(tmp_path / "f.weights.h5", "r+") as file:
        for place in places[:100]:
            file.attrs[f"of {place}"] = place
        file["own"] = [1, *places]
    found = small()
    found.load_weights(tmp_path / "f.weights.h5")
    assert all(map(np.array_equal, found.get_weights(), model.get_weights()))
