"""Files that are whole and made to cost more than their size, as tests/stress/fuzz.py draws them, and by name."""

import bz2
import gzip
import json
import lzma
import os
import random
import struct
import sys
import tracemalloc
import zipfile
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("safetensors")
pytest.importorskip("sentencepiece")
if not sys.platform.startswith("linux"):
    pytest.skip("each is read by a process of its own, whose time is limited", allow_module_level=True)

from data.test_formats import xz_that_asks_for_4_gb
from stress import malicious
from stress.malicious import KINDS, dictionary, large, number, tensor, word
from test_stress import fuzz  # the script

from scratchnmt import NMT
from scratchnmt.checkpoint import load_model as load_nmt
from scratchnmt.checkpoint import save_model
from scratchnmt.data.corpus import BLOCK, BLOCKS, HEADER, IDS, INDEX, ROW, Corpus, block_crc, header_bytes
from scratchnmt.data.formats import Column
from scratchnmt.data.text import Text, read_lines, stream_lines
from scratchnmt.data.vocab import WordVocabulary, load_vocabulary, read_vocabulary, split_words
from scratchnmt.errors import InputError
from scratchnmt.files.reading import bytes_with_checksum
from scratchnmt.files.run_folder import RunFolder
from scratchnmt.files.tensors import write_tensors
from scratchnmt.interop import nmt_from_pytorch, read_cs224n_vocabularies, read_state_dict
from scratchnmt.sequential import LSTM, Dense, Sequential, load_model
from scratchnmt.sequential.hdf5 import _told_lengths
from scratchnmt.unknown import read_dictionary


def cost(work):
    """(what became of it, seconds, megabytes) of a process that does it, a second at most."""
    return fuzz.child(partial(fuzz.outcome, work, None, "malicious"))


def bounded(load, *paths, seconds=1.0, megabytes=150):
    """Refused by one sentence, soon, and without much memory."""
    base = fuzz.child(lambda: fuzz.REFUSED)[2]
    for path in paths:
        ended, took, memory = cost(lambda path=path: load(path))
        right = ended == fuzz.NAMES[fuzz.REFUSED] and fuzz.within(seconds, took) and memory - base < megabytes
        assert right, f"{os.path.basename(path)}: {ended} after {took:.1f} s, {memory - base:.0f} MB"


def pickled(folder, *contents):
    """Archives of torch.save."""
    for n, content in enumerate(contents):
        (folder / f"{n}.pt").write_bytes(malicious.zipped({"a/data.pkl": b"\x80\x02" + content + b".",
                                                           "a/data/0": np.arange(6, dtype="<f4").tobytes()}))
    return [folder / f"{n}.pt" for n in range(len(contents))]


DOUBLED = b")" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(60))


@pytest.mark.parametrize("name", KINDS)
def test_whatever_is_drawn_costs_what_its_size_allows(name, tmp_path):
    kind, ended = KINDS[name], set()
    base = fuzz.child(lambda: fuzz.REFUSED)[2]  # a child begins with the memory of this process
    for n in range(12):
        path = tmp_path / "file"
        path.write_bytes(kind.make(random.Random(f"{name} {n}")))
        share = 1 + path.stat().st_size / fuzz.EACH
        for _ in range(3):  # another process may keep the caches of this core busy for a while
            outcome, seconds, memory = cost(partial(kind.load, path))
            if fuzz.within(share, seconds):
                break
        ended.add(outcome)
        assert fuzz.within(share, seconds) and memory - base < 300 * share, (n, outcome, seconds, memory - base)
    assert ended <= {fuzz.NAMES[fuzz.REFUSED], fuzz.NAMES[fuzz.NOT_SEALED]}


