"""The commands on text that is packed, or both sides of which are in one file."""

import bz2
import gzip
import json
import lzma
import subprocess

import pytest

from scratchnmt.cli import main
from scratchnmt.data.corpus import Corpus
from scratchnmt.data.toy import toy_corpus
from scratchnmt.files.run_folder import RunFolder

for package in ("sacrebleu", "sentencepiece", "safetensors", "tqdm", "matplotlib"):
    pytest.importorskip(package)

TINY = ["--vocab", "word", "--min-count", "1", "--embed-size", "8", "--hidden-size", "8", "--max-steps", "2"]


def refused(result, *parts):
    status, out, err = result
    assert status == 2 and out == "" and err.count("\n") == 1, (status, out, err)
    for part in parts:
        assert part in err


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """The same pairs as two files, plain and packed, as TSV and as JSON lines."""
    folder = tmp_path_factory.mktemp("text")
    for split, (src, tgt) in toy_corpus(train=60, valid=12, test=10)._asdict().items():
        for language, lines in ("en", src), ("fr", tgt):
            data = "".join(line + "\n" for line in lines).encode()
            (folder / f"{split}.{language}").write_bytes(data)
            (folder / f"{split}.{language}.xz").write_bytes(lzma.compress(data))
            (folder / f"{split}.{language}.bz2").write_bytes(bz2.compress(data))
        pairs = list(zip(src, tgt, strict=True))
        (folder / f"{split}.tsv").write_text("".join(f"{n}\t{t}\t{s}\n" for n, (s, t) in enumerate(pairs)))
        (folder / f"{split}.jsonl").write_text("".join(json.dumps({"translation": {"en": s, "fr": t}}) + "\n"
                                                       for s, t in pairs))
    return folder


