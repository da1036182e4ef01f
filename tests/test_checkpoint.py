"""What is saved comes back; what is missing, damaged, foreign or newer is refused with a sentence."""

import json
import os

import numpy as np
import pytest

from scratchnmt import checkpoint
from scratchnmt.data.vocab import SentencePieceVocabulary, WordVocabulary
from scratchnmt.errors import InputError, WriteError
from scratchnmt.files import atomic, run_folder, tensors
from scratchnmt.files.atomic import copy_file
from scratchnmt.files.run_folder import RunFolder
from scratchnmt.files.tensors import read_tensors, write_tensors
from scratchnmt.models.nmt import NMT

pytest.importorskip("safetensors")

SRC, TGT = WordVocabulary(["a", "b", "c"]), WordVocabulary(["é", "ü", "—", "d"])


@pytest.fixture
def model():
    return NMT(len(SRC), len(TGT), 6, 5, dropout=0.25, score="concat", dtype="float64", seed=3)


@pytest.fixture
def folder(tmp_path, model):
    checkpoint.save_model(tmp_path / "run", model, SRC, TGT)
    return tmp_path / "run"


def change_config(folder, change):
    """config.json as another program would write it, without the checksum that the first versions did not have."""
    path = folder / "config.json"
    content = json.loads(path.read_text()) | change
    path.write_text(json.dumps({name: value for name, value in content.items() if name != "sha256"}))


def test_a_model_comes_back(folder, model):
    loaded, src_vocab, tgt_vocab = checkpoint.load_model(folder)
    assert loaded.config == model.config and loaded.params.flat.dtype == np.float64
    assert np.array_equal(loaded.params.flat, model.params.flat)
    assert [src_vocab.token(i) for i in range(len(SRC))] == [SRC.token(i) for i in range(len(SRC))]
    assert tgt_vocab.encode("é ü d") == TGT.encode("é ü d")
    assert not [path for path in folder.iterdir() if path.suffix == ".tmp"]


def test_weights_that_are_too_large_for_the_dtype_that_is_asked_for(folder, model):
    model.params["vocab.W"][1, 1] = 1e300
    checkpoint.save_model(folder, model, SRC, TGT, overwrite=True)
    with pytest.raises(InputError, match="run: vocab.W holds a number that is too large for float32"):
        checkpoint.load_model(folder, dtype="float32")


def test_a_vocabulary_used_twice_is_saved_and_loaded_once(tmp_path):
    pytest.importorskip("sentencepiece")
    joint = SentencePieceVocabulary.train(["ein Hund rennt", "a dog runs", "un chien court"] * 5, size=40)
    checkpoint.save_model(tmp_path, NMT(len(joint), len(joint), 4, 4), joint, joint)
    _, src_vocab, tgt_vocab = checkpoint.load_model(tmp_path)
    assert src_vocab is tgt_vocab and src_vocab.encode("a dog") == joint.encode("a dog")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "joint.spm", "model.safetensors"]


@pytest.mark.parametrize("name", ["config.json", "src.vocab.json", "model.safetensors"])
def test_an_incomplete_folder_names_what_is_missing(folder, name):
    (folder / name).unlink()
    with pytest.raises(InputError, match=name):
        checkpoint.load_model(folder)


def test_a_folder_that_is_not_there_or_a_file(folder):
    with pytest.raises(InputError, match="does not exist"):
        checkpoint.load_model(folder / "absent")
    with pytest.raises(InputError, match="not a folder"):
        checkpoint.load_model(folder / "config.json")


