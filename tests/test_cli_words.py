"""The command line speaks of options, Python of arguments: "--batch-size", not batch_size."""

import re

import pytest

from scratchnmt.cli import _COMMANDS, choices
from scratchnmt.cli.parser import Parser, add_option
from scratchnmt.files.run_folder import STATE, RunFolder
from scratchnmt.models.config import NMTConfig
from scratchnmt.training import TrainingOptions

FILES = [f"--{name.replace('_', '-')}=absent" for name in choices.DATA_FILES]
NUMBERS = {name: option for group in (choices.DATA, *choices.GROUPS.values(), choices.OUTPUT, choices.RECORDING)
           for name, option in group.items()
           if type(option.default) in (int, float) or "type" in option.more}
PYTHON = re.compile(r"\b[a-z]+_[a-z_]+\b|=(?:True|False)\b")


def of_options(result, *parts):
    """A refusal with these parts, and without a name of Python."""
    status, out, err = result
    assert status == 2 and out == "" and not PYTHON.search(err), err
    for part in parts:
        assert part in err, err


@pytest.fixture
def parser():
    parser = Parser(prog="scratchnmt test")
    for name, default in (("batch_size", 3), ("beam", 5), ("score", "dot"), ("method", "auto"),
                          ("reverse_source", False), ("learning_rate", 0.1)):
        add_option(parser, name, default, "")
    parser.add_argument("--one-direction", dest="bidirectional", action="store_false")
    parser.add_argument("--train-src", metavar="FILE")
    parser.parse_known_args([])
    return parser


@pytest.mark.parametrize("python, typed", [
    ("lower batch_size, now 3", "lower --batch-size, now 3"),
    ("reverse_source is for one direction: choose bidirectional=False", "--reverse-source is for one direction: choose "
     "--one-direction"),
    ("reverse_source=True needs it", "--reverse-source needs it"),
    ("use method='richardson' or method=2.5", "use --method richardson or --method 2.5"),
    ("score is 'x'", "--score is 'x'"),
    ("with score 'dot' the score is low", "with --score 'dot' the score is low"),
    ("beam_size must be at least 1, not 0.", "--beam must be at least 1, not 0."),
    ("a lower learning_rate.", "a lower --learning-rate."),
    # what is no argument
    ("bidirectional=True", "bidirectional=True"),
    ("the score of a method", "the score of a method"),
    ("/data/batch_size/x.en, batch_size.txt, my-batch_size and batch_size(3)", None),
    ("train_src does not exist", None),
    ("--batch-size is 3", None),
])
def test_arguments_become_options(parser, python, typed):
    assert parser.worded(python) == (typed or python)


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_out_of_range_is_told_by_its_option(call, tmp_path, name):
    option = f"--{name.replace('_', '-')}"
    (tmp_path / "text").write_text("a b\na b\n")
    files = [one.replace("absent", str(tmp_path / "text")) for one in FILES]
    with_it = {"momentum": ["--optimizer=sgd"], "halve_after": ["--schedule=luong"], "window": ["--attention=local-m"],
               "max_source": ["--score=location"], "heads": ["--attention=multi-head"]}.get(name, [])
    of_options(call("train", *files, "--out", tmp_path / "run", "--vocab=word", f"{option}=-1", *with_it),
               "vocabulary size -1" if name == "vocab_size" else option)


@pytest.mark.parametrize("options, parts", [
    (["--reverse-source"], ["--reverse-source is for an encoder of one direction: choose --one-direction"]),
    (["--tie-embeddings", "--hidden-size=8"], ["--tie-embeddings needs --embed-size = --hidden-size"]),
    (["--schedule=cosine", "--max-epochs=none"], ["set --max-epochs or --max-steps"]),
    (["--hidden-size=7", "--score=dot"], ["--score 'dot'", "even --hidden-size"]),
    (["--attention=multi-head", "--heads=3"], ["--heads is 3, expected a divisor of --hidden-size, 256, with --atten"]),
    (["--attention=multi-head", "--score=dot"], ["--score 'dot' is not for --attention 'multi-head'"]),
    (["--feed=context", "--score=none"], ["--feed 'context' needs attention"]),
    (["--hidden-size=1000000"], ["choose a smaller --hidden-size, --embed-size or --vocab-size"]),
    (["--kernels=fused"], ["--kernels \"fused\" needs a GPU: choose --device \"cuda\""]),
    (["--matmul=tf32"], ["--matmul \"tf32\" is of --kernels \"fused\""]),
])
def test_what_does_not_go_together_is_told_by_options(call, tmp_path, options, parts):
    of_options(call("train", *FILES, "--out", tmp_path / "run", *options), *parts)


