"""Files of Keras that are damaged, or hold what there is not here: told by name, and nothing is half read."""

import io
import json
import os
import re
import warnings
import zipfile

import numpy as np
import pytest
from sequential.keras_parts import TRAINING, changed, keras2

import scratchnmt.sequential as ours
from scratchnmt.errors import InputError
from scratchnmt.sequential import saving

h5py = pytest.importorskip("h5py")
pytestmark = pytest.mark.filterwarnings("ignore:.*copy keyword:DeprecationWarning")


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


def test_a_class_that_is_not_keras_is_not_read_as_that_of_its_name(tmp_path, keras):
    class Dense(keras.layers.Dense):
        def call(self, x):
            return 2 * super().call(x)

    keras.Sequential([keras.layers.Input((2,)), Dense(3, name="twice")]).save(tmp_path / "a.keras")
    with pytest.raises(InputError, match=r"a.keras: layer 'twice' .Dense. is of a class 'Dense' that is not Keras'"):
        ours.load_model(tmp_path / "a.keras")


@pytest.mark.parametrize("ending", ["keras", "h5", "weights.h5"])
def test_numbers_of_a_kind_that_numpy_does_not_have_are_not_called_damaged(ending, tmp_path, keras):
    theirs = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(3, dtype="bfloat16")])
    (theirs.save_weights if "weights" in ending else theirs.save)(tmp_path / f"a.{ending}")
    read = ours.Sequential([ours.Dense(3, input_shape=(2,))]).load_weights if "weights" in ending else ours.load_model
    with pytest.raises(InputError, match=f"a.{ending}: '.*' is of a kind of numbers that NumPy does not have, such "
                                         "as bfloat16: in Keras, copy"):
        read(tmp_path / f"a.{ending}")


@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.parametrize("kind", ["int8", "float8"])
@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have")
def test_a_quantized_layer_is_refused_by_name(kind, ending, tmp_path, keras):
    theirs = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(3, name="small")])
    theirs.quantize(kind)
    theirs.save(tmp_path / f"a.{ending}")
    with pytest.raises(InputError, match=f"a.{ending}: layer 'small' .Dense. is quantized, which there is not here"):
        ours.load_model(tmp_path / f"a.{ending}")


def test_that_keras_trains_two_narrow_matrices_instead_of_one_is_told(tmp_path, rng, keras):
    theirs = keras.Sequential([keras.layers.Input((5,)), keras.layers.Dense(4, name="tuned")])
    theirs.layers[0].enable_lora(2)
    theirs.layers[0].lora_kernel_b.assign(rng.standard_normal((2, 4)))
    theirs.save(tmp_path / "a.keras")
    with pytest.warns(UserWarning, match="layer 'tuned' .Dense. has lora_rank, which there is not here: it predicts "
                                         "the same, but is trained without"):
        model = ours.load_model(tmp_path / "a.keras")
    x = rng.standard_normal((3, 5)).astype("float32")
    np.testing.assert_allclose(model.predict(x), theirs.predict(x, verbose=0), atol=1e-6)


@pytest.mark.parametrize("name", ["a.safetensors", "a.keras", "a.h5", "a.weights.h5"])
def test_weights_for_a_network_that_does_not_know_what_comes_in(name, tmp_path):
    model = ours.Sequential([ours.Dense(3, input_shape=(2,))])
    (model.save_weights if "weights" in name else model.save)(tmp_path / name)
    with pytest.raises(InputError, match="^the network does not know what comes in: give its first layer input_shape"):
        ours.Sequential([ours.Dense(3)]).load_weights(tmp_path / name)


def test_what_is_no_file_of_ours_is_called_by_its_name(tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(InputError, match="saved is a SavedModel of TensorFlow, expected a file"):
        ours.load_model(tmp_path / "saved")
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as file:
        file.writestr("data.pkl", b"")
    with pytest.raises(InputError, match="a.keras is an archive without config.json: no file of Keras"):
        ours.load_model(tmp_path / "a.keras")


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_layers_in_one_another_that_could_not_be_read_again_are_not_saved(ending, tmp_path):
    layer = ours.Dense(1)
    for _ in range(26):
        layer = ours.TimeDistributed(layer)
    model = ours.Sequential([ours.Input((1,) * 27), layer])
    with pytest.raises(InputError, match="nested deeper than 50 levels, more than is read: save it as a .safetensors"):
        model.save(tmp_path / f"a.{ending}")
    model.save(tmp_path / "a.safetensors")
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]
    assert np.array_equal(ours.load_model(tmp_path / "a.safetensors").get_weights()[0], model.get_weights()[0])


@pytest.mark.parametrize("spoil", [lambda file: file.attrs.update({"model_config": b"{"}),
                                   lambda file: file.attrs.pop("model_config"),
                                   lambda file: file.attrs.update({"scratchnmt": b"{}"}),
                                   lambda file: file.attrs.update({"model_config": b"{}"})])
