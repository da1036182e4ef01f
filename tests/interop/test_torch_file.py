"""Files of torch.save, read without running them: the same tensors, and what could run or is damaged is refused."""

import argparse
import copyreg
import io
import pickle
import struct
import zipfile
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scratchnmt.errors import InputError
from scratchnmt.interop import read_state_dict

MAGIC = 0x1950A86A20F9469CFC6C


def text(words):
    return b"X" + struct.pack("<I", len(words)) + words.encode()


def number(value):
    return b"J" + struct.pack("<i", value) if abs(value) < 1 << 31 else b"\x8a\x08" + struct.pack("<q", value)


def tensor(key="0", size=6, offset=0, shape=(2, 3), strides=(3, 1), kind=b"FloatStorage", view=b""):
    """The opcodes of torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, False, OrderedDict())."""
    sizes = lambda values: b"(" + b"".join(map(number, values)) + b"t"
    storage = b"(" + text("storage") + b"ctorch\n" + kind + b"\n" + text(key) + text("cpu") + number(size) + view
    storage += b"tQ"
    return (b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + sizes(shape) + sizes(strides)
            + b"\x89ccollections\nOrderedDict\n)RtR")


def state(tensors=None):
    """The pickle of a state_dict."""
    items = {"w": tensor()} if tensors is None else tensors
    return b"\x80\x02}(" + b"".join(text(name) + opcodes for name, opcodes in items.items()) + b"u."


SIX = np.arange(6, dtype="<f4").tobytes()
STORAGES = MappingProxyType({"0": SIX})


def archive(path, pickled, storages=STORAGES, **entries):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("any/data.pkl", pickled)
        for key, data in storages.items():
            file.writestr(f"any/data/{key}", data)
        for name, data in entries.items():
            file.writestr(f"any/{name}", data)
    return path


