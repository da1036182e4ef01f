"""HDF5 that is whole and made to cost more than its size, or to lead elsewhere."""

import struct
import zipfile

import numpy as np
import pytest

pytest.importorskip("safetensors")
pytest.importorskip("sentencepiece")
from hostile_files.bounds import READ, bounded
from stress import malicious

from scratchnmt.errors import InputError
from scratchnmt.sequential import Dense, Sequential, load_model


def test_hdf5_in_which_the_numbers_are_packed_left_out_or_elsewhere(tmp_path):
    pytest.importorskip("h5py")
    paths = malicious.hdf5(tmp_path)
    model = Sequential([Dense(3, input_shape=(2,))])
    right = paths.pop("as Keras")
    model.load_weights(right)
    assert np.array_equal(model.get_weights()[0], np.ones((2, 3)))
    for path in paths.values():
        bounded(model.load_weights, path)


def test_hdf5_that_names_the_same_again_and_again(tmp_path):
    h5py = pytest.importorskip("h5py")
    model = Sequential([Dense(3, input_shape=(2,))])

    def write(name, layers, weights):
        with h5py.File(tmp_path / name, "w") as file:
            group = file.create_group("model_weights/l")
            group["w"], group["b"], group["itself"] = *model.get_weights(), group
            file["model_weights"].attrs["layer_names"] = layers
            group.attrs["weight_names"] = weights
        return tmp_path / name

    many = np.array([b"l"] * 800)
    for path in (write("many", many, np.array([b"w"] * 800)), write("empty", np.array([b"l"] * 50_000), np.zeros(0)),
                 write("round", np.array([b"l"] * 8), np.array([b"itself/" * 8000 + b"w"]))):
        bounded(model.load_weights, path)


