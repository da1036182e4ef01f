"""From what was given on the command line to a model, data and options, all checked.

Besides its seed and its text a new run may start from another model, or from pretrained embeddings.  Nothing is
written but the training text as ids, into the folder of the run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..arrays import device_module, put, to_device_of
from ..checkpoint import LoadedModel, load_alike
from ..data.corpus import Corpus, LeftOut
from ..data.embeddings import read_embeddings
from ..data.encode import check_place, open_or_build
from ..data.formats import Column
from ..data.subword_sampling import check_unigram
from ..data.text import CountedLines, Text, TextPath, check_parallel, file_status, read_parallel
from ..data.vocab import SentencePieceVocabulary, Vocabulary, WordVocabulary, read_vocabulary
from ..errors import InputError, printable, shown
from ..files.atomic import AnyPath
from ..files.run_folder import CONFIG, CORPUS, STATE, Run, RunFolder
from ..files.run_folder import MODEL as WEIGHTS
from ..files.run_folder import TEACHER as TEACHER_CORPUS
from ..kernels import choose
from ..metrics import check_tokenizer
from ..models.config import NMTConfig
from ..models.inputs import check_longest
from ..models.nmt import NMT
from ..ops.plain import PLAIN
from ..parallel.ranks import Ranks
from ..parallel.workers import worth
from ..streams import quoted
from ..training import TrainingData, TrainingOptions
from ..training.plan import check_distilled, goes_with, why_not
from ..training.saving import check_saved
from . import doubts
from .choices import (
    CHANGEABLE,
    DATA,
    DATA_FILES,
    DATA_TABLES,
    DISTILL,
    FIRST,
    GPU_POOL,
    MODEL,
    OUTPUT,
    RECORDING,
    STOPPING,
    TEACHER,
    TRAINING,
    VOCABULARY,
    defaults,
)
from .dependent import TRAIN, check_dependent, flag
from .parser import COMPUTING, computing, several, workers_of

_LEARN_FROM = 1_000_000  # lines
_TOKENS = 20  # of a sentence, about
# what runs were started with when it could not be chosen
_SUBWORDS_BEFORE = {"normalization": "nmt_nfkc", "character_coverage": 1.0, "user_symbol": None}
_BY_TEACHERS = (DISTILL, TEACHER)  # files and folders, which may lie elsewhere when a run is resumed
_TRAINING_OPTIONS = {**TRAINING, **STOPPING, **OUTPUT, **RECORDING}
ALL_DEFAULTS = {**defaults({**DATA, **FIRST, **VOCABULARY, **MODEL, **_TRAINING_OPTIONS}), "device": "cpu",
                "kernels": None, "workers": "auto", **dict.fromkeys(_BY_TEACHERS)}


class Prepared(NamedTuple):
    model: NMT
    data: TrainingData
    options: TrainingOptions
    doubts: list[str]  # what of the text is probably not meant, for warnings
    first_weights: str = ""  # where they are from, if not from the seed alone


def prepare(folder: RunFolder, given: dict[str, Any], ranks: Ranks | None = None) -> Prepared:
    """A new run of the given choices, names as in `choices`; defaults for the others.

    ranks: who all call this; the first one has the folder open, learns the vocabularies and encodes the training text.
    """
    ranks = ranks or Ranks()
    files, distilled = text_files(given), distilled_files(given)
    for name in (CORPUS, *map(_teacher_folder, range(len(distilled)))):
        check_place(folder / name)
    missing = [flag(name) for name in DATA_FILES if name not in files]
    if missing:
        raise InputError(f"{', '.join(missing)} must be given, unless --resume is")
    check_dependent(TRAIN, given, ALL_DEFAULTS)
    options = TrainingOptions(**_choose(_TRAINING_OPTIONS, given))
    check_distilled(len(distilled), options)
    max_length, vocabulary = _choose(DATA, given)["max_length"], _choose(VOCABULARY, given)
    first = started_from(given)
    begun = check_begun(folder, first, given) if "init_from" in first else None
    model_choices = _choose(MODEL, given) if begun is None else choices_of(begun, given)
    if options.minimum_risk != "none":  # a model to begin with may have had some
        model_choices |= {"label_smoothing": 0.0, "r_drop": 0.0}
    taught_by = several(given.get(TEACHER))
    if taught_by and begun is not None:
        model_choices["r_drop"] = given.get("r_drop", 0.0)
    dtype, how = model_choices.pop("dtype"), computing(given, ranks)
    # before the long work of reading: room for it, a device with such kernels, and the tokenizer of BLEU
    _check_memory(NMTConfig(src_vocab_size=8, tgt_vocab_size=8, **model_choices), dtype)
    device = how.get("device", "cpu")
    device_module(device)
    choose(how.get("kernels"), how.get("matmul", "float32"), device, dtype)
    check_tokenizer(options.tokenize)
    for path in taught_by:
        _check_apart(folder, TEACHER, path)
    teachers = _teachers(taught_by, [first["init_from"]] if begun else [], dtype, how)
    valid_lines = _validation(files)
    own = begun or next(iter(teachers), None)  # who has vocabularies
    src_vocab, tgt_vocab = (own.src_vocab, own.tgt_vocab) if own else ranks.from_first(
        lambda: _vocabularies(files, first, **vocabulary, seed=options.seed))
    if options.subword_sampling:
        check_unigram(src_vocab, tgt_vocab)
    config = NMTConfig(src_vocab_size=len(src_vocab), tgt_vocab_size=len(tgt_vocab), **model_choices)
    _check_memory(config, dtype)
    model = NMT(**config.to_dict(), dtype=dtype, seed=None if begun else options.seed, **how)
    told = set_first_weights(model, first, src_vocab, tgt_vocab)
    options = replace(options, workers=_workers(config, options, given, ranks))
    if model.kernels is not PLAIN and model.recordable and options.graphs and options.minimum_risk == "none":
        options = replace(options, pool=given.get("pool", GPU_POOL))

    def check(data: TrainingData) -> None:
        check_longest(np.array([data.train.longest_source()]), config.longest)

    data = _encoded(folder, files, distilled, valid_lines, src_vocab, tgt_vocab, max_length, ranks, check)
    data = replace(data, teachers=tuple(teacher.model for teacher in teachers))
    origin = {**_places(given), "max_length": max_length, **(vocabulary if own is None else {}), **first}
    paths = [files[name] for name in DATA_FILES]
    return Prepared(model=model, data=replace(data, origin=origin), options=options, first_weights=told,
                    doubts=[*doubts.of_run(data, valid_lines, paths, options.tokenize, origin),
                            *doubts.of_first_weights(options, first)])


def prepare_resumed(folder: RunFolder, given: dict[str, Any], ranks: Ranks | None = None) -> Prepared:
    """The run in the folder, as it was started; InputError for a choice that would change it.

    What may change is in training/plan.py; how it is computed may, too, and so may the places of the files, if
    they hold the same.  Nothing is written if anything is refused.
    """
    ranks = ranks or Ranks()
    run = folder.read()
    _check_noted(folder, run.data)
    folder.check_room(STATE, run)
    _check_memory(run.config, run.dtype)
    given = {**given, **started_from(given)}
    try:
        started_with = TrainingOptions.from_dict(run.training).to_dict()
    except InputError as error:
        raise InputError(f"{folder / CONFIG} is damaged: {error}") from error
    before = {**_SUBWORDS_BEFORE, **defaults(FIRST), **dict.fromkeys(_BY_TEACHERS), **run.data, **run.config.to_dict(),
              **started_with, "dtype": run.dtype}
    for name, value in given.items():
        moved = (name in (*DATA_FILES, *DATA_TABLES)
                 or name in _BY_TEACHERS and len(several(value)) == len(several(run.data.get(name))))
        if not moved and name not in (*CHANGEABLE, *COMPUTING) and before.get(name, value) != value:
            is_flag = isinstance(value, bool)
            given_as, started = ("given", "out it") if is_flag else (value, f" {printable(str(before[name]))}")
            raise InputError(f"{flag(name)} is {given_as}, but the run in {folder} was started with{started}: "
                             f"{why_not(name, folder)}")
    check_dependent(TRAIN, given, ALL_DEFAULTS, before)
    changed = {name: value for name, value in given.items() if name in CHANGEABLE and name != "workers"}
    options = TrainingOptions(**{**started_with, **changed})
    if "workers" in given or "workers" not in run.training or given.get("device", "cpu") != "cpu":
        options = replace(options, workers=_workers(run.config, options, given, ranks))
    kept = _without_replaced(run.data, given)
    told = {**kept, **given}
    files = text_files(told)
    missing = [flag(name) for name in DATA_FILES if name not in files]
    if missing:
        raise InputError(f"the run in {folder} does not say where its text came from: "
                         f"give {', '.join(missing)}, too")
    valid_lines = _validation(files)
    max_length = run.data.get("max_length", given.get("max_length", DATA["max_length"].default))
    how = computing(given, ranks)
    saved = folder.has(STATE)
    seed = None if saved else options.seed  # what the state has is not drawn before
    model = NMT(**run.config.to_dict(), dtype=run.dtype, seed=seed, **how)
    teachers = tuple(one.model for one in _teachers(several(told.get(TEACHER)), [folder.path], run.dtype, how))
    if not saved:  # killed before its first save, it begins again
        set_first_weights(model, run.data, run.src_vocab, run.tgt_vocab)
    with folder.told_what_is_kept():
        data = _encoded(folder, files, distilled_files(told), valid_lines, run.src_vocab, run.tgt_vocab, max_length,
                        ranks, lambda data: check_saved(folder, replace(data, teachers=teachers), options))
    paths = [files[name] for name in DATA_FILES]
    return Prepared(model=model, data=replace(data, origin={**kept, **_places(told)}, teachers=teachers),
                    options=options,
                    doubts=list(doubts.of_run(data, valid_lines, paths, options.tokenize, run.data)))


def _check_noted(folder: RunFolder, told: Mapping[str, Any]) -> None:
    """InputError if config.json tells of a file or a limit what no command line can have told."""
    for name in {*DATA_FILES, *DATA_TABLES, *_BY_TEACHERS, *FIRST, "columns", "max_length"} & told.keys():
        value = told[name]
        texts = several(value) if name in _BY_TEACHERS else [value]
        right = value is None and name != "columns" or all(isinstance(text, str) and is_path(text) for text in texts)
        if name == "max_length":
            right = value is None or type(value) is int and value > 0
        if not right:
            raise InputError(f"{folder / CONFIG} is damaged: {name} is {shown(value)}")


def is_path(text: str) -> bool:
    """Whether the system can be asked for a file of this name."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:  # half of a character, which JSON can write
        return False


