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

import io
import math
import os
import re
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ..errors import InputError, printable, require
from ..files.reading import ZIP, Archive, archive, check_tensor_header, opened
from .unpickle import ANEW, LIMIT, REMEDY, WRAPPED, Namespace, Storage, TensorView, unpickle

_PICKLE = b"\x80"
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_MOST_VIEWS = 4  # numbers of all tensors for each that is stored: tied weights are several views of one storage
_CONVERT = ("where it was written, safetensors.torch.save_file(model.state_dict(), 'weights.safetensors') "
            "makes a file that can be read")
_PLAIN = (str, int, float, bool, type(None))  # in args: containers can be endless for whoever prints them
_PARALLEL = "module."  # what torch.nn.DataParallel puts before every name


class StateDict(NamedTuple):
    """What a file holds; unpacks as tensors, args."""

    tensors: dict[str, np.ndarray]
    args: dict[str, Any]  # what CS224N's NMT.save writes beside them: embed_size, hidden_size, dropout_rate


def read_state_dict(path: str | os.PathLike) -> StateDict:
    """The tensors, read-only, of a state_dict or of {"args": ..., "state_dict": ...}, as CS224N's NMT.save writes it.

    It may also be under "model_state_dict" or "model", and the args a Namespace; "module." before every name is left
    out.  Raises InputError, naming the file, if it is missing, of an unknown format, damaged, or wants anything but
    tensors and plain values ("model.bin wants posix.system, ...": see .unpickle); nothing of it has been run then.
    """
    with opened(path) as file:
        start = file.read(9)
        file.seek(0)
        if start.startswith(ZIP):
            return StateDict(*_from_zip(file, str(path)))
        if start.startswith(_PICKLE):
            return StateDict(*_from_stream(file, str(path)))
    if start[8:] == b"{":
        return StateDict(_from_safetensors(path), {})
    raise InputError(f"{path} is no file of safetensors or of torch.save, or one of PyTorch 0.1: {_CONVERT}")


def _from_safetensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    safetensors = require("safetensors.numpy", extra="train")
    check_tensor_header(path)
    try:
        return safetensors.load_file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # noqa: BLE001  the library's Rust code does not document its kinds
        raise InputError(f"{path} is damaged, or of numbers that NumPy does not have: "
                         f"{printable(str(error))}") from error


# an archive


def _from_zip(file: BinaryIO, path: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with archive(file, path) as parts:
        folder = _folder(parts)
        content, storages = unpickle(io.BytesIO(parts.read(f"{folder}/data.pkl", LIMIT)), path)
        views, args = _state_dict(content, path)
        _check_views(views, storages, path)
        order = _byte_order(parts, folder)
        data = {key: _numbers(storage, parts.read(f"{folder}/data/{key}"), order, path)
                for key, storage in storages.items()}
    return _look(views, data), args


def _folder(parts: Archive) -> str:
    pickles = [name for name in parts.names if re.fullmatch(r"[^/]+/data\.pkl", name)]
    if len(pickles) != 1:
        raise InputError(f"{parts.path} is an archive, but not one of torch.save: it holds {len(pickles)} data.pkl")
    return pickles[0].partition("/")[0]


def _byte_order(parts: Archive, folder: str) -> str:
    name = f"{folder}/byteorder"
    order = parts.read(name) if name in parts.names else b"little"
    if order not in (b"little", b"big"):
        raise InputError(f"{parts.path} is damaged: its byte order is {printable(ascii(order[:20]))}")
    return "<" if order == b"little" else ">"


# the older stream


def _from_stream(file: BinaryIO, path: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    pickles = io.BytesIO(file.read(LIMIT))
    magic, version, system = (unpickle(pickles, path)[0] for _ in range(3))
    if (magic, version) != (_MAGIC, _VERSION) or not isinstance(system, dict):
        raise InputError(f"{path} is a pickle, but not one of torch.save: {_CONVERT}")
    content, storages = unpickle(pickles, path)
    views, args = _state_dict(content, path)
    _check_views(views, storages, path)
    keys, _ = unpickle(pickles, path)
    if not (isinstance(keys, list) and all(isinstance(key, str) for key in keys) and len(keys) == len(storages)
            and set(keys) == storages.keys()):
        raise InputError(f"{path} is damaged: it does not list the storages that its tensors look into")
    order = "<" if system.get("little_endian", True) else ">"
    file.seek(pickles.tell())
    return _look(views, {key: _next_storage(file, storages[key], order, path) for key in keys}), args


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
    if isinstance(content, dict) and (wrapped := [key for key in WRAPPED if isinstance(content.get(key), dict)]):
        content, args = content[wrapped[0]], content.get("args", {})
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path} holds no state_dict: {REMEDY.format(path)}")
    for name, view in content.items():
        if not isinstance(name, str) or not isinstance(view, TensorView):
            which = printable(name) if isinstance(name, str) else "one"
            raise InputError(f"{path} holds no state_dict, which is tensors under names: {which} is none; "
                             f"{REMEDY.format(path)}")
    if all(name.startswith(_PARALLEL) for name in content):
        content = {name.removeprefix(_PARALLEL): view for name, view in content.items()}
    args = args.attributes if isinstance(args, Namespace) else args
    return content, {name: value for name, value in args.items() if type(value) in _PLAIN} if isinstance(
        args, dict) else {}


def _numbers(storage: Storage, data: bytes, order: str, path: str) -> np.ndarray:
    kind = np.dtype(order + storage.kind)
    if len(data) != storage.size * kind.itemsize:
        raise InputError(f"{path} is damaged: a storage of {storage.size} numbers of {kind.itemsize} bytes has "
                         f"{len(data)} bytes")
    return np.frombuffer(data, kind).astype(kind.newbyteorder("="), copy=False)


def _check_views(views: Mapping[str, TensorView], storages: Mapping[str, Storage], path: str) -> None:
    """InputError if a tensor reaches outside its storage, or all together are much larger than what is stored."""
    for name, (storage, offset, shape, strides) in views.items():
        last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
        if (size := math.prod(shape)) and last >= storage.size:
            raise InputError(f"{path} is damaged: {printable(name)} reaches outside the numbers that it is made of")
        if size > storage.size:
            raise InputError(f"{path} holds {printable(name)}, of {size:,} numbers, as a view of {storage.size:,}, as "
                             f"expand makes it: {ANEW.format(path, 'clone')}")
    viewed, stored = sum(math.prod(view.shape) for view in views.values()), sum(s.size for s in storages.values())
    if viewed > _MOST_VIEWS * stored:
        raise InputError(f"{path} holds {stored:,} numbers, and tensors of {viewed:,} that are all views of them: "
                         f"expected at most {_MOST_VIEWS} times as many; {ANEW.format(path, 'clone')}")


def _look(views: Mapping[str, TensorView], data: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors, views of the numbers."""
    tensors = {}
    for name, (storage, offset, shape, strides) in views.items():
        numbers = data[storage.key]
        size = math.prod(shape)
        steps = [stride * numbers.itemsize if size and length > 1 else 0  # where no step is made it may be of any size
                 for length, stride in zip(shape, strides, strict=True)]
        tensors[name] = np.ndarray(shape, numbers.dtype, numbers, offset * numbers.itemsize if size else 0, steps)
        tensors[name].flags.writeable = False
    return tensors