def test_a_file_is_named_once(spoil, tmp_path):
    ours.Sequential([ours.Dense(2, input_shape=(2,))]).save(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        spoil(file)
    with pytest.raises(InputError) as error:
        ours.load_model(tmp_path / "a.h5")
    assert str(error.value).startswith(f"{tmp_path / 'a.h5'}: it") and str(error.value).count("a.h5") == 1


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
    model = ours.Sequential([ours.Dense(3, input_shape=(4,))])
    model.compile("adam", "mse")
    model.fit(rng.standard_normal((8, 4)), rng.standard_normal((8, 3)), verbose=0)
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


@pytest.mark.parametrize("path, how", [
    ("model_weights", "'model_weights' is an array, expected a group"),
    ("model_weights/out", "'out' is an array, expected a group"),
    ("optimizer_weights", "'optimizer_weights' is an array, expected a group"),
    ("a weight", None)])
def test_an_array_where_a_group_is_expected_and_the_other_way_round(path, how, tmp_path):
    model = ours.Sequential([ours.Dense(2, input_shape=(3,), name="out")])
    model.compile("adam", loss="mse")
    model.fit(np.ones((2, 3)), np.ones((2, 2)), verbose=0)
    model.save(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        if how:
            del file[path]
            file[path] = np.zeros(3, "f4")
        else:
            layer = file["model_weights/out"]
            del layer[layer.attrs["weight_names"][1]]
            layer.create_group(layer.attrs["weight_names"][1])
    for load in (ours.load_model, model.load_weights):
        if path == "optimizer_weights" and load == model.load_weights:
            continue  # which does not look there
        with pytest.raises(InputError, match=f"a.h5: .*{how or 'has shape'}"):
            load(tmp_path / "a.h5")


def test_layers_that_are_an_array(tmp_path):
    with h5py.File(tmp_path / "a.weights.h5", "w") as file:
        file["layers"] = np.zeros(3)
    with pytest.raises(InputError, match="a.weights.h5: .*'layers' is an array, expected a group"):
        ours.Sequential([ours.Activation("tanh", input_shape=(3,))]).load_weights(tmp_path / "a.weights.h5")


def test_what_nobody_asks_for_is_not_judged(tmp_path):
    model = ours.Sequential([ours.Dense(2, input_shape=(3,))])
    model.save(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.attrs["by"] = np.bytes_("Ren\u00e9".encode("latin-1"))
        file.attrs["layer_names0"] = 3
        file["picture"] = np.void(b"abc")
        file.create_group(b"\xff\xfe")
        file["model_weights"].attrs[b"\xff"] = 1
        file["model_weights/packed"] = h5py.Empty("f4")
    assert all(map(np.array_equal, ours.load_model(tmp_path / "a.h5").get_weights(), model.get_weights()))


def test_a_list_of_names_that_goes_on_in_a_number(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names0"] = 3
    with pytest.raises(InputError, match="a.h5: it is damaged: its attribute layer_names is no text"):
        ours.Sequential([ours.Dense(2, input_shape=(3,))]).load_weights(tmp_path / "a.h5")


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
    for at in rng.integers(0, len(right), 50):  # each is read by a process of its own
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
def test_a_heap_of_strings_that_the_library_would_walk_without_end(length, tmp_path, monkeypatch):
    monkeypatch.setattr(saving.hdf5, "_SECONDS", 1)
    keras2(tmp_path / "old.h5")
    data = (tmp_path / "old.h5").read_bytes()
    place = data.index(b"GCOL") + 16
    while int.from_bytes(data[place : place + 2], "little"):
        last, place = place, place + 16 + -(-int.from_bytes(data[place + 8 : place + 16], "little") // 8) * 8
    at = 8 + (last if length > 100 else place)  # of the last string, or of the free space after it
    (tmp_path / "old.h5").write_bytes(data[:at] + length.to_bytes(8, "little") + data[at + 8 :])
    with pytest.raises(InputError, match="old.h5: reading it takes a processor longer than is allowed, 1 s at most"):
        ours.load_model(tmp_path / "old.h5")


def test_names_that_one_attribute_has_no_place_for(tmp_path):
    file = io.BytesIO()
    with h5py.File(file, "w") as content:
        names = [f"layer_{n}_{'y' * 90}" for n in range(1500)]
        saving.hdf5.set_names(content, "layer_names", names)
        assert "layer_names" not in content.attrs
    with saving.hdf5.opened(file.getvalue(), "f") as contents:
        with pytest.raises(InputError, match="its layer_names are 1,500, expected at most 1,499"):
            contents.names(contents.file, "layer_names", 1499)
        assert contents.names(contents.file, "layer_names", 1500) == names


def test_a_long_name_among_short_ones(tmp_path):
    model = ours.Sequential([ours.Dense(1, input_shape=(1,), name="d" * 40_000), ours.Dense(1), ours.Dense(1)])
    model.save(tmp_path / "f.h5")
    assert saving.load_model(tmp_path / "f.h5").get_layer("d" * 40_000).units == 1
    model = ours.Sequential([ours.Dense(1, input_shape=(1,), name="d" * 65_000)])
    with pytest.raises(InputError, match=r"a name has 65,0\d\d bytes, and HDF5 has place for 64,000: save it as a"):
        model.save(tmp_path / "f.h5")
    assert saving.load_model(tmp_path / "f.h5").get_layer("d" * 40_000).units == 1  # it is as it was
    model.save(tmp_path / "f.keras")
    assert saving.load_model(tmp_path / "f.keras").get_layer("d" * 65_000).units == 1


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


@pytest.mark.parametrize("name", ["array", "weights", "h", "set", "set_weights"])
def test_a_file_whose_name_is_a_word_of_the_sentence_is_named(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ours.Sequential([ours.Dense(2, input_shape=(3,))]).save_weights("a.weights.h5")
    os.rename("a.weights.h5", name)
    with pytest.raises(InputError, match=f"^{name}: set_weights: array 0 has shape"):
        ours.Sequential([ours.Dense(2, input_shape=(4,))]).load_weights(name)


def stored(keras, tmp_path, *layers):
    """A network of Keras as NAME.weights.h5, NAME.keras and NAME.h5."""
    net = keras.Sequential([keras.layers.Input((4,)), *layers])
    for name in ("a.weights.h5", "a.keras", "a.h5"):
        (net.save_weights if "weights" in name else net.save)(tmp_path / name)


@pytest.mark.parametrize("name", ["a.weights.h5", "a.keras", "a.h5"])
@pytest.mark.parametrize("more", ["biases", "a layer", "statistics of a batch"])
def test_weights_that_the_network_has_no_place_for_are_not_left_out(name, more, rng, tmp_path, keras):
    layers = keras.layers
    between = {"biases": [], "a layer": [layers.Dense(3)], "statistics of a batch": [layers.BatchNormalization()]}[more]
    stored(keras, tmp_path, layers.Dense(3), *between, layers.Dense(3))
    model = ours.Sequential([ours.Dense(3, use_bias=more != "biases", input_shape=(4,)),
                             ours.Dense(3, use_bias=more != "biases")])
    before = model.get_weights()
    told = f"more weights than this network, which has {len(before)}"
    if name == "a.h5":  # which tells of which layer they are
        told = {"biases": "2 weights, expected 1", "statistics of a batch": "4 weights, expected 2"}.get(more, told)
    with pytest.raises(InputError, match=f"{name}: .* has {told}$"):
        model.load_weights(tmp_path / name)
    assert all(map(np.array_equal, model.get_weights(), before))


def test_the_state_of_a_generator_is_no_weight(tmp_path, keras):
    layers = keras.layers
    stored(keras, tmp_path, layers.Dense(3), layers.Dropout(0.5), layers.Dense(3))
    for name in ("a.weights.h5", "a.keras", "a.h5"):
        ours.Sequential([ours.Dense(3, input_shape=(4,)), ours.Dense(3)]).load_weights(tmp_path / name)


def test_groups_that_are_in_one_another_are_looked_into_once(tmp_path):
    model = ours.Sequential([ours.Dense(2, input_shape=(3,))])
    model.save_weights(tmp_path / "a.weights.h5")
    with h5py.File(tmp_path / "a.weights.h5", "r+") as file:
        for number in range(30):
            file[f"layers/{number}"] = file["layers"]
            file[f"layers/dense/{number}"] = file["layers"]
    model.load_weights(tmp_path / "a.weights.h5")


def test_a_layer_that_is_called_as_another_group_of_an_h5(tmp_path):
    model = ours.Sequential([ours.Dense(1, input_shape=(1,), name="top_level_model_weights")])
    with pytest.raises(InputError, match="another use for the name top_level_model_weights of a layer: save it as"):
        model.save(tmp_path / "f.h5")
    assert not os.listdir(tmp_path)
    model.save(tmp_path / "f.keras")
    assert saving.load_model(tmp_path / "f.keras").get_layer("top_level_model_weights").units == 1


@pytest.mark.parametrize("name", ["f.keras", "f.h5"])
def test_a_description_that_could_not_be_read_again_is_not_written(tmp_path, name):
    model = ours.Sequential([ours.Dense(1, input_shape=(1,)), *(ours.Dropout(0.0, name=f"{n}" + "x" * 9000)
                                                                for n in range(500))])
    with pytest.raises(InputError, match="description of the layers has 4,.* bytes, expected at most 4,194,304: give"):
        model.save(tmp_path / name)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["f.safetensors", "f.keras", "f.h5"])
def test_moments_that_no_run_can_have_come_to(tmp_path, name):
    model = ours.Sequential([ours.Dense(1, input_shape=(1,))])
    model.compile("adam", "mse")
    model.fit(np.ones((2, 1)), np.ones((2, 1)), verbose=0)
    for moment, wrong in (("v", -1.0), ("m", np.inf)):
        array = getattr(model.optimizer, moment).flat
        before, array[0] = array[0], wrong
        model.save(tmp_path / name)
        array[0] = before
        with pytest.raises(InputError, match=f"the optimizer's {moment} holds numbers that no run can have come to"):
            saving.load_model(tmp_path / name)
