"""The folder of a training run: opened once, checked, locked, read and written here alone.

    config.json                       choices of the model, training options, the vocabularies' checksums
    src.*, tgt.* or joint.*           the vocabularies, each in its own format
    model.safetensors                 the best weights so far, under their names
    training-state.safetensors        everything that the next step depends on
    best-state.safetensors            the same as it was at the best validation, to fall back on
    metrics.jsonl, learning-curves.png
    checkpoints/step-N/               models of the last validations, each a folder as of `save_model`, if they are kept
    corpus/                           the training text as ids, if the command line started the run
    .lock                             held while a run is in the folder; the system takes it back when its process ends
    not-finite.jsonl                  steps whose loss or gradient was not finite, if there were any

config.json and each tensor file (safetensors) carry a SHA-256 of all that they hold, the vocabularies' stand in
config.json, and a tensor file tells which config it was written for: what was cut short, altered or belongs to
another model is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from ..data.coverage import BothSides, read_coverage
from ..data.vocab import Vocabulary, WordVocabulary, parse_vocabulary, vocabulary_bytes
from ..errors import InputError, WriteError, sentence, shown
from ..models.config import NMTConfig
from ..models.nmt import NMT
from .atomic import (
    Access,
    AnyPath,
    access_of,
    copy_file,
    folder_beside,
    not_written,
    put_file,
    remove_folder,
    remove_temporaries,
    replace_file,
    replace_folder,
    write_atomically,
)
from .lock import FolderLock, in_use
from .reading import CHECKSUM, bytes_with_checksum, checksum_of, open_regular, parse_json, read_limited
from .tensors import FORMAT, VERSION, check_version, read_tensors, write_tensors

CONFIG, MODEL = "config.json", "model.safetensors"
CORPUS, TEACHER = "corpus", "corpus-teacher"  # folders: see data/corpus.py; of further teachers "corpus-teacher-2"...
CHECKPOINTS = "checkpoints"  # a folder of folders
STATE, BEST_STATE = "training-state.safetensors", "best-state.safetensors"
METRICS, CURVES, NOT_FINITE = "metrics.jsonl", "learning-curves.png", "not-finite.jsonl"
_VOCABULARIES = [f"{side}.{kind}" for side in ("src", "tgt", "joint") for kind in ("vocab.json", "spm")]
RUN_FILES = (CONFIG, MODEL, STATE, BEST_STATE, METRICS, CURVES, NOT_FINITE, *_VOCABULARIES)
_OF_THE_MODEL = ("model", "dtype", "vocabularies", "checksums")  # what of the config a tensor file is written for
COVERAGE = "coverage"  # among the data of config.json: of the training text by the vocabularies
_CONFIG_LIMIT = 1 << 20  # bytes; more is nothing that was written here


class Run(NamedTuple):
    """What config.json tells, with the vocabularies that it names."""

    config: NMTConfig
    dtype: str
    src_vocab: Vocabulary
    tgt_vocab: Vocabulary
    training: dict[str, Any]  # the training options, as TrainingOptions.to_dict() gives them
    data: dict[str, Any]  # where the text came from, as whoever started the run tells it
    vocabularies: dict[str, tuple[str, str]]  # "src", "tgt" -> its file's name and SHA-256
    digest: str  # of what tells its model from another


class RunFolder(AbstractContextManager["RunFolder"]):
    """A folder to read a run from; inside `with` it is locked, and can be written.

    resume: a run that is there will go on.  overwrite: what is there will be replaced.  With neither, nothing that a
    run writes may be there.  Entering raises InputError if it is otherwise, or if somebody else has the folder.
    """

    def __init__(self, path: AnyPath, *, resume: bool = False, overwrite: bool = False):
        if resume and overwrite:
            raise InputError("resume and overwrite exclude each other")
        self.path, self.resume, self.overwrite = Path(path), resume, overwrite
        self._known: dict[str, Any] | None = None
        self._place: os.stat_result | None = None  # while it is locked
        self._lock, self._opened_by = ExitStack(), 0  # the number of a process, while it is open
        self._in_use = threading.Lock()  # by a run

    def __str__(self) -> str:
        return str(self.path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def __enter__(self) -> RunFolder:
        try:
            there, is_folder = self.path.exists(), self.path.is_dir()
        except OSError as error:
            raise InputError(f"{self} cannot be read: {error.strerror}") from error
        if there and not is_folder:
            raise InputError(f"{self} is a file, expected a folder to write the run to")
        if self.resume and not there:
            raise InputError(f"{self} holds no run to resume: {CONFIG} is not there")
        with ExitStack() as stack:
            with self.told_what_is_kept():
                stack.enter_context(FolderLock(self.path))
            self._check()
            self._place, self._lock = os.stat(self.path), stack.pop_all()
        self._opened_by = os.getpid()
        return self

    def __exit__(self, *_: Any) -> None:
        self._opened_by = 0
        self._lock.close()

    @contextmanager
    def one_run(self) -> Iterator[None]:
        """Inside `with`, within that of the folder, a run is in it, and no other one.

        InputError if the folder is not open, where nobody is kept out and what is there was not looked at; if another
        process has opened it, of which this is a fork; if a run is in it, or was and is not to be replaced.
        """
        if not self._opened_by:
            raise InputError(f"the RunFolder of {self} is not open: give the path, or train inside its `with`")
        if self._opened_by != os.getpid():
            raise InputError(f"the RunFolder of {self} was opened by another process ({self._opened_by}), whose run "
                             "may be in it: open it in this one, and not there")
        if not self._in_use.acquire(blocking=False):
            raise in_use(self, " of this process")
        try:
            self.check_place()
            self._check()
            yield
        finally:
            self._in_use.release()

    def check_place(self) -> None:
        """WriteError if the folder that is locked was moved: another one, or none, would be written to."""
        if not self._is_in_place():
            what = "moved, and this is another one" if os.path.exists(self.path) else "moved or removed"
            raise WriteError(f"{self} cannot be written: the run's folder was {what}")

    def _check_place(self) -> None:
        """WriteError if another folder has taken the place of the one that is locked: it may be another run's."""
        if os.path.exists(self.path):  # else whoever writes says so
            self.check_place()

    def _is_in_place(self) -> bool:
        """Whether the folder that is locked, if any is, is still to be found under its name."""
        try:
            return self._place is None or os.path.samestat(self._place, os.stat(self.path))
        except OSError:
            return False

    def has(self, name: str) -> bool:
        """Whether one of the run's files is there."""
        return (self / name).exists()

    def keeps(self, name: str) -> bool:
        """The same, for an error's sentence: False also if the folder was moved, or may not be looked into any more."""
        return self._is_in_place() and os.path.exists(self / name)

    @property
    def begun(self) -> bool:
        """For the process that opened it: False while what is there is another run, which is still to be replaced."""
        return not self.overwrite or self._known is not None

    def _check(self) -> None:
        here = [name for name in RUN_FILES if self.has(name)]
        if odd := [name for name in here if self.resume and not (self / name).is_file()]:
            raise InputError(f"{self / odd[0]} is not a regular file")
        here += [CHECKPOINTS] if self.checkpoints() else []
        missing = [CONFIG] * (CONFIG not in here) or [STATE] * (STATE not in here and self._was_saved(here))
        if self.resume and missing:  # a run that was killed before its first save begins again
            raise InputError(f"{self} holds no run to resume: {missing[0]} is not there")
        if here and not self.resume and not self.overwrite:
            of_a_run = "a model" if missing and MODEL in here else "a run already"
            what = of_a_run if CONFIG in here else "files that a run would replace"
            if missing:
                raise InputError(f"{self} holds {what} ({here[0]}): choose another folder, or overwrite=True to "
                                 "replace it")
            raise InputError(f"{self} holds {what} ({here[0]}): choose another folder, resume=True to go on, or "
                             "overwrite=True to replace it")

    def _was_saved(self, here: Collection[str]) -> bool:
        """Whether something is there that a run writes only once its first state is saved; metrics are empty before."""
        return any(name not in (CONFIG, METRICS, *_VOCABULARIES) for name in here) or (
            METRICS in here and (self / METRICS).stat().st_size > 0)

    def sweep(self) -> None:
        """Remove what killed writers have left, before the first write: a run that is refused changes no file."""
        self._check_place()
        links = [path.name for path in self.path.glob(f"{TEACHER}*") if path.is_symlink()]
        for name in RUN_FILES:
            remove_temporaries(self / name)
        for name in (CHECKPOINTS, CORPUS, TEACHER, f"{TEACHER}-*", *links, f"{CHECKPOINTS}/step-*"):
            remove_temporaries(self / name, folders=True)

    # config.json and the vocabularies

    def start(self, model: NMT, src_vocab: Vocabulary, tgt_vocab: Vocabulary,
              training: Mapping[str, Any] | None = None, data: Mapping[str, Any] | None = None) -> None:
        """Clear the folder of an earlier run's files and write the vocabularies, then config.json.

        InputError or WriteError, and nothing is cleared, for what could not be read again.
        """
        content = self._content(model, src_vocab, tgt_vocab, training, data)
        self.sweep()
        # of an earlier run, or of what is left of one: who could not read that cannot read this one
        before = next((access for name in RUN_FILES if (access := access_of(self / name))), None)
        self._clear()
        self._write(content, src_vocab, tgt_vocab, before)

    def replace_model(self, model: NMT, src_vocab: Vocabulary, tgt_vocab: Vocabulary,
                      data: Mapping[str, Any] | None = None) -> None:
        """The same for a model alone, with its weights: it is whole on the disk before an earlier one is given up.

        Of a model of the same config one or the other is there at any moment; of another config it is while files are
        renamed that neither is.
        """
        content = self._content(model, src_vocab, tgt_vocab, None, data)
        self.sweep()
        with folder_beside(self / MODEL) as folder:
            new = RunFolder(folder)
            new._write(content, src_vocab, tgt_vocab)
            new.save_weights(model.params)
            names = [name for name in RUN_FILES if new.has(name)]
            self._clear(names)
            for name in names:
                with replace_file(self / name, like=self / CONFIG) as place:
                    put_file(new / name, place)
        self._known = content

    def _content(self, model: NMT, src_vocab: Vocabulary, tgt_vocab: Vocabulary, training: Mapping[str, Any] | None,
                 data: Mapping[str, Any] | None) -> dict[str, Any]:
        """Of config.json; InputError or WriteError for what could not be read again."""
        for side, vocabulary, size in (("source", src_vocab, model.config.src_vocab_size),
                                       ("target", tgt_vocab, model.config.tgt_vocab_size)):
            if len(vocabulary) != size:
                raise InputError(f"the {side} vocabulary has {len(vocabulary):,} tokens, the model was made for "
                                 f"{size:,}")
        names = {"src": _vocabulary_name("src", src_vocab), "tgt": _vocabulary_name("tgt", tgt_vocab)}
        if src_vocab is tgt_vocab:
            names = dict.fromkeys(names, _vocabulary_name("joint", src_vocab))
        return self._readable({
            "format": FORMAT, "version": VERSION, "model": model.config.to_dict(),
            "dtype": str(model.params.flat.dtype), "vocabularies": names,
            "checksums": {names["src"]: src_vocab.digest(), names["tgt"]: tgt_vocab.digest()},
            "training": dict(training or {}), "data": dict(data or {})})

    def _clear(self, but: Collection[str] = ()) -> None:
        """Remove a run's files."""
        self._check_place()
        try:
            for name in RUN_FILES:
                if name not in but:
                    (self / name).unlink(missing_ok=True)
            for folder in self.checkpoints():
                remove_folder(folder)
        except OSError as error:
            raise not_written(self.path, error) from error

    def _write(self, content: dict[str, Any], src_vocab: Vocabulary, tgt_vocab: Vocabulary,
               like: Access | None = None) -> None:
        """The vocabularies, then config.json, whose mode and owner all further files have."""
        self._check_place()
        for side, vocabulary in (("src", src_vocab), ("tgt", tgt_vocab)):
            write_atomically(self / content["vocabularies"][side], vocabulary.to_bytes(), like=like)
        self._write_config(content, like)

    def update_config(self, training: Mapping[str, Any], origin: Mapping[str, Any]) -> None:
        """Write what a resumed run goes on with into config.json: the options, and if it is told, where the text is."""
        before = self._read_config()
        kept = {name: told for name, told in before["data"].items() if not origin or name == COVERAGE}
        self._write_config(self._readable({**before, "training": dict(training), "data": {**kept, **origin}}))

    def read(self) -> Run:
        """config.json and the vocabularies; InputError if something is missing, damaged or newer."""
        content = self._read_config()
        names = content["vocabularies"]
        if not all(names.get(side) in _VOCABULARIES for side in ("src", "tgt")):
            raise InputError(f"{self / CONFIG} is damaged: its vocabularies are {shown(names)}")
        vocabularies = {name: self._vocabulary(name, content["checksums"]) for name in {names["src"], names["tgt"]}}
        try:
            config = NMTConfig.from_dict(content["model"])
        except (InputError, TypeError) as error:
            raise InputError(f"{self / CONFIG} is damaged: {error}") from error
        for name, size in ((names["src"], config.src_vocab_size), (names["tgt"], config.tgt_vocab_size)):
            if len(vocabularies[name]) != size:
                raise InputError(f"{self / name} holds {len(vocabularies[name])} tokens, {CONFIG} says {size}")
        files = {side: (names[side], content["checksums"][names[side]]) for side in ("src", "tgt")}
        return Run(config=config, dtype=content["dtype"], src_vocab=vocabularies[names["src"]],
                   tgt_vocab=vocabularies[names["tgt"]], training=content["training"], data=content["data"],
                   vocabularies=files, digest=_digest(content))

    def coverage(self) -> BothSides | None:
        """Of the training text by the vocabularies; None if config.json does not tell."""
        try:
            return read_coverage(self._read_config()["data"].get(COVERAGE))
        except (TypeError, ValueError):
            return None  # whoever wrote the model calls something else so

    def digest(self) -> str:
        """What tells one model from another: a SHA-256 of its configuration and vocabularies in config.json."""
        return _digest(self._config)

    @property
    def _config(self) -> dict[str, Any]:
        """config.json, read once, so that whoever edits it meanwhile stops no run."""
        if self._known is None:
            self._known = self._read_config()
        return self._known

    # weights and states

    def save_weights(self, params: Mapping[str, Array]) -> None:
        """Write model.safetensors, for the config.json that is there."""
        self._check_place()
        write_tensors(self / MODEL, params, {"config": self.digest()}, like=self / CONFIG)

    def checkpoints(self) -> list[Path]:
        """The folders of the models that are kept, oldest first."""
        return sorted((path for path in (self / CHECKPOINTS).glob("step-*") if _step(path) >= 0), key=_step)

    def keep_model(self, step: int, params: Mapping[str, Array], most: int) -> None:
        """Write the weights of a step into a folder of their own, and leave the `most` newest of such folders."""
        self._check_place()
        if not self.has(CHECKPOINTS):
            with replace_folder(self / CHECKPOINTS, like=self.path):
                pass
        with replace_folder(self / CHECKPOINTS / f"step-{step}", overwrite=True, like=self.path) as new:
            write_atomically(new / CONFIG, bytes_with_checksum(self._config), like=self / CONFIG)
            for name in set(self._config["vocabularies"].values()):
                copy_file(self / name, new / name)
            write_tensors(new / MODEL, params, {"config": self.digest()}, like=self / CONFIG)
        for old in self.checkpoints()[:-most]:
            remove_folder(old)

    def forget_models(self, after: int) -> None:
        """Remove the models of later steps than `after`, to which a run that went back may never come again."""
        self._check_place()
        for folder in self.checkpoints():
            if _step(folder) > after:
                remove_folder(folder)

    def read_weights(self, run: Run) -> dict[str, np.ndarray]:
        """The weights of the run that was read, by name; InputError if they are missing, damaged or another model's."""
        if not self.has(MODEL):
            raise InputError(f"{self / MODEL} is not there: a run has it from its first validation on; if there was "
                             "none yet, resume it")
        shapes = {name: (run.dtype, shape) for name, shape in run.config.shapes().items()}
        return self._read_tensors(MODEL, shapes, run.digest)[0]

    def check_room(self, name: str, run: Run) -> None:
        """InputError if a tensor file is too small for the weights that config.json tells, before these are made."""
        weights = sum(map(prod, run.config.shapes().values()))
        if (self / name).is_file() and (self / name).stat().st_size < weights * np.dtype(run.dtype).itemsize:
            raise InputError(f"{self / name} is cut short, or does not belong to the {CONFIG} beside it, which tells "
                             f"of {weights:,} weights: it has no room for them")

    def save_state(self, tensors: Mapping[str, Array], info: Mapping[str, Any]) -> None:
        """Write everything that the next step depends on."""
        self._check_place()
        write_tensors(self / STATE, tensors, {**info, "config": self.digest()}, like=self / CONFIG)

    def read_state(self, name: str, expected: Mapping[str, tuple[str, tuple[int, ...]]] | None,
                   check: Callable[[dict[str, Any]], None]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What was saved under STATE or BEST_STATE; arguments and errors as of `read_tensors`."""
        return self._read_tensors(name, expected, self.digest(), check)

    @contextmanager
    def told_what_is_kept(self) -> Iterator[None]:
        """Inside `with`, before a run goes on, an error of a disk that cannot be written also says from where."""
        try:
            yield
        except WriteError as error:
            if not self.resume or not self.keeps(STATE) or (step := self._saved_step()) is None:
                raise
            raise WriteError(f"{error}; the last good state is kept in {self}, of step {step}; when that is mended, "
                             "resume it") from error

    def _saved_step(self) -> int | None:
        """Of the state that is there, if it is whole and of this run."""
        with suppress(InputError, MemoryError, LookupError, TypeError, ValueError, ArithmeticError):
            _, info = read_tensors(self / STATE, keep=False)
            if info.get("config", digest := self.digest()) == digest:
                return int(info["state"]["step"])
        return None

    def keep_best_state(self) -> None:
        """The state that was saved last is that of the best validation."""
        self._check_place()
        copy_file(self / STATE, self / BEST_STATE)

    def _read_tensors(self, name: str, expected: Mapping[str, tuple[str, tuple[int, ...]]] | None, digest: str,
                      check: Callable[[dict[str, Any]], None] | None = None
                      ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        tensors, info = read_tensors(self / name, expected, check=check)
        if info.get("config", digest) != digest:  # older files do not tell
            raise InputError(f"{self / name} does not belong to the {CONFIG} beside it: it was written for another "
                             "model")
        return tensors, info

    # what a run tells about itself

    def write_metrics(self, history: Sequence[Mapping[str, Any]]) -> None:
        """metrics.jsonl: a JSON object for each validation."""
        self._check_place()
        write_atomically(self / METRICS, "".join(json.dumps(record) + "\n" for record in history).encode(),
                         like=self / CONFIG)

    def add_not_finite(self, report: Mapping[str, Any]) -> None:
        """A line more in not-finite.jsonl; half a line that a killed process or a full disk has left stays alone."""
        self._check_place()
        line = json.dumps(report, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"
        made = not os.path.exists(self / NOT_FINITE)
        if made:
            write_atomically(self / NOT_FINITE, b"", like=self / CONFIG)
        try:
            if made:  # lines will follow, also where config.json is read-only
                os.chmod(self / NOT_FINITE, os.stat(self / NOT_FINITE).st_mode | stat.S_IWUSR)
            with open_regular(self / NOT_FINITE, "ab+") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(0, end - 1))
                file.write(line if file.read(1) in (b"", b"\n") else b"\n" + line)
        except (OSError, InputError) as error:
            raise WriteError(f"{self / NOT_FINITE} cannot be written: {sentence(error)}") from error

    def _readable(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """The content of config.json as it will be read: keys that were numbers are text, which has another order.

        WriteError if it could not be.
        """
        try:
            read: dict[str, Any] = parse_json(json.dumps(content), self / CONFIG)
        except TypeError as error:
            raise WriteError(f"{self / CONFIG} cannot hold what is to be told there: {error}") from error
        except InputError as error:
            raise WriteError(f"{self / CONFIG} could not be read again: {error}") from error
        if (size := len(bytes_with_checksum(read))) > _CONFIG_LIMIT:
            raise WriteError(f"{self / CONFIG} would be too long to be read again: {size:,} bytes")
        return read

    def _write_config(self, content: dict[str, Any], like: Access | None = None) -> None:
        self._check_place()
        write_atomically(self / CONFIG, bytes_with_checksum(content), like=like)
        self._known = content

    def _read_config(self) -> dict[str, Any]:
        path = self / CONFIG
        try:
            content: dict[str, Any] = parse_json(read_limited(path, _CONFIG_LIMIT), path)
        except NotADirectoryError as error:
            raise InputError(f"{self} is not a folder") from error
        except FileNotFoundError as error:
            what = f"holds no model: {CONFIG} is not there" if self.path.is_dir() else "does not exist"
            raise InputError(f"{self} {what}") from error
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        _check_content(path, content)
        return content

    def _vocabulary(self, name: str, checksums: Mapping[str, Any]) -> Vocabulary:
        if name not in checksums:
            raise InputError(f"{self / CONFIG} is damaged: it has no checksum of {name}")
        data = vocabulary_bytes(self / name)
        if hashlib.sha256(data).hexdigest() != checksums[name]:
            raise InputError(f"{self / name} is damaged: it does not have the checksum that {CONFIG} tells")
        return parse_vocabulary(data, self / name)


def _check_content(path: Path, content: Any) -> None:
    """InputError unless a config.json is whole and of this version; `data`, which older ones lack, is added."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f'{path} is not the config of a run: its "format" is not "{FORMAT}"')
    check_version(path, content.get("version"))
    if CHECKSUM in content and content[CHECKSUM] != checksum_of(content):  # older ones have none
        raise InputError(f"{path} is damaged: its contents do not have the checksum that it carries (options are "
                         "changed by --resume, not in this file)")
    if unknown := content.keys() - {"format", "version", CHECKSUM, "training", "data", *_OF_THE_MODEL}:
        raise InputError(f"{path} is damaged: it has {shown(sorted(unknown))}, which is not known")
    content.setdefault("data", {})
    for name, kind in (("model", dict), ("dtype", str), ("vocabularies", dict), ("checksums", dict),
                       ("training", dict), ("data", dict)):
        if not isinstance(content.get(name), kind):
            raise InputError(f"{path} is damaged: {name} is {shown(content[name]) if name in content else 'missing'}")
    if content["dtype"] not in ("float32", "float64"):
        raise InputError(f"{path} is damaged: dtype is {shown(content['dtype'])}, expected float32 or float64")


def _digest(content: Mapping[str, Any]) -> str:
    """Of that part of a config.json which tells one model from another."""
    return checksum_of({name: content[name] for name in _OF_THE_MODEL})


def _step(folder: Path) -> int:
    """Of a folder of CHECKPOINTS; -1 if it is somebody else's."""
    number = folder.name.removeprefix("step-")
    return int(number) if number.isdecimal() and len(number) < 20 else -1


def _vocabulary_name(side: str, vocabulary: Vocabulary) -> str:
    return f"{side}.vocab.json" if isinstance(vocabulary, WordVocabulary) else f"{side}.spm"
