"""From what was given on the command line to a model, data and options, all checked.

Nothing is written but the training text as ids, into the folder of the run.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from itertools import chain, islice
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..arrays import device_module
from ..data.encode import check_place, open_or_build
from ..data.text import CountedLines, Text, check_parallel, read_parallel
from ..data.vocab import SentencePieceVocabulary, Vocabulary, WordVocabulary
from ..errors import InputError
from ..files.run_folder import CORPUS, RunFolder
from ..kernels import choose
from ..models.config import NMTConfig
from ..models.nmt import NMT
from ..parallel.ranks import Ranks
from ..training import TrainingData, TrainingOptions
from .choices import CHANGEABLE, DATA, DATA_FILES, MODEL, OUTPUT, RECORDING, STOPPING, TRAINING, VOCABULARY, defaults
from .dependent import TRAIN, check_dependent, flag
from .parser import COMPUTING, computing

_LEARN_FROM = 1_000_000  # lines
_TRAINING_OPTIONS = {**TRAINING, **STOPPING, **OUTPUT, **RECORDING}
ALL_DEFAULTS = {**defaults({**VOCABULARY, **MODEL, **_TRAINING_OPTIONS}), "device": "cpu", "kernels": None}


class Prepared(NamedTuple):
    model: NMT
    data: TrainingData
    options: TrainingOptions


def prepare(folder: RunFolder, given: dict[str, Any], ranks: Ranks | None = None) -> Prepared:
    """A new run of the given choices, names as in `choices`; defaults for the others.

    ranks: who all call this; the first one has the folder open, learns the vocabularies and encodes the training text.
    """
    ranks = ranks or Ranks()
    check_place(folder / CORPUS)
    missing = [flag(name) for name in DATA_FILES if name not in given]
    if missing:
        raise InputError(f"{', '.join(missing)} must be given, unless --resume is")
    check_dependent(TRAIN, given, ALL_DEFAULTS)
    options = TrainingOptions(**_choose(_TRAINING_OPTIONS, given))
    model_choices, data_choices, vocabulary = (_choose(group, given) for group in (MODEL, DATA, VOCABULARY))
    dtype, how = model_choices.pop("dtype"), computing(given, ranks)
    # before the long work of reading: room for it, and a device with such kernels
    _check_memory(NMTConfig(8, 8, **model_choices), dtype)
    device = how.get("device", "cpu")
    device_module(device)
    choose(how.get("kernels"), how.get("matmul", "float32"), device, dtype)
    valid_lines = read_parallel(given["valid_src"], given["valid_tgt"])
    src_vocab, tgt_vocab = ranks.from_first(lambda: _learn(*_train_files(given), **vocabulary, seed=options.seed))
    origin = {**{name: os.path.abspath(given[name]) for name in DATA_FILES}, **data_choices, **vocabulary}
    data = _encoded(folder, given, valid_lines, src_vocab, tgt_vocab, data_choices["max_length"], ranks)
    config = NMTConfig(len(src_vocab), len(tgt_vocab), **model_choices)
    _check_memory(config, dtype)
    model = NMT(**config.to_dict(), dtype=dtype, seed=options.seed, **how)
    return Prepared(model, replace(data, origin=origin), options)


def prepare_resumed(folder: RunFolder, given: dict[str, Any], ranks: Ranks | None = None) -> Prepared:
    """The run in the folder, as it was started; InputError for a choice that would change it.

    Limits, intervals, the learning rate, clip and how it is computed may change; so may the places of the
    files, if they hold the same.
    """
    ranks = ranks or Ranks()
    run = folder.read()
    before = {**run.data, **run.config.to_dict(), **run.training, "dtype": run.dtype}
    for name, value in given.items():
        if name not in (*DATA_FILES, *CHANGEABLE, *COMPUTING) and before.get(name, value) != value:
            is_flag = isinstance(value, bool)
            given_as, started = ("given", "out it") if is_flag else (value, f" {before[name]}")
            raise InputError(f"{flag(name)} is {given_as}, but the run in {folder} was started with{started}: leave it "
                             "out, or start another run")
    check_dependent(TRAIN, given, ALL_DEFAULTS, before)
    changed = {name: value for name, value in given.items() if name in CHANGEABLE}
    options = TrainingOptions.from_dict({**run.training, **changed})
    told = {**run.data, **given}
    files: dict[str, str] = {name: told[name] for name in DATA_FILES if told.get(name) is not None}
    missing = [flag(name) for name in DATA_FILES if name not in files]
    if missing:
        raise InputError(f"the run in {folder} does not say where its text came from: "
                         f"give {', '.join(missing)}, too")
    valid_lines = read_parallel(files["valid_src"], files["valid_tgt"])
    max_length = run.data.get("max_length", given.get("max_length", DATA["max_length"].default))
    data = _encoded(folder, files, valid_lines, run.src_vocab, run.tgt_vocab, max_length, ranks)
    model = NMT(**run.config.to_dict(), dtype=run.dtype, seed=options.seed, **computing(given, ranks))
    return Prepared(model, replace(data, origin={**run.data, **files}), options)


def _learn(src_path: str, tgt_path: str, **vocabulary: Any) -> tuple[Vocabulary, Vocabulary]:
    """The vocabularies of two text files, which are parallel."""
    src_lines, tgt_lines = Text(src_path), Text(tgt_path)
    check_parallel(src_lines.path, len(src_lines), tgt_lines.path, len(tgt_lines))
    return build_vocabularies(src_lines, tgt_lines, **vocabulary)


def build_vocabularies(src_lines: CountedLines, tgt_lines: CountedLines, vocab: str, vocab_size: int,
                       min_count: int, joint_vocab: bool, seed: int) -> tuple[Vocabulary, Vocabulary]:
    """Learned from the lines of each side, or, if joint, one from both.

    Subwords are learned from _LEARN_FROM lines of each side at most, evenly spread; words are counted in all.
    """
    def build(*sides: CountedLines) -> Vocabulary:
        if vocab == "word":
            return WordVocabulary.build(chain(*sides), vocab_size, min_count)
        some = (islice(lines, 0, None, -(-len(lines) // _LEARN_FROM) or 1) for lines in sides)
        return SentencePieceVocabulary.train(chain(*some), vocab_size, vocab, seed)

    if joint_vocab:
        both = build(src_lines, tgt_lines)
        return both, both
    return build(src_lines), build(tgt_lines)


def _encoded(folder: RunFolder, files: dict[str, str], valid_lines: tuple[list[str], list[str]], src_vocab: Vocabulary,
             tgt_vocab: Vocabulary, max_length: int | None, ranks: Ranks) -> TrainingData:
    """The data of a run, whose training text is kept as ids in a folder of the run's."""
    corpus, left_out = ranks.in_turn(
        lambda: open_or_build(folder / CORPUS, *_train_files(files), src_vocab, tgt_vocab,
                              max_length=max_length, may_build=ranks.first,
                              say=lambda line: print(line, file=sys.stderr)))
    return TrainingData.of(corpus, left_out, valid_lines, src_vocab, tgt_vocab)


def _train_files(files: dict[str, str]) -> tuple[str, str]:
    return files["train_src"], files["train_tgt"]


def _choose(options: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    chosen = defaults(options)
    return {name: given.get(name, default) for name, default in chosen.items()}


def _check_memory(config: NMTConfig, dtype: str) -> None:
    """InputError if this machine has no room for the weights, their gradient and what Adam keeps of it."""
    size = sum(prod(shape) for shape in config.shapes().values())
    needed = 4 * size * np.dtype(dtype).itemsize
    present = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > present:
        raise InputError(f"a model of {size:,} weights takes {needed / 1e9:,.0f} GB to train, and this "
                         f"machine has {present / 1e9:,.0f} GB: choose a smaller hidden_size, embed_size "
                         "or vocab_size")