def text_files(told: Mapping[str, Any]) -> dict[str, TextPath]:
    """The texts that are told of, by the names of DATA_FILES: files of their own, or columns of one for both sides."""
    columns = told.get("columns", DATA["columns"].default).split(",")
    if len(columns) != 2 or not all(columns) or "0" in columns:
        raise InputError(f"columns is {printable(told['columns'])}, expected those of source and target, such as "
                         "1,2 or en,de")
    if "-" in (*map(told.get, (*DATA_FILES, *DATA_TABLES)), *distilled_files(told)):
        raise InputError("standard input (-) is read once, and training reads its text more than once: expected files")
    files: dict[str, TextPath] = {}
    for table, *sides in zip(DATA_TABLES, DATA_FILES[::2], DATA_FILES[1::2], strict=True):
        for name, column in zip(sides, columns, strict=True):
            if told.get(table) is None and told.get(name) is not None:
                files[name] = told[name]
            elif told.get(table) is not None and told.get(name) is not None:
                raise InputError(f"{flag(table)} holds both sides: leave {flag(name)} out")
            elif told.get(table) is not None:
                files[name] = Column(told[table], column)
    return files


def _validation(files: dict[str, TextPath]) -> tuple[list[str], list[str]]:
    """The lines of the validation text, which a resumed run reads again."""
    paths = files["valid_src"], files["valid_tgt"]
    for path in paths:
        file_status(path)
    return read_parallel(*paths)


