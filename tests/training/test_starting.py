"""What a new run can begin with: another model, vocabularies from elsewhere, pretrained embeddings; what it keeps."""

import gzip
import json
import shutil

import numpy as np
import pytest
from tiny_run import LETTERS, Killed, essence, metrics, of, two_texts
from tiny_run import run as train_by_hand

from scratchnmt import checkpoint
from scratchnmt.cli import main
from scratchnmt.cli.dependent import flag
from scratchnmt.cli.prepare import prepare
from scratchnmt.data.vocab import SentencePieceVocabulary, WordVocabulary
from scratchnmt.errors import InputError
from scratchnmt.files import run_folder
from scratchnmt.files.run_folder import RunFolder
from scratchnmt.training.plan import FIXED, goes_with

for package in ("sacrebleu", "sentencepiece", "safetensors", "tqdm", "matplotlib"):
    pytest.importorskip(package)

SMALL = ["--embed-size", "8", "--hidden-size", "8", "--max-epochs", "1"]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return two_texts(tmp_path_factory.mktemp("text"))


def train(*arguments):
    return main(["train", *map(str, arguments)])


@pytest.fixture(scope="module")
def general(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("runs") / "general"
    assert train(*of(text), *SMALL, "--vocab", "word", "--min-count", 1, "--dropout", 0.3, "--out", folder) == 0
    return folder


def prepared(tmp_path, text, which="own", **given):
    """What `train` would begin with."""
    names = {option[2:].partition("=")[0].replace("-", "_"): option.partition("=")[2] for option in of(text, which)}
    with RunFolder(tmp_path / "prepared") as folder:
        return prepare(folder, {**names, **given})


# another model

def test_a_run_begins_with_the_weights_and_vocabularies_of_another(tmp_path, text, general):
    ready = prepared(tmp_path, text, "other", init_from=str(general))
    model, src_vocab, tgt_vocab = checkpoint.load_model(general)
    assert np.array_equal(ready.model.params.flat, model.params.flat) and ready.model.config == model.config
    assert ready.data.src_vocab.digest() == src_vocab.digest() and ready.data.tgt_vocab.digest() == tgt_vocab.digest()
    assert ready.first_weights == f"with the weights of {general}" and len(ready.data.train) == 30
    assert (ready.options.max_epochs, ready.options.learning_rate) == (30, 1e-3)  # the defaults, not the other run's
    changed = prepared(tmp_path / "changed", text, init_from=str(general), dropout=0.5, label_smoothing=0.1,
                       learning_rate=1e-4, batch_size=4, optimizer="sgd")
    assert np.array_equal(changed.model.params.flat, model.params.flat)
    assert (changed.model.config.dropout, changed.model.config.label_smoothing) == (0.5, 0.1)


def test_fine_tuning_from_the_command_line(tmp_path, text, general, capsys, monkeypatch):
    monkeypatch.chdir(general.parent)
    assert train(*of(text, "other"), "--init-from", "general", "--max-epochs", 2, "--out", tmp_path / "fine") == 0
    assert "start       with the weights of general" in capsys.readouterr().out
    told = json.loads((tmp_path / "fine" / "config.json").read_text())
    assert told["data"]["init_from"] == str(general) and "vocab_size" not in told["data"]
    monkeypatch.chdir(tmp_path)
    shutil.copytree(general, tmp_path / "gone")  # what it began with is not asked for again
    assert train("--out", tmp_path / "fine", "--resume", "--init-from", general, "--max-epochs", 3) == 0
    assert train("--out", tmp_path / "fine", "--resume", "--init-from", tmp_path / "gone") == 2
    assert "only a new run has first weights" in capsys.readouterr().err
    assert len(metrics(tmp_path / "fine")) == 3


def test_a_run_of_the_library_can_be_gone_on_with(tmp_path, text):
    train_by_hand(tmp_path / "library", max_steps=2)
    assert train(*of(text), "--init-from", tmp_path / "library", "--max-steps", 2, "--out", tmp_path / "fine") == 0


def test_a_run_killed_before_its_first_save_begins_again_with_the_same_weights(tmp_path, text, general, monkeypatch):
    own = shutil.copytree(general, tmp_path / "own")
    arguments = [*of(text, "other"), "--init-from", own, "--max-epochs", 1]
    assert train(*arguments, "--out", tmp_path / "whole") == 0

    def killed(*_, **how):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "write_tensors", killed)
        with pytest.raises(Killed):
            train(*arguments, "--out", tmp_path / "cut")
    shutil.copytree(tmp_path / "cut", tmp_path / "late")
    assert train("--out", tmp_path / "cut", "--resume") == 0
    assert essence(tmp_path / "cut") == essence(tmp_path / "whole")
    shutil.rmtree(own)
    assert train("--out", tmp_path / "late", "--resume") == 2  # it cannot be found any more
    shutil.copytree(tmp_path / "whole", own)
    assert train("--out", tmp_path / "late", "--resume") == 0


