"""What a training run keeps in its folder: written atomically, verified when read, never unpickled.

    config.json                       choices of the model, training options, the vocabularies' checksums
    src.*, tgt.* or joint.*           the vocabularies, each in its own format
    model.safetensors                 the best weights so far, under their names
    training-state.safetensors        everything that the next step depends on
    best-state.safetensors            the same as it was at the best validation, to fall back on
    metrics.jsonl, learning-curves.png
    corpus/                           the training text as ids, if the command line started the run
    not-finite.jsonl                  steps whose loss or gradient was not finite, if there were any

config.json and each tensor file (safetensors) carry a SHA-256 of all that they hold, the vocabularies' stand in
config.json, and a tensor file tells which config it was written for: what was cut short, altered or belongs to
another model is refused.  A tensor file is written beside the one that it replaces, flushed, read again and then
renamed, so that at any moment a whole one is there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .arrays import Array, to_device
from .data.seal import SEAL, seal_of, sealed_bytes
from .data.text import flush_to_disk, read_limited, write_atomically
from .data.vocab import VOCABULARY_LIMIT, Vocabulary, WordVocabulary, load_vocabulary
from .errors import InputError, WriteError, printable, require, shown
from .files.untrusted import TENSOR_HEADER, check_tensor_header, parse_json
from .models.config import NMTConfig
from .models.nmt import NMT

CONFIG, MODEL = "config.json", "model.safetensors"
CORPUS = "corpus"  # a folder: see data/corpus.py
STATE, BEST_STATE = "training-state.safetensors", "best-state.safetensors"
METRICS, CURVES, NOT_FINITE = "metrics.jsonl", "learning-curves.png", "not-finite.jsonl"
_VOCABULARIES = [f"{side}.{kind}" for side in ("src", "tgt", "joint") for kind in ("vocab.json", "spm")]
_RUN_FILES = (CONFIG, MODEL, STATE, BEST_STATE, METRICS, CURVES, NOT_FINITE, *_VOCABULARIES)
_FORMAT, _VERSION = "scratchnmt run", 1
_LABEL = "scratchnmt"  # the entry in a tensor file's metadata
_OF_THE_MODEL = ("model", "dtype", "vocabularies", "checksums")  # what of the config a tensor file is written for
_DTYPES = {"F32": "float32", "F64": "float64"}  # safetensors' names
_CONFIG_LIMIT = 1 << 20  # bytes; more is nothing that was written here

Folder = str | os.PathLike


class Run(NamedTuple):
    """What config.json tells, with the vocabularies that it names."""

    config: NMTConfig
    dtype: str
    src_vocab: Vocabulary
    tgt_vocab: Vocabulary
    training: dict[str, Any]  # the training options, as TrainingOptions.to_dict() gives them
    data: dict[str, Any]  # where the text came from, as whoever started the run tells it
    vocabularies: dict[str, tuple[str, str]]  # "src", "tgt" -> its file's name and SHA-256


class LoadedModel(NamedTuple):
    model: NMT
    src_vocab: Vocabulary
    tgt_vocab: Vocabulary


def sweep(folder: Folder) -> None:
    """Remove what a process that was killed has left half-written."""
    for name in _RUN_FILES:
        for path in Path(folder).glob(f".{name}*.tmp"):
            path.unlink(missing_ok=True)


def check_out_dir(folder: Folder, *, resume: bool = False, overwrite: bool = False) -> None:
    """InputError if a run cannot be written here: files are in the way (resume: no run is there)."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, expected a folder to write the run to")
    here = [name for name in _RUN_FILES if (folder / name).exists()]
    if resume and overwrite:
        raise InputError("resume and overwrite exclude each other")
    missing = [CONFIG] * (CONFIG not in here) or [STATE] * (STATE not in here and MODEL in here)
    if resume and missing:  # without either of the two it was killed before its first save, and begins again
        raise InputError(f"{folder} holds no run to resume: {missing[0]} is not there")
    if here and not resume and not overwrite:
        what = "a run already" if CONFIG in here else "files that a run would replace"
        raise InputError(f"{folder} holds {what} ({here[0]}): choose another folder, --resume "
                         "(resume=True) to go on, or --overwrite (overwrite=True) to replace it")