@pytest.mark.parametrize("at", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("harm", ["cut", "flip"])
def test_damaged_weights_are_refused(folder, at, harm):
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    position = int(at * len(data))
    data[position] ^= 4
    path.write_bytes(data[:position] if harm == "cut" else data)
    with pytest.raises(InputError, match="model.safetensors is damaged|was not written by"):
        checkpoint.load_model(folder)


@pytest.mark.parametrize("change, message", [
    ({"version": 2}, "newer scratchnmt"), ({"version": None}, "version"), ({"format": "other"}, "format"),
    ({"model": None}, "model"), ({"model": {"hidden_size": 5}}, "missing"), ({"dtype": "object"}, "dtype"),
    ({"vocabularies": {"src": "../../etc/passwd", "tgt": "tgt.vocab.json"}}, "vocabularies"),
    ({"vocabularies": {"src": ["x"], "tgt": "tgt.vocab.json"}}, "vocabularies"),
    ({"vocabularies": {"src": "tgt.vocab.json", "tgt": "tgt.vocab.json"}}, "8 tokens"),
    ({"dtype": "float32"}, "float64"),
    ({"checksums": None}, "damaged: checksums"), ({"checksums": {}}, "no checksum of src.vocab.json|tgt.vocab.json"),
])
def test_a_config_that_does_not_fit_is_refused(folder, change, message):
    change_config(folder, change)
    with pytest.raises(InputError, match=message):
        checkpoint.load_model(folder)


@pytest.mark.parametrize("old, new", [
    ('"feed": "output"', '"feed": "start"'), ('"dropout": 0.25', '"dropout": 0.35'), ('"window": 10', '"window": 11'),
    ('"format"', '"formal"'), ('"training"', '"trainin9"'), ('"attention": "global"', '"attention": "local-m"'),
])
def test_a_config_of_which_a_letter_changed_is_refused_though_all_shapes_fit(folder, old, new):
    path = folder / "config.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError, match="config.json"):
        checkpoint.load_model(folder)


@pytest.mark.parametrize("change", [
    dict(feed="start"), dict(reverse_source=True, bidirectional=False, hidden_size=5), dict(dropout=0.3)])
def test_the_weights_of_another_model_are_refused(folder, model, tmp_path, change):
    """Though their shapes may be the same, or the vocabularies other ones of the same size."""
    other = NMT(**{**model.config.to_dict(), **change}, dtype="float64")
    checkpoint.save_model(tmp_path / "other", other, SRC, TGT)
    (tmp_path / "other" / "model.safetensors").replace(folder / "model.safetensors")
    with pytest.raises(InputError, match="does not (belong to the config.json|fit)"):
        checkpoint.load_model(folder)


def test_a_model_of_other_words_is_refused(folder, model, tmp_path):
    checkpoint.save_model(tmp_path / "other", model, WordVocabulary(["a", "b", "d"]), TGT)
    (tmp_path / "other" / "model.safetensors").replace(folder / "model.safetensors")
    with pytest.raises(InputError, match="does not belong to the config.json beside it"):
        checkpoint.load_model(folder)


def test_a_folder_of_the_first_version_which_has_fewer_checksums_is_read(folder, model):
    write_tensors(folder / "model.safetensors", model.params, {})
    change_config(folder, {})
    assert np.array_equal(checkpoint.load_model(folder).model.params.flat, model.params.flat)


def test_an_oversized_file_is_refused_before_it_is_read(folder):
    for name, size, message in (("config.json", 2 << 20, "more than 1,048,576 bytes"),
                                ("src.vocab.json", 160 << 20, "more than 134,217,728 bytes"),
                                ("model.safetensors", 1 << 40, "damaged")):
        path = folder / name
        before = path.read_bytes()
        with open(path, "r+b") as file:
            file.truncate(size)  # sparse
        with pytest.raises(InputError, match=f"{name}.*{message}"):
            checkpoint.load_model(folder)
        path.write_bytes(before)
    (folder / "model.safetensors").write_bytes((1 << 30).to_bytes(8, "little") + b"{}")
    with pytest.raises(InputError, match="its header would have 1,073,741,824 bytes"):
        checkpoint.load_model(folder)


@pytest.mark.parametrize("name", ["config.json", "src.vocab.json", "model.safetensors"])
def test_what_is_no_regular_file_is_not_waited_for(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(InputError, match=f"{name} is not a regular file"):
        checkpoint.load_model(folder)


def test_a_file_that_was_not_written_as_it_should_be_does_not_replace_the_one_that_is_there(folder, model, monkeypatch):
    import safetensors.numpy

    before, save_file = (folder / "model.safetensors").read_bytes(), safetensors.numpy.save_file

    def cut_short(tensors, path, metadata):
        save_file(tensors, path, metadata)
        os.truncate(path, os.path.getsize(path) - 1)

    monkeypatch.setattr(safetensors.numpy, "save_file", cut_short)
    with pytest.raises(InputError, match="model.safetensors.* is damaged"):
        RunFolder(folder).save_weights(model.params)
    assert (folder / "model.safetensors").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json", "model.safetensors", "src.vocab.json", "tgt.vocab.json"]


def test_a_vocabulary_altered_without_changing_its_size_is_refused(folder):
    path = folder / "src.vocab.json"
    path.write_text(path.read_text().replace('"b"', '"x"'))
    with pytest.raises(InputError, match="src.vocab.json is damaged"):
        RunFolder(folder).read()


def test_no_other_vocabularies_than_the_two_are_loaded(folder):
    names = json.loads((folder / "config.json").read_text())["vocabularies"]
    change_config(folder, {"vocabularies": {**names, "other": ["../x"]}})
    assert len(RunFolder(folder).read().src_vocab) == len(SRC)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "\udcff"])