SHAPES = [name for row in FIXED for name in row.options.split() if not goes_with(name)]


@pytest.mark.parametrize("name, value", {
    "embed_size": 9, "hidden_size": 10, "layers": 2, "bidirectional": False, "score": "dot", "attention": "local-m",
    "feed": "none", "query": "previous", "dtype": "float64", "tie_embeddings": True, "init": "glorot",
    "vocab_size": 30, "vocab": "bpe", "min_count": 3, "joint_vocab": True, "src_vocab": "v", "tgt_embeddings": "e",
}.items())
def test_what_the_weights_cannot_be_is_refused(tmp_path, text, general, name, value):
    assert name in SHAPES
    with pytest.raises(InputError, match=rf"{flag(name)} (is .*but the model in .* has|is for a new model|.*subwords)"):
        prepared(tmp_path, text, init_from=str(general), **{name: value})
    assert not (tmp_path / "prepared").exists()


def test_a_folder_that_is_no_model_is_named(tmp_path, text, general, capsys):
    assert train(*of(text), "--init-from", general, "--overwrite", "--out", general.parent / "." / "general") == 2
    assert "is the folder of the new run itself: choose another --out" in capsys.readouterr().err
    shutil.copytree(general, tmp_path / "early")
    (tmp_path / "early" / "model.safetensors").unlink()
    for path, words in ((tmp_path / "none", "does not exist"), (text, "holds no model"),
                        (tmp_path / "early", "a run has it from its first validation on")):
        assert train(*of(text), "--init-from", path, "--out", tmp_path / "new") == 2
        assert words in capsys.readouterr().err and not (tmp_path / "new").exists()


# vocabularies

def spm(path, lines, **options):
    import sentencepiece

    with open(path, "wb") as file:
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=file, vocab_size=30,
                                                 hard_vocab_limit=False, minloglevel=3, **options)
    return path


def test_vocabularies_of_a_run_are_taken_as_they_are(tmp_path, text, general):
    own = prepared(tmp_path, text, "other", src_vocab=str(general / "src.vocab.json"),
                   tgt_vocab=str(general / "tgt.vocab.json"), embed_size=8, hidden_size=8).data
    _, src_vocab, tgt_vocab = checkpoint.load_model(general)
    assert (own.src_vocab.digest(), own.tgt_vocab.digest()) == (src_vocab.digest(), tgt_vocab.digest())


def test_one_file_twice_is_a_joint_vocabulary_and_what_is_not_given_is_learned(tmp_path, text, general):
    file = str(general / "src.vocab.json")
    shutil.copy(file, tmp_path / "copy.json")
    data = prepared(tmp_path, text, src_vocab=file, tgt_vocab=str(tmp_path / "copy.json")).data
    assert data.src_vocab is data.tgt_vocab
    data = prepared(tmp_path / "one", text, tgt_vocab=file, vocab="bpe", vocab_size=30).data
    assert isinstance(data.src_vocab, SentencePieceVocabulary) and isinstance(data.tgt_vocab, WordVocabulary)


def test_a_sentencepiece_model_from_elsewhere(tmp_path, text):
    lines = (text / "own" / "train.src").read_text().splitlines()
    model = spm(tmp_path / "fit.model", lines, pad_id=0, bos_id=1, eos_id=2, unk_id=3)
    data = prepared(tmp_path, text, src_vocab=str(model)).data
    assert data.src_vocab.to_bytes() == model.read_bytes()
    other = spm(tmp_path / "other.model", lines)  # with sentencepiece's own ids; the remedy is the line before
    with pytest.raises(InputError, match=r"other.model .*its first pieces are <unk> <s> </s> .*spm_train gives it with "
                                         r"--pad_id=0 --bos_id=1 --eos_id=2 --unk_id=3"):
        prepared(tmp_path / "2", text, src_vocab=str(other))


