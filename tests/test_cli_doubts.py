"""Text that a model cannot translate, in upper case, not tokenised, of another language or side, is told by name."""

import json
import re
import shutil

import pytest
from command_line import but

from scratchnmt.cli import main
from scratchnmt.data.corpus import HEADER
from scratchnmt.data.toy import toy_corpus
from scratchnmt.files.reading import CHECKSUM, bytes_with_checksum
from scratchnmt.files.run_folder import COVERAGE, RunFolder

for package in ("sacrebleu", "sentencepiece", "safetensors", "tqdm", "matplotlib", "threadpoolctl"):
    pytest.importorskip(package)

TINY = ["--embed-size", "8", "--hidden-size", "8", "--max-steps", "1"]
VOCABULARIES = {"words": ["--vocab", "word", "--min-count", "1"], "characters": ["--vocab-size", "120"]}
QUICK = ["--beam", 1, "--max-length", 3]
MAY_BE = "is it in upper case, not tokenised as in training, in another language or domain, or of the other side?"


@pytest.mark.parametrize("options, advice", [
    (["--vocab", "word", "--min-count", 2], "subwords \\(--vocab unigram\\) none$"),
    ([], "--character-coverage 1 leaves none out$"),
    (["--src-vocab", "{model}/src.spm", "--tgt-vocab", "{model}/tgt.spm"], re.escape(MAY_BE)),
    (["--init-from", "{model}"], re.escape(MAY_BE)),
])
def test_what_is_advised_for_a_badly_covered_training_text_can_be_chosen(call, text, tmp_path, options, advice):
    """Rare characters of another script, each once."""
    lines = (text / "train.en").read_text().splitlines()
    odd = tmp_path / "odd.en"
    odd.write_text("".join(f"{line} {chr(0x4e00 + n)} w{n}x\n" for n, line in enumerate(lines)), encoding="utf-8")
    if any("{model}" in str(option) for option in options):
        assert main(["train", *DATA, "--out", str(tmp_path / "model"), *TINY, *VOCABULARIES["characters"]]) == 0
    options = [str(option).format(model=tmp_path / "model") for option in options]
    files = ["--train-src", odd, "--train-tgt", text / "train.fr", "--valid-src", text / "valid.en", "--valid-tgt",
             text / "valid.fr"]
    tiny = [] if "--init-from" in options else TINY[:4]
    status, _, err = call("train", *files, *options, *tiny, "--max-steps", 1, "--out", tmp_path / "run")
    told = [line for line in err.splitlines() if "are unknown to the source vocabulary" in line]
    assert status == 0 and len(told) == 1 and re.search(advice, told[0]), err


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    for split, lines in toy_corpus(train=800, valid=20, test=30)._asdict().items():
        for language, side in ("en", lines.src), ("fr", lines.tgt):
            for name, change in ("", str), (".up", str.upper), (".raw", lambda line: line.replace(" ", "_")):
                (folder / f"{split}.{language}{name}").write_text("".join(change(f"{line}\n") for line in side),
                                                                  encoding="utf-8")
    (folder / "test.zh").write_text("狗在雪地上跑\n" * 30, encoding="utf-8")
    return folder


@pytest.fixture(scope="module", autouse=True)
def _here(text):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(text)
        yield


DATA = ["--train-src", "train.en", "--train-tgt", "train.fr", "--valid-src", "valid.en", "--valid-tgt", "valid.fr"]


@pytest.fixture(scope="module", params=VOCABULARIES)
def unit(request):
    return request.param


