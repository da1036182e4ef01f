"""Files that are whole, and made to cost far more than their size: what each looks like, and what reads it.

Mutations (mutations.py) spoil files that were right; these were never meant to be.  Each maker draws one of its kind.
"""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from scratchnmt.data.vocab import load_vocabulary
from scratchnmt.errors import InputError
from scratchnmt.files.reading import bytes_with_checksum
from scratchnmt.files.tensors import read_tensors
from scratchnmt.interop import nmt_from_pytorch, read_cs224n_vocabularies, read_state_dict
from scratchnmt.sequential import load_model

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
NAMES = ("model_embeddings.source.weight", "model_embeddings.target.weight", "encoder.weight_hh_l0",
         "decoder.weight_ih", "decoder.weight_hh", "h_projection.weight")  # that tell the sizes of a model


class Kind(NamedTuple):
    """How such a file is made, and read."""

    make: Callable[[random.Random], bytes]
    load: Callable[[Path], Any]


# pickles


def word(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def large(value: int) -> bytes:
    data = pickle.encode_long(value)
    return b"\x8a" + bytes([len(data)]) + data


def sequence(parts: list[bytes]) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def tensor(key: str = "0", size: int = 6, offset: int = 0, shape: tuple[int, ...] = (2, 3),
           strides: tuple[int, ...] = (3, 1)) -> bytes:
    storage = sequence([word("storage"), b"ctorch\nFloatStorage\n", word(key), word("cpu"), number(size)]) + b"Q"
    arguments = [storage, number(offset), *(sequence(list(map(number, part))) for part in (shape, strides)),
                 b"\x89", b"ccollections\nOrderedDict\n)R"]
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + sequence(arguments) + b"R"


def dictionary(items: list[tuple[bytes, bytes]]) -> bytes:
    return b"}(" + b"".join(key + value for key, value in items) + b"u"


def doubled(rng: random.Random) -> bytes:
    """One value of a few bytes that unfolds to 2^60 of them."""
    around = rng.choice([lambda value, get: value + get + b"\x86", lambda value, get: b"](" + value + get + b"e",
                         lambda value, get: b"}(" + word("a") + value + word("b") + get + b"u"])
    value = rng.choice([b")", b"]", b"}"])
    for place in range(rng.choice([60, 200])):
        value = around(value + b"q%c" % place, b"h%c" % place)
    return value


def keys(rng: random.Random) -> list[bytes]:
    """Keys that collide, or whose comparison is long."""
    count = rng.choice([100, 20_000])
    same = "x" * 50_000
    return rng.choice([
        lambda: [large(n * (2**61 - 1)) for n in range(1, count)],
        lambda: [b"G" + struct.pack(">d", 2.0 ** (61 * n)) for n in range(-16, 16)] * (count // 32),
        lambda: [number(n << 14) for n in range(min(count, 1 << 17))],
        lambda: [word(same) + b"q\x00", word(same) + b"q\x01", *[b"h\x00", b"h\x01"] * count],
        lambda: [doubled(rng)],
        lambda: [b"N", b"\x88", b"\x89", b")", b"]", b"}"],
        lambda: [word(f"{'x' * 200}{n}") for n in range(count // 10)],
    ])()


def axes(rng: random.Random) -> bytes:
    count = rng.choice([9, 30_000])
    return tensor(shape=(1,) * count, strides=(rng.choice([0, 1]),) * count)


def without_numbers(rng: random.Random) -> bytes:
    """A tensor of no elements and large axes."""
    count = rng.randrange(4)
    return tensor(shape=(0, *[2**31 - 1] * count), strides=(1,) * (1 + count))


def again_and_again(more: int, calls: int) -> bytes:
    """A tensor whose arguments, of which there are more than are taken, are given many times."""
    arguments = b"(" + word("storage") + b"ctorch\nFloatStorage\n" + word("0") + word("cpu") + b"K\x06tQK\x00))"
    return (b"ctorch._utils\n_rebuild_tensor_v2\nq\x00(" + arguments + b"N" * more + b"tq\x01" + b"h\x00h\x01R" * calls)


def content(rng: random.Random) -> bytes:
    """A state_dict, or what pretends to be one."""
    name = lambda: word(rng.choice(["w", "decoder.weight_hh", "x" * 100_000, "\x1b[2J", "\ud800", "\n", ""]))
    return rng.choice([
        lambda: dictionary([(key, tensor()) for key in keys(rng)]),
        lambda: dictionary([(name(), doubled(rng))]),
        lambda: dictionary([(name(), axes(rng)), (name(), tensor())]),
        lambda: dictionary([(word(f"w{n}"), tensor()) for n in range(rng.choice([3, 10, 500, 3000]))]),
        lambda: dictionary([(word(f"w{n}"), tensor(f"{n}" * rng.choice([1, 500]))) for n in range(300)]),
        lambda: dictionary([(word(f"w{n}"), without_numbers(rng)) for n in range(rng.choice([3, 2000]))]),
        lambda: dictionary([(word(name), without_numbers(rng)) for name in NAMES]),
        lambda: dictionary([(name(), tensor(size=2**31 - 1, shape=(2**31 - 1,), strides=(rng.choice([0, 1]),)))]),
        lambda: dictionary([(word("state_dict"), dictionary([(name(), tensor())])), (word("args"), doubled(rng))]),
        lambda: b"}" * rng.choice([10, 300_000]),
        lambda: b"(" * rng.choice([10, 300_000]),
        lambda: b")" + b"\x85" * rng.choice([10, 300_000]),
        lambda: b"]q\x00" + b"h\x00a" * rng.choice([1, 100_000]),
        lambda: (word("m" * 200_000) + b"q\x00" + word(rng.choice(["Vocab", "m"])) + b"q\x01"
                 + b"h\x00h\x01\x93" * rng.choice([1, 40_000])),
        lambda: again_and_again(rng.choice([3, 50_000]), rng.choice([1, 20_000])),
        lambda: b"".join(rng.choice(_ANY)(rng) for _ in range(rng.choice([10, 3000]))),
    ])()


_ANY = (lambda rng: rng.choice([b")", b"]", b"}", b"N", b"\x88", b"(", b"t", b"\x85", b"\x86", b"a", b"e", b"s", b"u",
                                b"R", b"b", b"Q", b"\x81", b"\x94", b"q\x00", b"h\x00", b"q\x01", b"h\x01"]),
        lambda rng: word("w" * rng.randrange(3)), lambda rng: number(rng.randrange(-3, 9)), lambda rng: tensor(),
        lambda rng: b"ccollections\nOrderedDict\n", lambda rng: b"cvocab\nVocab\n",
        lambda rng: large(rng.randrange(1 << 70)))


def pickled(rng: random.Random) -> bytes:
    return b"\x80\x02" + content(rng) + b"."


# archives


def zipped(parts: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as file:
        for name, data in parts.items():
            file.writestr(name, data)
    return out.getvalue()


def state_dict(rng: random.Random) -> bytes:
    """As torch.save writes it now: an archive."""
    parts = {"a/data.pkl": pickled(rng), "a/data/0": struct.pack("<6f", *range(6))}
    parts |= rng.choice([
        lambda: {}, lambda: {}, lambda: {}, lambda: {},
        lambda: {f"a/data/{n}": b"" for n in range(1000)},
        lambda: {"a/byteorder": b"little" * 100_000},
        lambda: {"x" * 60_000: b""},
        lambda: {f"{n}/data.pkl": b"N." for n in range(300)},
    ])()
    data = zipped(parts, rng.choice([zipfile.ZIP_STORED] * 5 + [zipfile.ZIP_DEFLATED]))
    return data if rng.random() < 0.9 else overlapped(data, rng)


def overlapped(data: bytes, rng: random.Random) -> bytes:
    """The entries of the list at the end told again and again, all of the same bytes."""
    end = data.rindex(b"PK\x05\x06")
    start, count = struct.unpack_from("<I", data, end + 16)[0], rng.choice([2, 50])
    entries = data[start:end] * count
    number_of = struct.unpack_from("<H", data, end + 8)[0] * count & 0xFFFF
    tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, number_of, number_of, len(entries), start, 0)
    return data[:start] + entries + tail


def stream(rng: random.Random) -> bytes:
    """As it wrote it before: pickles one after another."""
    head = b"".join(pickle.dumps(part, 2) for part in (MAGIC, VERSION, {"little_endian": True}))
    keys = rng.choice([["0"], ["0"], ["0"] * 50_000])
    order = pickled(rng) if rng.random() < 0.3 else pickle.dumps(keys, 2)
    data = head + pickled(rng) + order + struct.pack("<q6f", 6, *range(6))
    return data if rng.random() < 0.8 else pickled(rng) + data


def keras(rng: random.Random) -> bytes:
    """A description of layers that is long, wide, deep or of the wrong kind."""
    layer = lambda kind, **config: {"class_name": kind, "config": {"name": config.pop("name", "a"), **config}}
    dense = layer("Dense", units=3, activation="linear")
    deep = dense
    for _ in range(rng.choice([5, 300])):
        deep = layer("TimeDistributed", layer=deep)
    layers = rng.choice([
        lambda: [layer("y" * rng.choice([100, 1_000_000]))],
        lambda: [layer("Dense", name="y" * 1_000_000, units="y" * 1_000_000)],
        lambda: [layer("Dense", units=10**9, activation="linear")] * 3,
        lambda: [layer("Dense", name=f"d{n}", units=3) for n in range(rng.choice([100, 20_000]))],
        lambda: [layer("InputLayer", name="i", batch_shape=[None, rng.choice([10**9, 1e400, -1, "x", None])]), dense],
        lambda: [deep], lambda: [[[]]], lambda: {"a": dense}, lambda: "Dense" * 100_000,
        lambda: [layer("LSTM", units=[10**9], dropout="y" * 1_000_000)],
    ])()
    told = {"class_name": rng.choice(["Sequential"] * 9 + ["y" * 1_000_000]),
            "config": {"name": "s", "layers": layers}, "build_config": {"input_shape": [None, 10**6]}}
    weights = rng.choice([b"", b"\x89HDF\r\n\x1a\n" + bytes(100), bytes(20_000_000) if rng.random() < 0.3 else b""])
    kind = zipfile.ZIP_DEFLATED if len(weights) > 1000 or rng.random() < 0.1 else zipfile.ZIP_STORED
    return zipped({"config.json": json.dumps(told).encode(), "model.weights.h5": weights}, kind)


# JSON


def nested(rng: random.Random) -> str:
    depth = rng.choice([40, 900, 990, 994, 995, 996, 200_000])
    return rng.choice([lambda: "[" * depth + "]" * depth, lambda: '{"a":' * depth + "1" + "}" * depth,
                       lambda: "9" * 100_000, lambda: '"' + "y" * 500_000 + '"', lambda: "[" + "[]," * 100_000 + "[]]",
                       lambda: "1e400", lambda: "-0", lambda: '"\\ud800"'])()


def accents(rng: random.Random) -> str:
    """A word whose composition in Unicode takes time that grows with the square of its length."""
    return rng.choice(["a", ""]) + "\u0300\u0316" * rng.choice([400, 100_000])


def word_list(rng: random.Random) -> bytes:
    words = rng.choice([lambda: [accents(rng)], lambda: ["y" * 1_000_000] * 2, lambda: [f"w{n}" for n in range(50_000)],
                        lambda: ["\ud800", "a b", ""], lambda: [[]] * 100_000])()
    text = json.dumps({"format": "scratchnmt words", "version": 1, "words": words})
    return text.replace("1, ", f"{nested(rng)}, ", 1).encode() if rng.random() < 0.3 else text.encode()


def word_numbers(rng: random.Random) -> bytes:
    """CS224N's vocab.json."""
    ids = {token: n for n, token in enumerate(("<pad>", "<s>", "</s>", "<unk>"))}
    ids |= rng.choice([lambda: {accents(rng): 4}, lambda: {"y" * 500_000: 4, "y" * 500_000 + "\u0301": 5},
                       lambda: {"\u00e9" * 300: 4, "e\u0301" * 300: 5}, lambda: {"\ud800" * 3: 4},
                       lambda: {f"w{n}": n + 4 for n in range(30_000)}, lambda: {"a": 10**4000}])()
    text = json.dumps({"src_word2id": ids, "tgt_word2id": ids})
    return text.replace("0,", f"{nested(rng)},", 1).encode() if rng.random() < 0.3 else text.encode()


def tensors(rng: random.Random) -> bytes:
    """A file of safetensors whose header is large, or tells of what is not there."""
    entry = lambda shape, size: {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}
    header: Any = rng.choice([
        lambda: {"a": entry([1] * 30_000, 4)}, lambda: {"y" * 1_000_000: entry([1], 4)},
        lambda: {f"w{n}": entry([0], 0) for n in range(20_000)},
        lambda: {f"w{n}": entry([1], 4) for n in range(1000)}, lambda: {"a": entry([2**62, 0], 0)},
        lambda: {"__metadata__": {"scratchnmt": nested(rng)}, "a": entry([1], 4)},
        lambda: {"__metadata__": {"scratchnmt": json.dumps({"format": "scratchnmt run", "version": "9" * 5000,
                                                            "sha256": "", "info": {}})}, "a": entry([1], 4)},
    ])()
    data = json.dumps(header).encode()
    size = rng.choice([len(data)] * 9 + [1 << 27, 1 << 40, 2**64 - 1])
    return size.to_bytes(8, "little") + data + bytes(4)


def sealed_corpus(rng: random.Random) -> bytes:
    """The header of an encoded corpus with a right checksum: whoever writes the file can write that, too."""
    told = {"format": "scratchnmt corpus", "version": 1, "pairs": 1, "tokens": 2, "dtype": "<u2", "content": 0,
            "left_out": [0, 0], "made_of": {}}
    told |= rng.choice([{"dtype": "O"}, {"dtype": "V9"}, {"dtype": [["a", "O"]]}, {"pairs": 10**18}, {"pairs": -1},
                        {"tokens": 1e300}, {"tokens": "2"}, {"left_out": [0] * 9}, {"dtype": "y" * 100_000},
                        {"pairs": True, "made_of": [[[]]]}])
    return bytes_with_checksum(told)


def _read_corpus(path: Path) -> Any:
    from scratchnmt.data.corpus import BLOCKS, HEADER, IDS, INDEX, Corpus

    folder = path.with_name("folder")
    folder.mkdir(exist_ok=True)
    for name, size in ((IDS, 8), (INDEX, 24), (BLOCKS, 4)):
        (folder / name).write_bytes(b"\x01" * size)
    (folder / HEADER).write_bytes(path.read_bytes())
    corpus = Corpus.open(folder)
    return [list(map(int, corpus.ids[:4])), len(corpus)]


def _import(path: Path) -> Any:
    return nmt_from_pytorch(read_state_dict(path).tensors)


def _network(path: Path) -> Any:
    return load_model(path).count_params()


KINDS: dict[str, Kind] = {
    "malicious archive of torch.save": Kind(state_dict, _import),
    "malicious stream of torch.save": Kind(stream, _import),
    "malicious archive of Keras": Kind(keras, _network),
    "malicious vocabulary": Kind(word_list, load_vocabulary),
    "malicious vocab.json": Kind(word_numbers, read_cs224n_vocabularies),
    "malicious tensors": Kind(tensors, read_tensors),
    "malicious tensors of others": Kind(tensors, read_state_dict),
    "malicious corpus": Kind(sealed_corpus, _read_corpus),
}


def hdf5(folder: Path) -> dict[str, Path]:
    """Keras' weights in ways in which HDF5 could keep them and Keras does not."""
    import h5py
    import numpy as np

    def write(name: str, make: Callable[[Any], None]) -> Path:
        path = folder / f"{name}.weights.h5"
        with h5py.File(path, "w") as file:
            group = file.create_group("layers/dense/vars")
            make(group)
            group["1"] = np.zeros(3, "f4")
        return path

    secret = folder / "secret"
    secret.write_bytes(np.arange(6, dtype="f4").tobytes())
    with h5py.File(folder / "other.h5", "w") as file:
        file.create_group("vars")["0"] = np.zeros((2, 3), "f4")
    layout = h5py.VirtualLayout((2, 3), "f4")
    layout[:] = h5py.VirtualSource(folder / "other.h5", "vars/0", (2, 3))

    def link(group: Any) -> None:
        layers = group.file["layers"]
        del layers["dense"]
        layers["dense"] = h5py.ExternalLink(folder / "other.h5", "/")

    made = {
        "as Keras": lambda group: group.create_dataset("0", data=np.ones((2, 3), "f4")),
        "packed": lambda group: group.create_dataset("0", (2, 3), "f4", chunks=(2, 3), compression="gzip"),
        "left out": lambda group: group.create_dataset("0", (2, 3), "f4"),
        "endless": lambda group: group.create_dataset("0", (2**20, 2**30), "f4"),
        "elsewhere": lambda group: group.create_dataset("0", (2, 3), "f4", external=[(str(secret), 0, 24)]),
        "virtual": lambda group: group.create_virtual_dataset("0", layout),
        "words": lambda group: group.create_dataset("0", data=[["a", "b", "c"]] * 2, dtype=h5py.string_dtype()),
        "a link": link,
    }
    return {name: write(name, make) for name, make in made.items()}


def outcome(kind: Kind, path: Path) -> str:
    """"" if it was read, else the error."""
    try:
        kind.load(path)
    except InputError as error:
        return str(error)
    return ""