def long_names(path, version="earliest"):
    """(the file, where it refers to the first) of Keras' weights with 900 names, of which the first is long."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w", libver=version) as file:
        group = file.create_group("model_weights/l")
        group["w"], group["b"] = np.ones((2, 3), "f4"), np.zeros(3, "f4")
        file["model_weights"].attrs["layer_names"] = ["l" * 300_000, *"b" * 899]
        group.attrs["weight_names"] = [b"w", b"b"]
    data = path.read_bytes()
    return data, data.index((300_000).to_bytes(4, "little"))


def test_hdf5_whose_names_are_one_long_text_or_are_said_to_be_long(tmp_path):
    model = Sequential([Dense(3, input_shape=(2,))])
    data, start = long_names(tmp_path / "f")
    for spoilt in (data[:start] + data[start : start + 16] * 900 + data[start + 16 * 900 :],
                   data[:start] + b"\xf0\xff\xff\xff" + data[start + 4 :]):
        (tmp_path / "f").write_bytes(spoilt)
        bounded(model.load_weights, tmp_path / "f")


def test_hdf5_whose_layers_share_one_long_list(tmp_path):
    """It is read once."""
    h5py = pytest.importorskip("h5py")
    model = Sequential([Dense(2, input_shape=(2,)), *(Dense(2) for _ in range(99))])
    with h5py.File(tmp_path / "f", "w", libver="latest") as file:
        group = file.create_group("model_weights/0")
        group["w"], group["b"] = np.ones((2, 2), "f4"), np.zeros(2, "f4")
        for n in range(1, 100):
            group.parent[f"{n}"] = group
        group.parent.attrs["layer_names"] = [f"{n}".encode() for n in range(100)]
        group.attrs.create("weight_names", [b"w", b"b"], dtype="S1500000")
    bounded(model.load_weights, tmp_path / "f", ends=READ)
    model.load_weights(tmp_path / "f")
    assert all((weights == 1).all() for weights in model.get_weights()[::2])


def test_hdf5_whose_group_has_thousands_of_attributes(tmp_path):
    """The library looks through them for each."""
    h5py = pytest.importorskip("h5py")
    model = Sequential([Dense(3, input_shape=(2,))])
    with h5py.File(tmp_path / "f", "w") as file:
        group = file.create_group("model_weights/d")
        for n in range(4000):
            group.attrs[f"{n:x}"] = np.int8(0)
        group.attrs["weight_names"] = np.zeros(0, "S1")
        group.parent.attrs["layer_names"] = np.array([b"d"] * 999)
    bounded(model.load_weights, tmp_path / "f")


def patched(path, change):
    """Change the symbols of the groups in a file: change(data, place of one, place of its name, place of its group)."""
    data = bytearray(path.read_bytes())
    at = data.find(b"SNOD\1\0")
    while at >= 0:
        for symbol in range(at + 8, at + 8 + 40 * int.from_bytes(data[at + 6 : at + 8], "little"), 40):
            change(data, symbol, *struct.unpack_from("<QQ", data, symbol))
        at = data.find(b"SNOD\1\0", at + 8)
    path.write_bytes(data)


def test_hdf5_whose_links_have_one_long_name(tmp_path):
    h5py = pytest.importorskip("h5py")
    model, path, names = Sequential([Dense(3, input_shape=(2,))]), tmp_path / "f.weights.h5", []
    model.save_weights(path)
    with h5py.File(path, "r+") as file:
        layers = file["layers"]
        group = layers.create_group("other")
        place = layers.id.links.get_info(b"other").u
        for n in range(4000):
            layers[f"z{n:x}"] = group
        layers["z" * 160_000] = group  # the last name that the file has got
    patched(path, lambda data, symbol, name, header: header == place and names.append(name))
    patched(path, lambda data, symbol, name, header: header == place and struct.pack_into("<Q", data, symbol,
                                                                                          max(names)))
    bounded(model.load_weights, path)


def test_hdf5_whose_groups_have_one_list_of_links(tmp_path):
    h5py = pytest.importorskip("h5py")
    model, path = Sequential([Dense(3, input_shape=(2,))]), tmp_path / "f.weights.h5"
    model.save_weights(path)
    with h5py.File(path, "r+") as file:
        layers = file["layers"]
        group = layers.create_group("0")
        for n in range(2000):
            group.create_group(f"{n}")
        places = {group.id.links.get_info(f"{n}".encode()).u for n in range(2000)}
        own = layers.id.links.get_info(b"0").u
    data = path.read_bytes()
    start = data.index(b"\x11\0\x10\0", own) + 8  # of the message that tells where a group's list is
    found = data[start : start + 16]
    for place in places:  # a header of one message, which stands where the first one's does
        data = data[: place + start - own] + found + data[place + start - own + 16 :]
    path.write_bytes(data)

    def share(data, symbol, name, header):  # the symbol has a copy
        if header in places:
            data[symbol + 24 : symbol + 40] = found

    patched(path, share)
    bounded(model.load_weights, path, seconds=5)


def test_hdf5_whose_layers_share_one_long_name(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "f.h5"
    Sequential([Dense(1, use_bias=False, input_shape=(1,), name="0"),
                *(Dense(1, use_bias=False, name=f"{n}") for n in range(1, 400))]).save(path)
    with h5py.File(path, "r+") as file:
        names = list(file["model_weights"])
        group = file["model_weights/0"]
        group["w" * 2_000_000] = np.ones((1, 1), "f4")
        group.attrs["weight_names"] = ["w" * 2_000_000]
        for name in names:
            if name not in ("0", "top_level_model_weights"):
                del group.parent[name]
                group.parent[name] = group
    bounded(load_model, path, ends=READ)


def test_hdf5_whose_strings_lie_in_one_another(tmp_path):
    """The library reads a heap of them as a whole."""
    data, _ = long_names(tmp_path / "f")
    heap, inside = data.index(b"GCOL\1"), data.index(b"l" * 64)
    model = Sequential([Dense(3, input_shape=(2,))])
    (tmp_path / "f").write_bytes(data[:inside] + data[heap : heap + 16] + data[inside + 16 :])
    bounded(model.load_weights, tmp_path / "f")


def test_hdf5_whose_arrays_share_a_list_of_words(tmp_path):
    """Whole numbers to which a type gives names: the library has a copy of it for each array."""
    h5py = pytest.importorskip("h5py")
    model = Sequential([Dense(3, input_shape=(2,))])
    model.save_weights(tmp_path / "f.weights.h5")
    with h5py.File(tmp_path / "f.weights.h5", "r+") as file:
        file["words"] = h5py.enum_dtype({f"{n:x}": n for n in range(6000)}, basetype="<i2")
        del file["layers/dense/vars/1"]
        file["layers/dense/vars"].create_dataset("1", data=np.zeros(3, "<i2"), dtype=file["words"])
    with pytest.raises(InputError, match="vars/1' is not numbers that lie in the file, unpacked, as Keras saves them"):
        model.load_weights(tmp_path / "f.weights.h5")


def test_hdf5_whose_numbers_lie_in_other_files(tmp_path):
    h5py = pytest.importorskip("h5py")
    model = Sequential([Dense(3, input_shape=(2,))])
    with h5py.File(tmp_path / "f.weights.h5", "w") as file:
        files = [(f"{n}" + "x" * 1000, 0, 4) for n in range(3)]
        file.create_dataset("layers/dense/vars/1", (3,), "f4", external=files)
        file["layers/dense/vars/0"] = np.ones((2, 3), "f4")
    with pytest.raises(InputError, match="vars/1' is not numbers that lie in the file, unpacked, as Keras saves them"):
        model.load_weights(tmp_path / "f.weights.h5")


def test_hdf5_whose_group_has_thousands_of_names(tmp_path):
    h5py = pytest.importorskip("h5py")
    model = Sequential([Dense(3, input_shape=(2,))])
    model.save_weights(tmp_path / "f.weights.h5")
    with h5py.File(tmp_path / "f.weights.h5", "r+") as file:
        group = file["layers"].create_group("other")
        for n in range(30_000):
            group.parent[f"{n:x}"] = group
    bounded(model.load_weights, tmp_path / "f.weights.h5", ends=READ)


def test_hdf5_whose_lists_of_names_go_on_in_many_attributes(tmp_path):
    h5py = pytest.importorskip("h5py")
    model = Sequential([Dense(3, input_shape=(2,))])

    def write(name, layers, weights, filled=b"x"):
        with h5py.File(tmp_path / name, "w") as file:
            group = file.create_group("model_weights/l")
            group["w"], group["b"] = model.get_weights()
            group.parent.attrs.update(layers)
            group.attrs.update(weights)
            file["filled"] = np.frombuffer(filled, "u1")
        return tmp_path / name

    none, one = np.zeros(0, "S1"), np.array([b"l"])
    empty = write("empty", {"layer_names": np.array([b"l"] * 1000)}, {f"weight_names{n}": none for n in range(200)})
    numbered = write("numbered", {f"layer_names{n}": one for n in range(1000)}, {"weight_names": np.array([b"w"])},
                     b"layer_names" * 400_000)
    bounded(model.load_weights, empty, numbered)


@pytest.mark.parametrize("at", [40, 64])
def test_hdf5_whose_first_addresses_are_wrong(at, tmp_path):
    """Of which the library raises OverflowError, among others."""
    pytest.importorskip("h5py")
    model = Sequential([Dense(3, input_shape=(2,))])
    data = bytearray(malicious.hdf5(tmp_path)["as Keras"].read_bytes())
    data[at] ^= 255
    with zipfile.ZipFile(tmp_path / "f", "w") as file:
        file.writestr("model.weights.h5", data)
    with pytest.raises(InputError, match="f: it does not hold the weights of this network, or is damaged"):
        model.load_weights(tmp_path / "f")


def test_hdf5_that_tells_of_what_is_behind_its_end(tmp_path):
    """There are zeros; whatever lay in the memory of the library made it say now this, now that."""
    pytest.importorskip("h5py")
    model = Sequential([Dense(3, input_shape=(2,))])
    data = bytearray(malicious.hdf5(tmp_path)["as Keras"].read_bytes())
    data[55] = 0  # of the address of a block of which there is none
    (tmp_path / "f").write_bytes(data)
    model.load_weights(tmp_path / "f")
    assert np.array_equal(model.get_weights()[0], np.ones((2, 3)))


@pytest.mark.parametrize("version", ["earliest", "latest"])  # in the header, or beside it
def test_hdf5_whose_list_of_moments_goes_on_in_thousands_of_attributes(version, tmp_path):
    """The library looks through all attributes for each: the square of their number."""
    h5py = pytest.importorskip("h5py")
    model = Sequential([Dense(3, input_shape=(2,))])
    model.compile("adam", loss="mse")
    model.fit(np.ones((4, 2)), np.ones((4, 3)), epochs=1, verbose=0)
    model.save(tmp_path / "f.h5")
    with h5py.File(tmp_path / "f.h5", "r+", libver=version) as file:
        del file["optimizer_weights"]
        group = file.create_group("optimizer_weights")
        for n in range(2000):
            group.attrs.create(f"weight_names{n}", np.array([b"x"]))
    bounded(load_model, tmp_path / "f.h5")


def test_hdf5_whose_names_go_round_in_a_group(tmp_path):
    h5py = pytest.importorskip("h5py")
    model = Sequential([Dense(1, use_bias=False, input_shape=(1,), name=f"d{n}") if n == 0 else
                        Dense(1, use_bias=False, name=f"d{n}") for n in range(99)])
    with h5py.File(tmp_path / "f", "w") as file:
        group = file.create_group("model_weights/l")
        group["w"], group["i"] = np.ones((1, 1), "f4"), group
        group.parent.attrs["layer_names"] = np.array([b"l"] * 99)
        group.attrs["weight_names"] = np.array([b"i/" * 49 + b"w"])
    bounded(model.load_weights, tmp_path / "f", ends=READ)
    model.load_weights(tmp_path / "f")
    assert all((weights == 1).all() for weights in model.get_weights())


def test_hdf5_in_which_a_name_is_a_way_into_another_file(tmp_path):
    """The library would take the one name ext/model_weights/l/w for a way, through the link ext, and follow it."""
    h5py = pytest.importorskip("h5py")
    model = Sequential([Dense(3, input_shape=(2,))])
    way = "ext/model_weights/l/w"

    def write(path, value):
        with h5py.File(path, "w", libver="earliest") as file:
            group = file.create_group("model_weights/l")
            group["w"], group["b"] = np.full((2, 3), value, "f4"), np.zeros(3, "f4")
            group.parent.attrs["layer_names"], group.attrs["weight_names"] = [b"l"], [b"w", b"b"]
            if path.name == "f":
                other = file.create_group("a")
                other["ext"] = h5py.ExternalLink(tmp_path / "other", "/")
                other[way.replace("/", "_")] = np.zeros(3, "f4")

    write(tmp_path / "other", 42)
    write(tmp_path / "f", 7)
    data = (tmp_path / "f").read_bytes()
    (tmp_path / "f").write_bytes(data.replace(way.replace("/", "_").encode(), way.encode()))
    with pytest.raises(InputError, match=f"f: it is damaged: '{way}' is no name of what a group holds"):
        model.load_weights(tmp_path / "f")
    (tmp_path / "f").write_bytes(data)
    model.load_weights(tmp_path / "f")
    assert (model.get_weights()[0] == 7).all()


@pytest.mark.parametrize("letter", ["a", "\U0001f600"])
def test_hdf5_whose_texts_are_one_of_letters_beyond_ascii(letter, tmp_path):
    """In JSON of ASCII each would take twelve bytes."""
    h5py = pytest.importorskip("h5py")
    model = Sequential([Dense(3, input_shape=(2,))])
    text, length = letter * 58, len((letter * 58).encode()).to_bytes(4, "little")
    with h5py.File(tmp_path / "f", "w", libver="earliest") as file:
        file.attrs["e"] = text
        kind = h5py.h5t.py_create(h5py.string_dtype(), logical=True)
        for n in range(8):
            h5py.h5a.create(file.create_group(f"g{n}").id, b"a", kind, h5py.h5s.create_simple((4000,)))
    data = bytearray((tmp_path / "f").read_bytes())
    at = next(at for at in range(len(data)) if data[at : at + 4] == length and data[at + 12 : at + 16] == b"\1\0\0\0")
    reference, at = bytes(data[at : at + 16]), 0
    for _ in range(8):
        at = data.index((4000).to_bytes(8, "little") + bytes(63_992), at) + 8
        data[at : at + 64_000] = reference * 4000
    (tmp_path / "f").write_bytes(data)
    bounded(model.load_weights, tmp_path / "f", megabytes=60)