@pytest.fixture(scope="module")
def run(unit, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / unit
    assert main(["train", *DATA, "--out", str(folder), *TINY, *VOCABULARIES[unit]]) == 0
    return folder


def warnings(err):
    return [line for line in err.splitlines() if ": warning: " in line]


# train


def test_the_header_of_train_tells_what_is_unknown(call, unit, tmp_path):
    status, out, err = call("train", *DATA, "--out", tmp_path / "run", *TINY, *VOCABULARIES[unit])
    assert status == 0 and not warnings(err)
    (line,) = [line for line in out.splitlines() if line.startswith("unknown     ")]
    assert line.startswith(f"unknown     0.00 % of source and 0.00 % of target {unit}, in validation ")
    if unit == "words":  # one that occurs once is not in it
        out = call("train", *DATA, "--out", tmp_path / "two", *TINY, "--vocab", "word")[1]
        (line,) = [line for line in out.splitlines() if line.startswith("unknown     ")]
        assert not line.startswith("unknown     0.00 %")


@pytest.mark.parametrize("side, change", [
    ("source", ["--valid-src", "valid.en.up"]), ("target", ["--valid-tgt", "valid.fr.up"]),
    ("target", ["--valid-tgt", "test.zh", "--valid-src", "test.en"])])
def test_validation_text_that_is_not_what_it_seems(call, unit, tmp_path, side, change):
    status, _, err = call("train", *but(DATA, *change), "--out", tmp_path / "run", *TINY, *VOCABULARIES[unit])
    (told,) = warnings(err)
    assert status == 0 and f" % of the {unit} of {change[1]} are unknown to the {side} vocabulary (" in told
    assert told.endswith(f", in training 0.00 %): {MAY_BE}")


def test_validation_files_in_each_others_place(call, unit, tmp_path):
    status, _, err = call("train", *but(DATA, "--valid-src", "valid.fr", "--valid-tgt", "valid.en"),
                          "--out", tmp_path / "run", *TINY, *VOCABULARIES[unit])
    assert status == 0 and warnings(err) == [
        "scratchnmt train: warning: valid.fr and valid.en look swapped: the vocabulary of the other side covers each "
        "better"]


def test_training_text_with_many_rare_words_is_told(call, tmp_path):
    chosen = ["--vocab", "word", "--min-count", "20"]
    status, _, err = call("train", *DATA, "--out", tmp_path / "run", *TINY, *chosen)
    told = warnings(err)
    assert status == 0 and [line.partition(" of the words of ")[2].partition(" ")[0] for line in told[:2]] == [
        "train.en", "train.fr"]
    assert all("--min-count" in line and "--vocab unigram" in line for line in told[:2])


def test_a_run_that_goes_on_tells_it_again_and_an_older_one_what_it_knows(call, run, unit, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    status, out, _ = call("train", "--out", tmp_path / "run", "--resume", "--max-steps", 2)
    assert status == 0 and f"\nunknown     0.00 % of source and 0.00 % of target {unit}, in validation" in out
    header = tmp_path / "run" / "corpus" / HEADER
    content = json.loads(header.read_bytes())
    del content["coverage"], content[CHECKSUM]
    header.write_bytes(bytes_with_checksum(content))
    status, out, err = call("train", "--out", tmp_path / "run", "--resume", "--max-steps", 3)
    assert status == 0 and "\nunknown     in validation " in out and not warnings(err)


# the other commands


def command(name, run, src, ref):
    """The command's arguments, and the options that name the files."""
    return {"translate": ["translate", "--model", run, "--input", src, *QUICK],
            "evaluate": ["evaluate", "--model", run, "--src", src, "--ref", ref, *QUICK],
            "score": ["score", "--model", run, "--src", src, "--tgt", ref]}[name]


@pytest.mark.parametrize("name", ["translate", "evaluate", "score"])
@pytest.mark.parametrize("src", ["test.en", "test.en.up", "test.fr", "test.zh"])
def test_a_source_that_is_not_what_it_seems(call, run, unit, name, src):
    status, out, err = call(*command(name, run, src, "test.fr"))
    assert status == 0 and out
    if src == "test.en":
        assert not warnings(err)
    elif unit == "words" or src != "test.fr":
        assert len(warnings(err)) == 1
        assert f" of the {unit} of {src} are unknown to the source vocabulary (" in err
        assert err.endswith(f", in training 0.00 %): {MAY_BE}\n")
    else:
        assert f"{src} is cut into" in err or f"of the characters of {src} are unknown" in err


@pytest.mark.parametrize("name", ["evaluate", "score"])
def test_a_target_that_is_not_what_it_seems_and_files_in_each_others_place(call, run, unit, name):
    err = call(*command(name, run, "test.en", "test.fr.up"))[2]
    assert len(warnings(err)) == 1 and f" of the {unit} of test.fr.up are unknown to the target vocabulary (" in err
    assert call(*command(name, run, "test.fr", "test.en"))[2] == (
        f"scratchnmt {name}: warning: test.fr and test.en look swapped: the vocabulary of the other side covers each "
        "better\n")


def test_text_that_is_not_tokenised(call, run, unit):
    assert f" of the {unit} of test.en.raw are unknown" in call(*command("translate", run, "test.en.raw", ""))[2]


def test_standard_input_has_no_name_and_ends_with_the_warning(call, run, unit):
    status, out, err = call("translate", "--model", run, *QUICK, stdin=b"WHO HAS SEEN ALL MY DOGS\n\n")
    assert status == 0 and out.count("\n") == 2
    assert f"of the {unit} of the input are unknown to the source vocabulary" in err and err.count("\n") == 1
    assert call("translate", "--model", run, *QUICK, stdin=b"\n")[2] == ""


@pytest.mark.parametrize("option", [["--sample"], ["--n-best", 1], ["--pieces"]])
def test_however_it_is_translated(call, run, unit, option):
    err = call("translate", "--model", run, "--input", "test.en.up", "--max-length", 3, *option)[2]
    assert f"of the {unit} of test.en.up are unknown" in err and err.count("\n") == 1


def test_evaluate_tells_the_shares(call, run, unit):
    evaluate = command("evaluate", run, "test.en.up", "test.fr")
    scores, table = json.loads(call(*evaluate, "--json")[1]), call(*evaluate)[1]
    assert scores["unknown_of"] == unit and scores["unknown_src"] > 0.3 and scores["unknown_ref"] < 0.05
    assert (f"\nunknown     {100 * scores['unknown_src']:6.2f}   per cent of the {unit} of the source, "
            f"{100 * scores['unknown_ref']:.2f} of the references\n") in table
    several = json.loads(call(*evaluate, "--ref", "test.fr.up", "--json")[1])
    assert scores["unknown_ref"] + 0.1 < several["unknown_ref"]  # of both together


def test_pieces_are_never_unknown(call, run, tmp_path):
    for option in [], ["--pieces"]:
        call("translate", "--model", run, "--input", "test.en", *QUICK, *option, "--output", tmp_path / "found")
    assert call(*command("score", run, "test.en", tmp_path / "found"), "--pieces")[2] == ""


def test_a_model_that_does_not_tell_of_its_text_is_used_as_before(call, run, unit, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(run, model)
    folder = RunFolder(model)
    content = folder._read_config()
    for coverage in None, "of another kind":
        folder._write_config({**content, "data": {**content["data"], COVERAGE: coverage}})
        assert folder.coverage() is None
        err = call(*command("translate", model, "test.en.up", ""))[2]
        assert f"of the {unit} of test.en.up are unknown" in err and ", in training" not in err


def test_a_mean_of_models_tells_of_the_text_of_the_first(call, run, tmp_path):
    assert call("average", "--model", run, run, "--out", tmp_path / "mean")[0] == 0
    assert RunFolder(tmp_path / "mean").coverage() == RunFolder(run).coverage() is not None
    for models in [tmp_path / "mean"], [run, run]:
        err = call("translate", "--model", *models, "--input", "test.en.up", *QUICK)[2]
        assert "are unknown" in err and "in training 0.00 %" in err
