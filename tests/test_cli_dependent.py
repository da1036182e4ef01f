"""No option is accepted and ignored, and none is given twice."""

import argparse

import pytest

from scratchnmt.cli import dependent
from scratchnmt.cli.dependent import check_dependent
from scratchnmt.cli.parser import Parser, add_option
from scratchnmt.cli.prepare import ALL_DEFAULTS
from scratchnmt.errors import InputError

FILES = ("--train-src", "a", "--train-tgt", "b", "--valid-src", "c", "--valid-tgt", "d")  # not looked for before


def refused(result, *parts):
    status, out, err = result
    assert status == 2 and out == "" and err.count("\n") == 1, (status, out, err)
    for part in parts:
        assert part in err


@pytest.mark.parametrize("options, sentence", [
    (["--momentum", 0.9], "--momentum is for --optimizer sgd"),
    (["--window", 5], "--window is for --attention local-m or local-p"),
    (["--window", 5, "--attention", "multi-head"], "--window is for --attention local-m or local-p"),
    (["--heads", 2], "--heads is for --attention multi-head"),
    (["--max-source", 50], "--max-source is for --score location"),
    (["--query", "previous", "--score", "none"], "--query is for a model with attention"),
    *((["--readout", "state", "--feed", feed, *more], "--readout state does not read the attention, and nor does")
      for feed in ("start", "none") for more in ([], ["--score", "concat"], ["--attention", "local-m"])),
    (["--r-drop", 1, "--dropout", 0], "--r-drop needs dropout, without which both passes are the same"),
    (["--teacher-weight", 0.3], "--teacher-weight needs --teacher"),
    (["--teacher", "t", "--r-drop", 1], "--r-drop is of two passes, and the loss with --teacher of one"),
    (["--teacher", "t", "--label-smoothing", 0.1, "--teacher-weight", 1], "--label-smoothing is of the references"),
    (["--minimum-risk", "bleu", "--teacher", "t"], "--teacher is of the cross-entropy, which --minimum-risk"),
    *((["--teacher", "t", *option], f"{option[0]} is for a model without teachers: the vocabularies are those of")
      for option in (["--vocab", "unigram"], ["--vocab-size", 8000], ["--joint-vocab"], ["--src-vocab", "s"])),
    (["--halve-after", 3], "--halve-after is for --schedule luong"),
    (["--trials", 2, "--patience", 0], "--trials needs a --patience above 0"),
    (["--lr-decay", 0.7, "--patience", 0], "--lr-decay needs a --patience above 0"),
    (["--min-count", 5], "--min-count is for --vocab word"),
    (["--vocab", "word", "--normalization", "nfkc"], "--normalization is for subwords"),
    (["--vocab", "word", "--character-coverage", 0.9], "--character-coverage is for subwords"),
    (["--vocab", "word", "--user-symbol", "<x>"], "--user-symbol is for subwords: words are taken as they are"),
    *((["--vocab", vocab, "--subword-sampling", 0.2],
       "--subword-sampling draws by the probabilities of a unigram model: choose --vocab unigram")
      for vocab in ("word", "bpe")),
    (["--encoder-dropout", 0.1, "--score", "none", "--feed", "none"],
     "--encoder-dropout is on what the attention reads, and --score none has none"),
    (["--graphs", 8], "--graphs is for fused kernels on a GPU"),
    *((["--minimum-risk", "bleu", "--device", device, "--graphs", 8], sentence) for device, sentence in (
        ("cuda", "--graphs records steps, which --minimum-risk cannot"), ("cpu", "--graphs "))),
    *((option, f"{option[0]} is for --minimum-risk bleu or chrf") for option in (
        ["--risk-samples", 8], ["--risk-alpha", 1], ["--risk-candidates", "samples", "--minimum-risk", "none"])),
    *((["--minimum-risk", "bleu", option, value], f"{option} changes the references, which --minimum-risk measures by")
      for option, value in (("--subword-sampling", 0.2), ("--distill", "file"))),
    *((["--minimum-risk", "chrf", option, 0.1], f"{option} is of the cross-entropy, which --minimum-risk does without")
      for option in ("--label-smoothing", "--r-drop")),
    (["--device", "cuda", "--kernels", "persistent", "--cell", "layer-norm-lstm"],
     "--kernels persistent is for --cell lstm: choose --kernels fused"),
    *((["--init-from", "run", *option], f"{option[0]} is for a new model: --init-from has its own") for option in (
        ["--vocab", "unigram"], ["--vocab-size", 8000], ["--init", "uniform"], ["--min-count", 2],
        ["--normalization", "identity"], ["--character-coverage", 0.9], ["--user-symbol", "<x>"], ["--joint-vocab"])),
    *((["--src-vocab", "s", "--tgt-vocab", "t", *option], f"{option[0]} is for a vocabulary that is learned")
      for option in (["--vocab", "unigram"], ["--vocab-size", 8000], ["--character-coverage", 0.9],
                     ["--normalization", "nfkc"], ["--user-symbol", "<x>"])),
])
def test_train(call, tmp_path, options, sentence):
    refused(call("train", *FILES, "--out", tmp_path / "run", *options), sentence)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("given", [
    {"momentum": 0.9, "optimizer": "sgd"}, {"window": 5, "attention": "local-p"},
    {"heads": 2, "attention": "multi-head"},
    {"max_source": 50, "score": "location"}, {"halve_after": 3, "schedule": "luong"}, {"trials": 2},
    {"lr_decay": 0.7, "patience": 3}, {"readout": "state", "feed": "context"},
    {"readout": "state", "feed": "none", "score": "none"}, {"readout": "state", "feed": "none", "init_from": "run"},
    {"encoder_dropout": 0.1}, {"encoder_dropout": 0.1, "score": "none", "init_from": "run"},
    {"r_drop": 1.0}, {"r_drop": 1.0, "dropout": 0.0, "encoder_dropout": 0.1}, {"r_drop": 0.0, "dropout": 0.0},
    {"r_drop": 1.0, "dropout": 0.0, "init_from": "run"},  # it may have another
    {"min_count": 5, "vocab": "word"}, {"subword_sampling": 0.2}, {"subword_sampling": 0.0, "vocab": "word"},
    {"subword_sampling": 0.2, "init_from": "run"}, {"subword_sampling": 0.2, "src_vocab": "s", "tgt_vocab": "t"},
    {"minimum_risk": "bleu", "risk_samples": 5, "risk_alpha": 1.0, "risk_candidates": "samples"},
    {"minimum_risk": "chrf", "label_smoothing": 0.0, "graphs": 0}, {"subword_sampling": 0.2, "teacher": "t"},
    {"teacher": ["s", "t"], "teacher_weight": 0.3, "label_smoothing": 0.1, "distill": "file"},
    {"graphs": 8, "device": "cuda"}, {"graphs": 0},
    {"min_count": 5, "vocab": "word"}, {"graphs": 8, "device": "cuda"}, {"graphs": 0},
    {"kernels": "persistent", "device": "cuda"}, {"kernels": "fused", "cell": "layer-norm-lstm"},
    {"momentum": 0.0}, {"trials": 5, "patience": 0},  # what they are anyhow
])
def test_what_is_used_is_accepted(given):
    check_dependent(dependent.TRAIN, given, ALL_DEFAULTS)