@pytest.mark.parametrize("command, options, part", [
    ("translate", ["--beam=0"], "--beam must be"), ("translate", ["--max-length=0"], "--max-length must be"),
    ("translate", ["--batch-size=0"], "--batch-size must be"), ("translate", ["--n-best=9"], "--n-best must be"),
    ("translate", ["--length-penalty=-1"], "--length-penalty must be"),
    ("translate", ["--read-ahead=0"], "--read-ahead must be"),
    ("translate", ["--min-length=-1"], "--min-length must be at least 0"),
    ("translate", ["--sample", "--min-length=9", "--max-length=9"], "--min-length must be below --max-length, 9,"),
    ("evaluate", ["--min-length=9", "--max-length=3"], "--min-length must be below --max-length, 3, which counts </s>"),
    ("translate", ["--no-repeat-ngram=-1"], "--no-repeat-ngram must be at least 0"),
    ("evaluate", ["--no-repeat-ngram=-1"], "--no-repeat-ngram must be at least 0"),
    ("translate", ["--sample", "--temperature=0"], "--temperature must be"),
    ("translate", ["--sample", "--top-k=-1"], "--top-k must be"),
    ("translate", ["--sample", "--seed=-1"], "--seed must be"),
    ("translate", ["--replace-unknown", "--pieces"], "--replace-unknown"),
    ("translate", ["--device=tpu"], "--device 'tpu' is not known"),
    ("evaluate", ["--beam=0"], "--beam must be"), ("evaluate", ["--batch-size=0"], "--batch-size must be"),
    ("score", ["--batch-size=0"], "--batch-size must be"),
])
def test_those_of_the_other_commands(call, tiny_model, tmp_path, command, options, part):
    text = tmp_path / "text"
    text.write_text("a b\n")
    files = {"translate": ["--input", text], "evaluate": ["--src", text, "--ref", text],
             "score": ["--src", text, "--tgt", text]}[command]
    of_options(call(command, "--model", tiny_model, *files, *options), part)


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    from scratchnmt import NMT
    from scratchnmt.checkpoint import save_new_model
    from scratchnmt.data.vocab import WordVocabulary

    pytest.importorskip("safetensors")
    words, folder = WordVocabulary.build(["a b"], min_count=1), tmp_path_factory.mktemp("words") / "model"
    save_new_model(folder, NMT(len(words), len(words), 4, 4), words, words)
    return folder


def test_a_folder_that_holds_a_run_is_told_in_both_languages(call, tiny_model):
    for state, there, way in ((b"", "a run already", "another folder, --resume to go on, or"),
                              (None, "a model", "another folder, or")):
        (tiny_model / STATE).unlink(missing_ok=True)
        if state is not None:
            (tiny_model / STATE).write_bytes(state)
        of_options(call("train", *FILES, "--out", tiny_model), f"{there} (config.json): choose {way} --overwrite to ")
        with pytest.raises(ValueError, match=f"choose {way.replace('--resume', 'resume=True')} overwrite=True"
                           ), RunFolder(tiny_model):
            pass


def test_a_flag_that_would_be_another_run_is_told_as_it_is_typed(call, tiny_model):
    of_options(call("train", "--out", tiny_model, "--resume", "--one-direction"), "no run to resume")
    (tiny_model / "training-state.safetensors").write_bytes(bytes(1 << 14))
    of_options(call("train", "--out", tiny_model, "--resume", "--one-direction"),
               "--one-direction is given, but the run in", "was started without it")
    of_options(call("train", "--out", tiny_model, "--resume", "--hidden-size=8"),
               "--hidden-size is 8, but the run in", "was started with 4")


def test_help_speaks_of_options_too(call):
    for command in _COMMANDS:
        found = set(PYTHON.findall(re.sub(r"\S+\.py\S*", "", call(command, "--help")[1])))
        assert not found & {"=True", "=False", *NMTConfig.__dataclass_fields__, *TrainingOptions.__dataclass_fields__}
