"""How BLEU is taken by train and evaluate: its tokenizer, and several references."""

import json
import random
from pathlib import Path

import pytest

from scratchnmt.cli import main
from scratchnmt.files.run_folder import CONFIG, STATE, RunFolder
from scratchnmt.files.tensors import read_tensors, write_tensors
from scratchnmt.metrics import corpus_bleu
from scratchnmt.training import TrainingOptions

for package in ("sacrebleu", "sentencepiece", "safetensors", "tqdm", "matplotlib", "threadpoolctl"):
    pytest.importorskip(package)

TINY = ["--embed-size", "8", "--hidden-size", "8", "--max-steps", "2"]
WORDS = ["--vocab", "word", "--min-count", "1"]
SUBWORDS = ["--vocab-size", "60"]
WORD = {"cat": ("chat", "猫", "แมว"), "dog": ("chien", "狗", "หมา"), "bird": ("oiseau", "鸟", "นก"),
        "sees": ("voit", "看见", "เห็น"), "finds": ("trouve", "找到", "พบ"), "the": ("le", "这", "นี้")}


def sentences(count, seed):
    """In English, French, Chinese and Thai, the last two without spaces."""
    draw = random.Random(seed)
    animals, verbs = ["cat", "dog", "bird"], ["sees", "finds"]
    lines = [["the", draw.choice(animals), draw.choice(verbs), "the", draw.choice(animals)] for _ in range(count)]
    joined = {"en": [" ".join(line) + " ." for line in lines]}
    for number, (language, space, stop) in enumerate([("fr", " ", " ."), ("zh", "", "。"), ("th", "", "")]):
        joined[language] = [space.join(WORD[word][number] for word in line) + stop for line in lines]
    return joined


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    for name, count, seed in ("train", 60, 0), ("valid", 12, 1), ("test", 8, 2):
        for language, lines in sentences(count, seed).items():
            (folder / f"{name}.{language}").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


def files(text, src, tgt):
    return [f"--{name}-{side}={text}/{name}.{language}" for name in ("train", "valid")
            for side, language in (("src", src), ("tgt", tgt))]


@pytest.fixture(scope="module")
def runs(text, tmp_path_factory):
    """A run of words with a French target, and one of subwords with a Chinese one."""
    folder = tmp_path_factory.mktemp("runs")
    for language, vocabulary in ("fr", WORDS), ("zh", SUBWORDS):
        assert main(["train", *files(text, "en", language), "--out", str(folder / language), *TINY, *vocabulary]) == 0
    return folder


# the tokenizer of BLEU


@pytest.mark.parametrize("language, tokenizer", [("fr", None), ("zh", "zh"), ("th", "char")])
def test_train_takes_the_tokenizer_that_fits_the_target(call, text, tmp_path, monkeypatch, language, tokenizer):
    taken = []

    def noted(*lines, tokenize):
        taken.append(tokenize)
        return corpus_bleu(*lines, tokenize=tokenize)

    monkeypatch.setattr("scratchnmt.training.validation.corpus_bleu", noted)
    status, out, err = call("train", *files(text, "en", language), "--out", tmp_path / "run", *TINY, *SUBWORDS)
    assert status == 0 and "--tokenize" not in out + err
    assert ("BLEU with tokenizer" in out) == (tokenizer is not None)
    assert tokenizer is None or f"BLEU with tokenizer {tokenizer}\n" in out
    assert taken == [tokenizer or "13a"]
    assert RunFolder(tmp_path / "run").read().training["tokenize"] == "auto"
    _, info = read_tensors(tmp_path / "run" / STATE)
    assert info["fixed"]["tokenize"] == (tokenizer or "13a")


@pytest.mark.parametrize("tokenize, language, fitting", [("13a", "zh", "zh"), ("intl", "zh", "zh"),
                                                         ("none", "th", "char"), ("zh", "th", "char")])
def test_a_tokenizer_that_fits_no_spaces_is_warned_of(call, text, runs, tmp_path, tokenize, language, fitting):
    status, _, err = call("train", *files(text, "en", language), "--out", tmp_path / "run", *TINY, *SUBWORDS,
                          "--tokenize", tokenize)
    warning = (f"warning: BLEU with --tokenize {tokenize} looks for words between spaces, and {text}/valid.{language} "
               f"has none there: it says little; --tokenize {fitting} fits")
    assert status == 0 and warning in err
    status, out, err = call("evaluate", "--model", runs / "zh", "--src", text / "test.en", "--ref",
                            text / f"test.{language}", "--tokenize", tokenize, "--json")
    assert status == 0 and warning.replace("valid.", "test.") in err
    assert f"|tok:{tokenize}|" in json.loads(out)["bleu_signature"]


def test_what_to_type_next_has_the_tokenizer_of_the_run(call, text, tmp_path):
    for tokenize, said in (None, False), ("13a", False), ("char", True):
        chosen = ["--tokenize", tokenize] if tokenize else []
        out = call("train", *files(text, "en", "fr"), "--out", tmp_path / str(tokenize), *TINY, *WORDS, *chosen)[1]
        assert out.rstrip().endswith(f"valid.fr --tokenize {tokenize}" if said else "valid.fr")


