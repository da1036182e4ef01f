"""What may change when a run is resumed: every option that is not in this table, which says why the others may not."""

from __future__ import annotations

from typing import NamedTuple


class Fixed(NamedTuple):
    """Options that a run keeps from its first step on."""

    options: str  # names, with spaces between
    why: str
    new_run: str  # what another run can do instead, from `instead`


_WITH_ITS_WEIGHTS = "start another run, to which --init-from {folder} gives the weights of this one"
_ANEW = "start another run"

FIXED = (
    Fixed("train_src train_tgt valid_src valid_tgt train_tsv valid_tsv columns",
          "it goes on with the text that it began with, wherever that lies", _WITH_ITS_WEIGHTS),
    Fixed("batch_size batch_by pool seed", "an epoch is laid out by it, and the run may be in the middle of one",
          _WITH_ITS_WEIGHTS),
    Fixed("optimizer momentum", "the state of the optimizer is of it", _WITH_ITS_WEIGHTS),
    Fixed("average", "the moving average so far is of it", _WITH_ITS_WEIGHTS),
    Fixed("metric tokenize", "the best model so far was chosen by it", _WITH_ITS_WEIGHTS),
    Fixed("max_length", "the training text would be another one", _WITH_ITS_WEIGHTS),
    Fixed("dropout embed_dropout label_smoothing", "the loss would be another one", _WITH_ITS_WEIGHTS),
    Fixed("vocab vocab_size min_count joint_vocab normalization character_coverage user_symbol src_vocab tgt_vocab",
          "the embeddings are those of the tokens of its vocabularies", _ANEW),
    Fixed("embed_size hidden_size layers bidirectional score attention window query feed readout max_source "
          "reverse_source tie_embeddings dtype", "the weights are those of such a model", _ANEW),
    Fixed("init init_from src_embeddings tgt_embeddings", "only a new run has first weights", _ANEW),
)
_ROWS = {name: row for row in FIXED for name in row.options.split()}


def may_change(option: str) -> bool:
    """Whether a resumed run may have another value of this option."""
    return option not in _ROWS


def goes_with(option: str) -> bool:
    """Whether a run that is given the weights of another may have another value of this option."""
    return may_change(option) or _ROWS[option].new_run == _WITH_ITS_WEIGHTS


def why_not(option: str, folder: object) -> str:
    """The end of the sentence that refuses another value, or another text: why, and what can be done instead."""
    row = _ROWS.get(option, FIXED[0])
    return f"{row.why}; leave it out, or {row.new_run.format(folder=folder)}"
