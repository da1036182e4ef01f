"""Options that do something only together with others: none is accepted and ignored.

A row tells of an option when it is used, and what to say if it was given and is not.  Given is what differs from the
default, since the default of most such options asks for nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..errors import InputError
from ..models.config import DROPOUTS, NO_ATTENTION

Values = Mapping[str, Any]


class Dependent(NamedTuple):
    """An option, or several, and what they need."""

    options: str  # names, with spaces between
    used: Callable[[Values], Any]  # of the values of all options
    otherwise: str  # the rest of the sentence
    by_default: bool = False  # whether the default, too, asks for something where it would be ignored


_LEARNED = "vocab vocab_size min_count normalization character_coverage user_symbol"
_NEW = "is for a new model: --init-from has its own"
_GIVEN = "is for a vocabulary that is learned: both are given by --src-vocab and --tgt-vocab"
TRAIN = (
    Dependent(f"src_vocab tgt_vocab {_LEARNED} joint_vocab init src_embeddings tgt_embeddings",
              lambda v: v["init_from"] is None, _NEW, by_default=True),
    Dependent(_LEARNED, lambda v: v["src_vocab"] is None or v["tgt_vocab"] is None, _GIVEN, by_default=True),
    Dependent("joint_vocab", lambda v: v["src_vocab"] is None and v["tgt_vocab"] is None,
              "learns one vocabulary of both sides: leave it out, and give one file as --src-vocab and --tgt-vocab"),
    Dependent(f"src_vocab tgt_vocab {_LEARNED} joint_vocab", lambda v: v.get("teacher") is None,
              "is for a model without teachers: the vocabularies are those of --teacher", by_default=True),
    Dependent("teacher_weight", lambda v: v.get("teacher"), "needs --teacher"),
    Dependent("distill_weight", lambda v: v.get("distill"), "needs --distill"),
    Dependent("columns", lambda v: v.get("train_tsv") or v.get("valid_tsv"), "needs --train-tsv or --valid-tsv"),
    Dependent("min_count", lambda v: v["vocab"] == "word", "is for --vocab word: subwords are not counted by it"),
    Dependent("normalization character_coverage user_symbol", lambda v: v["vocab"] != "word",
              "is for subwords: words are taken as they are"),
    Dependent("window", lambda v: v["attention"] in ("local-m", "local-p"), "is for --attention local-m or local-p"),
    Dependent("heads", lambda v: v["attention"] == "multi-head", "is for --attention multi-head"),
    Dependent("subword_sampling",
              lambda v: (v["vocab"] == "unigram" or v["init_from"] or v["teacher"]
                         or v["src_vocab"] and v["tgt_vocab"]),
              "draws by the probabilities of a unigram model: choose --vocab unigram"),
    Dependent("max_source", lambda v: v["score"] == "location", "is for --score location"),
    Dependent("query", lambda v: v["score"] != NO_ATTENTION, "is for a model with attention, not for --score none"),
    Dependent("encoder_dropout", lambda v: v["score"] != NO_ATTENTION or v["init_from"],
              "is on what the attention reads, and --score none has none"),
    Dependent("readout", lambda v: v["feed"] in ("output", "context") or v["score"] == NO_ATTENTION or v["init_from"],
              "state does not read the attention, and nor does --feed start or none: choose --feed context, or "
              "--score none"),
    Dependent("r_drop", lambda v: any(v[rate] for rate in DROPOUTS) or v["init_from"],
              "needs dropout, without which both passes are the same: choose a --dropout above 0"),
    Dependent("r_drop", lambda v: not v["teacher"], "is of two passes, and the loss with --teacher of one"),
    Dependent("label_smoothing", lambda v: not v["teacher"] or v["teacher_weight"] < 1,
              "is of the references, which have no share in the loss beside --teacher-weight 1"),
    Dependent("kernels", lambda v: v["kernels"] != "persistent" or v["cell"] == "lstm",
              "persistent is for --cell lstm: choose --kernels fused"),
    Dependent("momentum", lambda v: v["optimizer"] == "sgd", "is for --optimizer sgd"),
    Dependent("halve_after", lambda v: v["schedule"] == "luong", "is for --schedule luong"),
    Dependent("risk_samples risk_alpha risk_candidates", lambda v: v["minimum_risk"] != "none",
              "is for --minimum-risk bleu or chrf"),
    Dependent("distill subword_sampling", lambda v: v["minimum_risk"] == "none",
              "changes the references, which --minimum-risk measures by"),
    Dependent("label_smoothing r_drop teacher", lambda v: v["minimum_risk"] == "none",
              "is of the cross-entropy, which --minimum-risk does without"),
    Dependent("graphs", lambda v: v["minimum_risk"] == "none" or v["graphs"] == 0,
              "records steps, which --minimum-risk cannot: what is drawn differs from step to step"),
    Dependent("lr_decay trials", lambda v: v["patience"], "needs a --patience above 0"),
    Dependent("graphs", lambda v: v["device"] != "cpu" and v["kernels"] != "plain" or v["graphs"] == 0,
              "is for fused kernels on a GPU: choose --device cuda"),
)
TRANSLATE = (
    Dependent("beam length_penalty n_best attention", lambda v: not v["sample"],
              "is of a search, and --sample makes none"),
    Dependent("temperature top_k seed", lambda v: v["sample"], "needs --sample"),
    Dependent("temperature seed", lambda v: v["top_k"] != 1, "is for a choice of words, and --top-k 1 leaves none"),
    Dependent("dictionary", lambda v: v["replace_unknown"], "needs --replace-unknown"),
    Dependent("no_repeat_ngram", lambda v: v["max_length"] is None or v["no_repeat_ngram"] < v["max_length"],
              "must be below --max-length: a shorter translation has no room for the same n-gram twice"),
)
EVALUATE = (*TRANSLATE[-2:], Dependent("language against", lambda v: v["paper"], "needs --paper"))
GRADCHECK = (
    Dependent("arg wrt method json", lambda v: v["module"] is not None,
              "is for an op of your own: name its file by --module"),
    Dependent("names list", lambda v: v["module"] is None, "is for the package's own operations, not for --module"),
    Dependent("device dtype seed verbose", lambda v: not v["list"], "is for a check, and --list makes none"),
)
MICROSCOPE = (
    Dependent("input", lambda v: v["src"] is None, "is a file of sentences, and --src gives them one by one"),
    Dependent("tgt", lambda v: v["src"] is not None, "needs --src; a file's translations are given by --target"),
    Dependent("target", lambda v: v["input"] is not None, "needs --input; the translation of --src is --tgt"),
    Dependent("port", lambda v: v["serve"], "needs --serve"),
    Dependent("out", lambda v: not v["serve"], "is a file, and --serve writes none"),
)


def check_dependent(rows: tuple[Dependent, ...], given: Values, defaults: Values,
                    before: Values | None = None) -> None:
    """InputError for the first option that is given and would be ignored.

    given: those that are told, or all; defaults: of all that the rows speak of; before: what a run that goes on was
    started with.
    """
    values = {**defaults, **(before or {}), **given}
    for row in rows:
        for name in row.options.split():
            asks = name in given and (row.by_default or given[name] != defaults[name])
            if asks and not row.used(values):
                raise InputError(f"{flag(name)} {row.otherwise}")


def check_parsed(rows: tuple[Dependent, ...], args: argparse.Namespace) -> None:
    """`check_dependent` of what a command's parser made, where everything has its value."""
    check_dependent(rows, vars(args), {name: args.parser.get_default(name) for name in vars(args)})


def flag(name: str) -> str:
    """As one types it."""
    return {"names": "NAME", "bidirectional": "--one-direction"}.get(name, f"--{name.replace('_', '-')}")