def test_containers_through_the_memo_and_keys_that_are_no_words(tmp_path):
    colliding = [large(n * (2**61 - 1)) for n in range(1, 40_000)]
    same = [word("x" * 500_000) + b"q\x00", word("x" * 500_000) + b"q\x01", *[b"h\x00", b"h\x01"] * 100_000]
    names = word("m" * 500_000) + b"q\x00" + word("Vocab") + b"q\x01" + b"h\x00h\x01\x93" * 100_000  # STACK_GLOBAL
    bounded(read_state_dict, *pickled(
        tmp_path, names, b"}" + DOUBLED + tensor() + b"s", dictionary([(key, b"N") for key in colliding]),
        dictionary([(word("a"), DOUBLED)]), b"}" + word("state_dict") + DOUBLED + b"s",
        dictionary([(key, b"N") for key in same]), b"(" + word("storage") + DOUBLED * 4 + b"tQ",
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + DOUBLED * 5 + b"tR", DOUBLED + DOUBLED + b"R",
        dictionary([(b"N", tensor())]), dictionary([(b"\x88", tensor())])))


def colliding(bits):
    """Numbers of at most 32 bits which, as keys of a dict of 2**bits places, are each compared with many others.

    CPython looks for place 5 i + 1 after i, once it has taken account of all bits of the number: a third of all places
    are the first of that course, and the other numbers come to it in its first half.
    """
    places = 1 << bits
    course, turn = [0], np.full(places, places)
    while len(course) < places // 3:
        course.append((5 * course[-1] + 1) % places)
    turn[course] = np.arange(len(course))
    others, start = [], places
    while len(others) < places // 3 - 10:
        numbers = np.arange(start, start := start + (1 << 20))
        place, rest, meets = numbers % places, numbers, turn[numbers % places] < len(course)
        while rest.any():
            rest = rest >> 5
            place = (5 * place + rest + 1) % places
            meets &= turn[place] < len(course)
        others += numbers[meets & (turn[place] < len(course) // 2)].tolist()
    return course + others[: places // 3 - 10]


def test_what_is_beside_the_tensors_can_be_printed(tmp_path):
    args = dictionary([(word("dropout_rate"), b"G" + struct.pack(">d", 0.3)), (word("deep"), DOUBLED)])
    path, = pickled(tmp_path, dictionary([(word("state_dict"), dictionary([(word("w"), tensor())])),
                                          (word("args"), args)]))
    ended, _, _ = cost(lambda: repr(read_state_dict(path)))
    assert ended == fuzz.NAMES[fuzz.NOT_SEALED] and read_state_dict(path).args == {"dropout_rate": 0.3}


def test_small_numbers_that_collide_as_keys_and_in_the_memo(tmp_path):
    numbers = colliding(17)
    bounded(read_state_dict, *pickled(
        tmp_path, dictionary([(b"J" + number.to_bytes(4, "little"), b"N") for number in numbers]),
        b"N" + b"".join(b"r" + number.to_bytes(4, "little") for number in numbers)))


@pytest.mark.parametrize("first", [0, 1])  # Python 2's C code begins with 1
def test_the_memo_is_given_in_order(first, tmp_path):
    content = dictionary([(word(f"w{n}") + b"q%c" % (first + n), tensor()) for n in range(3)])
    (path,) = pickled(tmp_path, content)
    assert list(read_state_dict(path).tensors) == ["w0", "w1", "w2"]


def test_the_course_keys_its_words_by_small_numbers(tmp_path):
    inside = dictionary([(word("id2word"), dictionary([(number(n), word(f"w{n}")) for n in range(1000)]))])
    content = dictionary([(word("vocab"), b"cvocab\nVocab\n)\x81" + inside + b"b"),
                          (word("state_dict"), dictionary([(word("w"), tensor())]))])
    (path,) = pickled(tmp_path, content)
    assert list(read_state_dict(path).tensors) == ["w"]


def test_shapes_of_many_axes_and_one_storage_under_many_names(tmp_path):
    many = (1,) * 50_000
    bounded(read_state_dict, *pickled(
        tmp_path, dictionary([(word("w"), tensor(shape=many, strides=many))]),
        dictionary([(word("w"), tensor(shape=(0, *(2**31 - 1,) * 3), strides=(1,) * 4))]),
        dictionary([(word(f"w{n}"), tensor()) for n in range(500)])))
    tied, = pickled(tmp_path, dictionary([(word(f"w{n}"), tensor()) for n in range(4)]))
    assert len(read_state_dict(tied).tensors) == 4


def test_nothing_is_converted_before_names_and_shapes_are_right(tmp_path, monkeypatch):
    from scratchnmt.interop import cs224n

    monkeypatch.setattr(cs224n, "_wide", lambda array: pytest.fail("converted"))
    with pytest.raises(InputError, match="unknown: w0"):
        nmt_from_pytorch({f"w{n}": np.zeros(10, "float16") for n in range(500)})


def test_shapes_without_numbers_that_say_how_large_the_model_is():
    names = ["model_embeddings.source.weight", "model_embeddings.target.weight", "encoder.weight_hh_l0",
             "decoder.weight_ih", "decoder.weight_hh", "h_projection.weight"]
    with pytest.raises(InputError, match="expected two axes"):
        nmt_from_pytorch({name: np.zeros((0, 2**58), "float32") for name in names})


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


def test_text_that_unpacks_to_far_more_than_its_file(tmp_path):
    for name, pack in ("gzip", gzip.compress), ("xz", lzma.compress), ("bzip2", bz2.compress):
        (tmp_path / name).write_bytes(pack(b"x" * 40_000_000))
        for load in (read_lines, Text, lambda path: list(stream_lines(path))):
            bounded(load, tmp_path / name)
    (tmp_path / "wide").write_bytes(xz_that_asks_for_4_gb(b"x" * 1000))
    bounded(read_lines, tmp_path / "wide")
    deep = "[" * 1_000_000 + "]" * 1_000_000
    (tmp_path / "deep").write_text(f'{{"a": {deep}}}\n' * 3)
    bounded(read_lines, Column(str(tmp_path / "deep"), "a"))
    bounded(Text, tmp_path / "deep")


def test_networks_of_our_own_that_tell_of_more_than_they_hold(tmp_path):
    from scratchnmt.files.tensors import write_tensors

    about = {"name": "s", "dtype": "float32", "input_shape": [10**7], "compiled": None}
    dense = {"kind": "Dense", "name": "d", "units": 10**7}
    for name, changes in (("wide", {"layers": [dense]}), ("none", {"layers": None}), ("endless", {"layers": [[]]}),
                          ("numbers", {"layers": [{**dense, "units": "1"}]}), ("missing", {}),
                          ("many", {"layers": [{**dense, "name": f"d{n}"} for n in range(5000)]}),
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


def test_what_a_file_says_of_itself_does_not_reach_the_terminal_as_it_is(tmp_path):
    from scratchnmt.files.tensors import read_tensors

    header = json.dumps({"a": {"dtype": "\x1b[2J\nx", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "f").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    for read in (read_tensors, load_model, read_state_dict):
        with pytest.raises(InputError) as error:
            read(tmp_path / "f")
        assert str(error.value).isprintable()


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
        with pytest.raises(InputError, match="its attribute layer_names is larger than any that Keras writes"):
            model.load_weights(tmp_path / "f")


@pytest.mark.parametrize("version", ["earliest", "latest"])
def test_how_long_texts_are_is_known_before_they_are_read(version, tmp_path):
    data, _ = long_names(tmp_path / "f", version)
    assert _told_lengths(data, "layer_names") == 900 * 16 + 300_000 + 899
    assert _told_lengths(data, "weight_names") == 2 * 16 + 2


def test_hdf5_whose_layers_share_one_long_list(tmp_path):
    h5py = pytest.importorskip("h5py")
    model = Sequential([Dense(3, input_shape=(2,)), Dense(3)])
    with h5py.File(tmp_path / "f", "w", libver="latest") as file:
        group = file.create_group("model_weights/a")
        group["w"], group["b"] = np.ones((2, 3), "f4"), np.zeros(3, "f4")
        group.parent["b"] = group
        group.parent.attrs["layer_names"] = [b"a", b"b"]
        group.attrs.create("weight_names", [b"w", b"b"], dtype="S1500000")
    with pytest.raises(InputError, match="its attribute weight_names is larger than any that Keras writes"):
        model.load_weights(tmp_path / "f")


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


def test_hdf5_that_begins_later_than_its_strings_are_looked_at(tmp_path):
    h5py = pytest.importorskip("h5py")
    model = Sequential([Dense(3, input_shape=(2,))])
    model.save(tmp_path / "right.keras")
    with zipfile.ZipFile(tmp_path / "right.keras") as right:
        parts = {name: right.read(name) for name in right.namelist()}
    with h5py.File(tmp_path / "later", "w", userblock_size=512) as later:
        later["layers/dense/vars/0"], later["layers/dense/vars/1"] = model.get_weights()
    weights = bytearray((tmp_path / "later").read_bytes())
    weights[8:16] = parts["model.weights.h5"][8:16]  # not what the library reads
    with zipfile.ZipFile(tmp_path / "f.keras", "w") as file:
        for name, content in (parts | {"model.weights.h5": bytes(weights)}).items():
            file.writestr(name, content)
    for load in (load_model, model.load_weights):
        with pytest.raises(InputError, match="its header is none that Keras writes"):
            load(tmp_path / "f.keras")


@pytest.mark.parametrize("at", [40, 48, 64])
def test_hdf5_whose_first_addresses_are_wrong(at, tmp_path):
    """Of which the library raises OverflowError, among others."""
    pytest.importorskip("h5py")
    model = Sequential([Dense(3, input_shape=(2,))])
    data = bytearray(malicious.hdf5(tmp_path)["as Keras"].read_bytes())
    data[at] ^= 255
    with zipfile.ZipFile(tmp_path / "f", "w") as file:
        file.writestr("model.weights.h5", data)
    with pytest.raises(InputError, match="f does not hold the weights of this network, or is damaged"):
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


@pytest.mark.parametrize("write", [
    lambda text: {"format": "scratchnmt words", "version": 1, "words": [text]},
    lambda text: {side: {**{token: n for n, token in enumerate(("<pad>", "<s>", "</s>", "<unk>"))}, text: 4}
                  for side in ("src_word2id", "tgt_word2id")},
])
def test_a_word_of_accents_is_read_in_time(write, tmp_path):
    """Unicode's composition takes the square of a run of them."""
    (tmp_path / "file").write_text(json.dumps(write("a" + "\u0300\u0316" * 500_000)))
    load = load_vocabulary if "words" in write("") else read_cs224n_vocabularies
    for _ in range(3):  # another process may keep the caches of this core busy for a while
        ended, seconds, _ = cost(lambda: load(tmp_path / "file"))
        if fuzz.within(1, seconds):
            break
    assert ended == fuzz.NAMES[fuzz.NOT_SEALED] and fuzz.within(1, seconds)


def test_a_line_of_accents_is_encoded_in_time():
    ended, seconds, _ = cost(lambda: WordVocabulary(["a"]).encode("a " + "\u0300\u0316" * 500_000))
    assert ended == fuzz.NAMES[fuzz.NOT_SEALED] and fuzz.within(1, seconds)


def test_long_lines_are_split_into_the_words_of_short_ones():
    rng = np.random.default_rng(0)
    letters = ["a", "e", "\u0301", "\u0316", "\u00e9", " ", "\t", "\u2000", "\u2028", "\u1f71", "\ufb33", "\u0958"]
    words = ["".join(rng.choice(letters, 8)) for _ in range(400)]
    long = " ".join(words)
    assert len(long) > 1000 and split_words(long) == [one for word in words for one in split_words(word)]
    lengths = [len(split_words(long[:n])) for n in range(900, 1100)]
    assert all(after - before in (0, 1) for before, after in pairwise(lengths))
    again = WordVocabulary(dict.fromkeys(split_words(long + " " + "e\u0301" * 800)))
    assert "<unk>" not in again.tokens(long)


def test_a_message_has_a_bounded_length_and_keeps_its_remedy():
    message = str(InputError("f is " + "y" * 100_000 + ": save it again"))
    assert len(message) <= 2000 and message.startswith("f is yy") and message.endswith("yy: save it again")
    assert str(InputError("short")) == "short"


# numbers


LONG = 9 * 10**4299  # has as many digits as Python reads and prints; four times as much it does not print


def model_folder(path, **changes):
    """A model that is saved, and then said to be of another config."""
    vocabulary = WordVocabulary(["a", "b"])
    save_model(path, NMT(6, 6, 4, 4), vocabulary, vocabulary)
    config = json.loads((path / "config.json").read_bytes())
    config["model"] |= changes
    (path / "config.json").write_bytes(bytes_with_checksum(config))
    return RunFolder(path)


@pytest.mark.parametrize("name", ["embed_size", "hidden_size", "src_vocab_size", "max_source", "heads", "r_drop"])
def test_a_model_whose_size_is_longer_than_what_python_prints(name, tmp_path):
    folder = model_folder(tmp_path / "m", **{name: LONG}, dropout=0.1)
    for read in (lambda: folder.check_room("model.safetensors", folder.read()), lambda: load_nmt(tmp_path / "m")):
        with pytest.raises(InputError, match=f"config.json is damaged: {name} is 9000"):
            read()


@pytest.mark.parametrize("name", ["pairs", "tokens", "content"])
def test_a_corpus_whose_size_is_longer_than_what_python_prints(name, tmp_path):
    told = {"format": "scratchnmt corpus", "version": 1, "pairs": 1, "tokens": 2, "dtype": "<u2", "content": 0,
            "left_out": [0, 0], "made_of": {}, name: LONG}
    (tmp_path / "header").write_bytes(bytes_with_checksum(told))
    with pytest.raises(InputError, match="its sizes are none"):
        malicious._read_corpus(tmp_path / "header")


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


@pytest.mark.parametrize("name", ["epoch", "seconds", "valid_bleu"])
def test_metrics_that_are_larger_than_can_be_drawn(name, tmp_path):
    pytest.importorskip("matplotlib")
    right = {"epoch": 1, "seconds": 1, "train_loss": 1, "valid_ppl": 2, "valid_bleu": 3}
    for value in (1.7e308, -1.7e308, 2.0**63):
        (tmp_path / "metrics").write_text(f"{json.dumps(right)}\n{json.dumps(right | {name: value})}\n")
        with pytest.raises(InputError, match=f"line 2, is not the record of a validation: its {name} is"):
            learning_curves(tmp_path / "metrics")


# more than the square of a file's size, or a power of it


@pytest.mark.parametrize("read", [read_vocabulary, read_dictionary])
def test_a_packed_list_of_one_word_again_and_again(read, tmp_path):
    pack = gzip.compress if read is read_vocabulary else bz2.compress  # of which it is known how they begin
    (tmp_path / "f").write_bytes(pack(b"a\tb\n" * 1_200_000))
    base = fuzz.child(lambda: fuzz.REFUSED)[2]
    ended, _, memory = cost(lambda: read(tmp_path / "f"))
    assert ended in (fuzz.NAMES[fuzz.REFUSED], fuzz.NAMES[fuzz.NOT_SEALED]) and memory - base < 50
    if read is read_vocabulary:  # which is no longer than words are
        with pytest.raises(InputError, match="f has more than 1,048,576 characters"):
            read(tmp_path / "f")


def overlapping_corpus(folder, blocks, change):
    """An encoded corpus of right checksums, and as many tokens as pairs."""
    rows, ids = np.zeros(blocks * BLOCK, ROW), np.ones(24 * blocks * BLOCK, "<u2")
    change(rows, len(ids))
    crcs = [block_crc(rows[start : start + BLOCK], ids[int(rows["start"][start]) : int(rows["start"][last])
                                                       + int(rows["src"][last]) + int(rows["tgt"][last])])
            for start, last in ((n * BLOCK, n * BLOCK + BLOCK - 1) for n in range(blocks))]
    folder.mkdir()
    for name, array in ((IDS, ids), (INDEX, rows), (BLOCKS, np.array(crcs, "<u4"))):
        array.tofile(folder / name)
    (folder / HEADER).write_bytes(header_bytes({
        "pairs": len(rows), "tokens": len(ids), "dtype": "<u2", "content": 0, "left_out": [0, 0], "made_of": {}}))
    return Corpus.open(folder)


def whole(rows, tokens):
    rows["start"], rows["src"], rows["tgt"] = np.arange(len(rows)) * 24, 20, 4


def all_the_same(rows, tokens):
    rows["src"] = tokens - 1
    rows["tgt"] = 1


def behind_the_end(rows, tokens):
    whole(rows, tokens)
    rows["src"][-1] = 2**32 - 1


def far_away(rows, tokens):
    rows["start"], rows["src"], rows["tgt"] = 2**63 + 5, 2**32 - 1, 1


def one_is_empty(rows, tokens):
    whole(rows, tokens)
    rows["src"][7], rows["tgt"][7] = 0, 24


def test_a_corpus_whose_pairs_follow_one_another_is_whole(tmp_path):
    overlapping_corpus(tmp_path / "c", 3, whole).check(range(3))


@pytest.mark.parametrize("change", [all_the_same, behind_the_end, far_away, one_is_empty])
def test_a_corpus_whose_pairs_share_their_tokens_or_have_none(change, tmp_path):
    corpus = overlapping_corpus(tmp_path / "c", 3, change)
    with pytest.raises(InputError, match="do not follow one another"):
        corpus.check(range(3))


@pytest.mark.parametrize("sizes", [(1, 2), (2, 1)])
def test_a_corpus_with_ids_that_the_vocabulary_does_not_have(sizes, tmp_path):
    """Its checksums are right: whoever made it has made them, too.  All ids are 1."""
    overlapping_corpus(tmp_path / "c", 3, whole)
    Corpus.open(tmp_path / "c", None, (2, 2)).check(range(3))
    with pytest.raises(InputError, match="pairs 0 to 1,023 have ids that the vocabulary does not have"):
        Corpus.open(tmp_path / "c", None, sizes).check(range(3))


def test_hdf5_whose_list_of_moments_goes_on_in_thousands_of_attributes(tmp_path):
    """The library looks through all attributes for each: the square of their number."""
    h5py = pytest.importorskip("h5py")
    model = Sequential([Dense(3, input_shape=(2,))])
    model.compile("adam", loss="mse")
    model.fit(np.ones((4, 2)), np.ones((4, 3)), epochs=1, verbose=0)
    model.save(tmp_path / "f.h5")
    with h5py.File(tmp_path / "f.h5", "r+") as file:
        group = file["optimizer_weights"]
        del group.attrs["weight_names"]
        for n in range(2000):
            group.attrs.create(f"weight_names{n}", np.array([b"x"]))
    with pytest.raises(InputError, match="its weight_names are in more parts than Keras makes of them"):
        load_model(tmp_path / "f.h5")


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


def test_a_packed_dictionary_of_many_long_words(tmp_path):
    words = "".join(f"{'x' * 1000}{n}\tb\n" for n in range(2000))
    (tmp_path / "f").write_bytes(lzma.compress(words.encode()))
    with pytest.raises(InputError, match="f has more than 1,048,576 characters"):
        read_dictionary(tmp_path / "f")


def test_packed_text_that_is_wanted_whole(tmp_path):
    (tmp_path / "f").write_bytes(bz2.compress((b"a" * 99 + b"\n") * 200_000))
    bounded(read_lines, tmp_path / "f")
    with pytest.raises(InputError, match="f has more than 16,777,216 characters"):
        read_lines(tmp_path / "f")
    lines = [f"{n} the same words in each line" for n in range(3000)]
    (tmp_path / "f").write_bytes(gzip.compress("\n".join(lines).encode()))
    assert read_lines(tmp_path / "f") == lines


def test_hdf5_whose_names_go_round_in_a_group(tmp_path):
    """Each step takes the library as long as reading a kilobyte."""
    h5py = pytest.importorskip("h5py")
    model = Sequential([Dense(1, use_bias=False, input_shape=(1,), name=f"d{n}") if n == 0 else
                        Dense(1, use_bias=False, name=f"d{n}") for n in range(99)])
    with h5py.File(tmp_path / "f", "w") as file:
        group = file.create_group("model_weights/l")
        group["w"], group["i"] = np.ones((1, 1), "f4"), group
        group.parent.attrs["layer_names"] = np.array([b"l"])
        group.attrs["weight_names"] = np.array([b"i/" * 49 + b"w"] * 99)
    with pytest.raises(InputError, match="f: it is damaged: its weight_names are ways through more groups than it"):
        model.load_weights(tmp_path / "f")


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
    with pytest.raises(InputError, match="f is damaged: .*the increment of a random generator is even"):
        load_model(tmp_path / "f")
    info["sequential"]["random"][which]["state"] = {"state": state, "inc": "%200000000d"}  # which % would fill in
    write_tensors(tmp_path / "f", tensors, info)
    tracemalloc.start()
    with pytest.raises(InputError, match="f is damaged: .*numbers of a random generator are not whole ones"):
        load_model(tmp_path / "f")
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()


def test_a_tensor_file_whose_json_is_nested_deeper_than_any(tmp_path, monkeypatch):
    """Else who goes on with the state of a run, and saves it, fails."""
    from scratchnmt.files import tensors

    deep = []
    for _ in range(60):
        deep = [deep]
    with monkeypatch.context() as unread:
        unread.setattr(tensors, "_read_back", lambda path: None)
        write_tensors(tmp_path / "f", {}, {"deep": deep})
    with pytest.raises(InputError, match="f was not written by scratchnmt, or is damaged"):
        tensors.read_tensors(tmp_path / "f")


@pytest.mark.parametrize("changes", [
    {"layers": [{"kind": "Dense", "name": "a\nb", "units": 3}] * 2},
    {"layers": [{"kind": "Dense", "name": "a.\nb", "units": 3}]},
    {"layers": [{"kind": "Dense", "name": "a\nb", "units": 3, "use_bias": False}]},
    {"name": "a\nb", "trainable": 5, "layers": []},
], ids=["twice", "a dot", "of integers", "network"])
def test_names_with_line_feeds_do_not_make_lines_of_an_error(changes, tmp_path):
    about = {"name": "s", "dtype": "float32", "input_shape": [2], "compiled": None}
    write_tensors(tmp_path / "f", {"a\nb.W": np.ones((2, 3), int)}, {"sequential": about | changes})
    with pytest.raises(InputError) as error:
        load_model(tmp_path / "f")
    assert str(error.value).isprintable() and str(tmp_path / "f") in str(error.value)


def test_pieces_with_line_feeds_do_not_make_lines_of_an_error(tmp_path):
    from scratchnmt.data.vocab import SentencePieceVocabulary

    model = SentencePieceVocabulary.train(["a dog runs", "le chien"] * 5, size=40).to_bytes()
    (tmp_path / "f").write_bytes(model.replace(b"<pad>", b"<\np >"))
    with pytest.raises(InputError) as error:
        load_vocabulary(tmp_path / "f")
    assert str(error.value).isprintable()


# nothing waits for a pipe that nobody writes


@pytest.mark.parametrize("load", [
    read_state_dict, read_cs224n_vocabularies, load_vocabulary, load_model,
    lambda path: Sequential([Dense(3, input_shape=(2,))]).load_weights(path),
    lambda path: malicious.read_tensors(path), lambda path: learning_curves(path),
], ids=["state_dict", "vocab.json", "vocabulary", "network", "weights of a network", "tensors", "metrics"])
def test_a_pipe_in_the_place_of_a_file_is_refused(load, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    ended, _, _ = cost(lambda: load(tmp_path / "pipe"))
    assert ended == fuzz.NAMES[fuzz.REFUSED]
    with pytest.raises(InputError, match="pipe is not a regular file"):
        load(tmp_path / "pipe")


def learning_curves(path):
    from scratchnmt.plots import learning_curves

    learning_curves(path, path.with_name("curves.png"))
