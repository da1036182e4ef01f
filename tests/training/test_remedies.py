"""Whatever an error advises works: each sentence of the package that names an option as the way out is tried here.

A new one is found by reading the sources, and has to be tried, too: here, or in a test that `ELSEWHERE` names.
"""

import ast
import re
from pathlib import Path

import numpy as np
import pytest
from tiny_run import files, press_ctrl_c

import scratchnmt
from scratchnmt.cli import demo, prepare
from scratchnmt.cli.choices import add_arguments
from scratchnmt.cli.parser import Parser
from scratchnmt.data import vocab
from scratchnmt.files import tensors
from scratchnmt.models import nmt
from scratchnmt.models.nmt import NMT
from scratchnmt.search import beam
from scratchnmt.training import validation

for package in ("sacrebleu", "sentencepiece", "safetensors", "tqdm", "matplotlib"):
    pytest.importorskip(package)

ROOT = Path(__file__).parents[2]
PACKAGE = Path(scratchnmt.__file__).parent
APART = {"gradcheck", "sequential", "museum", "selfcheck", "interop", "microscope", "kernels"}  # no options of training
HELP = {PACKAGE / "cli" / "choices.py", PACKAGE / "cli" / "parser.py"}
ADVICE = re.compile(r"\b(resume it|lower|choose|give|start (another|without)|leave (it|them|longer)|set|larger|smaller|"
                    r"raise)\b")
ELSEWHERE = {  # part of a sentence -> the test that tries it
    "give each by --arg NAME=SHAPE": "tests/test_cli_gradcheck.py",
    "is for fused kernels on a GPU: choose --device cuda": "tests/test_cli_dependent.py",
    "persistent is for --cell lstm: choose --kernels fused": "tests/test_cli_dependent.py",
}


def train_parser():
    parser = Parser(prog="train")
    add_arguments(parser)
    return parser


def option_names():
    """How sentences name the options of train: as they are typed, or as Python has them, if that is no plain word."""
    return [action.dest for action in train_parser()._actions if "_" in action.dest]


def worded(sentence):
    """A sentence of the library as the command line says it."""
    return train_parser().worded(sentence)