@pytest.mark.parametrize("write", [
    lambda words: "".join(f"{word}\n" for word in words),
    lambda words: "".join(f"{word} {7 * i}\n" for i, word in enumerate(words)),  # subword-nmt, fairseq
    lambda words: "".join(f"{word}\t{7 * i}\r\n" for i, word in enumerate(["<unk>", "<pad>", "<s>", "</s>", *words])),
    lambda words: "\ufeff" + "\n".join([*words, words[0], ""]),
], ids=["words", "counts", "specials", "twice"])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_list_of_words(tmp_path, text, write, compressed):
    path = tmp_path / ("list.txt" + ".gz" * compressed)
    data = write([*LETTERS, "caf\u00e9"]).encode()
    path.write_bytes(gzip.compress(data) if compressed else data)
    found = prepared(tmp_path, text, tgt_vocab=str(path), vocab="word").data.tgt_vocab
    assert [found.token(i) for i in range(4, len(found))] == [*LETTERS, "caf\u00e9"]


@pytest.mark.parametrize("content, words", [
    (b"", "is empty"), (b"\n\n", "has only blank lines"), (b"a\n\xff\n", "line 2: byte 0xff is not UTF-8"),
    (b'{"format": 1}', "is not a vocabulary"), (b"\x00\x01\x02", "SentencePiece"), (None, "no file"),
    ("<unk>\t0\n<s>\t0\n</s>\t0\ns\t-1.5\n\u2581a\t-2.25\n".encode(), "give the .model file instead"),
])
def test_a_file_that_is_no_vocabulary_is_named(tmp_path, text, content, words):
    path = tmp_path / "vocabulary"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"{path}.*{words}" if content is not None else str(path)):
        prepared(tmp_path, text, src_vocab=str(path))


@pytest.mark.parametrize("given, words", [
    (dict(src_vocab="a", tgt_vocab="b", vocab_size=9), "--vocab-size is for a vocabulary that is learned"),
    (dict(src_vocab="a", tgt_vocab="b", vocab="bpe"), "--vocab is for a vocabulary that is learned"),
    (dict(src_vocab="a", joint_vocab=True), "give one file as --src-vocab and --tgt-vocab"),
])
def test_options_that_would_be_ignored_are_refused(tmp_path, text, given, words):
    with pytest.raises(InputError, match=words):
        prepared(tmp_path, text, **given)


# embeddings

def test_embeddings_are_those_of_the_file(tmp_path, text, capsys):
    numbers = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    words = ["a", "nowhere", "c"]
    lines = [f"{word} {' '.join(map(str, row))}\n" for word, row in zip(words, numbers, strict=True)]
    (tmp_path / "glove.txt").write_text("".join(lines))
    (tmp_path / "w2v.vec").write_text("3 8\n" + "".join(lines))
    seed = prepared(tmp_path, text, vocab="word", min_count=1, embed_size=8, hidden_size=8)
    ready = prepared(tmp_path / "2", text, vocab="word", min_count=1, embed_size=8, hidden_size=8,
                     src_embeddings=str(tmp_path / "glove.txt"), tgt_embeddings=str(tmp_path / "w2v.vec"))
    params, rows = ready.model.params, {}
    for side, vocabulary in (("src", ready.data.src_vocab), ("tgt", ready.data.tgt_vocab)):
        rows[side] = [vocabulary.encode(word)[0] for word in ("a", "c")]
        assert np.array_equal(params[f"embed.{side}"][rows[side]], numbers[[0, 2]])
    for name, first in seed.model.params.items():
        same = params[name] == first
        assert same.all() or not same[rows[name.removeprefix("embed.")]].any() and same.sum() == same.size - 16, name
    size = len(ready.data.src_vocab)
    assert ready.first_weights == (f"with 2 of {size} source embeddings from {tmp_path / 'glove.txt'}, "
                                   f"with 2 of {size} target embeddings from {tmp_path / 'w2v.vec'}")
    arguments = [*of(text), *SMALL, "--vocab", "word", "--src-embeddings", tmp_path / "glove.txt"]
    assert train(*arguments, "--out", tmp_path / "run") == 0
    assert f"start       with 2 of {size} source embeddings from" in capsys.readouterr().out
    assert train(*of(text), "--vocab", "word", "--embed-size", 9, "--src-embeddings", tmp_path / "glove.txt", "--out",
                 tmp_path / "wrong") == 2
    assert "vectors of 8 numbers, expected 9: choose --embed-size 8" in capsys.readouterr().err
    assert not (tmp_path / "wrong").exists()