def stream(path, pickled, storages=STORAGES, magic=MAGIC, version=1001, system=None, keys=None):
    system = {"little_endian": True} if system is None else system
    parts = [pickle.dumps(part, 2) for part in (magic, version, system)]
    parts += [pickled, pickle.dumps(list(storages) if keys is None else keys, 2)]
    path.write_bytes(b"".join(parts) + b"".join(struct.pack("<q", len(data) // 4) + data for data in storages.values()))
    return path


CONTAINERS = pytest.mark.parametrize("container", [archive, stream])


def refused(path, *parts):
    with pytest.raises(InputError) as error:
        read_state_dict(path)
    message = str(error.value)
    assert message.startswith(str(path)) and "\n" not in message
    for part in parts:
        assert part in message
    return message


# what is read


def test_both_formats_by_hand(tmp_path):
    pickled = state({"w": tensor(), "turned": tensor(shape=(3, 2), strides=(1, 3)),
                     "part": tensor(offset=4, shape=(2,), strides=(1,))})
    for path in (archive(tmp_path / "a.pt", pickled), stream(tmp_path / "b.pt", pickled)):
        tensors, args = read_state_dict(path)
        assert args == {} and list(tensors) == ["w", "turned", "part"]
        assert np.array_equal(tensors["w"], [[0, 1, 2], [3, 4, 5]]) and tensors["w"].dtype == np.float32
        assert np.array_equal(tensors["turned"], tensors["w"].T) and np.array_equal(tensors["part"], [4, 5])


def test_the_other_byte_order(tmp_path):
    swapped = {"0": np.arange(6, dtype=">f4").tobytes()}
    tensors, _ = read_state_dict(archive(tmp_path / "a.pt", state(), swapped, byteorder="big"))
    assert np.array_equal(tensors["w"].ravel(), np.arange(6)) and tensors["w"].dtype.isnative


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_torch_saves_is_read(tmp_path, zipped, protocol):
    torch = pytest.importorskip("torch")
    base = torch.randn(5, 4)
    tied = torch.randn(3, 3)
    saved = {"a": base, "turned": base.T, "slice": base[1:4, ::2], "double": torch.randn(3, dtype=torch.float64),
             "half": torch.randn(2, 2).half(), "none": torch.zeros(0, 3), "scalar": torch.tensor(2.5),
             "tied": tied, "again": tied, "one": tied[1, 1]}
    torch.save(saved, tmp_path / "f.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    tensors, args = read_state_dict(tmp_path / "f.pt")
    assert list(tensors) == list(saved) and args == {}
    for name, array in tensors.items():
        assert array.dtype == saved[name].numpy().dtype and np.array_equal(array, saved[name].numpy()), name


class Vocab:
    pass


class VocabEntry(Vocab):
    pass


@pytest.mark.parametrize("zipped", [True, False])
def test_the_file_of_the_course(tmp_path, zipped, monkeypatch):
    torch = pytest.importorskip("torch")
    import sys
    import types

    from torch_model import TorchNMT

    module = types.ModuleType("vocab")  # as where the course runs; not here when it is read
    for kind in (Vocab, VocabEntry):
        monkeypatch.setattr(kind, "__module__", "vocab")
        setattr(module, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, "vocab", module)
    vocab, model = Vocab(), TorchNMT(7, 8, 3, 4)
    vocab.src, vocab.tgt = VocabEntry(), VocabEntry()
    vocab.src.word2id, vocab.src.id2word, vocab.src.unk_id = {"<pad>": 0}, {0: "<pad>"}, 3
    args = dict(embed_size=3, hidden_size=4, dropout_rate=0.3)
    torch.save({"args": args, "vocab": vocab, "state_dict": model.state_dict()}, tmp_path / "model.bin",
               _use_new_zipfile_serialization=zipped)
    monkeypatch.delitem(sys.modules, "vocab")
    tensors, told = read_state_dict(tmp_path / "model.bin")
    assert told == args and list(tensors) == list(model.state_dict())
    for name, array in model.state_dict().items():
        assert np.array_equal(tensors[name], array.numpy())


def test_safetensors(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    numpy.save_file({"w": np.arange(6.0)}, tmp_path / "a.safetensors")
    tensors, args = read_state_dict(tmp_path / "a.safetensors")
    assert args == {} and np.array_equal(tensors["w"], np.arange(6.0))
    data = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[:-1])
    refused(tmp_path / "cut.safetensors", "is damaged")


# what would run


class Planted:
    """Writes a file whenever one of the ways in which a pickle makes an object is taken."""

    file = None

    def __new__(cls, *args, **kwargs):
        cls.file.write_text("ran")
        return super().__new__(cls)

    def __setstate__(self, state):
        self.file.write_text("ran")


HERE = __name__.encode()
HIDDEN = {
    "reduce": lambda run: b"\x80\x02cposix\nsystem\n" + run + b"\x85R.",
    "reduce, two names": lambda run: b"\x80\x02cos\nsystem\n" + run + b"\x85R.",
    "nested": lambda run: b"\x80\x02}(" + text("state_dict") + b"}" + text("w") + b"cposix\nsystem\n" + run
    + b"\x85Rsu.",
    "in the arguments of a tensor": lambda run: b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(cposix\nsystem\n" + run
    + b"\x85RtR.",
    "in a persistent id": lambda run: b"\x80\x02(" + text("storage") + b"cposix\nsystem\n" + run + b"\x85RtQ.",
    "getattr": lambda run: b"\x80\x02cbuiltins\ngetattr\n(cbuiltins\n__import__\n" + text("os") + b"\x85R"
    + text("system") + b"tR" + run + b"\x85R.",
    "getattr, Python 2": lambda run: b"\x80\x02c__builtin__\ngetattr\n(c__builtin__\n__import__\n" + text("os")
    + b"\x85R" + text("system") + b"tR" + run + b"\x85R.",
    "stack global": lambda run: b"\x80\x04\x8c\x05posix\x8c\x06system\x93" + run + b"\x85R.",
    "stack global, dotted": lambda run: b"\x80\x04\x8c\x06shutil\x8c\x09os.system\x93" + run + b"\x85R.",
    "stack global, dotted, of an allowed module": lambda run: b"\x80\x04\x8c\x0bcollections\x8c\x09_sys.exit\x93" + run
    + b"\x85R.",
    "stack global, names from the memo": lambda run: b"\x80\x04\x8c\x05posix\x940\x8c\x06system\x940h\x00h\x01\x93"
    + run + b"\x85R.",
    "inst": lambda run: b"(" + run + b"iposix\nsystem\n.",
    "obj": lambda run: b"(cposix\nsystem\n" + run + b"o.",
    "newobj": lambda run: b"\x80\x02c" + HERE + b"\nPlanted\n)\x81.",
    "newobj with keywords": lambda run: b"\x80\x04c" + HERE + b"\nPlanted\n)}\x92.",
    "build": lambda run: b"\x80\x02ccopyreg\n_reconstructor\n(c" + HERE + b"\nPlanted\ncbuiltins\nobject\nNtR}b.",
    "extension": lambda run: b"\x80\x02\x82\xf0" + run + b"\x85R.",
    "functools": lambda run: b"\x80\x02cfunctools\npartial\n(cos\nsystem\n" + run + b"tR)R.",
    "numpy": lambda run: b"\x80\x02cnumpy.testing._private.utils\nrunstring\n(" + run + b"}tR.",
    "torch": lambda run: b"\x80\x02ctorch.serialization\nload\n" + run + b"\x85R.",
}
NEED_TORCH = ("in the arguments of a tensor",)
ELSEWHERE = ("numpy", "torch", "stack global, dotted, of an allowed module")  # end the process, or find no such thing


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """(opcodes of the shell command that writes a file, that file)."""
    file = tmp_path / "ran"
    monkeypatch.setattr(Planted, "file", file)
    copyreg.add_extension("posix", "system", 0xF0)
    pickle.loads(b"\x80\x02\x82\xf0.")  # from now on Python has it at hand and asks no find_class
    yield text(f"touch {file}"), file
    copyreg.remove_extension("posix", "system", 0xF0)
    copyreg.clear_extension_cache()


@pytest.mark.parametrize("name", sorted(HIDDEN.keys() - set(ELSEWHERE)))
def test_the_planted_pickles_do_run_elsewhere(planted, name):
    """Or the next test would prove nothing."""
    command, file = planted
    if name in NEED_TORCH:
        pytest.importorskip("torch")

    class Unguarded(pickle.Unpickler):
        persistent_load = print

    with suppress(Exception):  # after it has run
        Unguarded(io.BytesIO(HIDDEN[name](command))).load()
    assert file.exists()


@CONTAINERS
@pytest.mark.parametrize("name", HIDDEN)
def test_what_would_run_is_refused_and_does_not_run(tmp_path, planted, name, container):
    command, file = planted
    message = refused(container(tmp_path / "model.bin", HIDDEN[name](command)))
    assert not file.exists()
    assert "refused" in message and (" wants " in message or any(
        f" opcode {name}" in message for name in ("EXT1", "INST", "NEWOBJ_EX", "POP")))


@CONTAINERS
def test_the_refusal_names_what_the_file_wants(tmp_path, container):
    wanted = {"reduce": "posix.system", "obj": "posix.system", "getattr": "builtins.getattr",
              "stack global": "posix.system", "stack global, dotted": "shutil.os.system",
              "functools": "functools.partial"}
    for pickled, name in (*((HIDDEN[way](b"N"), name) for way, name in wanted.items()),
                          (pickle.dumps({"a": np.float64(3)}, 2), "scalar"), (pickle.dumps({"a": {1}}, 2), "set")):
        assert " wants " in refused(container(tmp_path / "model.bin", pickled), name)


@pytest.mark.parametrize("place", ["magic", "version", "system", "keys"])
def test_every_pickle_of_the_older_format_is_guarded(tmp_path, place):
    class Hidden:
        def __reduce__(self):
            return print, ("ran",)

    refused(stream(tmp_path / "m.bin", state(), **{place: Hidden()}), "wants __builtin__.print")


@CONTAINERS
def test_an_opcode_that_torch_does_not_write_is_refused(tmp_path, container):
    refused(container(tmp_path / "m.bin", b"\x80\x04\x8f."), "holds the pickle opcode EMPTY_SET", "refused")


@CONTAINERS
@pytest.mark.parametrize("target, attribute", [
    (b"ctorch._utils\n_rebuild_tensor_v2\n", "__class__"), (b"ctorch._utils\n_rebuild_tensor_v2\n", "__call__"),
    (b"ctorch\nFloatStorage\n", "kind"), (b"ccollections\nOrderedDict\n", "__setitem__"),
    (b"cvocab\nVocab\n", "__setstate__"), (tensor(), "storage"), (b"cargparse\nNamespace\n", "__class__"),
    (b"ctorch\ndevice\n", "__call__"),
])
def test_the_allowed_things_cannot_be_changed(tmp_path, container, target, attribute):
    for arguments in (b"}" + text(attribute) + b"Ns", b"N}" + text(attribute) + b"Ns\x86"):
        refused(container(tmp_path / "m.bin", b"\x80\x02" + target + arguments + b"b."), "damaged")


def test_attributes_of_a_state_dict_are_dropped(tmp_path):
    pickled = (b"\x80\x02ccollections\nOrderedDict\n)R" + text("w") + tensor() + b"s}" + text("items") + b"Nsb.")
    tensors, _ = read_state_dict(archive(tmp_path / "m.bin", pickled))
    assert list(tensors) == ["w"]


@CONTAINERS
def test_what_would_fill_the_memory_or_overflow_the_stack(tmp_path, container):
    refused(container(tmp_path / "m.bin", b"\x80\x02}r\xff\xff\xff\xff."), "what is not next")
    refused(container(tmp_path / "m.bin", b"\x80\x02})" + b"\x85" * 1_000_000 + b"Ns."), "a key is neither a word")
    assert "\x1b" not in refused(container(tmp_path / "m.bin", b"\x80\x02c\x1b[2Jevil\nname\n."), "?[2Jevil.name")


# what is damaged


@CONTAINERS
@pytest.mark.parametrize("change, message", [
    (dict(offset=1), "w reaches outside"), (dict(shape=(3, 3)), "w reaches outside"),
    (dict(strides=(4, 1)), "w reaches outside"), (dict(strides=(0, 0), shape=(1 << 15, 1 << 15)), "as a view of 6,"),
    (dict(shape=(7,), strides=(0,)), "holds w, of 7 numbers, as a view of 6,"),
    (dict(offset=6, shape=(1,), strides=(1,)), "w reaches outside"),
    (dict(offset=-1), "damaged"), (dict(strides=(-3, 1)), "damaged"), (dict(shape=(-2, -3)), "damaged"),
    (dict(shape=(2, 3, 1)), "damaged"), (dict(shape=(1,) * 9, strides=(1,) * 9), "damaged"),
    (dict(size=7), "a storage of 7 numbers"), (dict(size=5), "w reaches outside"), (dict(size=-6), "damaged"),
    (dict(size=3, kind=b"DoubleStorage", shape=(7,), strides=(1,)), "w reaches outside|a storage of"),
    (dict(kind=b"BFloat16Storage"), "numbers of bfloat16"),
    (dict(kind=b"LongStorage"), "of 8 bytes has|ends within a storage"), (dict(key="../../etc/passwd"), "damaged"),
    (dict(key="1"), "damaged"), (dict(view=b"(tt"), "damaged"),
], ids=str)
def test_a_tensor_that_is_none_is_refused(tmp_path, container, change, message):
    path = container(tmp_path / "m.bin", state({"w": tensor(**change)}))
    with pytest.raises(InputError, match=message):
        read_state_dict(path)


def test_an_empty_tensor_may_stand_anywhere(tmp_path):
    path = archive(tmp_path / "m.bin", state({"w": tensor(offset=100, shape=(0, 5), strides=(5, 1))}))
    assert read_state_dict(path).tensors["w"].shape == (0, 5)


@pytest.mark.parametrize("shape", [(1,), (0, 3), (1, 1, 0)])
def test_where_no_step_is_made_a_stride_may_be_of_any_size(tmp_path, shape):
    path = archive(tmp_path / "m.bin", state({"w": tensor(shape=shape, strides=(1 << 61,) * len(shape))}))
    assert read_state_dict(path).tensors["w"].shape == shape


@CONTAINERS
@pytest.mark.parametrize("pickled, message", [
    (b"\x80\x02N.", "no state_dict"), (b"\x80\x02}.", "no state_dict"), (b"\x80\x02]N.", "no state_dict"),
    (state({"w": b"N"}), "w is none"), (b"\x80\x02}K\x01" + tensor() + b"s.", "no state_dict"),
    (state({"state_dict": b"N"}), "no state_dict"), (b"\x80\x02}(" + text("state_dict"), ""),
    (state({"w": tensor(), "v": tensor(size=7)}), "told twice"), (b"\x80\x02R.", "damaged"),
    (b"\x80\x02(" + text("module") + b"NNNNtQ.", "damaged"), (b"\x80\x02NQ.", "damaged"),
    (b"\x80\x02h\x05.", "damaged"), (b"\x80\x02" + text("a") + b")R.", "damaged"), (b"", ""),
    (b"\x80\x63N.", "no state_dict"),
], ids=repr)
def test_a_pickle_of_something_else_is_refused(tmp_path, container, pickled, message):
    refused(container(tmp_path / "m.bin", pickled), message)


def test_an_archive_that_torch_does_not_write_is_refused(tmp_path):
    path = tmp_path / "m.bin"
    refused(archive(path, state(), {}), "any/data/0 is missing")
    refused(archive(path, state(), {"0": SIX + b"0"}), "has 25 bytes")
    refused(archive(path, state(), byteorder="middle"), "byte order")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("any/data.pkl", state())
        file.writestr("any/data/0", bytes(1 << 20))
    refused(path, "parts are larger than the file")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("any/data.pkl", state())
        file.writestr("any/data/0", np.random.default_rng(0).bytes(24))
    refused(path, "any/data.pkl is compressed")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("any/data.pkl", state())
        file.writestr("other/data.pkl", state())
    refused(path, "holds 2 data.pkl")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("notes.txt", "nothing")
    refused(path, "holds 0 data.pkl")


@pytest.mark.parametrize("change, message", [
    (dict(magic=1), "not one of torch.save"), (dict(version=1000), "not one of torch.save"),
    (dict(system=[1]), "not one of torch.save"), (dict(keys=["1"]), "does not list"), (dict(keys=[]), "does not list"),
    (dict(keys=["0", "0"]), "does not list"), (dict(keys=[["0"]]), "does not list"),
    (dict(keys=[0, "0"]), "does not list"), (dict(storages={"0": b""}), "says that it has 0"),
], ids=str)
def test_a_stream_that_torch_does_not_write_is_refused(tmp_path, change, message):
    refused(stream(tmp_path / "m.bin", state(), **change), message)


def test_a_file_that_is_missing_or_of_another_kind(tmp_path):
    refused(tmp_path / "absent", "cannot be read")
    refused(tmp_path, "cannot be read")
    for data in (b"", b"hello", b"PK", bytes(600)):
        (tmp_path / "m.bin").write_bytes(data)
        refused(tmp_path / "m.bin", "safetensors.torch.save_file")


@CONTAINERS
def test_a_file_that_is_cut_anywhere_is_refused(tmp_path, container):
    whole = container(tmp_path / "whole.bin", state()).read_bytes()
    for end in range(len(whole)):
        (tmp_path / "cut.bin").write_bytes(whole[:end])
        refused(tmp_path / "cut.bin")


@CONTAINERS
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_and_nothing_else(tmp_path, planted, container, data):
    command, ran = planted
    pickled = data.draw(st.sampled_from([state(), HIDDEN["nested"](command), HIDDEN["stack global"](command)]))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(pickled) - 1))
        pickled = pickled[:at] + data.draw(st.binary(max_size=3)) + pickled[at + data.draw(st.integers(0, 2)):]
    path = container(tmp_path / "m.bin", pickled)
    with suppress(InputError):
        read_state_dict(path)
    assert not ran.exists()


@CONTAINERS
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(at=st.integers(0, 10_000), bits=st.integers(1, 255))
def test_a_flipped_bit_anywhere_is_read_or_refused(tmp_path, container, at, bits):
    whole = bytearray(container(tmp_path / "whole.bin", state()).read_bytes())
    whole[at % len(whole)] ^= bits
    (tmp_path / "m.bin").write_bytes(whole)
    with suppress(InputError):
        read_state_dict(tmp_path / "m.bin")


# what people save beside the weights


def saved_by_torch(tmp_path, content, **options):
    torch = pytest.importorskip("torch")
    torch.save(content, tmp_path / "model.bin", **options)
    return tmp_path / "model.bin"


def weights():
    torch = pytest.importorskip("torch")
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.arange(2.0)}


def optimizer():
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(2, 3)
    made = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    made.step()
    return made.state_dict()


HARMLESS = {
    "a device": lambda torch: {"args": {"device": torch.device("cuda", 0), "dropout_rate": 0.3},
                               "state_dict": weights()},
    "a Namespace": lambda torch: {"args": argparse.Namespace(dropout_rate=0.3, device=torch.device("cpu"),
                                                             out=Path("x")), "state_dict": weights()},
    "a vocabulary of another module": lambda torch: {"vocab": Vocab(), "entry": VocabEntry(), "state_dict": weights()},
    "the optimizer, counters and a random state": lambda torch: {
        "epoch": 3, "loss": 0.25, "model_state_dict": weights(), "optimizer": optimizer(),
        "rng": torch.get_rng_state(), "done": torch.tensor(True)},
    "under model": lambda torch: {"model": weights(), "shape": torch.Size([2, 3])},
    "of DataParallel": lambda torch: {f"module.{name}": tensor for name, tensor in weights().items()},
    "parameters": lambda torch: {name: torch.nn.Parameter(tensor) for name, tensor in weights().items()},
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("what", HARMLESS)
def test_what_is_harmless_beside_the_weights_is_read_past(tmp_path, what, zipped):
    torch = pytest.importorskip("torch")
    tensors, args = read_state_dict(saved_by_torch(tmp_path, HARMLESS[what](torch),
                                                   _use_new_zipfile_serialization=zipped))
    assert list(tensors) == list(weights())
    for name, tensor in weights().items():
        assert np.array_equal(tensors[name], tensor.numpy())
    assert args.get("dropout_rate") == (0.3 if what in ("a device", "a Namespace") else None)


class Tokenizer:
    """Of somebody's own, in a checkpoint."""

    split = str.split


class Network:
    """A whole model that was saved."""

    def state_dict(self):
        return weights()


@pytest.mark.parametrize("make, told", [
    (lambda: {"other": Tokenizer(), "state_dict": weights()}, "wants "), (Network, "wants "),
    (lambda: {"loss": np.float64(0), "model_state_dict": weights()}, "wants "),
    (lambda: {"loss": np.float64(0), "model": weights()}, "wants "),
    *((lambda key=key: {"metrics": {key: 1}, "model": weights()}, "holds a dict in which a key is neither a word nor ")
      for key in (True, 0.5, None, ("bleu", 4), 2**40)),
    (lambda: {**weights(), "steps": 7}, "holds no state_dict, which is tensors under names: steps is none"),
], ids=["a class", "a whole model", "NumPy's number", "NumPy's number beside a model", "True", "a fraction", "None",
        "a tuple", "a large number", "a number"])
def test_the_remedy_of_a_refusal_works(tmp_path, monkeypatch, make, told):
    """The lines that the error gives are run as they stand, where the file was written."""
    content = make()
    path = saved_by_torch(tmp_path, content)
    message = refused(path, told, ": steps" if "steps" in told else "; if the file is your own")
    lines = message[message.index("import torch") : message.index("; of a file that is a whole model")]
    if isinstance(content, Network):
        assert "save saved.state_dict() instead" in message
        lines = lines[: lines.index("state = ")] + "torch.save(saved.state_dict(), 'weights.bin')"
    monkeypatch.chdir(tmp_path)
    exec(lines, {})
    tensors, _ = read_state_dict(tmp_path / "weights.bin")
    assert list(tensors) == list(weights())


@pytest.mark.parametrize("wrapped", ["state_dict", "model_state_dict", "model", ""])
@pytest.mark.parametrize("make, told", [
    (lambda torch: {"w": torch.ones(2, 3).bfloat16()}, "holds numbers of bfloat16"),
    (lambda torch: {"w": torch.complex(torch.zeros(3, 2), -torch.ones(3, 2)).mH.imag}, "signs are still to be turned"),
    (lambda torch: {"w": torch.ones(1).expand(2, 3)}, "holds w, of 6 numbers, as a view of 1"),
    (lambda torch: dict.fromkeys("wabcdef", torch.ones(2, 3)), "that are all views of them")],
    ids=["bfloat16", "a minus to be taken", "expanded", "many views"])
def test_whole_files_that_cannot_be_read_are_not_called_damaged_and_can_be_written_anew(
        tmp_path, monkeypatch, make, told, wrapped):
    tensors = make(pytest.importorskip("torch"))
    message = refused(saved_by_torch(tmp_path, {wrapped: tensors} if wrapped else tensors), told)
    assert "damaged" not in message
    monkeypatch.chdir(tmp_path)
    exec(message[message.index("import torch") :], {})
    read = read_state_dict(tmp_path / "weights.bin").tensors
    assert list(read) == list(tensors) and np.array_equal(read["w"], np.ones((2, 3)))


@CONTAINERS
def test_what_is_read_past_runs_nothing_whatever_it_is_given(tmp_path, planted, container):
    run, file = planted
    for name in (b"ctorch\ndevice\n", b"cargparse\nNamespace\n", b"cevil\nVocab\n",
                 b"ctorch._utils\n_rebuild_parameter\n"):
        refused(container(tmp_path / "m.bin", b"\x80\x02" + name + b"cposix\nsystem\n" + run + b"\x85R\x85R."),
                "wants posix.system")
    assert not file.exists()
    many = b"\x80\x02}(" + b"".join(text(f"k{n}") + b"N" for n in range(20_000)) + b"uq\x00" + (
        b"cargparse\nNamespace\n)\x81" + b"h\x00b" * 100_000 + b".")  # a large dict as the attributes again and again
    refused(container(tmp_path / "m.bin", many), "no state_dict")
