"""The command line as a user meets it: what it prints, what it writes, what it refuses and how."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from command_line import but, heed_signals

from scratchnmt.cli import choices, demo, main
from scratchnmt.cli.prepare import prepare
from scratchnmt.data.text import decode_lines, lines_of
from scratchnmt.data.toy import toy_corpus
from scratchnmt.files.run_folder import STATE, RunFolder
from scratchnmt.files.tensors import read_tensors
from scratchnmt.models.config import NMTConfig
from scratchnmt.training import TrainingOptions
from scratchnmt.translate import Translator

for package in ("sacrebleu", "sentencepiece", "safetensors", "tqdm", "matplotlib", "threadpoolctl"):
    pytest.importorskip(package)

TINY = ["--vocab", "word", "--min-count", "1", "--embed-size", "8", "--hidden-size", "8"]


LEARNING = ["--hidden-size", "16", "--init", "glorot", "--learning-rate", "0.02", "--batch-size", "8",
            "--dropout", "0", "--max-epochs", "14", "--valid-every", "70"]  # enough to say something


def command(*arguments, **options):
    """A separate process, with one BLAS thread: the tests share their cores."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONIOENCODING": ""}
    return subprocess.Popen([sys.executable, "-m", "scratchnmt", *map(str, arguments)], env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", **options)


def refused(result, *parts):
    """One clear sentence on standard error, exit status 2, nothing else."""
    status, out, err = result
    assert status == 2 and out == ""
    assert err.startswith("scratchnmt ") and ": error: " in err and err.count("\n") == 1, err
    for part in parts:
        assert part in err


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Files of parallel text."""
    folder = tmp_path_factory.mktemp("text")
    corpus = toy_corpus(train=120, valid=12, test=10)
    for split, lines in corpus._asdict().items():
        (folder / f"{split}.en").write_text("".join(line + "\n" for line in lines.src), encoding="utf-8")
        (folder / f"{split}.fr").write_text("".join(line + "\n" for line in lines.tgt), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def data(text):
    """The options that name them."""
    return ["--train-src", text / "train.en", "--train-tgt", text / "train.fr",
            "--valid-src", text / "valid.en", "--valid-tgt", text / "valid.fr"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    """The folder of a model that has learned a little."""
    folder = tmp_path_factory.mktemp("runs") / "model"
    assert main([str(a) for a in ["train", *data, "--out", folder, *but(TINY, *LEARNING)]]) == 0
    return folder


# help


def test_help_is_quick_to_load_and_names_the_commands():
    code = ("import sys; from scratchnmt.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
            "print(sorted({'sacrebleu', 'matplotlib', 'sentencepiece', 'tqdm', 'cupy'} & set(sys.modules)))")
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    out = process.stdout
    assert out.endswith("[]\n")
    for name in ("demo", "train", "translate", "evaluate", "gradcheck"):
        assert f"\n  {name}  " in out


@pytest.mark.parametrize("name", ["demo", "train", "translate", "evaluate", "gradcheck"])
def test_every_command_has_help_with_an_example(call, name):
    status, out, err = call(name, "--help")
    assert status == 0 and not err
    assert "\nexample" in out and f"\n  scratchnmt {name}" in out.partition("\nexample")[2]


def test_train_help_lists_every_choice_with_its_default(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    out = call("train", "--help")[1]
    names = {f.name for f in (*fields(TrainingOptions), *fields(NMTConfig))}
    names -= {"src_vocab_size", "tgt_vocab_size", "bidirectional"}
    for name in (*names, "one_direction", "vocab", "vocab_size", "min_count", "joint_vocab", "normalization",
                 "character_coverage", "user_symbol", "max_length", "device", "kernels", "matmul"):
        assert f"--{name.replace('_', '-')} " in out
    for line in ("--batch-size N .*default: 32", "--vocab-size N .*default: 8000",
                 "--vocab .*default: unigram"):
        assert re.search(line, out)


def test_the_defaults_of_options_are_those_of_the_library():
    offered = {**choices.TRAINING, **choices.STOPPING, **choices.OUTPUT, **choices.RECORDING}
    assert {**choices.defaults(offered), "workers": 1} == TrainingOptions().to_dict()
    model = choices.defaults(choices.MODEL)
    assert model.pop("dtype") == "float32"
    assert {**NMTConfig(8, 8, 256, 256).to_dict(), "dropout": 0.2} == {
        "src_vocab_size": 8, "tgt_vocab_size": 8, **model}


def test_without_a_command_it_shows_help(call):
    status, out, err = call()
    assert status == 2 and out == "" and "commands:" in err


def test_unknown_options_and_wrong_types_are_one_line(call, tmp_path):
    refused(call("train", "--out", tmp_path / "x", "--hiden-size", 5), "--hiden-size", "train --help")
    refused(call("train", "--out", tmp_path / "x", "--layers", "two"), "--layers", "two")
    refused(call("train", "--out", tmp_path / "x", "--max-minutes", "soon"), "--max-minutes", "float")
    refused(call("translate"), "--model")


# train


def test_train_tells_what_it_does_and_what_to_do_next(call, data, text, tmp_path, monkeypatch):
    monkeypatch.chdir(text)
    status, out, err = call("train", *data, "--out", tmp_path / "run", *TINY, "--max-steps", 5,
                            "--log-every", 2, "--max-length", 9)
    assert status == 0
    assert "too long left out" in out and "12 sentence pairs" in out and "float32, on cpu" in out
    assert "source and" in out and "target tokens" in out
    assert "step 2: loss" in err and "validation perplexity" in err
    assert "best validation: perplexity" in out
    assert f"scratchnmt evaluate --model {tmp_path}/run --src valid.en --ref valid.fr" in out
    written = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"config.json", "src.vocab.json", "tgt.vocab.json", "model.safetensors",
            "training-state.safetensors", "metrics.jsonl", "learning-curves.png"} <= written


def test_subwords_are_learned_from_raw_text(call, data, tmp_path):
    small = ["--embed-size", 8, "--hidden-size", 8, "--max-steps", 2, "--vocab-size", 90]
    assert call("train", *data, "--out", tmp_path / "a", *small)[0] == 0
    assert call("train", *data, "--out", tmp_path / "b", *small, "--vocab", "bpe", "--joint-vocab")[0] == 0
    assert {path.name for path in tmp_path.glob("*/*.spm")} == {"src.spm", "tgt.spm", "joint.spm"}
    run = RunFolder(tmp_path / "b").read()
    assert run.src_vocab is run.tgt_vocab and len(run.src_vocab) == 90


def test_how_subwords_are_learned_is_kept_with_the_run(call, data, tmp_path):
    out, small = tmp_path / "run", ["--embed-size", 8, "--hidden-size", 8, "--max-steps", 2]
    chosen = ["--normalization", "nmt_nfkc_cf", "--character-coverage", 0.99, "--user-symbol", "<2fr>",
              "--user-symbol", "<x>"]
    status, _, err = call("train", *data, "--out", out, *small, *chosen)
    assert status == 0 and "source: " in err and "target: " in err and " rare characters, " in err
    run = RunFolder(out).read()
    assert (run.data["normalization"], run.data["character_coverage"]) == ("nmt_nfkc_cf", 0.99)
    assert run.data["user_symbol"] == ["<2fr>", "<x>"] == [run.src_vocab.token(i) for i in (4, 5)]
    assert run.tgt_vocab.decode(run.tgt_vocab.encode("<2fr>LE CHIEN")) == "<2fr>le chien"
    assert call("train", "--out", out, "--resume", "--max-steps", 3, *chosen)[0] == 0
    assert (out / "src.spm").read_bytes() == run.src_vocab.to_bytes()
    for option in (["--normalization", "identity"], ["--character-coverage", 1], ["--user-symbol", "<x>"]):
        refused(call("train", "--out", out, "--resume", *option), option[0], "was started with")


def test_a_run_of_before_there_was_a_choice_was_normalized_by_nmt_nfkc(call, data, tmp_path):
    out = tmp_path / "run"
    assert call("train", *data, "--out", out, "--embed-size", 8, "--hidden-size", 8, "--max-steps", 1)[0] == 0
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    del config["sha256"], config["data"]["normalization"], config["data"]["character_coverage"]
    (out / "config.json").write_text(json.dumps(config), encoding="utf-8")
    refused(call("train", "--out", out, "--resume", "--normalization", "identity"), "started with nmt_nfkc")
    assert call("train", "--out", out, "--resume", "--max-steps", 2, "--normalization", "nmt_nfkc")[0] == 0


def last_weights(folder):
    return read_tensors(folder / "training-state.safetensors")[0]["params"]


def test_a_resumed_run_needs_nothing_but_its_folder_and_ends_as_the_uninterrupted(call, data, tmp_path):
    out, whole_run = tmp_path / "run", tmp_path / "whole"
    assert call("train", *data, "--out", whole_run, *TINY, "--max-steps", 6)[0] == 0
    assert call("train", *data, "--out", out, *TINY, "--max-steps", 3)[0] == 0
    once = last_weights(out)
    assert call("train", "--out", out, "--resume", "--max-steps", 6)[0] == 0
    twice, whole = last_weights(out), last_weights(whole_run)
    assert np.array_equal(twice, whole) and not np.array_equal(once, whole)


def test_resume_refuses_what_would_be_another_run(call, trained, data, text):
    before = (trained / "config.json").read_bytes()
    for option in (["--hidden-size", 8], ["--momentum", 0.5], ["--vocab-size", 50],
                   ["--dtype", "float64"], ["--one-direction"], ["--tie-embeddings"], ["--max-length", 5]):
        refused(call("train", "--out", trained, "--resume", *option), option[0], "was started with",
                "leave it out, or start another run")
    refused(call("train", "--out", trained, "--resume", "--overwrite"), "exclude each other")
    status, _, err = call("train", "--out", trained, "--resume", "--max-epochs", 20,
                          "--train-src", text / "valid.en", "--train-tgt", text / "valid.fr")
    assert status == 2 and "the training text was 120 sentence pairs" in err
    refused(call("train", "--out", text / "nothing", "--resume"), "holds no run to resume")
    assert (trained / "config.json").read_bytes() == before
    assert call("train", *data, "--out", trained, "--resume", "--hidden-size", 16, "--device", "cpu")[0] == 0


def test_a_run_is_replaced_only_when_asked(call, data, tmp_path):
    arguments = ["train", *data, "--out", tmp_path / "run", *TINY, "--max-steps", 1]
    assert call(*arguments)[0] == 0
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    refused(call(*arguments, "--seed", 1), "holds a run already", "overwrite")
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before
    assert call(*arguments, "--seed", 1, "--overwrite")[0] == 0
    assert (tmp_path / "run" / "model.safetensors").read_bytes() != before


def bad_files(folder):
    """name -> a file that cannot be used."""
    (folder / "short").write_text("one line\n")
    (folder / "blank").write_text("\n \n")
    (folder / "empty").write_text("")
    (folder / "latin1").write_bytes(b"a dog\nun caf\xe9\n")
    (folder / "cut.gz").write_bytes(b"\x1f\x8b\x08\x00")
    return folder


@pytest.mark.parametrize("option, value, parts", [
    ("--train-src", "short", ["short has 1 lines", "train.fr has 120"]),
    ("--train-tgt", "blank", ["blank has only blank lines"]),
    ("--valid-src", "empty", ["empty is empty"]),
    ("--valid-tgt", "latin1", ["latin1, line 2", "UTF-8"]),
    ("--train-src", "cut.gz", ["cut.gz is a damaged gzip file"]),
    ("--train-src", "absent", ["absent does not exist"]),
    ("--train-src", ".", ["is a directory"]),
])
def test_text_that_cannot_be_used_is_refused_before_anything_is_written(call, data, tmp_path, option, value,
                                                                        parts):
    arguments = list(data)
    arguments[arguments.index(option) + 1] = bad_files(tmp_path) / value
    refused(call("train", *arguments, "--out", tmp_path / "out", *TINY), *parts)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options, parts", [
    (["--hidden-size", 0], ["--hidden-size is 0", "at least 1"]),
    (["--layers", -1], ["--layers is -1"]),
    (["--dropout", 1], ["--dropout is 1.0", "< 1"]),
    (["--learning-rate", 0], ["--learning-rate is 0"]),
    (["--learning-rate", "nan"], ["--learning-rate is nan"]),
    (["--batch-size", 0], ["--batch-size is 0"]),
    (["--schedule", "cosine", "--max-epochs", "none"], ["cosine", "--max-epochs or --max-steps"]),
    (["--vocab-size", 4], ["vocabulary size 4 is too small"]),
    (["--min-count", 0], ["--min-count must be at least 1"]),
    (["--max-length", 1], ["no sentence pair is left", "120"]),
    (["--max-length", 0], ["--max-length must be at least 1"]),
    (["--embed-size", 6, "--tie-embeddings"], ["--tie-embeddings needs --embed-size = --hidden-size"]),
    (["--device", "tpu"], ["--device 'tpu' is not known"]),
    (["--kernels", "fused"], ['--kernels "fused" needs a GPU: choose --device "cuda"']),
    (["--matmul", "tf32"], ['--matmul "tf32" is of --kernels "fused" in float32 alone, not of plain in float32']),
    (["--hidden-size", 10**9], ["takes", "GB to train", "--hidden-size"]),
    (["--seed", -1], ["--seed is -1"]),
    (["--seed", 2**32], ["--seed is 4294967296", "below 4294967296"]),
])
def test_choices_out_of_range_are_refused_before_anything_is_written(call, data, tmp_path, options, parts):
    refused(call("train", *data, "--out", tmp_path / "out", *but(TINY, *options)), *parts)
    assert not (tmp_path / "out").exists()


def test_an_out_that_cannot_be_a_folder(call, data, text, tmp_path):
    refused(call("train", *data, "--out", text / "train.en", *TINY), "is a file")
    refused(call("train", *data, "--out", text / "train.en" / "run", *TINY), "cannot be written")
    refused(call("train", "--out", tmp_path / "run", *data[2:]), "--train-src must be given")


def test_an_extra_that_is_not_installed_is_named(call, data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    refused(call("train", *data, "--out", tmp_path / "out"), "pip install sacrebleu sentencepiece safetensors")
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("error")
def test_a_loss_that_overflows_names_the_step_and_keeps_the_last_good_state(call, data, tmp_path):
    out = tmp_path / "run"
    status, _, err = call("train", *data, "--out", out, *TINY, "--learning-rate", 1e38, "--clip", 0,
                          "--save-every", 1)
    assert status == 2 and "at step" in err and "the last good state is kept" in err
    assert "Traceback" not in err and "a lower --learning-rate or --clip" in err
    tensors, _ = read_tensors(out / "training-state.safetensors")
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
    out = tmp_path / "two words"
    assert call("train", *data, "--out", out, *TINY, "--max-steps", 1)[0] == 0
    status, printed, _ = call("train", "--out", out, "--resume", "--learning-rate", 1e-4, "--clip", 1,
                              "--max-steps", 2)
    assert status == 0 and f"translate --model '{out}'" in printed
    assert RunFolder(out).read().training["learning_rate"] == 1e-4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_saves_and_says_how_to_go_on(call, data, tmp_path, number):
    out = tmp_path / "run"
    process = command("train", *data, "--out", out, *TINY, "--max-epochs", "none", "--patience", 0,
                      "--log-every", 2, preexec_fn=heed_signals)
    for line in process.stderr:
        if "step 4: loss" in line:
            break
    process.send_signal(number)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    assert f"scratchnmt train --out {out} --resume" in printed
    step = int(printed.partition("stopped at step ")[2].split()[0])
    status, printed, _ = call("train", "--out", out, "--resume", "--max-steps", step + 3)
    assert status == 0 and f"stopped at step {step + 3}" in printed


def test_a_terminal_that_is_closed_saves_too(call, data, tmp_path):
    pty, fcntl, termios = map(pytest.importorskip, ("pty", "fcntl", "termios"))

    def take_terminal():
        heed_signals()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    out, (ours, theirs) = tmp_path / "run", pty.openpty()
    words = ["train", *data, "--out", out, *TINY, "--max-epochs", "none", "--patience", 0]
    process = subprocess.Popen([sys.executable, "-m", "scratchnmt", *map(str, words)], stdin=theirs, stdout=theirs,
                               stderr=theirs, start_new_session=True, preexec_fn=take_terminal)
    os.close(theirs)
    shown = b""
    while b"BLEU" not in shown:  # of the first validation
        shown += os.read(ours, 1000)
    before = read_tensors(out / STATE)[1]["state"]["step"]
    os.close(ours)
    assert process.wait(timeout=60) >= 0  # it was not ended by the signal
    step = read_tensors(out / STATE)[1]["state"]["step"]
    assert step > before
    status, printed, _ = call("train", "--out", out, "--resume", "--max-steps", step + 3)
    assert status == 0 and f"stopped at step {step + 3}" in printed


# translate

LINES = ["the dog sleeps .", "", "i do not love her .", "   ", "never seen words here", "the dog sleeps ."]
BYTES = "\n".join(LINES).encode()  # no line end after the last


def test_translate_keeps_lines_and_order(call, trained):
    status, out, err = call("translate", "--model", trained, stdin=BYTES)
    assert status == 0
    assert err.startswith("scratchnmt translate: warning: 27.78 % of the words of the input are unknown")
    found = out.split("\n")
    assert found == [*Translator.load(trained).translate(LINES), ""]
    assert found[1] == found[3] == "" and found[0] == found[5]
    windows = b"\xef\xbb\xbf" + BYTES.replace(b"\n", b"\r\n")
    carriage_returns = call("translate", "--model", trained, stdin=windows)
    assert carriage_returns[1] == out
    assert call("translate", "--model", trained, stdin=b"") == (0, "", "")


def test_lines_from_standard_input_are_those_of_a_file(monkeypatch):
    data = b"\xef\xbb\xbfa\r\n\nb \xe2\x80\xa8 c\n d"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    found = list(lines_of(sys.stdin.buffer, "standard input"))
    assert found == decode_lines(data, "data") == ["a", "", "b \u2028 c", " d"]


def test_translate_as_a_filter(trained):
    process = command("translate", "--model", trained, "--beam", 2, stdin=subprocess.PIPE)
    out, err = process.communicate("the dog sleeps .\n\ni eat an egg .\n", timeout=60)
    assert process.returncode == 0 and err == ""
    assert out.count("\n") == 3 and out.split("\n")[1] == ""


def test_on_a_terminal_each_line_is_answered_before_the_next_is_read(call, trained, monkeypatch):
    windows = []
    stream = Translator.stream

    def noting(self, lines, **options):
        windows.append(options["window"])
        return stream(self, lines, **options)

    monkeypatch.setattr(Translator, "stream", noting)
    status, out, err = call("translate", "--model", trained, stdin=BYTES, terminal=True)
    assert status == 0 and "Ctrl-D" in err and out.count("\n") == len(LINES)
    call("translate", "--model", trained, stdin=BYTES)
    call("translate", "--model", trained, "--read-ahead", 3, stdin=BYTES)
    assert windows == [1, None, 3]


def test_n_best_lines_carry_the_number_of_their_line_and_the_score(call, trained):
    status, out, _ = call("translate", "--model", trained, "--n-best", 3, stdin=BYTES)
    rows = [line.split("\t") for line in out.splitlines()]
    assert status == 0 and all(len(row) == 3 for row in rows)
    numbers = [int(row[0]) for row in rows]
    assert numbers == sorted(numbers) and set(numbers) == set(range(1, len(LINES) + 1))
    assert numbers.count(1) == 3 and rows[numbers.index(2)] == ["2", "0.0000", ""]
    scores = [float(row[1]) for row in rows if row[0] == "1"]
    assert scores == sorted(scores, reverse=True) and scores[0] < 0
    assert rows[0][2] == call("translate", "--model", trained, stdin=BYTES)[1].splitlines()[0]


def test_an_output_file_is_written_whole_or_not_at_all(call, trained, text, tmp_path):
    out = tmp_path / "out.fr"
    assert call("translate", "--model", trained, "--input", text / "test.en", "--output", out)[1] == ""
    assert out.read_text(encoding="utf-8").count("\n") == 10
    before = out.read_bytes()
    refused(call("translate", "--model", trained, "--output", out, stdin=b"a dog\nun caf\xe9\n"),
            "standard input, line 2", "0xe9", "UTF-8")
    assert out.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["out.fr"]
    refused(call("translate", "--model", trained, "--output", tmp_path), "is a directory")
    refused(call("translate", "--model", trained, "--output", tmp_path / "no" / "out"), "is not a folder")


@pytest.mark.parametrize("name", ["model.safetensors", "training-state.safetensors"])
def test_weights_are_not_replaced_by_an_output_whatever_their_config_tells(call, trained, tmp_path, name):
    shutil.copytree(trained, tmp_path / "newer")
    (tmp_path / "newer" / "config.json").write_text('{"version": 99}')
    refused(call("translate", "--model", trained, "--output", tmp_path / "newer" / name), "would replace", name)


def test_attention_is_drawn_for_every_line_that_is_not_blank(call, trained, tmp_path):
    picture = tmp_path / "map.png"
    status, out, _ = call("translate", "--model", trained, "--attention", picture,
                          stdin=b"the dog\n\nan egg .\n")
    assert status == 0 and out.count("\n") == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map-3.png", "map.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())
    refused(call("translate", "--model", trained, "--attention", tmp_path / "map.txt"), "map.txt", ".png")
    refused(call("translate", "--model", trained, "--attention", trained / "learning-curves.png"),
            "would replace learning-curves.png of the model in")
    refused(call("translate", "--model", trained, "--attention", tmp_path / "no" / "map.png"),
            "is not a folder")


def test_a_model_of_several_heads_from_training_to_a_picture(call, data, trained, tmp_path):
    run, picture = tmp_path / "run", tmp_path / "map.png"
    options = [*TINY, "--attention", "multi-head", "--heads", 2, "--feed", "context"]
    assert call("train", *data, "--out", run, *options, "--max-steps", 2)[0] == 0
    assert call("train", "--out", run, "--resume", "--max-steps", 3)[0] == 0
    assert json.loads((run / "config.json").read_text())["model"]["heads"] == 2
    for more in ([], ["--beam", 1], ["--sample"], ["--model", trained], ["--attention", picture]):
        status, out, err = call("translate", "--model", run, *more, stdin=b"the dog\nan egg .\n")
        assert status == 0 and out.count("\n") == 2, err
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert call("average", "--model", run, run, "--out", tmp_path / "mean")[0] == 0
    mean, own = (Translator.load(folder).model.params.flat for folder in (tmp_path / "mean", run))
    np.testing.assert_array_equal(mean, own)


def test_translate_refuses_what_it_cannot_use(call, trained, tmp_path):
    model = ["translate", "--model"]
    refused(call(*model, tmp_path / "absent"), "does not exist")
    refused(call(*model, tmp_path), "holds no model")
    refused(call(*model, trained, "--input", tmp_path / "absent.en"), "absent.en does not exist")
    for option, value in (("--beam", 0), ("--n-best", 6), ("--length-penalty", -1), ("--max-length", 0),
                          ("--batch-size", 0), ("--read-ahead", 0)):
        refused(call(*model, trained, option, value, stdin=b"a dog\n"), option[2:].split("-")[0])
    refused(call(*model, trained, "--long", "refuse", stdin=b"a dog\n" + b"a " * 20_000),
            "line 2 has 20,000 tokens", "512 MB", "cropped or skipped (--long)")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for path in filter(Path.is_file, trained.iterdir()):
        (damaged / path.name).write_bytes(path.read_bytes())
    (damaged / "model.safetensors").write_bytes(b"\0" * 100)
    refused(call(*model, damaged), "model.safetensors is damaged")


def test_a_closed_pipe_is_no_error(trained):
    process = command("translate", "--model", trained, stdin=subprocess.PIPE)
    process.stdout.close()
    process.stdin.write("the dog sleeps .\n" * 50)
    process.stdin.close()
    assert process.stderr.read() == "" and process.wait(60) == 141


def test_ctrl_c_while_translating_is_no_traceback(call, trained, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Translator, "stream", stop)
    status, out, err = call("translate", "--model", trained)
    assert (status, out, err) == (130, "", "\nscratchnmt translate: interrupted\n")


# evaluate


def test_evaluate_prints_the_scores_with_their_signatures(call, trained, text, tmp_path):
    arguments = ["evaluate", "--model", trained, "--src", text / "test.en", "--ref", text / "test.fr",
                 "--beam", 2]
    status, out, err = call(*arguments, "--json", "--output", tmp_path / "found")
    scores = json.loads(out)
    assert status == 0 and err == "" and out.count("\n") == 1
    assert scores["sentences"] == 10 and scores["beam_size"] == 2 and scores["perplexity"] > 1
    assert "tok:13a" in scores["bleu_signature"] and scores["sentences_per_second"] > 0
    assert 0 <= scores["bleu"] <= 100 and 0 <= scores["chrf"] <= 100
    assert (tmp_path / "found").read_text(encoding="utf-8").count("\n") == 10
    status, out, err = call(*arguments)
    assert status == 0 and err == "" and [line.split()[0] for line in out.splitlines()] == [
        "BLEU", "chrF", "perplexity", "unknown", "speed"]
    assert f"{scores['bleu']:.2f}" in out


def test_evaluate_of_the_models_own_translations_is_perfect(call, trained, text, tmp_path):
    call("translate", "--model", trained, "--input", text / "test.en", "--output", tmp_path / "ref")
    out = call("evaluate", "--model", trained, "--src", text / "test.en", "--ref", tmp_path / "ref",
               "--json")[1]
    assert json.loads(out)["chrf"] == pytest.approx(100)
    refused(call("evaluate", "--model", trained, "--src", text / "test.en", "--ref", text / "valid.fr"),
            "test.en has 10 lines", "valid.fr has 12")


# demo


@pytest.fixture
def tiny_demo(monkeypatch):
    monkeypatch.setattr(demo, "_BUGS", "none")
    monkeypatch.setattr(demo, "_SIZES", {"train": 100, "valid": 10, "test": 60})
    small = {"embed_size": 8, "hidden_size": 8, "max_epochs": 1}
    monkeypatch.setattr(demo, "CHOICES", {**demo.CHOICES, **small})


def test_the_demo_writes_a_run_that_can_be_used_and_can_be_run_again(call, tiny_demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = call("demo")
    assert status == 0
    assert "BLEU" in out and "weights agree" in out and "██" in out or "▒▒" in out or "░░" in out
    written = {path.name for path in (tmp_path / "scratchnmt-demo").iterdir()}
    assert {"attention.png", "learning-curves.png", "model.safetensors", "test.en", "test.fr"} <= written
    status, found, _ = call("translate", "--model", "scratchnmt-demo", stdin=b"the dog sleeps .\n")
    assert status == 0 and found.count("\n") == 1
    again = call("demo", "--seed", 1)
    assert again[0] == 0 and RunFolder("scratchnmt-demo").read().training["seed"] == 1
    suggested = out.partition("scratchnmt train")[2].replace("\\\n", " ").split()
    assert call("train", *suggested)[0] == 0
    assert (tmp_path / "runs" / "mine" / "model.safetensors").exists()


def test_the_demo_overwrites_nothing_but_itself(call, tiny_demo, trained, tmp_path):
    (tmp_path / "train.en").write_text("mine\n")
    refused(call("demo", "--out", tmp_path), "something else than a demo", "--out")
    refused(call("demo", "--out", trained), "something else than a demo")
    refused(call("demo", "--out", tmp_path / "train.en"), "is a file")
    refused(call("demo", "--out", tmp_path / "new", "--seed", -1), "seed is -1")
    assert [path.name for path in tmp_path.iterdir()] == ["train.en"]
    assert (tmp_path / "train.en").read_text() == "mine\n"


def test_a_demo_that_is_refused_leaves_the_text_of_the_one_in_the_folder(call, tiny_demo, tmp_path):
    out = tmp_path / "demo"
    assert call("demo", "--out", out)[0] == 0
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    with RunFolder(out, overwrite=True):
        refused(call("demo", "--out", out, "--seed", 1), "in use by another run")
        assert {name: (out / name).read_bytes() for name in before} == before


def test_a_demo_that_was_killed_before_its_first_file_can_be_run_again(call, tiny_demo, tmp_path):
    (tmp_path / ".lock").write_text("12\n")
    assert call("demo", "--out", tmp_path)[0] == 0


def test_a_run_that_took_the_demos_folder_over_is_safe(call, tiny_demo, data, tmp_path):
    out = tmp_path / "demo"
    assert call("demo", "--out", out)[0] == 0
    assert call("train", *data, "--out", out, *TINY, "--max-steps", 1, "--overwrite")[0] == 0
    refused(call("demo", "--out", out), "something else than a demo")


def test_prepare_writes_nothing_but_the_corpus(text, tmp_path):
    files = {f"{split}_{side}": str(text / f"{split}.{language}")
             for split in ("train", "valid") for side, language in (("src", "en"), ("tgt", "fr"))}
    with RunFolder(tmp_path / "run") as run:
        ready = prepare(run, {**files, "vocab": "word", "hidden_size": 8, "embed_size": 8})
    assert ready.options == TrainingOptions() and ready.data.origin["train_src"] == files["train_src"]
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["corpus"]