def distilled_files(told: Mapping[str, Any]) -> list[str]:
    """The texts of teachers that are told of."""
    return several(told.get(DISTILL))


def _teacher_folder(number: int) -> str:
    """Where in a run's folder the text of a teacher, from 0, is kept as ids."""
    return TEACHER_CORPUS if number == 0 else f"{TEACHER_CORPUS}-{number + 1}"


def _without_replaced(before: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """What a run was told, without the two files that a table takes the place of, or the other way round."""
    gone = []
    for table, *sides in zip(DATA_TABLES, DATA_FILES[::2], DATA_FILES[1::2], strict=True):
        gone += sides if table in given else [table] if set(sides) & set(given) else []
    return {name: value for name, value in before.items() if name not in gone}


def _places(told: Mapping[str, Any]) -> dict[str, Any]:
    """Where the texts are, for whoever resumes the run, from another folder perhaps."""
    files = {name: [*map(os.path.abspath, value)] if isinstance(value, list) else os.path.abspath(value)
             for name in (*DATA_FILES, *DATA_TABLES, *_BY_TEACHERS) if (value := told.get(name)) is not None}
    return {**files, "columns": told["columns"]} if "columns" in told else files


def _vocabularies(files: dict[str, TextPath], first: dict[str, str], **learned: Any) -> tuple[Vocabulary, Vocabulary]:
    """Those that are given, the others learned from the training text."""
    src, tgt = (read_vocabulary(first[name]) if name in first else None for name in ("src_vocab", "tgt_vocab"))
    if src and tgt:
        return src, src if src.digest() == tgt.digest() else tgt
    src_lines, tgt_lines = map(Text, _train_files(files))
    check_parallel(src_lines.path, len(src_lines), tgt_lines.path, len(tgt_lines))
    return build_vocabularies(src_lines, tgt_lines, **learned, given=(src, tgt))


def build_vocabularies(src_lines: CountedLines, tgt_lines: CountedLines, vocab: str, vocab_size: int,
                       min_count: int, joint_vocab: bool, seed: int, user_symbol: list[str] | None,
                       given: tuple[Vocabulary | None, Vocabulary | None] = (None, None),
                       **subwords: Any) -> tuple[Vocabulary, Vocabulary]:
    """Learned from the lines of each side, or, if joint, one from both; of a side that is given, it.

    Subwords are learned from _LEARN_FROM lines of each side at most, evenly spread; words are counted in all.
    """
    def build(whose: str, *sides: CountedLines) -> Vocabulary:
        if vocab == "word":
            return WordVocabulary.build(chain(*sides), vocab_size, min_count)
        some = (islice(lines, 0, None, -(-len(lines) // _LEARN_FROM) or 1) for lines in sides)
        return SentencePieceVocabulary.train(
            chain(*some), vocab_size, vocab, seed, user_symbols=user_symbol or (), **subwords,
            say=lambda line: print(f"{whose}: {line}", file=sys.stderr))

    if joint_vocab:
        both = build("source and target", src_lines, tgt_lines)
        return both, both
    return given[0] or build("source", src_lines), given[1] or build("target", tgt_lines)


def _encoded(folder: RunFolder, files: dict[str, TextPath], distilled: list[str],
             valid_lines: tuple[list[str], list[str]], src_vocab: Vocabulary, tgt_vocab: Vocabulary,
             max_length: int | None, ranks: Ranks, check: Callable[[TrainingData], None]) -> TrainingData:
    """The data of a run, whose training text is kept as ids in a folder of the run's.

    check: may refuse data that is new, before it takes the place of what is there.
    """
    def all_data(corpus: Corpus, left_out: LeftOut) -> TrainingData:
        return TrainingData.of(corpus, left_out, valid_lines, src_vocab, tgt_vocab)

    def encoded(name: str, paths: tuple[TextPath, TextPath], check: Callable[[Corpus, LeftOut], None]
                ) -> tuple[Corpus, LeftOut]:
        def checked(corpus: Corpus, left_out: LeftOut) -> None:
            check(corpus, left_out)
            folder.check_place()  # reading it may have taken long

        def opened() -> tuple[Corpus, LeftOut]:
            folder.check_place()
            return open_or_build(folder / name, *paths, src_vocab, tgt_vocab, max_length=max_length,
                                 may_build=ranks.first, check=checked, say=lambda line: print(line, file=sys.stderr),
                                 like=folder / CONFIG)

        return ranks.in_turn(opened)

    def and_distilled(data: TrainingData, name: str, path: str) -> TrainingData:
        text, _ = encoded(name, (files["train_src"], path), lambda text, _: check(data.with_distilled(text)))
        return data.with_distilled(text)

    ranks.on_first(folder.sweep)  # what a killed process has left may take the room that is needed
    data = all_data(*encoded(CORPUS, _train_files(files), lambda *made: check(all_data(*made))))
    for number, path in enumerate(distilled):
        data = and_distilled(data, _teacher_folder(number), path)
    return data


def _train_files(files: dict[str, TextPath]) -> tuple[TextPath, TextPath]:
    return files["train_src"], files["train_tgt"]


def _choose(options: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    chosen = defaults(options)
    return {name: given.get(name, default) for name, default in chosen.items()}


def _workers(config: NMTConfig, options: TrainingOptions, given: dict[str, Any], ranks: Ranks) -> int:
    """As many as are given, or as a batch has work for."""
    workers = workers_of(given, ranks)
    if given.get("workers", "auto") != "auto":
        return workers
    moved = sum(prod(shape) for name, shape in config.shapes().items() if not name.startswith("embed."))
    tokens = options.batch_size * (1 if options.batch_by == "tokens" else _TOKENS)
    return worth(workers, 6 * moved * tokens / ranks.size, tokens / _TOKENS / ranks.size)


def _check_memory(config: NMTConfig, dtype: str) -> None:
    """InputError if this machine has no room for the weights, their gradient and what Adam keeps of it."""
    size = sum(prod(shape) for shape in config.shapes().values())
    needed = 4 * size * np.dtype(dtype).itemsize
    present = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > present:
        raise InputError(f"a model of {size:,} weights takes {needed / 1e9:,.0f} GB to train, and this "
                         f"machine has {present / 1e9:,.0f} GB: choose a smaller hidden_size, embed_size "
                         "or vocab_size")


def started_from(given: dict[str, Any]) -> dict[str, str]:
    """The files and folders among the choices that a run starts from, as they are found from anywhere."""
    return {name: os.path.abspath(given[name]) for name in FIRST if given.get(name) is not None}


def as_typed(path: TextPath) -> str:
    """As one would type it: relative if it is below the present folder, quoted if need be; a column cut out."""
    relative = os.path.relpath(path)
    name = os.fspath(path) if relative.startswith("..") else relative
    return f"<({Column(name, path.name).command()})" if isinstance(path, Column) else quoted(name)


def check_begun(folder: RunFolder, first: dict[str, str], given: dict[str, Any]) -> Run:
    """The run whose weights a new one starts with; InputError for a choice that these do not allow."""
    _check_apart(folder, "init_from", first["init_from"])
    begun = RunFolder(first["init_from"])
    run = begun.read()
    begun.check_room(WEIGHTS, run)
    before = {**run.config.to_dict(), "dtype": run.dtype}
    for name in MODEL:
        if not goes_with(name) and given.get(name, before[name]) != before[name]:
            raise InputError(f"{flag(name)} is {given[name]}, but the model in {first['init_from']} has "
                             f"{before[name]}: leave it out, or start without --init-from")
    return run


def _check_apart(folder: RunFolder, name: str, path: str) -> None:
    """InputError if an option that names a model names the folder of the run that is to begin."""
    if os.path.realpath(path) == os.path.realpath(folder.path):
        raise InputError(f"{flag(name)} {folder} is the folder of the new run itself: choose another --out")


def _teachers(folders: Sequence[str], beside: Sequence[AnyPath], dtype: str, how: dict[str, Any]
              ) -> list[LoadedModel]:
    """The models in the folders; InputError unless they share the vocabularies, also with those `beside`."""
    return load_alike(folders, "a model and its teachers", beside=beside, dtype=dtype, **how) if folders else []


def choices_of(run: Run, given: dict[str, Any]) -> dict[str, Any]:
    """Those of a run's model, but for what is given."""
    return {name: given.get(name, value) for name, value in {**run.config.to_dict(), "dtype": run.dtype}.items()
            if name in MODEL}


def set_first_weights(model: NMT, first: dict[str, Any], src_vocab: Vocabulary, tgt_vocab: Vocabulary) -> str:
    """Put the weights of another model, or pretrained embeddings, in the place of those from the seed; what they are.

    first: the choices that say from where, which may be among others.
    """
    told = []
    if path := first.get("init_from"):
        folder = RunFolder(path)
        run = folder.read()
        digests = [vocabulary.digest() for vocabulary in (run.src_vocab, run.tgt_vocab)]
        if run.config.shapes() != model.config.shapes() or digests != [src_vocab.digest(), tgt_vocab.digest()]:
            raise InputError(f"{path} holds another model than when it was read first: start the run again")
        for name, tensor in folder.read_weights(run).items():
            put(f"{path}: {name}", tensor, model.params[name])
        told.append(f"with the weights of {as_typed(path)}")
    for side, name, vocabulary in (("src", "source", src_vocab), ("tgt", "target", tgt_vocab)):
        if path := first.get(f"{side}_embeddings"):
            ids, vectors = read_embeddings(path, vocabulary, model.config.embed_size)
            table = model.params[f"embed.{side}"]
            table[to_device_of(ids, table)] = to_device_of(vectors.astype(table.dtype), table)
            told.append(f"with {len(ids):,} of {len(vocabulary):,} {name} embeddings from "
                        f"{as_typed(path)}")
    return ", ".join(told)