def test_a_config_that_is_no_config_is_refused(folder, text):
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match="config.json"):
        checkpoint.load_model(folder)


def test_sizes_that_the_weights_do_not_have_are_refused_before_a_model_is_made(folder, monkeypatch):
    choices = json.loads((folder / "config.json").read_text())["model"]
    change_config(folder, {"model": {**choices, "hidden_size": 10**9}})  # would not fit into any memory
    with pytest.raises(InputError, match="does not fit"):
        checkpoint.load_model(folder)


def test_tensors_come_back_with_their_types_and_their_information(tmp_path):
    arrays = {"a": np.arange(6, dtype="float32").reshape(2, 3).T, "b": np.array(3), "c": np.zeros((0, 2))}
    info = {"x": 0.1, "list": [1, None, "é"]}
    write_tensors(tmp_path / "t", arrays, info)
    back, found = read_tensors(tmp_path / "t")
    assert found == info and back.keys() == arrays.keys()
    for name, tensor in arrays.items():
        assert back[name].dtype == tensor.dtype and np.array_equal(back[name], tensor)


def test_a_newer_tensor_file_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(tensors, "VERSION", 7)
    write_tensors(tmp_path / "t", {"a": np.zeros(1)}, {})
    monkeypatch.undo()
    with pytest.raises(InputError, match="newer scratchnmt.*version is 7"):
        read_tensors(tmp_path / "t")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "t"
    write_tensors(path, {"a": np.zeros(1)}, {})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(InputError, match="cannot be written.*No space left"):
        write_tensors(path, {"a": np.ones(1)}, {})
    monkeypatch.undo()
    assert read_tensors(path)[0]["a"] == 0
    assert [p.name for p in tmp_path.iterdir()] == ["t"]


@pytest.mark.parametrize("links", [True, False])
def test_a_copy_stays_when_its_original_is_replaced(tmp_path, monkeypatch, links):
    def unknown(*_):
        raise OSError("links are unknown here")

    if not links:
        monkeypatch.setattr(atomic.os, "link", unknown)
    for value in (1, 2):
        write_tensors(tmp_path / "t", {"a": np.full(3, value)}, {})
        if value == 1:
            copy_file(tmp_path / "t", tmp_path / "copy")
    assert read_tensors(tmp_path / "copy")[0]["a"].tolist() == [1, 1, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "t"]
    with pytest.raises(InputError, match="cannot be written"):
        copy_file(tmp_path / "absent", tmp_path / "copy")


def test_a_run_is_not_overwritten_by_accident(folder, model, tmp_path):
    before = sorted(folder.iterdir())
    for path, choice, words in (
            (folder, {}, "holds a model"), (folder, {"resume": True}, "training-state.safetensors is not there"),
            (tmp_path / "new", {"resume": True}, "no run to resume"), (folder / "config.json", {}, "is a file"),
            (folder, {"resume": True, "overwrite": True}, "exclude each other")):
        with pytest.raises(InputError, match=words), RunFolder(path, **choice):
            pass
    assert sorted(folder.iterdir()) == before and not (tmp_path / "new").exists()
    with pytest.raises(InputError, match="choose another folder, or overwrite=True"):
        checkpoint.save_model(folder, model, SRC, TGT)
    checkpoint.save_model(folder, model, SRC, TGT, overwrite=True)
    for path, choice in (tmp_path / "new", {}), (folder, {"overwrite": True}):
        with RunFolder(path, **choice):
            pass


