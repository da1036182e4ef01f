"""Files of networks that tell of more than they hold."""

import json
import tracemalloc
import zipfile

import numpy as np
import pytest

pytest.importorskip("safetensors")
pytest.importorskip("sentencepiece")
from hostile_files.bounds import bounded
from stress import malicious

from scratchnmt import NMT
from scratchnmt.checkpoint import load_model as load_nmt
from scratchnmt.checkpoint import save_model
from scratchnmt.data.vocab import WordVocabulary
from scratchnmt.errors import InputError
from scratchnmt.files.tensors import write_tensors
from scratchnmt.sequential import LSTM, Dense, Sequential, load_model


def test_archives_that_unpack_to_more_than_they_are(tmp_path):
    told = {"class_name": "Sequential", "config": {"name": "s", "layers": []}}
    endless = {**told, "class_name": "y" * 30_000_000}
    wide = {**told, "config": {"name": "s", "layers": [
        {"class_name": "Dense", "config": {"name": f"d{n}", "units": 10**7, "activation": "linear"}}
        for n in range(3)]}, "build_config": {"input_shape": [None, 10**7]}}
    many = {**told, "config": {"name": "s", "layers": [
        {"class_name": "Dropout", "config": {"name": f"d{n}", "rate": 0}} for n in range(30_000)]}}
    axes = {**told, "build_config": {"input_shape": [1] * 100_000}, "config": {"name": "s", "layers": [
        {"class_name": "Dense", "config": {"name": f"d{n}", "units": 1}} for n in range(900)]}}
    for name, content, weights, kind in (
            ("message", endless, b"", zipfile.ZIP_DEFLATED), ("stored", endless, b"", zipfile.ZIP_STORED),
            ("axes", axes, b"", zipfile.ZIP_STORED),
            ("zeros", told, bytes(300_000_000), zipfile.ZIP_DEFLATED), ("wide", wide, b"", zipfile.ZIP_STORED),
            ("many", many, b"", zipfile.ZIP_STORED), ("text", "y" * 1000, b"", zipfile.ZIP_STORED)):
        data = malicious.zipped({"config.json": json.dumps(content).encode(), "model.weights.h5": weights}, kind)
        (tmp_path / name).write_bytes(data)
        bounded(load_model, tmp_path / name)


def test_networks_of_our_own_that_tell_of_more_than_they_hold(tmp_path):
    from scratchnmt.files.tensors import write_tensors

    about = {"name": "s", "dtype": "float32", "input_shape": [10**7], "compiled": None}
    dense = {"kind": "Dense", "name": "d", "units": 10**7}
    for name, changes in (("wide", {"layers": [dense]}), ("none", {"layers": None}), ("endless", {"layers": [[]]}),
                          ("numbers", {"layers": [{**dense, "units": "1"}]}), ("missing", {}),
                          ("many", {"layers": [{**dense, "name": f"d{n}"} for n in range(5000)]}),
                          ("names", {"layers": [{**dense, "name": f"{n}" + "x" * 4000} for n in range(900)]}),
                          ("axes", {"input_shape": [1] * 100_000, "layers": [{**dense, "name": f"d{n}"}
                                                                             for n in range(900)]})):
        write_tensors(tmp_path / name, {"d.W": np.zeros(3, "float32")}, {"sequential": {**about, **changes}})
        bounded(load_model, tmp_path / name)


@pytest.mark.parametrize("changes", [
    {"input_shape": [2.0]}, {"input_shape": "2"}, {"input_shape": {"a": 1}}, {"input_shape": None}, {"layers": "abc"},
    {"layers": {"a": 1}}, {"layers": [None]}, {"compiled": "x"}, {"name": [1]}, {"dtype": ["float32"]},
    {"compiled": {"optimizer": ["adam", {"beta_1": [1]}], "loss": "mse", "metrics": [], "state": {}}},
    {"compiled": {"optimizer": ["adam", {}], "loss": "mse", "metrics": 5, "state": {"step": "x"}}},
], ids=str)
def test_a_description_of_another_form_is_refused_or_taken_as_numbers(changes, tmp_path):
    from scratchnmt.files.tensors import write_tensors

    about = {"name": "s", "dtype": "float32", "input_shape": [2], "compiled": None,
             "layers": [{"kind": "Dense", "name": "d", "units": 3, "use_bias": False}]}
    write_tensors(tmp_path / "f", {"d.W": np.ones((2, 3), "float32")}, {"sequential": {**about, **changes}})
    try:
        found = load_model(tmp_path / "f")
    except InputError as error:
        assert str(error).startswith(str(tmp_path / "f"))
    else:
        assert found.input_shape == (2,) and np.array_equal(found.predict(np.ones((1, 2))), [[2, 2, 2]])


@pytest.mark.parametrize("kind", ["int64", "bool", "complex64"])
def test_weights_that_are_no_floating_point_numbers_are_refused(kind, tmp_path):
    from scratchnmt.files.tensors import write_tensors

    about = {"name": "s", "dtype": "float32", "input_shape": [2], "compiled": None,
             "layers": [{"kind": "Dense", "name": "d", "units": 3, "use_bias": False}]}
    write_tensors(tmp_path / "f", {"d.W": np.ones((2, 3), kind)}, {"sequential": about})
    with pytest.raises(InputError, match=f"d.W is of {kind}, expected floating-point numbers"):
        load_model(tmp_path / "f")