def test_a_run_that_was_started_with_what_was_ignored_goes_on():
    check_dependent(dependent.TRAIN, {"max_epochs": 3}, ALL_DEFAULTS, {"momentum": 0.9, "optimizer": "adam"})
    check_dependent(dependent.TRAIN, {"momentum": 0.9}, ALL_DEFAULTS, {"momentum": 0.9, "optimizer": "sgd"})
    with pytest.raises(InputError, match="--graphs is for fused kernels"):
        check_dependent(dependent.TRAIN, {"graphs": 3}, ALL_DEFAULTS, {"optimizer": "sgd"})


@pytest.mark.parametrize("arguments, sentence", [
    (["gradcheck", "--list", "--seed", 3], "--seed is for a check, and --list makes none"),
    (["gradcheck", "--list", "--dtype", "float32"], "--dtype is for a check"),
    (["gradcheck", "--list", "--verbose"], "--verbose is for a check"),
    (["gradcheck", "--wrt", "x"], "--wrt is for an op of your own: name its file by --module"),
    (["gradcheck", "--module", "x.py", "--list"], "--list is for the package's own operations, not for --module"),
    (["translate", "--model", "m", "--dictionary", "d"], "--dictionary needs --replace-unknown"),
    (["translate", "--model", "m", "--sample", "--top-k", 1, "--seed", 3], "--seed is for a choice of words"),
    (["evaluate", "--model", "m", "--src", "s", "--ref", "r", "--dictionary", "d"], "--dictionary needs"),
    (["translate", "--model", "m", "--no-repeat-ngram", 5, "--max-length", 5], "--no-repeat-ngram must be below"),
    (["evaluate", "--model", "m", "--src", "s", "--ref", "r", "--no-repeat-ngram", 9, "--max-length", 5],
     "--no-repeat-ngram must be below --max-length"),
])
def test_other_commands(call, arguments, sentence):
    refused(call(*arguments), sentence)