def test_what_a_model_is_told_to_come_from_is_read_again_as_json_has_it(tmp_path, model):
    data = {"bleu of epoch": {2: 20.5, 10: 31.0, 9: 30.5, "best": float("nan")}, "files": ("a", "b")}
    checkpoint.save_model(tmp_path, model, SRC, TGT, data=data)
    told = RunFolder(tmp_path).read().data
    assert list(told["bleu of epoch"]) == ["2", "10", "9", "best"] and told["files"] == ["a", "b"]
    assert checkpoint.load_model(tmp_path).model.config == model.config


def nested(levels):
    return [nested(levels - 1)] if levels else []


@pytest.mark.parametrize("change, words", [
    ({"data": {"bleu": np.float32(31)}}, "config.json cannot hold .* float32 is not JSON serializable"),
    ({"data": {"deep": nested(60)}}, "config.json could not be read again: .* deeper than 50 levels"),
    ({"data": {"long": "x" * (1 << 20)}}, "config.json would be too long to be read again"),
    ({"src_vocab": TGT}, "the source vocabulary has 8 tokens, the model was made for 7"),
    ({"tgt_vocab": SRC}, "the target vocabulary has 7 tokens, the model was made for 8"),
])
def test_what_could_not_be_read_again_takes_no_models_place(folder, model, change, words):
    before = checkpoint.load_model(folder).model
    model.params.flat[...] = 0
    with pytest.raises(InputError, match=words):
        checkpoint.save_model(folder, **{"model": model, "src_vocab": SRC, "tgt_vocab": TGT, **change}, overwrite=True)
    assert np.array_equal(checkpoint.load_model(folder).model.params.flat, before.params.flat)


@pytest.mark.parametrize("limit", [100, 1500], ids=["vocabularies", "weights"])
@pytest.mark.parametrize("score", ["concat", "general"], ids=["same config", "other config"])
def test_a_model_that_a_full_disk_cuts_short_takes_no_models_place(folder, model, limit, score):
    """The limit is the system's own, of a file's size."""
    resource, signal = pytest.importorskip("resource"), pytest.importorskip("signal")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = NMT(len(SRC), len(TGT), 6, 5, dropout=0.25, score=score, dtype="float64", seed=4)
    handler, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        with pytest.raises(WriteError, match="run/model.safetensors cannot be written: .*too large"):
            checkpoint.save_model(folder, other, SRC, TGT, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    checkpoint.save_model(folder, other, SRC, TGT, overwrite=True)
    assert np.array_equal(checkpoint.load_model(folder).model.params.flat, other.params.flat)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "src.vocab.json"])
def test_a_model_that_replaces_another_keeps_the_modes_of_its_files(folder, model, name):
    (folder / name).chmod(0o600)
    checkpoint.save_model(folder, model, SRC, TGT, overwrite=True)
    assert [path.name for path in folder.iterdir() if path.stat().st_mode & 0o777 == 0o600] == [name]


@pytest.mark.parametrize("name", run_folder.RUN_FILES)
def test_a_file_that_a_run_would_replace_is_not_lost_by_accident(tmp_path, model, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=f"holds .*{name}"):
        checkpoint.save_model(tmp_path, model, SRC, TGT)
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "mine"


def test_starting_over_removes_the_old_run_and_nothing_else(folder, model):
    for name in ("notes.txt", "metrics.jsonl", "joint.spm"):
        (folder / name).write_text("x")
    RunFolder(folder).start(model, SRC, TGT, {"seed": 5})
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "notes.txt", "src.vocab.json", "tgt.vocab.json"]
    assert RunFolder(folder).read().training == {"seed": 5}
    with pytest.raises(InputError, match="a run has it from its first validation on"):
        checkpoint.load_model(folder)


def test_files_are_as_open_to_others_as_any_file_written_here(folder):
    (folder / "plain").touch()
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1