@pytest.mark.parametrize("state", [None, {}, {"step": -1, "learning_rate": 0.1}, {"step": 10**300, "learning_rate": 1},
                                   {"step": 1, "learning_rate": "x"}, {"step": 1, "learning_rate": 1, "m": 0}])
def test_moments_without_the_numbers_that_go_with_them_are_refused(state, tmp_path):
    """Not dropped, which would start the optimizer anew."""
    from scratchnmt.files.tensors import read_tensors, write_tensors

    model = Sequential([Dense(1)])
    model.compile("adam", loss="mse")
    model.fit(np.ones((4, 2)), np.ones((4, 1)), epochs=1, verbose=0)
    model.save(tmp_path / "f")
    tensors, info = read_tensors(tmp_path / "f")
    info["sequential"]["compiled"]["state"] = state
    write_tensors(tmp_path / "f", tensors, info)
    with pytest.raises(InputError, match="f(:| is damaged)"):
        load_model(tmp_path / "f")


LONG = 9 * 10**4299  # has as many digits as Python reads and prints; four times as much it does not print


@pytest.mark.parametrize("layer", [{"kind": "LSTM", "units": LONG}, {"kind": "Dense", "units": LONG},
                                   {"kind": "Embedding", "input_dim": 2, "output_dim": LONG}])
def test_a_layer_whose_size_is_longer_than_what_python_prints(layer, tmp_path):
    about = {"name": "s", "dtype": "float32", "input_shape": [2, 3], "compiled": None,
             "layers": [{"name": "d", **layer}]}
    write_tensors(tmp_path / "f", {"d.Wx": np.zeros(3, "float32")}, {"sequential": about})
    with pytest.raises(InputError, match="expected a whole number of at least 1 and below 2"):
        load_model(tmp_path / "f")


def test_a_network_whose_output_is_one_number_of_no_axis(tmp_path):
    about = {"name": "s", "dtype": "float32", "input_shape": [], "layers": [
        {"kind": "Activation", "name": "a", "activation": "linear"}],
        "compiled": {"optimizer": ["sgd", {}], "loss": "mse", "metrics": [], "state": {}}}
    write_tensors(tmp_path / "f", {}, {"sequential": about})
    assert load_model(tmp_path / "f").output_shape == ()


def test_weights_that_a_file_has_are_not_drawn_before(tmp_path, monkeypatch):
    """An orthogonal matrix of all units takes the cube of their number, and a file has the square."""
    pytest.importorskip("h5py")
    model = Sequential([LSTM(3, input_shape=(2, 2))])
    model.compile("adam", loss="mse")
    names = ("f", "f.keras", "f.h5")
    for name in names:
        model.save(tmp_path / name)
    vocabulary = WordVocabulary(["a", "b"])
    nmt = NMT(6, 6, 4, 4, init="orthogonal")
    save_model(tmp_path / "m", nmt, vocabulary, vocabulary)
    for module in ("models.initialization", "sequential.recurrent"):
        monkeypatch.setattr(f"scratchnmt.{module}.orthonormal", lambda *_: pytest.fail("drawn"))
    for name in names:
        for loaded, right in zip(load_model(tmp_path / name).get_weights(), model.get_weights(), strict=True):
            assert np.array_equal(loaded, right)
        Sequential([LSTM(3, input_shape=(2, 2))]).load_weights(tmp_path / name)
    assert np.array_equal(load_nmt(tmp_path / "m").model.params.flat, nmt.params.flat)


def test_a_refused_file_leaves_a_network_the_weights_that_it_would_have_drawn():
    """Not zeros, which the file would have filled."""
    new, right = (Sequential([Dense(3, input_shape=(2,))], seed=4) for _ in range(2))
    with pytest.raises(InputError, match="set_weights"):
        new.set_weights([np.ones((2, 3)), np.ones(4)])
    for kept, drawn in zip(new.get_weights(), right.get_weights(), strict=True):
        assert np.array_equal(kept, drawn)


@pytest.mark.parametrize("which", ["shuffler", "dropper"])
def test_a_random_generator_that_would_draw_the_same_for_ever(which, tmp_path):
    """PCG's numbers are all in its course only if its increment is odd; of one that stays, a shuffle never ends."""
    from scratchnmt.files.tensors import read_tensors

    Sequential([Dense(1, input_shape=(2,))]).save(tmp_path / "f")
    tensors, info = read_tensors(tmp_path / "f")
    state = (1 << 64) - 1
    increment = state * (1 - 0x2360ED051FC65DA44385DF649FCCF645) % (1 << 128)
    info["sequential"]["random"][which]["state"] = {"state": state, "inc": increment}
    write_tensors(tmp_path / "f", tensors, info)
    with pytest.raises(InputError, match="f: it is damaged: .*the increment of a random generator is even"):
        load_model(tmp_path / "f")
    info["sequential"]["random"][which]["state"] = {"state": state, "inc": "%200000000d"}  # which % would fill in
    write_tensors(tmp_path / "f", tensors, info)
    tracemalloc.start()
    with pytest.raises(InputError, match="f: it is damaged: .*numbers of a random generator are not whole ones"):
        load_model(tmp_path / "f")
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()