def start_run(folder: Folder, model: NMT, src_vocab: Vocabulary, tgt_vocab: Vocabulary,
              training: Mapping[str, Any] | None = None, data: Mapping[str, Any] | None = None) -> None:
    """Clear the folder of an earlier run's files and write the vocabularies, then config.json."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _RUN_FILES:
            (folder / name).unlink(missing_ok=True)
        names = {"src": _vocabulary_name("src", src_vocab), "tgt": _vocabulary_name("tgt", tgt_vocab)}
        if src_vocab is tgt_vocab:
            names = dict.fromkeys(names, _vocabulary_name("joint", src_vocab))
        src_vocab.save(folder / names["src"])
        tgt_vocab.save(folder / names["tgt"])
        content = {"format": _FORMAT, "version": _VERSION, "model": model.config.to_dict(),
                   "dtype": str(model.params.flat.dtype), "vocabularies": names,
                   "checksums": {name: _file_checksum(folder / name) for name in names.values()},
                   "training": dict(training or {}), "data": dict(data or {})}
        _write_config(folder, content)
    except OSError as error:
        raise WriteError(f"{folder} cannot be written: {error.strerror}") from error


def update_options(folder: Folder, training: Mapping[str, Any]) -> None:
    """Write the training options that a resumed run goes on with into config.json."""
    folder = Path(folder)
    try:
        _write_config(folder, {**_read_config(folder), "training": dict(training)})
    except OSError as error:
        raise WriteError(f"{folder} cannot be written: {error.strerror}") from error


def model_digest(folder: Folder) -> str:
    """What tells one model from another: a SHA-256 of its configuration and vocabularies, as config.json has them."""
    content = _read_config(Path(folder))
    return seal_of({name: content[name] for name in _OF_THE_MODEL})


def load_run(folder: Folder) -> Run:
    """Read config.json and the vocabularies; InputError if something is missing, damaged or newer."""
    folder = Path(folder)
    content = _read_config(folder)
    names = content["vocabularies"]
    if not all(names.get(side) in _VOCABULARIES for side in ("src", "tgt")):
        raise InputError(f"{folder / CONFIG} is damaged: its vocabularies are {shown(names)}")
    vocabularies = {name: _load_vocabulary(folder, name, content["checksums"])
                    for name in {names["src"], names["tgt"]}}
    src_vocab, tgt_vocab = vocabularies[names["src"]], vocabularies[names["tgt"]]
    try:
        config = NMTConfig.from_dict(content["model"])
    except (InputError, TypeError) as error:
        raise InputError(f"{folder / CONFIG} is damaged: {error}") from error
    for name, size in ((names["src"], config.src_vocab_size), (names["tgt"], config.tgt_vocab_size)):
        if len(vocabularies[name]) != size:
            raise InputError(f"{folder / name} holds {len(vocabularies[name])} tokens, {CONFIG} says {size}")
    files = {side: (names[side], content["checksums"][names[side]]) for side in ("src", "tgt")}
    return Run(config=config, dtype=content["dtype"], src_vocab=src_vocab, tgt_vocab=tgt_vocab,
               training=content["training"], data=content["data"], vocabularies=files)


def save_model(folder: Folder, model: NMT, src_vocab: Vocabulary, tgt_vocab: Vocabulary, *,
               overwrite: bool = False) -> None:
    """Write a model that can be loaded for translating, without a training run.

    Raises InputError if the folder holds a run or a model, unless `overwrite`.
    """
    check_out_dir(folder, overwrite=overwrite)
    start_run(folder, model, src_vocab, tgt_vocab)
    save_weights(folder, model.params)


def save_weights(folder: Folder, params: Mapping[str, Array], digest: str | None = None) -> None:
    """Write model.safetensors beside the config.json that is there, or whose `model_digest` is given."""
    write_tensors(Path(folder) / MODEL, params, {"config": digest or model_digest(folder)})


def load_model(folder: Folder, device: str = "cpu", **computing: Any) -> LoadedModel:
    """The model of a run's folder with its vocabularies; unpacks as model, src_vocab, tgt_vocab.

    computing: kernels and matmul, as NMT takes them.

    Raises InputError if the folder or a part of it is missing, damaged, or of a newer version.
    """
    run = load_run(folder)
    path = Path(folder) / MODEL
    if not path.exists():
        raise InputError(f"{path} is not there: the run in {folder} has had no validation yet; resume it")
    tensors, info = read_tensors(path, {name: (run.dtype, shape) for name, shape in run.config.shapes().items()})
    check_config(path, info)
    model = NMT(**run.config.to_dict(), dtype=run.dtype, device=device, **computing)
    for name, tensor in tensors.items():
        model.params[name][...] = to_device(tensor, device)
    return LoadedModel(model, run.src_vocab, run.tgt_vocab)


def write_tensors(path: Folder, tensors: Mapping[str, Array], info: Mapping[str, Any]) -> None:
    """Write arrays and a JSON object as one safetensors file, with their checksum, atomically and durably.

    Raises WriteError if the file cannot be written; what was there before is then still there.
    """
    safetensors = require("safetensors.numpy", extra="train")
    path = Path(path)
    beside = path.with_name(f".{path.name}.tmp")
    host = {name: np.asarray(to_device(tensor, "cpu"), order="C") for name, tensor in tensors.items()}
    label = {"format": _FORMAT, "version": _VERSION, "sha256": _checksum(sorted(host.items()), info),
             "info": dict(info)}
    if len(json.dumps(label)) > TENSOR_HEADER // 4:  # it stands in JSON once more
        raise WriteError(f"{path} cannot be written: what goes with its tensors is too long to be read again; "
                         "a run of so many validations needs a larger valid_every")
    try:  # one entry alone: the library writes several in an order that changes from call to call
        beside.touch()
        mode = beside.stat().st_mode  # what other files get here; the library's are closed to other people
        safetensors.save_file(host, beside, metadata={_LABEL: json.dumps(label)})
        beside.chmod(mode)
        flush_to_disk(beside)
        _read_back(beside)  # before the one that is there is given up
        os.replace(beside, path)
        flush_to_disk(path.parent)
    except (OSError, require("safetensors", extra="train").SafetensorError) as error:
        raise WriteError(f"{path} cannot be written: {error}") from error
    finally:
        beside.unlink(missing_ok=True)


def _read_back(path: Path) -> None:
    """OSError if a file that was just written does not hold what it should."""
    try:
        read_tensors(path, keep=False)
    except InputError as error:
        raise OSError(f"what was written reads back otherwise ({error})") from error


def copy_file(path: Folder, to: Folder) -> None:
    """A second name for a file that is only ever replaced as a whole; where links are unknown, a copy."""
    to = Path(to)
    beside = to.with_name(f".{to.name}.tmp")
    try:
        beside.unlink(missing_ok=True)
        try:
            os.link(path, beside)
        except OSError:
            shutil.copyfile(path, beside)
            flush_to_disk(beside)
        os.replace(beside, to)
        flush_to_disk(to.parent)
    except OSError as error:
        raise WriteError(f"{to} cannot be written: {error}") from error
    finally:
        beside.unlink(missing_ok=True)


def read_tensors(path: Folder, expected: Mapping[str, tuple[str, tuple[int, ...]]] | None = None, *,
                 keep: bool = True, check: Callable[[dict[str, Any]], None] | None = None
                 ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `write_tensors` wrote: the tensors (with keep=False none, they are only checked) and the JSON object.

    check: looks at the JSON object first, and may raise.  expected: name -> (dtype, shape) of all tensors, compared
    before anything large is read.  Raises InputError if the
    file is missing, damaged, of a newer version or does not hold what is expected.
    """
    safetensors = require("safetensors", extra="train")
    try:
        check_tensor_header(path)
        with safetensors.safe_open(os.fspath(path), framework="numpy") as file:
            label = _read_label(path, file.metadata() or {})
            if check is not None:
                check(label["info"])
            if expected is not None:
                _check_expected(path, file, expected)
            tensors: dict[str, np.ndarray] = {}
            found = _checksum(_tensors(file, tensors if keep else None), label["info"])
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except (InputError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  the library's Rust code does not document its kinds
        raise InputError(f"{path} is damaged: {error}") from error
    if found != label["sha256"]:
        raise InputError(f"{path} is damaged: its contents do not have the checksum that it carries")
    return tensors, label["info"]


def check_config(path: Path, info: Mapping[str, Any]) -> None:
    """InputError if a tensor file tells that it was written for another config.json than the one beside it."""
    if info.get("config", digest := model_digest(path.parent)) != digest:  # older files do not tell
        raise InputError(f"{path} does not belong to the {CONFIG} beside it: it was written for another model")


def _read_label(path: Folder, metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        label = json.loads(metadata[_LABEL])
        told = label["format"], label["version"], label["sha256"]
        known = told[0] == _FORMAT and isinstance(label["info"], dict)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path} was not written by scratchnmt, or is damaged") from error
    _check_version(path, told[1])
    if not known:
        raise InputError(f"{path} is damaged: its contents do not have the checksum that it carries")
    return label


def _check_expected(path: Folder, file: Any, expected: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
    slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118, a file is no dict
    found = {name: f"{_DTYPES.get(s.get_dtype(), s.get_dtype())} {tuple(s.get_shape())}" for name, s in slices.items()}
    should = {name: f"{dtype} {tuple(shape)}" for name, (dtype, shape) in expected.items()}
    for name in sorted(found.keys() | should.keys()):
        if found.get(name) != should.get(name):
            raise InputError(f"{path} does not fit the model: {printable(name)} is {found.get(name, 'missing')}, "
                             f"expected {should.get(name, 'nothing of this name')}")


def _tensors(file: Any, into: dict[str, np.ndarray] | None) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors of an open file, one after another, in the order of their names."""
    for name in sorted(file.keys()):
        tensor = file.get_tensor(name)
        if into is not None:
            into[name] = tensor
        yield name, tensor


def _checksum(tensors: Iterable[tuple[str, np.ndarray]], info: Mapping[str, Any]) -> str:
    """SHA-256 of the JSON object and the tensors, which come in the order of their names."""
    digest = hashlib.sha256(json.dumps(info).encode())  # a float is written so that it reads back the same
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode())
        digest.update(tensor.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _vocabulary_name(side: str, vocabulary: Vocabulary) -> str:
    return f"{side}.vocab.json" if isinstance(vocabulary, WordVocabulary) else f"{side}.spm"


def _load_vocabulary(folder: Path, name: str, checksums: Mapping[str, Any]) -> Vocabulary:
    if name not in checksums:
        raise InputError(f"{folder / CONFIG} is damaged: it has no checksum of {name}")
    if _file_checksum(folder / name) != checksums[name]:
        raise InputError(f"{folder / name} is damaged: it does not have the checksum that {CONFIG} tells")
    return load_vocabulary(folder / name)


def _file_checksum(path: Path) -> str:
    try:
        return hashlib.sha256(read_limited(path, VOCABULARY_LIMIT)).hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def _write_config(folder: Path, content: Mapping[str, Any]) -> None:
    data = sealed_bytes(content)
    if len(data) > _CONFIG_LIMIT:
        raise WriteError(f"{folder / CONFIG} would be too long to be read again: {len(data):,} bytes")
    write_atomically(folder / CONFIG, data)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder" if folder.exists() else f"{folder} does not exist")
    try:
        content = parse_json(read_limited(path, _CONFIG_LIMIT), path)
    except FileNotFoundError as error:
        raise InputError(f"{folder} holds no model: {CONFIG} is not there") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise InputError(f'{path} is not the config of a run: its "format" is not "{_FORMAT}"')
    _check_version(path, content.get("version"))
    if SEAL in content and content[SEAL] != seal_of(content):  # older ones have none
        raise InputError(f"{path} is damaged: its contents do not have the checksum that it carries (options are "
                         "changed by --resume, not in this file)")
    if unknown := content.keys() - {"format", "version", SEAL, "training", "data", *_OF_THE_MODEL}:
        raise InputError(f"{path} is damaged: it has {shown(sorted(unknown))}, which is not known")
    content.setdefault("data", {})
    for name, kind in (("model", dict), ("dtype", str), ("vocabularies", dict), ("checksums", dict),
                       ("training", dict), ("data", dict)):
        if not isinstance(content.get(name), kind):
            raise InputError(f"{path} is damaged: {name} is {shown(content[name]) if name in content else 'missing'}")
    if content["dtype"] not in ("float32", "float64"):
        raise InputError(f"{path} is damaged: dtype is {shown(content['dtype'])}, expected float32 or float64")
    return content


def _check_version(path: Folder, version: Any) -> None:
    if str(version) == str(_VERSION):
        return
    newer = isinstance(version, int) and version > _VERSION
    reason = "was written by a newer scratchnmt" if newer else "is damaged"
    raise InputError(f"{path} {reason}: its version is {shown(version)}, this program reads version {_VERSION}")
