"""Streams that are closed, full or lack what files have, and names that are no UTF-8: no traceback, nothing lost."""

import argparse
import io
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from scratchnmt import NMT
from scratchnmt.checkpoint import save_new_model
from scratchnmt.cli import _parser, main
from scratchnmt.data.vocab import WordVocabulary
from scratchnmt.errors import InputError, encodable
from scratchnmt.sequential import Dense, Sequential
from scratchnmt.streams import Messages, Output, quoted, run_command
from scratchnmt.training.progress import Progress

for package in ("sacrebleu", "safetensors", "tqdm", "matplotlib"):
    pytest.importorskip(package)

ODD = os.fsdecode(b"caf\xe9")  # in Latin-1
WORDS = "a b c d e f g h"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, a text and its translation, in a folder whose name is no UTF-8."""
    folder = tmp_path_factory.mktemp("streams") / ODD
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system has no such names")
    words = WordVocabulary.build([WORDS], min_count=1)
    save_new_model(folder / "model", NMT(len(words), len(words), 4, 4), words, words)
    for name in ("text.en", "text.fr"):
        (folder / name).write_text("a b\nc d e\n")
    (folder / "op.py").write_text("import numpy\nargs = {'x': numpy.ones(2)}\ndef forward(x): return x, x\n"
                                  "def backward(dy, cache): return {'dx': dy}\n")
    return folder


COMMANDS = {
    "train": ["--train-src", "text.en", "--train-tgt", "text.fr", "--valid-src", "text.en", "--valid-tgt", "text.fr",
              "--vocab", "word", "--min-count", "1", "--embed-size", "4", "--hidden-size", "4", "--max-steps", "1",
              "--out", "{new}"],
    "translate": ["--model", "model", "--input", "text.en"],
    "translate --output": ["--model", "model", "--input", "text.en", "--output", "{new}"],
    "translate -": ["--model", "model"],
    "evaluate": ["--model", "model", "--src", "text.en", "--ref", "text.fr", "--json"],
    "score": ["--model", "model", "--src", "text.en", "--tgt", "text.fr"],
    "average": ["--model", "model", "model", "--out", "{new}"],
    "gradcheck": ["--module", "op.py"],
    "gradcheck lstm_gates": [],
    "museum": [],
    "export-cs224n": ["--model", "model", "--out", "{new}.safetensors", "--vocab-out", "{new}.json"],
}


def words_of(command, tmp_path, folder=None):
    """The words of a command line; files that it reads are given with their folder."""
    made = [word.format(new=tmp_path / "new") for word in COMMANDS[command]]
    if folder is not None:
        made = [str(folder / word) if (folder / word).exists() else word for word in made]
    name, *more = command.split()
    return [name, *(word for word in more if not word.startswith("-")), *made]


def status_of(words):
    try:
        return main(words)
    except SystemExit as exit:
        return exit.code


@pytest.mark.parametrize("missing", ["stdin", "stdout", "stderr"])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_does_its_work_with_a_stream_closed(folder, tmp_path, monkeypatch, command, missing):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, missing, None)
    assert status_of(words_of(command, tmp_path)) == 0
    with getattr(sys, missing):  # what was put in its place
        pass


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["translate", "--help"]])
def test_help_without_a_standard_output(monkeypatch, words):
    monkeypatch.setattr(sys, "stdout", None)
    assert status_of(words) == 0
    sys.stdout.close()


class OnlyWrite:
    """A wrapper as people put around standard output."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text


@pytest.mark.parametrize("command", COMMANDS)
def test_a_standard_output_with_nothing_but_write_has_all_that_a_file_has(folder, tmp_path, monkeypatch, capsys,
                                                                         command):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "stdin", io.StringIO("a\n"))
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, OnlyWrite())
    assert status_of(words_of(command, tmp_path)) == 0
    assert bool(sys.stdout.text) == (command != "translate --output") and "Traceback" not in sys.stderr.text


def test_the_progress_of_both_libraries_with_a_bare_stream_or_none(monkeypatch):
    x = np.zeros((4, 2), "float32")
    network = Sequential([Dense(1, input_shape=(2,))])
    network.compile(loss="mse")
    for stream in (OnlyWrite(), None):
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", stream)
        network.fit(x, x[:, :1], verbose=1)
        Progress(total_steps=3).say("still here")
        assert stream is None or "Epoch 1/1" in stream.text and "still here" in stream.text


class Full(OnlyWrite):
    def write(self, text):
        raise OSError(28, "No space left on device")


def test_messages_are_dropped_where_they_cannot_be_written_and_output_is_not():
    Messages(Full()).write("lost")
    with pytest.raises(OSError) as raised:
        Output(Full()).write("lost")
    assert raised.value.filename == "standard output"


