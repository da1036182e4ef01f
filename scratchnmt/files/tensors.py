"""Arrays and a JSON object in one safetensors file, with a SHA-256 of all that it holds.

A file is written beside the one that it replaces, read again and then renamed (see atomic.py).  Nothing is ever
unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Array, to_device
from ..errors import InputError, WriteError, printable, require, shown
from .atomic import AnyPath, folder_beside, is_replaced, put_file, replace_file
from .reading import TENSOR_HEADER, check_tensor_header, parse_json

FORMAT, VERSION = "scratchnmt run", 1
_LABEL = "scratchnmt"  # the entry in a file's metadata
_DTYPES = {"F32": "float32", "F64": "float64"}  # safetensors' names


def write_tensors(path: AnyPath, tensors: Mapping[str, Array], info: Mapping[str, Any], *,
                  like: AnyPath | None = None) -> None:
    """Write arrays and a JSON object, atomically and durably; `like` as of `replace_file`.

    Raises WriteError if the file cannot be written; what was there before is then still there.
    """
    safetensors = require("safetensors.numpy", extra="train")
    if not is_replaced(path):  # a device or a pipe, which the library would put a file in the place of
        raise WriteError(f"{path} cannot be written: it is not a regular file, which could be read again")
    host = {name: np.asarray(to_device(tensor, "cpu"), order="C") for name, tensor in tensors.items()}
    label = {"format": FORMAT, "version": VERSION, "sha256": _checksum(sorted(host.items()), info),
             "info": dict(info)}
    if len(json.dumps(label)) > TENSOR_HEADER // 4:  # it stands in JSON once more
        raise WriteError(f"{path} cannot be written: what goes with its tensors is too long to be read again; after so "
                         "many validations start another run with a larger --valid-every, to which --init-from gives "
                         "the weights of this one")
    with replace_file(path, like=like) as new:
        try:  # one entry alone: the library writes several in an order that changes from call to call
            with folder_beside(path) as folder:  # the library writes under a name of its own, too
                safetensors.save_file(host, folder / "new", metadata={_LABEL: json.dumps(label)})
                put_file(folder / "new", new)
        except require("safetensors", extra="train").SafetensorError as error:
            raise OSError(str(error)) from error
        _read_back(new)  # before the one that is there is given up


def read_tensors(path: AnyPath, expected: Mapping[str, tuple[str, tuple[int, ...]]] | None = None, *,
                 keep: bool = True, check: Callable[[dict[str, Any]], None] | None = None
                 ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `write_tensors` wrote: the tensors (with keep=False none, they are only checked) and the JSON object.

    check: looks at the JSON object first, and may raise.  expected: name -> (dtype, shape) of all tensors, compared
    before anything large is read.  Raises InputError if the file is missing, damaged, of a newer version or does not
    hold what is expected.
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
            checksum = _checksum(_tensors(file, tensors if keep else None), label["info"])
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except (InputError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  the library's Rust code does not document its kinds
        raise InputError(f"{path} is damaged: {printable(str(error))}") from error
    if checksum != label["sha256"]:
        raise InputError(f"{path} is damaged: its contents do not have the checksum that it carries")
    return tensors, label["info"]


def check_version(path: AnyPath, version: Any) -> None:
    """InputError if a file was written by another version than this program reads."""
    if str(version) == str(VERSION):
        return
    newer = isinstance(version, int) and version > VERSION
    reason = "was written by a newer scratchnmt" if newer else "is damaged"
    raise InputError(f"{path} {reason}: its version is {shown(version)}, this program reads version {VERSION}")


def _read_back(path: Path) -> None:
    """OSError if a file that was just written does not hold what it should."""
    try:
        read_tensors(path, keep=False)
    except InputError as error:
        raise OSError(f"what was written reads back otherwise ({error})") from error


def _read_label(path: AnyPath, metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        label: dict[str, Any] = parse_json(metadata[_LABEL], path)
        told = label["format"], label["version"], label["sha256"]
        known = told[0] == FORMAT and isinstance(label["info"], dict)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path} was not written by scratchnmt, or is damaged") from error
    check_version(path, told[1])
    if not known:
        raise InputError(f"{path} is damaged: its contents do not have the checksum that it carries")
    return label


def _check_expected(path: AnyPath, file: Any, expected: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
    slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118, a file is no dict
    there = {name: f"{_DTYPES.get(s.get_dtype(), s.get_dtype())} {tuple(s.get_shape())}" for name, s in slices.items()}
    should = {name: f"{dtype} {tuple(shape)}" for name, (dtype, shape) in expected.items()}
    for name in sorted(there.keys() | should.keys()):
        if there.get(name) != should.get(name):
            raise InputError(f"{path} does not fit the model: {printable(name)} is {there.get(name, 'missing')}, "
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