@pytest.fixture(scope="module")
def run(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "plain"
    files = ["--train-src", text / "train.en", "--train-tgt", text / "train.fr",
             "--valid-src", text / "valid.en", "--valid-tgt", text / "valid.fr"]
    assert main([str(a) for a in ["train", *files, "--out", folder, *TINY]]) == 0
    return folder


def same_run(one, other):
    for name in ("src.vocab.json", "tgt.vocab.json", "corpus/ids.bin", "model.safetensors"):
        if (one / name).exists() or name != "corpus/ids.bin":
            assert (one / name).read_bytes() == (other / name).read_bytes()
    assert list(Corpus.open(one / "corpus")) == list(Corpus.open(other / "corpus"))


KEYS = "translation.en,translation.fr"


@pytest.mark.parametrize("files", [
    ["--train-tsv", "train.tsv", "--valid-tsv", "valid.tsv", "--columns", "3,2"],
    ["--train-tsv", "train.jsonl", "--valid-tsv", "valid.jsonl", "--columns", KEYS],
    ["--train-tsv", "train.tsv", "--columns", "3,2", "--valid-src", "valid.en", "--valid-tgt", "valid.fr"],
    ["--train-src", "train.en.xz", "--train-tgt", "train.fr.bz2", "--valid-src", "valid.en.bz2",
     "--valid-tgt", "valid.fr.xz"],
])
def test_training_is_the_same_whatever_the_pairs_are_kept_in(call, text, run, files, tmp_path, monkeypatch):
    monkeypatch.chdir(text)
    out = tmp_path / "run"
    assert call("train", *files, "--out", out, *TINY)[0] == 0
    same_run(out, run)
    monkeypatch.chdir(tmp_path)
    status, printed, err = call("train", "--out", out, "--resume", "--max-steps", 4)  # which knows where its text was
    assert status == 0 and "made anew" not in err
    advised = [line for line in printed.splitlines() if line.startswith("  scratchnmt")]
    assert len(advised) == 2
    for line in advised:
        found = subprocess.run(["bash", "-c", line.replace("scratchnmt ", "python -m scratchnmt ")],
                               capture_output=True, encoding="utf-8")
        assert found.returncode == 0, found.stderr


def test_a_resumed_run_may_find_its_pairs_in_another_form(call, text, tmp_path, monkeypatch):
    monkeypatch.chdir(text)
    tables = ["--train-tsv", "train.tsv", "--valid-tsv", "valid.tsv", "--columns", "3,2"]
    files = ["--train-src", "train.en", "--train-tgt", "train.fr", "--valid-src", "valid.en", "--valid-tgt", "valid.fr"]
    assert call("train", *tables, "--out", tmp_path / "a", *TINY)[0] == 0
    data = RunFolder(tmp_path / "a").read().data
    assert (data["train_tsv"], data["columns"]) == (str(text / "train.tsv"), "3,2") and "train_src" not in data
    assert call("train", "--out", tmp_path / "a", "--resume", "--max-steps", 3, *files)[0] == 0
    assert call("train", "--out", tmp_path / "a", "--resume", "--max-steps", 4, *tables)[0] == 0
    refused(call("train", "--out", tmp_path / "a", "--resume", "--max-steps", 5, "--columns", "2,3"),
            "--columns is 2,3, but the run", "was started with 3,2")


@pytest.mark.parametrize("files, parts", [
    (["--train-tsv", "train.tsv", "--train-src", "train.en"], ["--train-tsv holds both sides: leave --train-src out"]),
    (["--train-tsv", "train.tsv"], ["--valid-src, --valid-tgt must be given"]),
    (["--train-tsv", "train.tsv", "--valid-tsv", "valid.tsv", "--columns", "3,4"],
     ["valid.tsv, line 1 has 3 columns separated by tabs, and column 4 was asked for"]),
    (["--train-tsv", "train.jsonl", "--valid-tsv", "valid.jsonl"], ["valid.jsonl, line 1 has 1 column", "keys"]),
    (["--train-tsv", "train.jsonl", "--valid-tsv", "valid.jsonl", "--columns", "en,fr"],
     ["has no key en, only translation"]),
    (["--train-tsv", "train.tsv", "--valid-tsv", "valid.tsv", "--columns", "en,fr"], ["line 1 is not a JSON object"]),
    *((["--train-tsv", "train.tsv", "--valid-tsv", "valid.tsv", "--columns", columns], [f"columns is {columns}", "1,2"])
      for columns in ("3", "1,2,3", "1,", "0,1")),
    (["--train-src", "train.tsv", "--train-tgt", "train.tsv", "--valid-src", "valid.en", "--valid-tgt", "valid.fr"],
     ["train.tsv has 3 columns separated by tabs", "--train-tsv FILE --columns 1,2"]),
    (["--train-src", "train.en", "--train-tgt", "train.fr", "--valid-src", "valid.tsv", "--valid-tgt", "valid.tsv"],
     ["valid.tsv has 3 columns separated by tabs"]),
    (["--train-src", "train.en", "--train-tgt", "train.fr", "--valid-src", "valid.en", "--valid-tgt", "valid.fr",
      "--columns", "2,1"], ["--columns needs --train-tsv or --valid-tsv"]),
    (["--train-tsv", "-", "--valid-tsv", "valid.tsv"], ["standard input (-) is read once"]),
])
def test_what_does_not_fit_together_is_refused(call, text, tmp_path, monkeypatch, files, parts):
    monkeypatch.chdir(text)
    refused(call("train", *files, "--out", tmp_path / "run", *TINY), *parts)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("pack", [gzip.compress, lambda data: data], ids=["gz", "plain"])
def test_archives_are_never_trained_on(call, text, tmp_path, monkeypatch, pack):
    monkeypatch.chdir(tmp_path)
    for side in ("en", "fr"):
        subprocess.run(["tar", "-cf", side, "-C", text, f"train.{side}"], check=True)
        (tmp_path / side).write_bytes(pack((tmp_path / side).read_bytes()))
    refused(call("train", "--train-src", "en", "--train-tgt", "fr", "--valid-src", text / "valid.en", "--valid-tgt",
                 text / "valid.fr", "--out", "run", *TINY), "en is a tar archive", "tar -xf en")
    assert not (tmp_path / "run").exists()


def test_translate_reads_what_is_packed_from_files_and_from_standard_input(call, run, text):
    model = ["translate", "--model", run]
    expected = call(*model, "--input", text / "test.en")
    assert expected[0] == 0 and expected[1].count("\n") == 10
    data = (text / "test.en").read_bytes()
    for suffix, pack in (("", bytes), (".xz", lzma.compress), (".bz2", bz2.compress)):
        assert call(*model, "--input", text / f"test.en{suffix}") == expected
        assert call(*model, stdin=pack(data)) == call(*model, "--input", "-", stdin=pack(data)) == expected
    refused(call(*model, stdin=data.decode().encode("utf-16")), "standard input is UTF-16", "iconv")
    refused(call(*model, "--input", text / "test.tsv"), "test.tsv has 3 columns", f"cut -f1 {text}/test.tsv")
    (text / "packed").write_bytes(lzma.compress((text / "test.tsv").read_bytes()))
    refused(call(*model, "--input", text / "packed"), "packed has 3 columns", f"xz -dc {text}/packed | cut -f1")
    refused(call(*model, stdin=(text / "test.tsv").read_bytes()), "standard input has 3 columns", "cut -f1 FILE")


def test_evaluate_and_score_read_what_is_packed_and_standard_input(call, run, text):
    pairs = {"evaluate": ("--src", "--ref", "--json"), "score": ("--src", "--tgt", "--tokens")}
    for command, (src, tgt, more) in pairs.items():
        results = [call(command, "--model", run, src, one, tgt, text / f"test.fr{suffix}", more, stdin=stdin)
                   for one, suffix, stdin in ((text / "test.en", "", b""), (text / "test.en.xz", ".bz2", b""),
                                              ("-", ".xz", (text / "test.en.bz2").read_bytes()))]
        assert all(status == 0 for status, _, _ in results)
        kept = [json.loads(out) if more == "--json" else out for _, out, _ in results]
        for scores in kept if more == "--json" else []:
            del scores["seconds"], scores["sentences_per_second"]
        assert kept[0] == kept[1] == kept[2]
        refused(call(command, "--model", run, src, text / "test.jsonl", tgt, text / "test.fr"), "jq -r .translation")