def test_a_run_goes_on_with_its_tokenizer(call, text, tmp_path):
    out = tmp_path / "run"
    assert call("train", *files(text, "en", "zh"), "--out", out, *TINY, *SUBWORDS, "--tokenize", "char")[0] == 0
    status, told, _ = call("train", "--out", out, "--resume", "--max-steps", 3)
    assert status == 0 and "BLEU with tokenizer char" in told
    status, _, err = call("train", "--out", out, "--resume", "--tokenize", "zh")
    assert status == 2 and "--tokenize is zh, but the run" in err and "was started with char" in err


@pytest.mark.parametrize("language", ["fr", "zh"])
def test_a_run_of_a_version_without_the_choice_goes_on_as_before(call, text, tmp_path, language):
    out = tmp_path / "run"
    assert call("train", *files(text, "en", language), "--out", out, *TINY, *SUBWORDS, "--tokenize", "13a")[0] == 0
    make_older(out)
    status, told, err = call("train", "--out", out, "--resume", "--max-steps", 3)
    assert status == 0 and "BLEU with tokenizer" not in told
    assert ("warning: BLEU with --tokenize 13a" in err) == (language == "zh")
    assert RunFolder(out).read().training["tokenize"] == "13a"
    make_older(out)
    for tokenize in ("zh", "auto"):
        status, _, err = call("train", "--out", out, "--resume", "--tokenize", tokenize)
        assert status == 2 and f"--tokenize is {tokenize}, but the run" in err and "was started with 13a" in err


def make_older(out: Path) -> None:
    """Neither config.json nor the state tell of a tokenizer."""
    folder = RunFolder(out)
    folder.update_config({name: value for name, value in folder.read().training.items() if name != "tokenize"}, {})
    tensors, info = read_tensors(out / STATE)
    del info["fixed"]["tokenize"]
    write_tensors(out / STATE, tensors, info)
    assert b"tokenize" not in (out / CONFIG).read_bytes() + (out / STATE).read_bytes()


def test_an_option_that_was_none_is_what_it_was_then():
    given = TrainingOptions(tokenize="char", seed=3).to_dict()
    assert TrainingOptions.from_dict(given).tokenize == "char"
    del given["tokenize"]
    assert TrainingOptions.from_dict(given) == TrainingOptions(tokenize="13a", seed=3)


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_tokenizer_that_cannot_be_had_is_refused_before_anything_is_read(call, text, tmp_path, command):
    where = {"train": ["--train-src=a", "--train-tgt=b", "--valid-src=c", "--valid-tgt=d", "--out", tmp_path / "run"],
             "evaluate": ["--model", "m", "--src", "a", "--ref", "b"]}[command]
    try:
        import MeCab  # noqa: F401
    except ImportError:
        status, _, err = call(command, *where, "--tokenize", "ja-mecab")
        assert status == 2 and "tokenize ja-mecab needs MeCab" in err and "pip install 'sacrebleu[ja]'" in err
    status, _, err = call(command, *where, "--tokenize", "spm")
    assert status == 2 and "invalid choice: 'spm'" in err
    assert not (tmp_path / "run").exists()


# several references


def test_several_references_are_scored_together(call, text, runs, tmp_path):
    evaluate = ["evaluate", "--model", runs / "fr", "--src", text / "test.en", "--json", "--beam", 1]
    found = tmp_path / "found"
    one = json.loads(call(*evaluate, "--ref", text / "test.fr", "--output", found)[1])
    (tmp_path / "some").write_text("\n".join(found.read_text().split("\n")[:4]) + "\n" * 5, encoding="utf-8")
    twice = json.loads(call(*evaluate, "--ref", text / "test.fr", text / "test.fr")[1])
    both = json.loads(call(*evaluate, "--ref", text / "test.fr", "--ref", found)[1])
    some = json.loads(call(*evaluate, "--ref", text / "test.fr", tmp_path / "some")[1])
    for name in ("bleu", "chrf"):
        assert f"{name}_signature" in one and "nrefs:1|" in one[f"{name}_signature"]
        assert "nrefs:2|" in both[f"{name}_signature"] and "nrefs:var|" in some[f"{name}_signature"]
    assert both["chrf"] == pytest.approx(100) and one["chrf"] < some["chrf"] < 100
    assert one["perplexity"] == pytest.approx(twice["perplexity"]) != both["perplexity"]  # of the tokens of all


def test_every_reference_has_the_lines_of_the_source(call, text, runs):
    status, out, err = call("evaluate", "--model", runs / "fr", "--src", text / "test.en", "--ref", text / "test.fr",
                            text / "valid.fr")
    assert status == 2 and out == "" and "test.en has 8 lines and" in err and "valid.fr has 12" in err
