"""A --resume that is refused, for whatever reason, leaves every file of the folder as it was."""

import json
import os
import re
import shutil

import pytest
from tiny_run import of, two_texts

from scratchnmt.cli import prepare
from scratchnmt.cli.choices import add_arguments
from scratchnmt.cli.parser import Parser
from scratchnmt.errors import InputError
from scratchnmt.files.lock import FolderLock
from scratchnmt.files.reading import bytes_with_checksum
from scratchnmt.files.run_folder import BEST_STATE, CHECKPOINTS, METRICS, MODEL, NOT_FINITE, STATE, RunFolder
from scratchnmt.training.plan import FIXED
from scratchnmt.training.saving import TrainingResult

for package in ("sacrebleu", "sentencepiece", "safetensors", "tqdm", "matplotlib"):
    pytest.importorskip(package)

TINY = ["--vocab", "word", "--min-count", "1", "--embed-size", "8", "--hidden-size", "8", "--schedule", "cosine",
        "--max-epochs", "2", "--keep", "1"]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return two_texts(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, text, main):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main("train", *of(text), *TINY, "--out", folder) == 0
    return folder


@pytest.fixture(scope="module")
def main():
    from scratchnmt.cli import main

    return lambda *arguments: main([str(argument) for argument in arguments])


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def contents(folder):
    """The bytes and times of all that is in a folder."""
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
            for path in sorted(folder.rglob("*"))}


def refused(call, run, *arguments):
    before = contents(run)
    status, _, err = call("train", "--out", run, "--resume", *arguments)
    assert status == 2 and "error: " in err, (status, err)
    assert contents(run) == before
    return err


# of options that are no whole numbers; the others get 3
OTHERS = {"score": "dot", "cell": "layer-norm-lstm", "attention": "local-m", "query": "previous", "feed": "none",
          "readout": "state", "batch_by": "tokens", "optimizer": "sgd", "metric": "bleu", "tokenize": "char",
          "vocab": "bpe",
          "normalization": "nfkc", "init": "glorot", "dtype": "float64", "average": 0.5, "momentum": 0.5,
          "dropout": 0.1, "embed_dropout": 0.1, "label_smoothing": 0.1, "r_drop": 0.5, "minimum_risk": "bleu",
          "risk_candidates": "samples"}
FLAGS = {"bidirectional": "--one-direction"}


def typed(name):
    """An option with another value than any run here has, as one types it."""
    flag = FLAGS.get(name, "--" + name.replace("_", "-"))
    return [flag] if name in ("bidirectional", "joint_vocab", "tie_embeddings", "reverse_source") else [
        flag, OTHERS.get(name, 3)]


@pytest.mark.parametrize("name", [name for row in FIXED[1:] for name in row.options.split()])
def test_an_option_that_may_not_change(call, run, name):
    (row,) = (row for row in FIXED if name in row.options.split())
    err = refused(call, run, *typed(name))
    assert f"{row.why}; leave it out, or start another run" in err and typed(name)[0] in err


@pytest.mark.parametrize("arguments, words", [
    (["--patience", "-1"], "patience is -1"),
    (["--valid-batch-size", "0"], "--valid-batch-size is 0"),
    (["--max-epochs", "none"], "ends at a known step"),
    (["--momentum", "0.5"], "momentum"),
    (["--halve-after", "3"], "--halve-after is for --schedule luong"),
    (["--graphs", "3"], "--graphs is for fused kernels"),
    (["--device", "tpu"], "device 'tpu' is not known"),
    (["--kernels", "fused"], "needs a GPU"),
    (["--overwrite"], "exclude each other"),
    (["--no-such-option", "3"], "unrecognized"),
])
def test_a_value_that_is_refused(call, run, arguments, words):
    assert words in refused(call, run, *arguments)


def test_other_text(call, run, text):
    own, other = of(text), of(text, "other")
    for changed in ([*other[:2], *own[2:]], other):
        err = refused(call, run, *changed)
        assert "the training text was" in err and f"--init-from {run} gives the weights of this one" in err
    shutil.copytree(text / "own", run.parent / "moved")
    (run.parent / "moved" / "valid.src").write_text("a b\n")
    (run.parent / "moved" / "valid.tgt").write_text("b a\n")
    assert "the validation text was" in refused(call, run, *of(run.parent, "moved"))  # its training text is the same


def test_text_that_cannot_be_read(call, run, text):
    bad = run.parent / "bad"
    bad.mkdir()
    for name, content in (("empty", b""), ("short", b"a\n"), ("latin1", b"a\ncaf\xe9\n")):
        (bad / name).write_bytes(content)
    for option in of(text):
        for name in ("empty", "short", "latin1", "absent", "."):
            refused(call, run, f"{option.partition('=')[0]}={bad / name}")


