"""A state_dict from a file of torch.save or of safetensors, read without PyTorch and without running anything.

torch.save writes a zip archive, stored and not compressed, all under one folder (PyTorch 1.6 and later):

    NAME/data.pkl     the pickle of what was saved; a tensor is (storage, offset, shape, strides)
    NAME/data/0 ...   the storages, numbers and nothing else
    NAME/byteorder    "little" or "big"; files before PyTorch 2.1 lack it and are little

Before, and still with _use_new_zipfile_serialization=False, it wrote one stream: pickles of a magic number, of the
version 1001, of a dict with the byte order, of what was saved, of the list of the storages' keys, and then
for each of these the size as eight bytes and the numbers.  (PyTorch, torch/serialization.py.)

Both are checked before anything is made of them: a storage has the size that the pickle tells and fits into the
file, a tensor stays inside its storage and is not larger.
"""

from __future__ import annotations

import math
import os
import pickletools
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ..errors import InputError, require
from .unpickle import Storage, TensorView, printable, unpickle

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_CONVERT = ("where it was written, safetensors.torch.save_file(model.state_dict(), 'weights.safetensors') "
            "makes a file that can be read")


class StateDict(NamedTuple):
    """What a file holds; unpacks as tensors, args."""

    tensors: dict[str, np.ndarray]
    args: dict[str, Any]  # what CS224N's NMT.save writes beside them: embed_size, hidden_size, dropout_rate