def test_every_row_speaks_of_options_that_there_are():
    from scratchnmt.cli import _parser

    commands = next(action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)).choices
    for name, rows in (("train", dependent.TRAIN), ("translate", dependent.TRANSLATE),
                       ("evaluate", dependent.EVALUATE), ("gradcheck", dependent.GRADCHECK)):
        known = {action.dest: action.default for action in commands[name]._actions}
        if name == "train":
            known |= ALL_DEFAULTS
        for row in rows:
            assert set(row.options.split()) <= known.keys()
            row.used(known)  # asks for none that there is not


@pytest.mark.parametrize("options, sentence", [
    (["--learning-rate", 0.1, "--learning-rate", 0.2], "--learning-rate is given twice, with different values"),
    (["--train-src", "other"], "--train-src is given twice"),
    (["--vocab=word", "--vocab=bpe"], "--vocab is given twice"),
])
def test_what_is_given_twice_is_refused(call, tmp_path, options, sentence):
    refused(call("train", *FILES, "--out", tmp_path / "run", *options), sentence)


def test_what_adds_up_may_be_repeated():
    def parser():
        made = Parser(prog="p")
        add_option(made, "size", 3, "")
        add_option(made, "loud", False, "")
        made.add_argument("--model", nargs="+", action="extend")
        made.add_argument("--arg", action="append")
        made.add_argument("names", nargs="*")
        return made

    one = parser()
    for _ in range(2):  # a parser may be used again
        found = one.parse_args(["a", "b", "--size", "4", "--size=4", "--loud", "--loud", "--model", "x", "--model", "y",
                                "--arg", "1", "--arg", "2"])
        assert (found.size, found.loud, found.model, found.arg, found.names) == (
            4, True, ["x", "y"], ["1", "2"], ["a", "b"])
    assert one.parse_args(["--size", "5"]).size == 5
    with pytest.raises(SystemExit):
        one.parse_args(["--size", "5", "--size", "6"])


def test_an_argument_of_an_op_has_one_shape(call, tmp_path):
    (tmp_path / "op.py").write_text("forward = lambda x: (2 * x, None)\nbackward = lambda dy, cache: {'dx': 2 * dy}\n")
    check = ["gradcheck", "--module", tmp_path / "op.py", "--arg", "x=2,2"]
    assert call(*check)[0] == 0
    refused(call(*check, "--arg", "x=7"), "--arg x=... is given twice: each argument has one shape")