@pytest.mark.parametrize("name", ["config.json", "training-state.safetensors", "src.vocab.json", "tgt.vocab.json"])
@pytest.mark.parametrize("moved", [False, True])
def test_a_damaged_or_missing_file(call, run, text, name, moved):
    place = []
    if moved:  # the corpus would be made anew
        shutil.copytree(text / "own", run.parent / "moved")
        place = of(run.parent, "moved")
    content = (run / name).read_bytes()
    for changed in (content[:-9], content[:-3] + b"!!!", b""):
        (run / name).write_bytes(changed)
        refused(call, run, *place)
    (run / name).unlink()
    refused(call, run, *place)


@pytest.mark.parametrize("left", [BEST_STATE, METRICS, NOT_FINITE, CHECKPOINTS])
def test_what_is_left_of_a_run_whose_state_and_model_are_gone(call, run, left):
    """It was not killed before its first save, to begin again over the rest."""
    (run / NOT_FINITE).write_text("{}\n")
    for name in {STATE, MODEL, BEST_STATE, METRICS, NOT_FINITE} - {left}:
        (run / name).unlink()
    if left != CHECKPOINTS:
        shutil.rmtree(run / CHECKPOINTS)
    assert f"{run} holds no run to resume: {STATE} is not there" in refused(call, run)
    with pytest.raises(InputError, match="choose another folder, or overwrite=True"), RunFolder(run):
        pass


@pytest.mark.parametrize("section, name, value", [
    ("data", "columns", 5), ("data", "columns", None), ("data", "valid_src", 0), ("data", "train_src", ["a"]),
    ("data", "train_tgt", "a\0b"), ("data", "train_tsv", {}), ("data", "init_from", 1), ("data", "max_length", "9"),
    ("data", "max_length", 0), ("model", "embed_size", 10**30), ("model", "layers", True),
    ("model", "hidden_size", 4000),  # 500 MB
])
def test_a_config_with_the_right_checksum_and_content_that_is_not(call, run, section, name, value, monkeypatch):
    content = json.loads((run / "config.json").read_bytes())
    content[section][name] = value
    (run / "config.json").write_bytes(bytes_with_checksum(content))
    monkeypatch.setattr(prepare, "NMT", None)  # nothing may be made of such sizes
    err = refused(call, run)
    assert re.search(f"{name.replace('_', '[-_]')} is|no room", err) and len(err) < 3000


@pytest.mark.parametrize("side", ["src", "tgt"])
def test_a_pipe_for_the_validation_which_a_resume_would_wait_for(call, run, text, tmp_path, side):
    os.mkfifo(tmp_path / "pipe")
    pipe = f"--valid-{side}={tmp_path / 'pipe'}"
    assert f"{tmp_path / 'pipe'} is not a regular file, expected a text file that can be read more" in refused(
        call, run, pipe)
    given = [one for one in of(text) if f"valid-{side}" not in one]
    status, _, err = call("train", *given, pipe, *TINY, "--out", tmp_path / "new")
    assert status == 2 and "is not a regular file" in err and not (tmp_path / "new").exists()


def test_where_the_text_lies_now_is_noted_so_that_the_command_that_is_told_goes_on(call, run, text, main):
    shutil.copytree(text / "own", run.parent / "moved")
    shutil.move(text / "own", text / "gone")
    try:
        assert "does not exist" in refused(call, run)
        assert main("train", "--out", run, "--resume", *of(run.parent, "moved")) == 0
        assert main("train", "--out", run, "--resume", "--max-epochs", "3") == 0
    finally:
        shutil.move(text / "gone", text / "own")
    assert RunFolder(run).coverage()


@pytest.mark.parametrize("covered", [True, False])  # a run of an earlier version does not tell
def test_text_that_lies_in_a_table_now_takes_the_place_of_two_files(run, covered):
    content = json.loads((run / "config.json").read_bytes())
    content["data"] |= {"train_src": "a", "train_tgt": "b"}
    if not covered:
        del content["data"]["coverage"]
    (run / "config.json").write_bytes(bytes_with_checksum(content))
    RunFolder(run).update_config(content["training"], {"train_tsv": "c", "columns": "1,2"})
    told = RunFolder(run).read().data
    assert {*told} - {"coverage"} == {"train_tsv", "columns"} and ("coverage" in told) == covered


