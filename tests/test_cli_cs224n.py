"""`scratchnmt import-cs224n` and `export-cs224n`: there and back a model translates the same; or nothing is written."""

import json
import shutil

import numpy as np
import pytest
from test_cli import refused

from scratchnmt import NMT, Translator, checkpoint
from scratchnmt.cli import main
from scratchnmt.data.toy import toy_corpus
from scratchnmt.data.vocab import WordVocabulary
from scratchnmt.files.run_folder import RunFolder
from scratchnmt.interop import nmt_to_pytorch

safetensors = pytest.importorskip("safetensors.numpy")
SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(a folder with a model that has learned a little, the lines to translate)."""
    pytest.importorskip("sacrebleu"), pytest.importorskip("tqdm"), pytest.importorskip("matplotlib")
    folder, corpus = tmp_path_factory.mktemp("trained"), toy_corpus(train=100, valid=10, test=8)
    for split, lines in corpus._asdict().items():
        for language, side in (("en", lines.src), ("fr", lines.tgt)):
            (folder / f"{split}.{language}").write_text("".join(line + "\n" for line in side), encoding="utf-8")
    data = [f"--{split}-{side}={folder}/{split}.{language}" for split in ("train", "valid")
            for side, language in (("src", "en"), ("tgt", "fr"))]
    options = ("--vocab word --min-count 1 --embed-size 8 --hidden-size 12 --init glorot --learning-rate 0.02 "
               "--dropout 0.2 --batch-size 8 --max-epochs 6")
    assert main(["train", *data, "--out", str(folder / "model"), *options.split()]) == 0
    return folder / "model", folder / "test.en"


@pytest.fixture
def course(tmp_path):
    """(the weights of the course, as arrays, and the paths of them as safetensors and of vocab.json)."""
    weights = nmt_to_pytorch(NMT(7, 8, 3, 4, dtype="float32", seed=5))
    safetensors.save_file(weights, tmp_path / "w.safetensors")
    ids = lambda words: {word: i for i, word in enumerate((*SPECIALS, *words))}
    (tmp_path / "vocab.json").write_text(json.dumps({"src_word2id": ids("abc"), "tgt_word2id": ids("defg")}))
    return weights, tmp_path / "w.safetensors", tmp_path / "vocab.json"


@pytest.mark.parametrize("combined", ["a,h", "h,a"])
def test_a_model_translates_the_same_after_the_trip(call, trained, tmp_path, combined):
    model, text = trained
    exported = call("export-cs224n", "--model", model, "--out", tmp_path / "w.safetensors", "--vocab-out",
                    tmp_path / "vocab.json", "--combined", combined)
    assert exported[0] == 0 and "dropout_rate 0.2" in exported[1] and f"combined {combined}" in exported[1]
    status, out, err = call("import-cs224n", "--weights", tmp_path / "w.safetensors", "--vocab",
                            tmp_path / "vocab.json", "--out", tmp_path / "back", "--combined", combined)
    assert status == 0 and err == "" and "embed_size 8, hidden_size 12" in out
    before, after = (checkpoint.load_model(folder) for folder in (model, tmp_path / "back"))
    assert before.model.params.flat.tobytes() == after.model.params.flat.tobytes()
    options = ["--input", text, "--n-best", 3]
    translated = [call("translate", "--model", folder, *options) for folder in (model, tmp_path / "back")]
    assert translated[0] == translated[1] and translated[0][0] == 0
    scored = [call("evaluate", "--model", folder, "--src", text, "--ref", text.with_suffix(".fr"), "--json")
              for folder in (model, tmp_path / "back")]
    assert len({json.loads(out)["perplexity"] for _, out, _ in scored}) == 1
    assert len({line.split("\t")[2] for line in translated[0][1].splitlines()}) > 8  # it says different things


def test_the_wrong_order_translates_otherwise(call, trained, tmp_path):
    model, text = trained
    call("export-cs224n", "--model", model, "--out", tmp_path / "w.safetensors", "--vocab-out", tmp_path / "vocab.json",
         "--combined", "h,a")
    assert call("import-cs224n", "--weights", tmp_path / "w.safetensors", "--vocab", tmp_path / "vocab.json", "--out",
                tmp_path / "back")[0] == 0
    assert call("translate", "--model", model, "--input", text) != call("translate", "--model", tmp_path / "back",
                                                                        "--input", text)


@pytest.mark.parametrize("zipped", [True, False])
def test_pytorchs_own_file_of_a_model_that_pytorch_runs(call, tmp_path, zipped):
    torch = pytest.importorskip("torch")
    from torch_loop import beam_search
    from torch_model import TorchNMT

    torch.manual_seed(0)
    theirs = TorchNMT(7, 8, 3, 4).double().eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter *= 3
    torch.save({"args": dict(embed_size=3, hidden_size=4, dropout_rate=0.25), "state_dict": theirs.state_dict()},
               tmp_path / "model.bin", _use_new_zipfile_serialization=zipped)
    ids = lambda words: {word: i for i, word in enumerate((*SPECIALS, *words))}
    (tmp_path / "vocab.json").write_text(json.dumps({"src_word2id": ids("abc"), "tgt_word2id": ids("defg")}))
    assert call("import-cs224n", "--weights", tmp_path / "model.bin", "--vocab", tmp_path / "vocab.json", "--out",
                tmp_path / "m")[0] == 0
    model = Translator.load(tmp_path / "m").model
    assert model.config.dropout == 0.25 and model.params.flat.dtype == np.float64
    for sentence in ([4], [5, 6], [4, 6, 5, 4]):
        value, score = beam_search(theirs, sentence, 3, max_steps=9, shrink=False)[0]
        found = model.beam_search(sentence, beam_size=3, max_decoding_time_step=9)[0]
        assert list(found.value) == value and found.score == pytest.approx(score, rel=1e-9)


def test_other_numbers_of_the_special_tokens(call, course, tmp_path):
    weights, path, vocab = course
    assert call("import-cs224n", "--weights", path, "--vocab", vocab, "--out", tmp_path / "usual")[0] == 0
    rng = np.random.default_rng(0)
    src, tgt = rng.permutation(7), rng.permutation(8)
    content, other = json.loads(vocab.read_text()), {}
    for side, order in (("src_word2id", src), ("tgt_word2id", tgt)):
        words = list(content[side])
        other[side] = {words[i]: new for new, i in enumerate(order.tolist())}
    moved = {**weights, "model_embeddings.source.weight": weights["model_embeddings.source.weight"][src]}
    for name in ("model_embeddings.target.weight", "target_vocab_projection.weight"):
        moved[name] = weights[name][tgt]
    safetensors.save_file(moved, path)
    vocab.write_text(json.dumps(other))
    assert call("import-cs224n", "--weights", path, "--vocab", vocab, "--out", tmp_path / "moved")[0] == 0
    usual, found = (Translator.load(tmp_path / name) for name in ("usual", "moved"))
    lines = ["a b c", "c a", "b"]
    their_words = [found.tgt_vocab.token(i) for i in range(8)]
    assert their_words[:4] == list(SPECIALS)
    for i in range(8):
        j = their_words.index(usual.tgt_vocab.token(i))
        assert np.array_equal(usual.model.params["embed.tgt"][i], found.model.params["embed.tgt"][j])
        assert np.array_equal(usual.model.params["vocab.W"][:, i], found.model.params["vocab.W"][:, j])
    assert usual.translate(lines) == found.translate(lines)


def test_words_that_are_shown_otherwise_are_told(call, course, tmp_path):
    _, path, vocab = course
    content = json.loads(vocab.read_text())
    content["src_word2id"] = {word.replace("b", "b\u00a0b"): i for word, i in content["src_word2id"].items()}
    vocab.write_text(json.dumps(content))
    status, out, err = call("import-cs224n", "--weights", path, "--vocab", vocab, "--out", tmp_path / "m")
    assert status == 0 and "1 source words are written differently here: 'b\\xa0b' as 'b␣b'" in err


def test_words_that_are_shown_otherwise_do_not_reach_the_terminal_as_they_are(call, course, tmp_path):
    _, path, vocab = course
    content, odd = json.loads(vocab.read_text()), "\x1b[2J " + "x" * 10_000
    content["src_word2id"] = {odd if word == "b" else word: i for word, i in content["src_word2id"].items()}
    vocab.write_text(json.dumps(content))
    status, _, err = call("import-cs224n", "--weights", path, "--vocab", vocab, "--out", tmp_path / "m")
    assert status == 0 and "1 source words" in err and "\x1b" not in err and len(err) < 2000


def test_what_cannot_be_imported_leaves_nothing(call, course, tmp_path, monkeypatch):
    weights, path, vocab = course
    arguments = lambda **changed: [part for name, value in {"weights": path, "vocab": vocab, "out": tmp_path / "m",
                                                            **changed}.items() for part in (f"--{name}", value)]
    before = files(tmp_path)
    refused(call("import-cs224n", *arguments(weights=tmp_path / "absent")), "absent cannot be read")
    refused(call("import-cs224n", *arguments(vocab=path)), "not JSON")
    refused(call("import-cs224n", *arguments(weights=vocab)), "no file of safetensors or of torch.save")
    refused(call("import-cs224n", *arguments(out=tmp_path)), "is there already")
    refused(call("import-cs224n", *arguments(out=vocab)), "is there already")
    refused(call("import-cs224n", *arguments(combined="ha")), "invalid choice: 'ha'")
    monkeypatch.setattr(RunFolder, "save_weights", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    refused(call("import-cs224n", *arguments()), "No space left")
    assert files(tmp_path) == before
    wrong = dict(weights)
    del wrong["c_projection.weight"]
    safetensors.save_file(wrong, path)
    refused(call("import-cs224n", *arguments()), f"{path}: the state_dict does not fit", "missing: c_projection.weight")
    safetensors.save_file(nmt_to_pytorch(NMT(7, 9, 3, 4)), path)
    refused(call("import-cs224n", *arguments()), "has 8 target words", "embedding of 9")
    (tmp_path / "w.safetensors").write_bytes(b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.")
    refused(call("import-cs224n", *arguments()), "wants posix.system", "refused")
    assert files(tmp_path) == before


def test_an_empty_folder_is_used(call, course, tmp_path):
    (tmp_path / "m").mkdir()
    assert call("import-cs224n", "--weights", course[1], "--vocab", course[2], "--out", tmp_path / "m")[0] == 0
    assert files(tmp_path / "m") == ["config.json", "model.safetensors", "src.vocab.json", "tgt.vocab.json"]


@pytest.mark.parametrize("choices, told", [
    (dict(layers=2), "layers = 2"), (dict(bidirectional=False), "bidirectional = False"),
    (dict(score="dot"), "score = dot"), (dict(feed="none"), "feed = none"),
    (dict(tie_embeddings=True), "tie_embeddings = True"),
    (dict(attention="multi-head", heads=2), "has attention = multi-head: "),
])
def test_a_model_that_the_course_has_not_is_not_exported(call, tmp_path, choices, told):
    words = WordVocabulary(["a", "b"])
    checkpoint.save_model(tmp_path / "m", NMT(6, 6, 4, 4, **choices), words, words)
    before = files(tmp_path)
    refused(call("export-cs224n", "--model", tmp_path / "m", "--out", tmp_path / "w.safetensors", "--vocab-out",
                 tmp_path / "v.json"), told, "CS224N's code has no such model")
    assert files(tmp_path) == before


def test_where_it_cannot_be_written(call, trained, tmp_path):
    model, out = trained[0], tmp_path / "w.safetensors"
    export = lambda out, vocab: call("export-cs224n", "--model", model, "--out", out, "--vocab-out", vocab)
    refused(export(tmp_path / "no" / "w.safetensors", tmp_path / "v.json"), "is not a folder")
    refused(export(out, tmp_path), "is a directory")
    refused(export(out, out), "are both")
    refused(export(tmp_path / "model.bin", tmp_path / "v.json"), "does not end in .safetensors")
    assert not files(tmp_path)
    shutil.copytree(model, tmp_path / "damaged")
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"x")
    refused(call("export-cs224n", "--model", tmp_path / "damaged", "--out", out, "--vocab-out", tmp_path / "v.json"),
            "is damaged")
    assert files(tmp_path / "damaged") and not out.exists()


@pytest.mark.parametrize("name", ["import-cs224n", "export-cs224n"])
def test_help_has_an_example(call, name):
    status, out, err = call(name, "--help")
    assert status == 0 and not err and f"\n  scratchnmt {name}" in out.partition("\nexample")[2]


@pytest.mark.parametrize("out, vocab", [("m/model.safetensors", "v.json"), ("w.safetensors", "m/config.json"),
                                        ("link.safetensors", "v.json")])
def test_an_export_does_not_take_the_place_of_a_model(call, tmp_path, out, vocab):
    words = WordVocabulary(list("abc"))
    checkpoint.save_model(tmp_path / "m", NMT(7, 7, 4, 4), words, words)
    (tmp_path / "link.safetensors").symlink_to("m/model.safetensors")
    refused(call("export-cs224n", "--model", tmp_path / "m", "--out", tmp_path / out, "--vocab-out", tmp_path / vocab),
            "would replace ", f" of the model in {tmp_path / 'm'}: choose another name")
    assert checkpoint.load_model(tmp_path / "m") and not (tmp_path / "v.json").exists()
    own = [tmp_path / "m" / name for name in ("weights.safetensors", "vocab.json")]  # beside it there is room
    assert call("export-cs224n", "--model", tmp_path / "m", "--out", own[0], "--vocab-out", own[1])[0] == 0
