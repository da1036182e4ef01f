"""Several folders at once: ensembles that share their vocabularies, and the mean of weights, whole or not at all."""

import errno
import json
import os

import numpy as np
import pytest

from scratchnmt.checkpoint import average, load_model, load_models, save_model
from scratchnmt.data.vocab import WordVocabulary
from scratchnmt.errors import InputError, WriteError
from scratchnmt.files.run_folder import RunFolder
from scratchnmt.models.nmt import NMT
from scratchnmt.search import Ensemble
from scratchnmt.translate import Translator

pytest.importorskip("safetensors")

SRC, TGT, OTHER = (WordVocabulary(words.split()) for words in ("a b c", "d e f", "d e g"))


@pytest.fixture
def save(tmp_path):
    """Write a model's folder; its name."""

    def write(name, src=SRC, tgt=TGT, **choices):
        model = NMT(len(src), len(tgt), **{"embed_size": 6, "hidden_size": 8, "dropout": 0.25, **choices})
        model.params.flat[...] *= 8
        save_model(tmp_path / name, model, src, tgt)
        return tmp_path / name

    return write


def weights(folder):
    return load_model(folder).model.params.flat


def test_one_folder_is_its_model_and_several_an_ensemble(save):
    folders = [save("one", seed=1), save("two", seed=2, hidden_size=6, layers=2)]
    assert isinstance(load_models(folders[:1]).model, NMT)
    model, src_vocab, tgt_vocab = load_models(folders)
    assert isinstance(model, Ensemble) and [m.config.hidden_size for m in model.models] == [8, 6]
    lines = ["a b", "", "c c a"]
    found = Translator.load(folders).translate(lines, n_best=2)
    assert found == Translator(model, src_vocab, tgt_vocab).translate(lines, n_best=2)
    alone = Translator.load(folders[0])
    assert found != alone.translate(lines, n_best=2) == Translator.load(folders[:1]).translate(lines, n_best=2)


def test_an_ensemble_of_one_folder_twice_is_its_model(save):
    folder = save("one", dtype="float64", seed=3)
    lines = ["a b", "", "c c a", "b"]
    twice, once = Translator.load([folder, folder]), Translator.load(folder)
    for found, expected in zip(twice.translate(lines, n_best=3), once.translate(lines, n_best=3), strict=True):
        assert [text for text, _ in found] == [text for text, _ in expected]
        np.testing.assert_allclose([s for _, s in found], [s for _, s in expected], rtol=0, atol=1e-12)
    targets = ["d", "", "e f e", "g"]
    np.testing.assert_allclose([s.score for s in twice.score(lines, targets)],
                               [s.score for s in once.score(lines, targets)], rtol=0, atol=1e-12)


@pytest.mark.parametrize("together", [load_models, lambda folders: average(folders, folders[0].parent / "out")])
def test_another_vocabulary_is_named(save, together):
    one, two = save("one"), save("two", tgt=OTHER)
    with pytest.raises(InputError, match=r"two/tgt.vocab.json is not the same vocabulary as .*one/tgt.vocab.json: .*"
                                         "must share their vocabularies"):
        together([one, one, two])
    with pytest.raises(InputError, match=r"src.vocab.json is not the same vocabulary as"):
        together([one, save("three", src=OTHER)])
    with pytest.raises(InputError, match="absent does not exist"):
        together([one, one.parent / "absent"])
    with pytest.raises((InputError, IndexError), match="at least one"):
        load_models([])


def test_a_vocabulary_of_both_sides_is_the_same_by_its_contents(save):
    one, two = save("one", SRC, SRC), save("two", SRC, WordVocabulary(["a", "b", "c"]))
    assert (one / "joint.vocab.json").exists() and (two / "tgt.vocab.json").exists()
    assert len(load_models([one, two]).model.models) == 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_mean_of_weights(save, tmp_path, dtype):
    folders = [save(f"m{seed}", seed=seed, dtype=dtype) for seed in range(3)]
    average(folders, tmp_path / "new" / "mean")
    found, expected = weights(tmp_path / "new" / "mean"), np.mean([weights(f) for f in folders], axis=0, dtype="f8")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected.astype(dtype))
    run, first = RunFolder(tmp_path / "new" / "mean").read(), RunFolder(folders[0]).read()
    assert run.config == first.config and run.vocabularies == first.vocabularies
    assert run.data == {"average_of": [str(folder) for folder in folders]}
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["mean"]
    (tmp_path / "empty").mkdir()
    average(folders[:1], tmp_path / "empty")
    np.testing.assert_array_equal(weights(tmp_path / "empty"), weights(folders[0]))


def test_the_sum_is_in_float64(tmp_path):
    for name, value in ("a", 1e8), ("b", 1.0), ("c", -1e8):
        model = NMT(len(SRC), len(TGT), 4, 4)
        model.params.flat[...] = value
        save_model(tmp_path / name, model, SRC, TGT)
    average([tmp_path / name for name in "abc"], tmp_path / "mean")
    np.testing.assert_array_equal(weights(tmp_path / "mean"), np.float32(1 / 3))


@pytest.mark.parametrize("change, message", [
    (dict(hidden_size=6), "hidden_size is 6 in .*two and 8 in .*one: .* must have one configuration"),
    (dict(score="dot"), "score is 'dot' in .*two and 'general' in .*one"),
    (dict(dropout=0.5), "dropout is 0.5"), (dict(dtype="float64"), "dtype is 'float64' in .*two and 'float32'"),
], ids=str)
def test_what_differs_is_named_and_nothing_written(save, tmp_path, change, message):
    folders = [save("one"), save("two", **change)]
    with pytest.raises(InputError, match=message):
        average(folders, tmp_path / "mean")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_folder_that_is_there_stays_as_it_is(save, tmp_path):
    one = save("one")
    before = {path.name: path.read_bytes() for path in one.iterdir()}
    for out in (one, one / "config.json"):
        with pytest.raises(InputError, match="exists already, expected a new or an empty folder"):
            average([one, one], out)
    assert {path.name: path.read_bytes() for path in one.iterdir()} == before
    json.loads(before["config.json"])


@pytest.mark.parametrize("number, told", [(errno.EBUSY, True), (errno.EACCES, True), (errno.ENOSPC, False)])
def test_an_empty_folder_that_cannot_be_replaced_as_a_whole(save, tmp_path, monkeypatch, number, told):
    one, replace = save("one"), os.replace
    (tmp_path / "mean").mkdir()

    def refuse(source, target):
        if str(target) == str(tmp_path / "mean"):
            raise OSError(number, os.strerror(number), str(source), None, str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(WriteError, match="mean cannot be written: ") as error:
        average([one, one], tmp_path / "mean")
    assert str(error.value).endswith("give one that is not there") is told


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_nothing_half_written_is_left(save, tmp_path, monkeypatch, error):
    folders, written = [save("one"), save("two", seed=1)], []

    def fail(folder, params):
        written.extend(path.name for path in folder.path.iterdir())
        raise error

    monkeypatch.setattr(RunFolder, "save_weights", fail)
    with pytest.raises((KeyboardInterrupt, InputError), match="mean cannot be written: No space|^$"):
        average(folders, tmp_path / "mean")
    assert "config.json" in written
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