@pytest.mark.parametrize("given, told", [({}, ""), ({"device": "cuda:1", "kernels": "plain"},
                                                    " --device cuda:1 --kernels plain")])
def test_the_command_that_goes_on_computes_as_before(given, told):
    from scratchnmt.cli.train import resume_command

    assert resume_command("my run", 1, {"max_steps": 3, **given}) == f"scratchnmt train --out 'my run' --resume{told}"


def test_what_a_config_tells_does_not_reach_the_terminal_as_it_is(call, run):
    content = json.loads((run / "config.json").read_bytes())
    content["data"]["valid_src"] = "\x1b[2J"
    (run / "config.json").write_bytes(bytes_with_checksum(content))
    assert "\\x1b[2J does not exist" in refused(call, run)


def test_a_state_of_another_model(call, run, text, tmp_path, main):
    assert main("train", *of(text), *TINY, "--out", tmp_path / "other", "--dropout", "0.1") == 0
    shutil.copy(tmp_path / "other" / "training-state.safetensors", run)
    shutil.copytree(text / "own", run.parent / "moved")
    for place in ([], of(run.parent, "moved")):
        assert "was written for another model" in refused(call, run, *place)


def test_what_a_killed_process_has_left_and_a_folder_in_use(call, run):
    (run / ".config.json.123.tmp").write_text("half")
    (run / "fallen.123-4").write_text("")
    refused(call, run, "--hidden-size", "9")
    with FolderLock(run):
        assert "in use" in refused(call, run)


def test_a_damaged_corpus_stays_until_the_run_goes_on(call, run):
    os.truncate(run / "corpus" / "ids.bin", 10)
    refused(call, run, "--hidden-size", "9")
    assert call("train", "--out", run, "--resume", "--max-epochs", "3")[0] == 0
    assert (run / "corpus" / "ids.bin").stat().st_size > 10


def test_a_corpus_that_an_overwriting_run_is_refused_stays(call, run, text):
    before = contents(run)
    status, _, err = call("train", *of(text, "other"), *TINY, "--overwrite", "--out", run, "--score", "location",
                          "--max-source", "2")
    assert status == 2 and "'location' knows 2 positions" in err
    assert contents(run) == before


def test_a_run_without_a_model_is_not_told_to_be_begun_from(call, run):
    (run / "model.safetensors").unlink()
    assert refused(call, run, "--batch-size", 9).rstrip().endswith("leave it out, or start another run")


def test_a_best_model_that_was_taken_away_is_not_said_to_be_there(run):
    best = {"step": 2, "epoch": 1, "valid_ppl": 3.0, "valid_bleu": 5.0}
    result = TrainingResult("2 epochs are done", False, run, 4, 1.0, best)
    assert result.model_is_there and f"that model is saved in {run / 'model.safetensors'}" in str(result)
    (run / "model.safetensors").unlink()
    assert not result.model_is_there and f"that model is no longer in {run}" in str(result)


def test_what_is_there_before_a_run_is_replaced_is_not_its_own(run):
    with RunFolder(run, overwrite=True) as folder:
        assert folder.keeps("training-state.safetensors") and not folder.begun
    assert RunFolder(run, resume=True).begun


def test_every_option_of_train_is_known_here():
    """A new one either may change at a resume or is in the table, with a reason."""
    from scratchnmt.cli.choices import CHANGEABLE, DATA_FILES
    from scratchnmt.cli.parser import COMPUTING

    parser = Parser(prog="train")
    add_arguments(parser)
    options = {action.dest for action in parser._actions} - {"help", "out", "resume", "overwrite"}
    fixed = {name for row in FIXED for name in row.options.split()}
    assert options == {*fixed, *CHANGEABLE, *COMPUTING} and set(DATA_FILES) <= fixed and not fixed & {*CHANGEABLE}


@pytest.mark.parametrize(("part", "name", "value"), [
    ("training", "batch_size", 0), ("training", "x\ny", 1), ("data", "train_src", "\ud801"),
    ("data", "init_from", "\ud801")])
def test_a_config_that_tells_what_cannot_be_is_named(part, name, value, run, call):
    config = json.loads((run / "config.json").read_text())
    config[part][name] = value
    (run / "config.json").write_bytes(bytes_with_checksum(config))
    assert f"{run / 'config.json'} is damaged: " in refused(call, run)


def test_weights_that_a_run_has_are_not_drawn_before(run, main, monkeypatch):
    monkeypatch.setattr("scratchnmt.models.nmt.initialize", lambda *_: pytest.fail("drawn"))
    assert main("train", "--out", run, "--resume") == 0