def sentences(path):
    """The strings of a source file, but for docstrings; what is filled in reads {}."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    inside |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value


def advice():
    """Where and what: every sentence that advises an option."""
    option = re.compile(rf"--[a-z][a-z-]+|\b({'|'.join(option_names())})\b|\b(resume|overwrite)=True")
    paths = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in APART]
    return [(path.name, sentence) for path in sorted({*paths} - HELP) for sentence in sentences(path)
            if "\n" not in sentence and option.search(sentence) and ADVICE.search(sentence)]


class Box:
    """What a remedy is tried with: a small text, folders, the command line."""

    def __init__(self, call, here, patch):
        self.call, self.here, self.patch = call, here, patch
        self.text = files(here, 40)

    def fails(self, *arguments, command="train"):
        status, _, err = self.call(command, *arguments)
        assert status == 2 and err.count("error: ") == 1, err
        return err

    def works(self, *arguments, command="train"):
        status, out, err = self.call(command, *arguments)
        assert status == 0, err
        return out

    def new(self, *arguments, out="run"):
        """The options of a new run."""
        small = [] if "--init-from" in arguments else ["--embed-size", 8, "--hidden-size", 8]
        if small and "--vocab" not in arguments:
            small += ["--vocab", "word", "--min-count", 1]
        given = {str(argument) for argument in arguments}
        kept = [option for at in range(0, len(small), 2) if small[at] not in given for option in small[at : at + 2]]
        limit = [] if {"--max-steps", "--max-epochs"} & given else ["--max-steps", 2]
        return [*self.text, *kept, *limit, *arguments, "--out", self.here / out]

    def resume(self, *arguments):
        return ["--out", self.here / "run", "--resume", *arguments]


TRIED = {}


def tries(part):
    """Names the sentence whose advice a function takes; the function returns the error in which it was given."""
    def noted(function):
        TRIED[part] = function
        return function
    return noted


@tries("resume it with a lower learning_rate or clip; more in")
def a_step_that_is_not_finite(box):
    err = box.fails(*box.new("--learning-rate", 1e30, "--max-steps", 9))
    box.works(*box.resume("--learning-rate", 0.001, "--clip", 1))
    return err


@tries("the validation perplexity is {}")
def a_validation_that_is_not_finite(box):
    with box.patch.context() as patch:
        patch.setattr(validation.Validation, "perplexity", lambda self, model: float("nan"))
        err = box.fails(*box.new())
        box.fails(*box.new("--valid-every", 2, "--save-every", 1, "--max-steps", 5), "--overwrite")
    box.works(*box.resume("--learning-rate", 0.0001))
    return err


@tries("and, as {}, with a larger max_steps, max_epochs")
def a_last_validation_that_is_not_finite(box):
    """Ctrl-C in it has saved the state, from which a resume takes no step."""
    measured, wrong = validation.Validation.perplexity, []
    for option, most in (("--max-steps", 2), ("--max-epochs", 1)):
        with box.patch.context() as patch:
            patch.setattr(validation.Validation, "perplexity", lambda self, model: press_ctrl_c() or self.check())
            assert box.call("train", *box.new(option, most, "--valid-every", 2), "--overwrite")[0] == 130
        wrong.extend(2 * [float("nan")])
        with box.patch.context() as patch:
            patch.setattr(validation.Validation, "perplexity", lambda *what: wrong.pop() if wrong else measured(*what))
            err = box.fails(*box.resume("--learning-rate", 0.0001))
            assert f"{most} {option[6:]} are done" in err
            box.works(*box.resume("--learning-rate", 0.0001, option, most + 1))
    return err


@tries("A larger --vocab-size or a smaller --min-count leaves fewer out")
def words_that_are_left_out(box):
    """A warning, which comes of a run that works."""
    status, _, told = box.call("train", *box.new("--vocab-size", 7))
    assert status == 0
    for better in (["--vocab-size", 70], ["--vocab", "unigram", "--vocab-size", 60]):
        status, _, err = box.call("train", *box.new(*better), "--overwrite")
        assert status == 0 and "leaves fewer out" not in err, err
    return told


@tries("choose a larger vocab_size or a smaller character_coverage")
def a_vocabulary_of_fewer_subwords_than_characters(box):
    err = box.fails(*box.new("--vocab", "unigram", "--vocab-size", 10))
    box.works(*box.new("--vocab", "unigram", "--vocab-size", 60))
    box.works(*box.new("--vocab", "unigram", "--vocab-size", 24, "--character-coverage", 0.7), "--overwrite")
    return err


def without_memory(model, *_, **__):
    raise MemoryError("Unable to allocate 9 GiB")


@tries("resume it with a larger --accumulate")
def a_step_without_memory(box):
    forward = NMT.forward_inputs
    with box.patch.context() as patch:
        def little(self, inputs, *rest, **options):
            if inputs.src.shape[1] > 9:
                without_memory(self)
            return forward(self, inputs, *rest, **options)

        patch.setattr(NMT, "forward_inputs", little)
        err = box.fails(*box.new())
        box.works(*box.resume("--accumulate", 4))
    return err


@tries("a sentence {} alone does not fit")
def a_sentence_without_memory(box):
    """There is a save of step 0, whose model is that of a validation."""
    forward = NMT.forward_inputs
    box.works(*box.new("--max-steps", 1))
    with box.patch.context() as patch:
        def little(self, inputs, *rest, **options):
            if inputs.src.shape[0] > 4:
                without_memory(self)
            return forward(self, inputs, *rest, **options)

        patch.setattr(NMT, "forward_inputs", little)
        err = box.fails(*box.resume("--max-steps", 3, "--accumulate", 40))
        box.works(*box.new("--max-length", 4, "--init-from", box.here / "run", out="another"))
    return err


@tries("{} draws for a sentence {} do not fit")
def draws_without_memory(box):
    """There is a save of step 0, whose model is that of a validation."""
    losses = NMT.sentence_losses
    with box.patch.context() as patch:
        def little(self, src, *rest, **options):
            if src.shape[1] > 10:
                without_memory(self)
            return losses(self, src, *rest, **options)

        patch.setattr(NMT, "sentence_losses", little)
        box.works(*box.new("--max-steps", 1))
        risk = ["--init-from", box.here / "run", "--minimum-risk", "chrf", "--max-steps", 2, "--batch-size", 8]
        err = box.fails(*box.new("--risk-samples", 20, *risk, out="many"))
        box.works(*box.new("--risk-samples", 4, *risk, out="few"))
    return err


@tries("resume it where more memory is free, such as --device cpu")
def a_validation_without_memory(box):
    with box.patch.context() as patch:
        patch.setattr(validation, "greedy_search", without_memory)
        err = box.fails(*box.new())
    box.works(*box.resume("--device", "cpu"))
    return err


@tries("lower hidden_size, embed_size or the vocabularies' sizes: weights, gradients")
def an_optimizer_without_memory(box):
    with box.patch.context() as patch:
        patch.setattr("scratchnmt.optim.Adam.__init__", without_memory)
        err = box.fails(*box.new())
    box.works(*box.new("--hidden-size", 4, "--embed-size", 4, "--vocab-size", 9))
    return err


@tries("out of memory on {} for the model's weights")
def weights_without_memory(box):
    with box.patch.context() as patch:
        patch.setattr(nmt, "Parameters", without_memory)
        err = box.fails(*box.new())
    box.works(*box.new("--hidden-size", 4, "--embed-size", 4, "--vocab-size", 9))
    return err


@tries("a model of {} weights takes {} GB to train")
def weights_that_no_machine_has_room_for(box):
    err = box.fails(*box.new("--hidden-size", 10**8))
    box.works(*box.new("--hidden-size", 4, "--embed-size", 4, "--vocab-size", 9))
    with box.patch.context() as patch:
        patch.setattr(prepare.os, "sysconf", lambda name: 1)
        assert "choose a smaller --hidden-size" in box.fails(*box.new(out="another"))
    return err


@tries("start another run, to which --init-from {folder}")
def an_option_that_may_not_change(box):
    box.works(*box.new())
    wanted = {"--batch-size": 8, "--batch-by": "tokens", "--pool": 3, "--seed": 5, "--optimizer": "sgd",
              "--average": 0.5, "--metric": "bleu", "--max-length": 9, "--dropout": 0.1, "--embed-dropout": 0.1,
              "--label-smoothing": 0.1, "--r-drop": 0.5, "--minimum-risk": "chrf"}
    for number, (option, value) in enumerate(wanted.items()):
        err = box.fails(*box.resume(option, value))
        assert f"start another run, to which --init-from {box.here / 'run'} gives" in err
        box.works(*box.new("--init-from", box.here / "run", option, value, out=f"another-{number}"))
    box.works(*box.resume("--max-steps", 3))  # or left out
    return err.replace(str(box.here / "run"), "{folder}")


@tries("choose another folder, resume=True to go on, or overwrite=True")
def a_folder_that_holds_a_run(box):
    box.works(*box.new())
    err = box.fails(*box.new())
    box.works(*box.new(out="another"))
    box.works(*box.new("--max-steps", 3, "--resume"))
    box.works(*box.new("--overwrite"))
    return err


@tries("choose another folder, or overwrite=True")
def a_folder_that_holds_a_model(box):
    box.works(*box.new())
    (box.here / "run" / "training-state.safetensors").unlink()
    err = box.fails(*box.new())
    box.works(*box.new(out="another"))
    box.works(*box.new("--overwrite"))
    return err


@tries("after so many validations start another run with a larger --valid-every")
def too_many_validations(box):
    with box.patch.context() as patch:
        patch.setattr(tensors, "TENSOR_HEADER", 4 * 2900)
        err = box.fails(*box.new("--valid-every", 1, "--max-steps", 20))
        box.works(*box.new("--init-from", box.here / "run", "--valid-every", 10, "--max-steps", 20, out="another"))
    return err


@tries("schedule {} ends at a known step: set max_epochs or max_steps")
def a_schedule_without_an_end(box):
    err = box.fails(*box.new("--schedule", "linear", "--max-epochs", "none"))
    box.works(*box.new("--schedule", "linear", "--max-epochs", "none", "--max-steps", 2))
    box.works(*box.new("--schedule", "linear", "--max-epochs", 1, out="another"))
    return err


@tries("a source of {} tokens, but score 'location' knows {} positions")
def a_source_that_the_model_has_no_places_for(box):
    err = box.fails(*box.new("--score", "location", "--max-source", 4))
    box.works(*box.new("--score", "location", "--max-source", 5))
    box.works(*box.new("--score", "location", "--max-source", 4, "--max-length", 4, out="another"))
    return err


@tries("reverse_source is for an encoder of one direction")
def a_source_that_is_reversed_for_both(box):
    err = box.fails(*box.new("--reverse-source"))
    box.works(*box.new("--reverse-source", "--one-direction"))
    return err


@tries("needs dropout, without which both passes are the same: choose a --dropout above 0")
def two_passes_that_are_the_same(box):
    err = box.fails(*box.new("--r-drop", 1, "--dropout", 0))
    box.works(*box.new("--r-drop", 1, "--dropout", 0.1))
    return err


@tries("r_drop needs dropout: without it both passes are the same; choose a dropout above 0")
def two_passes_of_fine_tuning_that_are_the_same(box):
    box.works(*box.new("--r-drop", 1, "--dropout", 0.1))
    err = box.fails(*box.new("--init-from", box.here / "run", "--dropout", 0, out="another"))
    box.works(*box.new("--init-from", box.here / "run", "--dropout", 0.2, out="another"))
    box.works(*box.new("--init-from", box.here / "run", "--dropout", 0, "--r-drop", 0, out="third"))
    return err


@tries("learns one vocabulary of both sides: leave it out, and give one file")
def a_joint_vocabulary_that_is_given(box):
    words = box.here / "words"
    words.write_text("a\nb\nc\n")
    err = box.fails(*box.new("--joint-vocab", "--src-vocab", words))
    box.works(*[one for one in box.new("--src-vocab", words, "--tgt-vocab", words) if one not in ("--vocab", "word",
                                                                                                  "--min-count", 1)])
    assert (box.here / "run" / "joint.vocab.json").exists()
    return err


@tries("{} {} is the folder of the new run itself: choose another --out")
def a_run_that_begins_with_itself(box):
    box.works(*box.new())
    err = box.fails(*box.new("--init-from", box.here / "run", "--overwrite"))
    box.works(*box.new("--init-from", box.here / "run", out="another"))
    return err


@tries("but the model in {} has {}: leave it out, or start without --init-from")
def weights_that_are_no_such_model(box):
    box.works(*box.new())
    err = box.fails(*box.new("--init-from", box.here / "run", "--hidden-size", 9, out="another"))
    box.works(*box.new("--init-from", box.here / "run", out="another"))
    box.works(*box.new("--hidden-size", 9, out="third"))
    return err


@tries("{} has vectors of {} numbers, expected {}: choose --embed-size {}")
def embeddings_of_another_size(box):
    (box.here / "vectors").write_text("a 1 2 3\n")
    err = box.fails(*box.new("--src-embeddings", box.here / "vectors"))
    box.works(*box.new("--src-embeddings", box.here / "vectors", *err.split("choose ")[1].split()))
    return err


@tries("state does not read the attention, and nor does --feed start or none: choose --feed context, or --score none")
def an_attention_that_nothing_reads(box):
    err = box.fails(*box.new("--readout", "state", "--feed", "none"))
    box.works(*box.new("--readout", "state", "--feed", "context"))
    box.works(*box.new("--readout", "state", "--feed", "none", "--score", "none", out="another"))
    return err


@tries("choose a smaller vocab_size or a larger min_count")
def a_vocabulary_that_is_too_large(box):
    box.patch.setattr(vocab, "VOCABULARY_LIMIT", 80)
    err = box.fails(*box.new())
    box.works(*box.new("--vocab-size", 6))
    box.works(*box.new("--min-count", 25, out="another"))
    return err


@tries("draws by the probabilities of a unigram model: choose --vocab unigram")
def words_that_are_to_be_cut(box):
    err = box.fails(*box.new("--subword-sampling", 0.2))
    box.works(*box.new("--vocab", "unigram", "--vocab-size", 60, "--subword-sampling", 0.2))
    return err


@tries("the {} vocabulary is one of {}: choose a vocabulary of --vocab unigram, or leave it out")
def a_given_vocabulary_without_probabilities(box):
    for kind in ("bpe", "unigram"):
        box.works(*box.new("--vocab", kind, "--vocab-size", 24, "--joint-vocab", out=kind))
    given = {kind: [one for side in ("src", "tgt") for one in (f"--{side}-vocab", box.here / kind / "joint.spm")]
             for kind in ("bpe", "unigram")}
    learned = ("--vocab", "word", "--min-count", 1)
    new = lambda *options: [one for one in box.new(*options) if one not in learned]
    err = box.fails(*new(*given["bpe"], "--subword-sampling", 0.2))
    assert not (box.here / "run").exists()
    box.works(*new(*given["unigram"], "--subword-sampling", 0.2))
    box.works(*new(*given["bpe"]), "--overwrite")
    return err


def a_command_without_memory(box, module, name, command, *arguments):
    """Of a batch with more than one sentence."""
    box.works(*box.new())
    function = getattr(module, name)

    def little(model, src, *rest, **options):
        if src.shape[1] > 1:
            without_memory(model)
        return function(model, src, *rest, **options)

    box.patch.setattr(module, name, little)
    err = box.fails("--model", box.here / "run", *arguments, command=command)
    box.works("--model", box.here / "run", *arguments, "--batch-size", 1, command=command)
    return err


@tries("in the search of {} sentences of up to {} tokens; lower batch_size")
def a_search_without_memory(box):
    from scratchnmt import translate

    assert translate.beam_search is beam.beam_search
    return a_command_without_memory(box, translate, "beam_search", "translate", "--input", box.here / "valid.src",
                                    "--output", box.here / "out", "--beam", 2)


@tries("in the scores of {} sentences of up to {} tokens; lower batch_size")
def scores_without_memory(box):
    return a_command_without_memory(box, NMT, "token_log_probs", "score", "--src", box.here / "valid.src",
                                    "--tgt", box.here / "valid.tgt")


@tries("holds something else than a demo: choose another folder with --out")
def a_folder_that_is_no_demo(box):
    box.patch.setattr(demo, "_SIZES", {"train": 60, "valid": 5, "test": 500})
    box.patch.setattr(demo, "CHOICES", {**demo.CHOICES, "embed_size": 8, "hidden_size": 8, "max_epochs": 1})
    (box.here / "other").mkdir()
    (box.here / "other" / "file").write_text("mine")
    err = box.fails("--out", box.here / "other", command="demo")
    box.works("--out", box.here / "demo", command="demo")
    return err


@pytest.mark.parametrize("part", TRIED)
def test_advice_works(part, call, tmp_path, monkeypatch):
    with np.errstate(all="ignore"):
        err = TRIED[part](Box(call, tmp_path, monkeypatch))
    pattern, as_typed = (re.escape(text).replace(r"\{\}", ".*?") for text in (part, worded(part)))
    assert re.search(f"{pattern}|{as_typed}", err), err


def test_every_sentence_that_advises_an_option_is_tried():
    found = advice()
    untried = [f"{name}: {sentence}" for name, sentence in found
               if not any(part in sentence for part in [*TRIED, *ELSEWHERE])]
    assert not untried, "advice that no test takes (see the head of this file): " + "; ".join(untried)
    stale = [part for part in [*TRIED, *ELSEWHERE] if not any(part in sentence for _, sentence in found)]
    assert not stale, stale
    for part, path in ELSEWHERE.items():
        assert (ROOT / path.partition("::")[0]).exists(), part
