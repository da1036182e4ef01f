"""What can be chosen for `scratchnmt train`: every option, its default and what it does."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any, NamedTuple

from ..data.vocab import NORMALIZATIONS
from ..metrics import TOKENIZERS
from ..models.attention import ATTENTIONS
from ..models.attention.scores import SCORES
from ..models.cells import CELLS
from ..models.config import FEEDS, NO_ATTENTION, QUERIES
from ..models.initialization import INITIALIZERS
from ..models.readout import READOUTS
from ..training import TrainingOptions
from ..training.plan import may_change
from .parser import TOKENIZE, OneOrSeveral, Parser, add_computing, add_option, add_workers

DATA_FILES = ("train_src", "train_tgt", "valid_src", "valid_tgt")
DATA_TABLES = ("train_tsv", "valid_tsv")  # in the place of two files each
GPU_POOL = 100  # the default of --pool on a GPU
DISTILL = "distill"  # the file of a teacher's translations, or several such
TEACHER = "teacher"  # the folder of a teacher, or several such
_TRAINING = {field.name: field.default for field in fields(TrainingOptions)}
CHANGEABLE = tuple(name for name in _TRAINING if may_change(name))  # when a run is resumed


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
    "columns": Option("1,2", "columns of source and target in these: numbers from 1 where tabs separate them, keys of "
                      "JSON lines, such as en,de", {"metavar": "SRC,TGT"}),
    "max_length": Option(100, "maximum sentence length in tokens; longer training pairs are left out"),
}
VOCABULARY = {
    "vocab": Option("unigram", "kind of vocabulary: SentencePiece subwords (unigram or bpe), learned from the "
                    "training text, or words separated by spaces",
                    {"choices": ("unigram", "bpe", "word")}),
    "vocab_size": Option(8000, "maximum number of tokens of each side"),
    "min_count": Option(2, "minimum frequency of a word; rarer words become <unk> (--vocab word)"),
    "joint_vocab": Option(False, "joint vocabulary of source and target"),
    "normalization": Option("identity", "Unicode normalization of both sides by SentencePiece (of subwords). identity "
                            "keeps the text as it is: what normalization takes from the target, a translation can "
                            "never contain", {"choices": NORMALIZATIONS}),
    "character_coverage": Option(None, "share of the text whose characters, the most frequent ones, get subwords of "
                                 "their own; the others become <unk> (default: all, unless there are so many rare ones "
                                 "that they crowd the vocabulary)", {"type": float}),
    "user_symbol": Option(None, "a string, such as a tag, that is always one subword; may be given several times",
                          {"action": "append", "metavar": "TEXT"}),
}
FIRST = {
    "init_from": Option(None, "fine-tuning: start with the weights and the vocabularies of the model in DIR; of its "
                        "options the dropout, the label smoothing and R-Drop may change", {"metavar": "DIR"}),
    "src_vocab": Option(None, "source vocabulary: a .vocab.json or .spm file of another run, a SentencePiece model, or "
                        "words, one a line", {"metavar": "FILE"}),
    "tgt_vocab": Option(None, "target vocabulary, likewise; the same file twice is a joint one", {"metavar": "FILE"}),
    "src_embeddings": Option(None, "pretrained source embeddings to start with, in the text format of GloVe and "
                             "word2vec", {"metavar": "FILE"}),
    "tgt_embeddings": Option(None, "pretrained target embeddings, likewise", {"metavar": "FILE"}),
}
MODEL = {
    "embed_size": Option(256, "size of the token embeddings"),
    "hidden_size": Option(256, "LSTM hidden units, of the decoder and of each direction of the encoder"),
    "layers": Option(1, "LSTM layers, in the encoder and in the decoder"),
    "cell": Option("lstm", "recurrent cell of encoder and decoder; layer-norm-lstm: Ba, Kiros & Hinton 2016",
                   {"choices": tuple(CELLS)}),
    "bidirectional": Option(True, "unidirectional encoder (default: bidirectional)", {"flag": "--one-direction"}),
    "score": Option("general", "attention score function (Luong et al. 2015); none: no attention",
                    {"choices": (*SCORES, NO_ATTENTION)}),
    "attention": Option("global", "global: over the whole source; local-m, local-p: over a window whose position is "
                        "monotonic or predicted (Luong et al. 2015); multi-head: over the whole source by several "
                        "heads (Vaswani et al. 2017)", {"choices": tuple(ATTENTIONS)}),
    "heads": Option(4, "heads of --attention multi-head; their number divides --hidden-size"),
    "window": Option(10, "half-width D of the window of local attention, in source tokens"),
    "query": Option("state", "decoder state that queries the attention: the current one, or the previous one "
                             "(Bahdanau et al. 2015)", {"choices": QUERIES}),
    "feed": Option("output", "input of a decoder step beside the embedding: the previous attentional output (input "
                   "feeding), the previous context vector, the initial state, or nothing", {"choices": FEEDS}),
    "readout": Option("output", "what the logits are computed from: the attentional output, or the decoder state",
                      {"choices": tuple(READOUTS)}),
    "max_source": Option(128, "maximum source length in tokens (--score location)"),
    "reverse_source": Option(False, "reverse the source (with --one-direction; Sutskever et al. 2014)"),
    "dropout": Option(0.2, "dropout rate, from 0 to below 1, on the attentional output and between layers. NMT(...) in "
                      "Python has 0, so that its loss is a function of the weights alone; training on real text "
                      "needs some"),
    "embed_dropout": Option(0.0, "dropout rate on the embeddings, from 0 to below 1"),
    "word_dropout": Option(0.0, "rate, from 0 to below 1, at which whole words are dropped, on either side: their "
                           "embedding becomes zero"),
    "recurrent_dropout": Option(0.0, "dropout rate, from 0 to below 1, on the state that the next step reads, with one "
                                "mask for all steps of a sentence (Gal & Ghahramani 2016)"),
    "encoder_dropout": Option(0.0, "dropout rate, from 0 to below 1, on the encoder's states, as the attention reads "
                              "them"),
    "tie_embeddings": Option(False, "share target embeddings and output weights (needs --embed-size equal to "
                             "--hidden-size)"),
    "label_smoothing": Option(0.0, "label smoothing: probability mass, from 0 to below 1, spread evenly over the "
                              "vocabulary"),
    "r_drop": Option(0.0, "alpha of R-Drop, 0 or more (Liang et al. 2021): each sentence passes twice, with two draws "
                     "of dropout; the loss is the mean of both plus alpha / 2 times the symmetric KL divergence of the "
                     "two (the paper translates with 5); a step takes nearly twice as long; 0: one pass"),
    "init": Option("uniform", "weight initialization: uniform in (-0.1, 0.1), Glorot uniform, or Glorot with "
                   "orthogonal recurrent matrices", {"choices": tuple(INITIALIZERS)}),
    "dtype": Option("float32", "floating-point type of the weights", {"choices": ("float32", "float64")}),
}
TRAINING = {
    "batch_size": _training("batch_size", "batch size, in sentences or target tokens (see --batch-by)"),
    "batch_by": _training("batch_by", "unit of --batch-size", choices=("sentences", "tokens")),
    "pool": _training("pool", "batches that are sorted by length together (bucketing); 1: no bucketing; where a GPU "
                      f"records its steps, which compute padding, {GPU_POOL} unless given"),
    "subword_sampling": _training("subword_sampling", "subword regularization (Kudo 2018): in each epoch both "
                                  "sides of each training sentence are cut into subwords anew, at random, by the "
                                  "unigram model's probabilities to the power ALPHA, below 10, such as 0.2; 0: no "
                                  "sampling",
                                  metavar="ALPHA"),
    "distill_weight": _training("distill_weight", "share, above 0 and below 1, of the training sentences that have the "
                                "teacher's translation in an epoch (--distill), of several teachers one share each; "
                                "for a teacher's alone, give its text as --train-tgt",
                                nargs="+", action=OneOrSeveral, metavar="W"),
    "teacher_weight": _training("teacher_weight", "share of the teachers' distributions in the loss (--teacher), above "
                                "0 and up to 1; the rest is of the reference, with its label smoothing", metavar="W"),
    "accumulate": _training("accumulate",
                            "gradient accumulation: parts into which each process splits its batch, to save memory"),
    "optimizer": _training("optimizer", "optimizer", choices=("adam", "sgd")),
    "learning_rate": _training("learning_rate", "learning rate; the highest one of the schedule"),
    "momentum": _training("momentum", "momentum, from 0 to below 1 (--optimizer sgd)"),
    "schedule": _training("schedule", "learning-rate schedule: luong halves the rate every epoch after --halve-after, "
                          "linear and cosine decay it to zero at the last step",
                          choices=("constant", "luong", "linear", "cosine")),
    "warmup": _training("warmup", "steps of linear warm-up; 0: none"),
    "halve_after": _training("halve_after", "epochs at the full rate (--schedule luong)"),
    "clip": _training("clip",
                      "gradient clipping: maximum global norm of the gradient, averaged over sentences; 0: none"),
    "minimum_risk": _training("minimum_risk", "minimum risk training (Shen et al. 2016), for fine-tuning with "
                              "--init-from: the expected risk of translations that the model draws, which is 1 - BLEU "
                              "or 1 - chrF of a sentence, takes the place of the cross-entropy; a step takes some "
                              "25 times as long, with --risk-samples 5 some 9 times",
                              choices=("none", "bleu", "chrf")),
    "risk_samples": _training("risk_samples", "translations drawn of each sentence, at least 2 (--minimum-risk)"),
    "risk_alpha": _training("risk_alpha", "sharpness alpha of the distribution over them, above 0; if it is small all "
                            "count almost alike"),
    "risk_candidates": _training("risk_candidates", "whether the reference is one of them",
                                 choices=("with-reference", "samples")),
    "average": _training("average", "decay of an exponential moving average of the weights, updated every 10 steps, "
                         "such as 0.99, below 1; the average is what is validated and saved; 0: no averaging"),
    "seed": _training("seed", "random seed, of initialization, batch order and dropout"),
}
STOPPING = {
    "max_epochs": _training("max_epochs", "maximum number of epochs, or none", **_limit(int)),
    "max_steps": _training("max_steps", "maximum number of training steps (default: no limit)", **_limit(int)),
    "max_minutes": _training("max_minutes", "maximum training time in minutes (default: no limit)", **_limit(float)),
    "valid_every": _training("valid_every", "validate every N steps; 0: after each epoch"),
    "valid_batch_size": _training("valid_batch_size", "batch size in validation, in sentences"),
    "metric": _training("metric", "validation metric that selects the best model: perplexity, or BLEU, with perplexity "
                        "where BLEU is equal", choices=("ppl", "bleu")),
    "tokenize": _training("tokenize", TOKENIZE, choices=TOKENIZERS),
    "patience": _training("patience", "validations without improvement before the learning rate is decayed and the "
                          "best state is loaded again; 0: never"),
    "lr_decay": _training("lr_decay", "factor, above 0 and below 1, by which the learning rate is then multiplied"),
    "trials": _training("trials", "early stopping: training stops when --patience has run out this many times"),
    "on_nonfinite": _training("on_nonfinite", "at a non-finite loss or gradient: stop training, or skip the step",
                              choices=("stop", "skip")),
}
OUTPUT = {
    "save_every": _training("save_every", "save the training state every N steps; 0: by time alone"),
    "save_minutes": _training("save_minutes", "save the training state every N minutes"),
    "keep": _training("keep", "keep the models of the last N validations, too, each in a folder DIR/checkpoints/step-N "
                      "that can be loaded"),
    "log_every": _training("log_every", "log every N steps (where there is no terminal for a progress bar)"),
}
RECORDING = {
    "graphs": _training("graphs", "CUDA graphs: number of batch shapes whose steps are recorded and replayed, with "
                        "fused kernels; 0: none"),
}
GROUPS = {
    "start from another model, or from files": FIRST,
    "vocabulary": VOCABULARY, "model": MODEL, "training": TRAINING,
    "stopping (whatever comes first) and validation": STOPPING,
}


def add_arguments(parser: Parser) -> None:
    """What is not given is not in the result: a resumed run must tell it from a default."""
    parser.argument_default = argparse.SUPPRESS
    data = parser.add_argument_group("data: UTF-8, a sentence a line, plain or packed (.gz, .xz, .bz2)")
    data.add_argument("--train-src", metavar="FILE", help="training data, source side")
    data.add_argument("--train-tgt", metavar="FILE",
                      help="training data, target side: line n translates line n of the source")
    data.add_argument("--valid-src", metavar="FILE", help="validation data, source side")
    data.add_argument("--valid-tgt", metavar="FILE", help="validation data, target side")
    data.add_argument("--train-tsv", metavar="FILE", help="training data, both sides in one file: columns separated by "
                      "tabs, or JSON lines")
    data.add_argument("--distill", nargs="+", action=OneOrSeveral, metavar="FILE",
                      help="distillation (Kim & Rush 2016): a teacher's translations of the training source, line by "
                      "line, as `scratchnmt translate` makes them, or several teachers'; an epoch has them for "
                      "some sentences, drawn anew, and the target side for the others, and for lines that are blank or "
                      "too long; vocabularies are learned from the target side")
    data.add_argument("--teacher", nargs="+", action=OneOrSeveral, metavar="DIR",
                      help="word-level distillation (Kim & Rush 2016): the model in DIR reads each batch, too, and its "
                      "distribution of every word has a share of --teacher-weight in the loss; of several models the "
                      "mean of their probabilities; the vocabularies are theirs")
    data.add_argument("--valid-tsv", metavar="FILE", help="validation data, both sides in one file")
    _add(data, DATA)
    for title, options in GROUPS.items():
        _add(parser.add_argument_group(title), options)
    output = parser.add_argument_group("output")
    output.add_argument("--out", required=True, metavar="DIR",
                        help="output folder of the run, created if needed")
    output.add_argument("--resume", action="store_true", default=False,
                        help="resume the run in that folder, with its options")
    output.add_argument("--overwrite", action="store_true", default=False,
                        help="replace the run in that folder")
    _add(output, OUTPUT)
    computing = parser.add_argument_group("computing, which may change from resume to resume")
    add_computing(computing, argument_default=argparse.SUPPRESS)
    add_workers(computing, argument_default=argparse.SUPPRESS)
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
