"""What can be chosen for `scratchnmt train`: every option, its default and what it does."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any, NamedTuple

from ..models.attention import ATTENTIONS
from ..models.attention.scores import SCORES
from ..models.config import FEEDS, NO_ATTENTION, QUERIES
from ..models.initialization import INITIALIZERS
from ..models.readout import READOUTS
from ..training import TrainingOptions
from .parser import Parser, add_computing, add_option

DATA_FILES = ("train_src", "train_tgt", "valid_src", "valid_tgt")
CHANGEABLE = ("max_epochs", "max_steps", "max_minutes", "log_every", "save_every", "save_minutes",
              "learning_rate", "clip", "graphs", "on_nonfinite", "accumulate")
_TRAINING = {field.name: field.default for field in fields(TrainingOptions)}


class Option(NamedTuple):
    """An option that is given to argparse by `add_option`."""

    default: Any
    text: str
    more: dict[str, Any] = {}


def _limit(kind: type) -> dict[str, Any]:
    """A number, or "none" for no limit."""

    def read(text: str) -> Any:
        return None if text == "none" else kind(text)

    read.__name__ = kind.__name__  # argparse names it in its errors
    return {"type": read, "metavar": "N"}


def _training(name: str, text: str, **more: Any) -> Option:
    return Option(_TRAINING[name], text, more)


DATA = {
    "max_length": Option(100, "training sentences of more tokens are left out"),
}
VOCABULARY = {
    "vocab": Option("unigram", "subwords that SentencePiece learns from the text, by the unigram or the bpe "
                    "method; or word: whatever stands between spaces",
                    {"choices": ("unigram", "bpe", "word")}),
    "vocab_size": Option(8000, "tokens of each side, at most"),
    "min_count": Option(2, "rarer words are unknown (--vocab word)"),
    "joint_vocab": Option(False, "one vocabulary for both sides"),
}
MODEL = {
    "embed_size": Option(256, "numbers in the embedding of a token"),
    "hidden_size": Option(256, "LSTM units of the decoder and of each direction of the encoder"),
    "layers": Option(1, "LSTM layers of encoder and decoder"),
    "bidirectional": Option(True, "encoder that reads from left to right only", {"flag": "--one-direction"}),
    "score": Option("general", "attention score (Luong et al. 2015)", {"choices": (*SCORES, NO_ATTENTION)}),
    "attention": Option("global", "to the whole source, or to a window: one that moves on with the steps, or one whose "
                        "place is predicted", {"choices": tuple(ATTENTIONS)}),
    "window": Option(10, "tokens on each side of such a window's middle"),
    "query": Option("state", "which state of the decoder asks: that of the step, or the previous one "
                             "(Bahdanau et al. 2015)", {"choices": QUERIES}),
    "feed": Option("output", "what a decoder step receives beside its state: the attentional output of the step "
                   "before (input feeding), its context, the state it started from, or none", {"choices": FEEDS}),
    "readout": Option("output", "what the vocabulary is read from: the attentional output, or the decoder's state",
                      {"choices": tuple(READOUTS)}),
    "max_source": Option(128, "places that score location knows: the longest source, in tokens"),
    "reverse_source": Option(False, "an encoder of one direction reads the source from its end"),
    "dropout": Option(0.2, "share that is dropped of the attentional output, and between layers"),
    "embed_dropout": Option(0.0, "the same of the embeddings"),
    "tie_embeddings": Option(False, "target embedding = output weights (needs E = H)"),
    "label_smoothing": Option(0.0, "probability that the loss spreads over all tokens"),
    "init": Option("uniform", "how the weights start: uniform in (-0.1, 0.1), Glorot's, or his with "
                   "orthogonal recurrent matrices", {"choices": tuple(INITIALIZERS)}),
    "dtype": Option("float32", "of the weights", {"choices": ("float32", "float64")}),
}
TRAINING = {
    "batch_size": _training("batch_size", "sentences, or target tokens, in a batch"),
    "batch_by": _training("batch_by", "what --batch-size counts", choices=("sentences", "tokens")),
    "pool": _training("pool", "batches among which sentences of like length are brought together; 1: none"),
    "accumulate": _training("accumulate", "parts in which each process computes its share of a batch, to save memory"),
    "optimizer": _training("optimizer", "how the weights move", choices=("adam", "sgd")),
    "learning_rate": _training("learning_rate", "how far a step goes, at most"),
    "momentum": _training("momentum", "of sgd"),
    "schedule": _training("schedule", "course of the learning rate: luong halves it every epoch in the end, "
                          "linear and cosine bring it to zero at the last step",
                          choices=("constant", "luong", "linear", "cosine")),
    "warmup": _training("warmup", "steps over which the rate rises"),
    "halve_after": _training("halve_after", "epochs before the schedule luong halves the rate"),
    "clip": _training("clip", "largest norm of a gradient, averaged over sentences; 0: any"),
    "average": _training("average", "decay of a moving average of the weights, which is then what is "
                         "validated and saved, such as 0.99; 0: none"),
    "seed": _training("seed", "of the weights, the order of the sentences and dropout"),
}
STOPPING = {
    "max_epochs": _training("max_epochs", "passes over the text, or none", **_limit(int)),
    "max_steps": _training("max_steps", "batches (default: no limit)", **_limit(int)),
    "max_minutes": _training("max_minutes", "minutes (default: no limit)", **_limit(float)),
    "valid_every": _training("valid_every", "steps between validations; 0: one after every epoch"),
    "valid_batch_size": _training("valid_batch_size", "sentences validated together"),
    "metric": _training("metric", "what the best model is best at: perplexity or BLEU",
                        choices=("ppl", "bleu")),
    "patience": _training("patience", "validations without a new best before the learning rate falls and "
                          "training goes back to the best; 0: never"),
    "lr_decay": _training("lr_decay", "what the rate is multiplied by then"),
    "trials": _training("trials", "how often that may happen before training stops"),
    "on_nonfinite": _training("on_nonfinite", "what to do with a batch whose loss or gradient is not finite",
                              choices=("stop", "skip")),
}
OUTPUT = {
    "save_every": _training("save_every", "steps between saves of the training state; 0: by time alone"),
    "save_minutes": _training("save_minutes", "minutes between saves"),
    "log_every": _training("log_every", "steps between lines, where there is no terminal for a bar"),
}
RECORDING = {
    "graphs": _training("graphs", "steps of how many different sizes are recorded to be repeated, with fused "
                        "kernels; 0: none"),
}
GROUPS = {
    "vocabulary": VOCABULARY, "model": MODEL, "training": TRAINING,
    "stopping (whatever comes first) and validation": STOPPING,
}


def add_arguments(parser: Parser) -> None:
    """What is not given is not in the result: a resumed run must tell it from a default."""
    parser.argument_default = argparse.SUPPRESS
    data = parser.add_argument_group("data: UTF-8, a sentence a line, plain or .gz")
    data.add_argument("--train-src", metavar="FILE", help="source sentences to learn from")
    data.add_argument("--train-tgt", metavar="FILE", help="their translations, line by line")
    data.add_argument("--valid-src", metavar="FILE", help="other source sentences, to tell when it is good")
    data.add_argument("--valid-tgt", metavar="FILE", help="their translations")
    _add(data, DATA)
    for title, options in GROUPS.items():
        _add(parser.add_argument_group(title), options)
    output = parser.add_argument_group("output")
    output.add_argument("--out", required=True, metavar="DIR",
                        help="folder for the model and all else, made if needed")
    output.add_argument("--resume", action="store_true", default=False,
                        help="go on with the run in that folder, which remembers every option")
    output.add_argument("--overwrite", action="store_true", default=False,
                        help="replace the run in that folder")
    _add(output, OUTPUT)
    computing = parser.add_argument_group("computing, which may change from resume to resume")
    add_computing(computing, argument_default=argparse.SUPPRESS)
    _add(computing, RECORDING)


def defaults(options: dict[str, Option]) -> dict[str, Any]:
    return {name: option.default for name, option in options.items()}


def _add(group: Any, options: dict[str, Option]) -> None:
    for name, (default, text, more) in options.items():
        if "flag" in more:
            group.add_argument(more["flag"], dest=name, action="store_false", default=argparse.SUPPRESS,
                               help=text)
        else:
            add_option(group, name, default, text, argument_default=argparse.SUPPRESS, **more)