# models that are kept

def weights(folder):
    return checkpoint.load_model(folder).model.params.flat


def test_the_models_of_the_last_validations_are_kept_and_can_be_loaded(tmp_path):
    train_by_hand(tmp_path / "run", valid_every=2, max_steps=9, keep=3)
    kept = RunFolder(tmp_path / "run").checkpoints()
    assert [path.name for path in kept] == ["step-6", "step-8", "step-9"]
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir() if path not in kept] == []
    train_by_hand(tmp_path / "short", valid_every=2, max_steps=8, patience=0)
    assert np.array_equal(weights(kept[1]), weights_at(tmp_path / "short"))
    checkpoint.average(kept, tmp_path / "mean")
    mean = np.mean([weights(path).astype(np.float64) for path in kept], axis=0)
    assert np.allclose(weights(tmp_path / "mean"), mean, atol=1e-7)


def weights_at(folder):
    return run_folder.read_tensors(folder / run_folder.STATE)[0]["params"]


def test_a_killed_run_keeps_what_the_uninterrupted_one_keeps(tmp_path, monkeypatch):
    changes = {"valid_every": 2, "max_steps": 8, "keep": 2, "average": 0.9}
    train_by_hand(tmp_path / "whole", **changes)
    keep = RunFolder.keep_model

    def killed(self, step, *rest):
        if step == 6:
            raise Killed
        keep(self, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "keep_model", killed)
        with pytest.raises(Killed):
            train_by_hand(tmp_path / "cut", **changes)
    left = tmp_path / "cut" / "checkpoints" / ".step-6.77-0.tmp"
    left.mkdir()
    train_by_hand(tmp_path / "cut", resume=True, **changes)
    whole, cut = (RunFolder(tmp_path / name).checkpoints() for name in ("whole", "cut"))
    assert [path.name for path in whole] == [path.name for path in cut] == ["step-6", "step-8"] and not left.exists()
    for one, other in zip(whole, cut, strict=True):
        assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


def test_a_run_that_goes_back_keeps_no_models_of_the_way_that_it_left(tmp_path):
    train_by_hand(tmp_path / "run", valid_every=2, max_steps=4)
    (tmp_path / "run" / run_folder.STATE).rename(tmp_path / "earlier")
    train_by_hand(tmp_path / "run", valid_every=2, max_steps=10, keep=3, overwrite=True)
    (tmp_path / "earlier").rename(tmp_path / "run" / run_folder.STATE)  # with another rate
    train_by_hand(tmp_path / "run", valid_every=2, max_steps=8, keep=3, learning_rate=0.001, resume=True)
    assert [path.name for path in RunFolder(tmp_path / "run").checkpoints()] == ["step-4", "step-6", "step-8"]
    kept = weights(tmp_path / "run" / "checkpoints" / "step-8")
    assert np.array_equal(kept, weights_at(tmp_path / "run"))


def test_whoever_edits_the_config_meanwhile_stops_no_run_and_spoils_no_model(tmp_path, monkeypatch):
    keep = RunFolder.keep_model

    def edited(self, step, *rest):
        config.write_text("{}")
        keep(self, step, *rest)

    config = tmp_path / "run" / "config.json"
    monkeypatch.setattr(RunFolder, "keep_model", edited)
    train_by_hand(tmp_path / "run", valid_every=2, max_steps=4, keep=2)
    assert np.array_equal(weights(tmp_path / "run" / "checkpoints" / "step-4"), weights_at(tmp_path / "run"))


def test_a_new_run_does_not_mix_with_what_another_kept(tmp_path):
    train_by_hand(tmp_path, valid_every=2, max_steps=6, keep=9)
    train_by_hand(tmp_path, valid_every=3, max_steps=6, overwrite=True)
    assert not RunFolder(tmp_path).checkpoints()
    train_by_hand(tmp_path, valid_every=3, max_steps=9, keep=1, resume=True)
    assert [path.name for path in RunFolder(tmp_path).checkpoints()] == ["step-9"]
    for path in tmp_path.iterdir():
        if path.is_file():
            path.unlink()
    with pytest.raises(InputError, match="holds files that a run would replace \\(checkpoints\\)"):
        train_by_hand(tmp_path, max_steps=1)