def shell(line, folder, **more):
    """A line of a shell, in which $RUN is this Python: exit status, standard output, standard error."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "RUN": f"{sys.executable} -m", **more,
                   "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(["bash", "-c", line], cwd=folder, env=environment, capture_output=True, timeout=100,
                          stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("line", ["scratchnmt translate --model model --input text.en", "scratchnmt --version",
                                  "scratchnmt.kernels lstm_gates"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_standard_output_is_told(folder, line, unbuffered):
    status, _, err = shell(f"$RUN {line} > /dev/full", folder, PYTHONUNBUFFERED=unbuffered)
    assert status == 2 and err.count("\n") == 1 and "error: standard output: No space left on device" in err


def test_no_error_lands_among_the_translations(folder, tmp_path):
    assert shell("$RUN scratchnmt translate --model absent 2>&-", folder) == (2, "", "")
    line = "$RUN scratchnmt translate --model model --input text.en"
    status, out, _ = shell(f"{line} --output {tmp_path}/out >&- 2>&-", folder)
    lines = (tmp_path / "out").read_text().splitlines()
    assert status == 0 and out == "" and len(lines) == 2 and set(" ".join(lines).split()) <= set(WORDS.split())
    if Path("/dev/full").exists():
        assert shell("$RUN scratchnmt translate --model absent 2> /dev/full", folder) == (2, "", "")


@pytest.mark.parametrize("line", ["scratchnmt museum", "scratchnmt.kernels lstm_gates",
                                  "scratchnmt.textbook --example"])
def test_a_reader_that_has_seen_enough_is_no_error(folder, line):
    status, _, err = shell(f"set -o pipefail; $RUN {line} | read a", folder)
    assert status in (0, 141) and err == ""


# names


def test_what_no_encoding_has_is_written_out():
    assert encodable(f"x/{ODD} é \ud800") == r"x/caf\xe9 é \ud800"
    assert str(InputError(f"{ODD} is empty")) == r"caf\xe9 is empty"
    assert encodable("a\x1b[2J\r\x7f\x9b é\n\t") == "a\\x1b[2J\\x0d\\x7f\\u009b é\n\t"


@pytest.mark.parametrize("name", [ODD, f"it's {ODD}\\n$HOME", "plain", "two words", "~x", "-é'", "\x1b[2J"])
def test_a_quoted_path_is_the_path_to_a_shell(tmp_path, name):
    found = subprocess.run(["bash", "-c", f"printf %s {quoted(name)}"], capture_output=True, check=True)
    assert os.path.normpath(found.stdout) == os.fsencode(name)
    assert not found.stdout.startswith((b"-", b"~"))  # to a command another option, or a home folder


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_and_prints_names_that_are_no_utf8(folder, tmp_path, call, command):
    inner = tmp_path / ODD
    inner.mkdir()
    status, out, err = call(*words_of(command, inner, folder), stdin=b"a\n")
    assert status == 0, err
    (out + err).encode()  # there are no halves of characters in it
    if command == "evaluate":
        json.loads(out)
    if command in ("train", "average", "export-cs224n"):
        assert r"caf\xe9" in out


@pytest.mark.parametrize("words", [["translate", "--model", ODD], ["train", "--out", ODD, "--resume"],
                                   ["translate", "--model", "model", "--input", ODD], ["translate", f"--{ODD}", "x"],
                                   ["evaluate", "--model", "model", "--src", ODD, "--ref", ODD],
                                   ["gradcheck", "--module", f"{ODD}.py"], [ODD]])
def test_an_error_prints_them_too(folder, call, monkeypatch, words):
    monkeypatch.chdir(folder)
    status, out, err = call(*words)
    assert status == 2 and out == "" and err.count("\n") == 1 and err.encode()


def commands():
    """{name: its parser}."""
    return next(action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)).choices


def path_options():
    """(command, option) of every option that takes a path."""
    return [(name, action.option_strings[0]) for name, parser in commands().items() for action in parser._actions
            if action.option_strings and str(action.metavar).startswith(("FILE", "DIR"))]


@pytest.mark.parametrize("command, option", path_options())
def test_an_empty_path_is_refused_and_a_home_folder_found(call, tmp_path, monkeypatch, command, option):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    status, out, err = call(command, f"{option}=")
    assert status == 2 and out == "" and f"{option}: expected a path, got an empty one" in err
    status, out, err = call(command, f"{option}=~nobody-of-this-name/x")
    assert status == 2 and "nobody with such a home folder" in err
    parser = commands()[command]
    for action in parser._actions:
        action.required = False
    found = getattr(parser.parse_args([f"{option}=~/x"]), option[2:].replace("-", "_"))
    assert (found[0] if isinstance(found, list) else found) == str(tmp_path / "home" / "x")
    assert not list(tmp_path.iterdir())


def test_every_path_of_the_command_line_is_known_as_one():
    found = {option for _, option in path_options()}
    assert found >= {"--train-src", "--train-tgt", "--valid-src", "--valid-tgt", "--out", "--model", "--input",
                     "--output", "--attention", "--dictionary", "--src", "--ref", "--tgt", "--weights", "--vocab",
                     "--vocab-out", "--module"}


def test_a_warning_is_one_line_and_told_once(capsys):
    def work():
        for text in (f"batch_size of {ODD}", f"batch_size of {ODD}", "another"):
            warnings.warn(text, stacklevel=1)
        return 0

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert run_command("scratchnmt test", work, lambda text: text.replace("batch_size", "--batch-size")) == 0
    assert capsys.readouterr().err == (r"scratchnmt test: warning: --batch-size of caf\xe9" "\n"
                                       "scratchnmt test: warning: another\n")