def read_state_dict(path: str | os.PathLike) -> StateDict:
    """The tensors, read-only, of a state_dict or of {"args": ..., "state_dict": ...}, as CS224N's NMT.save writes it.

    Raises InputError, naming the file, if it is missing, of an unknown format, damaged, or wants anything but tensors
    and plain values ("model.bin wants posix.system, ...": see .unpickle); nothing of it has been run then.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(9)
            file.seek(0)
            if start.startswith(_ZIP):
                return StateDict(*_from_zip(file, str(path)))
            if start.startswith(_PICKLE):
                return StateDict(*_from_stream(file, str(path)))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    if start[8:] == b"{":
        return StateDict(_from_safetensors(path), {})
    raise InputError(f"{path} is no file of safetensors or of torch.save, or one of PyTorch 0.1: {_CONVERT}")


def _from_safetensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    safetensors = require("safetensors.numpy", extra="train")
    try:
        return safetensors.load_file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # noqa: BLE001  the library's Rust code does not document its kinds
        raise InputError(f"{path} is damaged, or of numbers that NumPy does not have: {error}") from error


# an archive


def _from_zip(file: BinaryIO, path: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    try:
        with zipfile.ZipFile(file) as archive:
            folder = _folder(archive, file, path)
            content, storages = unpickle(_entry(archive, f"{folder}/data.pkl", path), path)
            views, args = _state_dict(content, path)
            order = _byte_order(archive, folder, path)
            data = {key: _numbers(storage, _entry(archive, f"{folder}/data/{key}", path), order, path)
                    for key, storage in storages.items()}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is a damaged archive: {printable(str(error))}") from error
    return _look(views, data, path), args


def _folder(archive: zipfile.ZipFile, file: BinaryIO, path: str) -> str:
    names = archive.namelist()
    found = [name for name in names if re.fullmatch(r"[^/]+/data\.pkl", name)]
    if len(found) != 1 or len(set(names)) != len(names):
        raise InputError(f"{path} is an archive, but not one of torch.save: it holds {len(found)} data.pkl, or a name "
                         "twice")
    if sum(info.file_size for info in archive.infolist()) > os.fstat(file.fileno()).st_size:
        raise InputError(f"{path} is damaged: its parts are larger than the file")
    return found[0].partition("/")[0]


def _entry(archive: zipfile.ZipFile, name: str, path: str) -> bytes:
    try:
        info = archive.getinfo(name)
    except KeyError as error:
        raise InputError(f"{path} is damaged: {printable(name)} is missing") from error
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise InputError(f"{path} is damaged: {printable(name)} is compressed, which torch.save never does")
    return archive.read(info)


def _byte_order(archive: zipfile.ZipFile, folder: str, path: str) -> str:
    name = f"{folder}/byteorder"
    order = _entry(archive, name, path) if name in archive.namelist() else b"little"
    if order not in (b"little", b"big"):
        raise InputError(f"{path} is damaged: its byte order is {printable(ascii(order))}")
    return "<" if order == b"little" else ">"


# the older stream


def _from_stream(file: BinaryIO, path: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    pickles = _pickles(file, path)
    magic, version, system = (unpickle(next(pickles), path)[0] for _ in range(3))
    if (magic, version) != (_MAGIC, _VERSION) or not isinstance(system, dict):
        raise InputError(f"{path} is a pickle, but not one of torch.save: {_CONVERT}")
    content, storages = unpickle(next(pickles), path)
    views, args = _state_dict(content, path)
    keys, _ = unpickle(next(pickles), path)
    if not (isinstance(keys, list) and all(isinstance(key, str) for key in keys) and sorted(keys) == sorted(storages)):
        raise InputError(f"{path} is damaged: it does not list the storages that its tensors look into")
    order = "<" if system.get("little_endian", True) else ">"
    return _look(views, {key: _next_storage(file, storages[key], order, path) for key in keys}, path), args


def _pickles(file: BinaryIO, path: str) -> Iterator[bytes]:
    """One pickle after the other, found without running it; the file stands at the end of the last."""
    while True:
        start = file.tell()
        try:
            for _ in pickletools.genops(file):
                pass
        except Exception as error:  # noqa: BLE001  as in unpickle
            raise InputError(f"{path} is damaged: {printable(str(error))}") from error
        size = file.tell() - start
        file.seek(start)
        yield file.read(size)


def _next_storage(file: BinaryIO, storage: Storage, order: str, path: str) -> np.ndarray:
    size = int.from_bytes(file.read(8), "little" if order == "<" else "big")
    if size != storage.size:
        raise InputError(f"{path} is damaged: a storage of {storage.size} numbers says that it has {size}")
    size *= np.dtype(storage.kind).itemsize
    if size > os.fstat(file.fileno()).st_size - file.tell():
        raise InputError(f"{path} is damaged: it ends within a storage")
    return _numbers(storage, file.read(size), order, path)


# tensors


def _state_dict(content: Any, path: str) -> tuple[dict[str, TensorView], dict[str, Any]]:
    args: Any = {}
    if isinstance(content, dict) and "state_dict" in content:
        content, args = content["state_dict"], content.get("args", {})
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path} holds no state_dict")
    for name, view in content.items():
        if not isinstance(name, str) or not isinstance(view, TensorView):
            raise InputError(f"{path} holds no state_dict, which is tensors under names: "
                             f"{printable(str(name)) if isinstance(name, str) else 'one'} is none")
    return content, args if isinstance(args, dict) else {}


def _numbers(storage: Storage, data: bytes, order: str, path: str) -> np.ndarray:
    kind = np.dtype(order + storage.kind)
    if len(data) != storage.size * kind.itemsize:
        raise InputError(f"{path} is damaged: a storage of {storage.size} numbers of {kind.itemsize} bytes has "
                         f"{len(data)} bytes")
    return np.frombuffer(data, kind).astype(kind.newbyteorder("="), copy=False)


def _look(views: Mapping[str, TensorView], data: Mapping[str, np.ndarray], path: str) -> dict[str, np.ndarray]:
    """The tensors, views of the numbers."""
    tensors = {}
    for name, (storage, offset, shape, strides) in views.items():
        size = math.prod(shape)
        last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=False))
        if size and last >= storage.size or size > storage.size or len(shape) > 8:
            raise InputError(f"{path} is damaged: {printable(name)} reaches outside the numbers that it is made of")
        numbers = data[storage.key]
        steps = [stride * numbers.itemsize for stride in strides]
        part = numbers[offset:] if size else numbers[:0]
        tensors[name] = np.lib.stride_tricks.as_strided(part, shape, steps, writeable=False)
    return tensors
