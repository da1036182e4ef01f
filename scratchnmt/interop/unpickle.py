"""Pickles of tensors, read without running what they hold.

A pickle is a program for a small machine.  It may import anything by name and call it, which is how a file of weights
can delete one's files.  Here a name becomes one of a few inert things of this module, and any other is refused:

    collections.OrderedDict          a dict that takes no attributes
    torch._utils._rebuild_tensor_v2  makes a `TensorView`, which is a tuple
    torch.FloatStorage and so on     a `StorageType`, a tuple
    vocab.Vocab, vocab.VocabEntry    nothing at all: classes of the course, whose content is in its vocab.json

Before that the opcodes are looked through, so that what torch.save never writes is not even begun: instances by the old
opcodes (INST, OBJ), names from the registry of extensions (EXT1), memo numbers so large that their table would
fill the memory, tuples within tuples so deep that hashing one would overflow the stack.

Reference: Python's library reference, "Restricting Globals" in the chapter on pickle.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import Any, NamedTuple

from ..errors import InputError

_OPCODES = frozenset(
    "PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE "
    "EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 SETITEM SETITEMS APPEND APPENDS BINPUT LONG_BINPUT "
    "MEMOIZE BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE NEWOBJ BUILD BINPERSID".split())
_MOST_TUPLES = 10_000  # a tensor takes five; the hash of a million, one in the other, overflows the stack


class StorageType(NamedTuple):
    """What stands for a class such as torch.FloatStorage."""

    kind: str  # as NumPy calls it: "f4"


class Storage(NamedTuple):
    """A run of numbers beside the pickle, not read yet."""

    kind: str
    key: str
    size: int  # numbers


class TensorView(NamedTuple):
    """A tensor: which numbers of a storage, not read yet."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in numbers


class _Dict(dict):
    __slots__ = ()  # no attributes, and what a state_dict has of them (_metadata) is dropped

    def __setstate__(self, state: Any) -> None:
        pass


class _Nothing:
    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


class _Rebuild:
    """torch._utils._rebuild_tensor_v2, called with what a pickle holds."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> TensorView:
        if not (type(storage) is Storage and type(shape) is type(strides) is tuple and len(shape) == len(strides)
                and all(_is_size(size) for size in (offset, *shape, *strides))):
            raise ValueError("a tensor is made of what is none")
        return TensorView(storage, offset, shape, strides)


_REBUILD, _STORAGES = _Rebuild(), {"FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2"}
_ALLOWED: dict[str, Any] = {
    "collections.OrderedDict": _Dict, "torch._utils._rebuild_tensor_v2": _REBUILD,
    **{f"torch.{name}": StorageType(kind) for name, kind in _STORAGES.items()},
    "vocab.Vocab": _Nothing, "vocab.VocabEntry": _Nothing,
}


class _Reader(pickle.Unpickler):
    def __init__(self, data: bytes, path: str):
        super().__init__(io.BytesIO(data))
        self.path = path
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        return _allowed(f"{module}.{name}", self.path)

    def persistent_load(self, pid: Any) -> Storage:
        """("storage", type, key, device, size), in the older format followed by a view of it, always None."""
        if type(pid) is not tuple or len(pid) not in (5, 6) or pid[0] != "storage" or pid[5:] not in ((), (None,)):
            raise ValueError("something other than numbers is kept beside the pickle")
        _, kind, key, _, size = pid[:5]
        if type(kind) is not StorageType or type(key) is not str or not _is_size(size):
            raise ValueError("a storage is made of what is none")
        storage = Storage(kind.kind, key, size)
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError("one storage is told twice, in different ways")
        return storage


def unpickle(data: bytes, path: str) -> tuple[Any, dict[str, Storage]]:
    """What a pickle holds, TensorViews in it, and the storages that they look into.

    Raises InputError, beginning with `path`, for a name or an opcode that is not allowed, and for a damaged pickle.
    """
    try:
        _look_through(data, path)
        reader = _Reader(data, path)
        return reader.load(), reader.storages
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001  a damaged pickle raises whatever the step that it spoils raises
        raise InputError(f"{path} is damaged: {printable(str(error) or type(error).__name__)}") from error


def _look_through(data: bytes, path: str) -> None:
    """InputError at the first opcode that torch.save does not write; the pickle is not run."""
    tuples = 0
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in ("GLOBAL", "INST"):  # the argument is "module name"
            _allowed(".".join(str(argument).split(" ")), path)
        if opcode.name not in _OPCODES:
            raise InputError(f"{path} holds the pickle opcode {opcode.name}, which torch.save does not write: refused")
        if opcode.name in ("BINPUT", "LONG_BINPUT") and isinstance(argument, int) and argument > len(data):
            raise InputError(f"{path} is damaged: its pickle remembers more than it holds")
        tuples += opcode.name.startswith("TUPLE")
        if tuples > _MOST_TUPLES:
            raise InputError(f"{path} holds more than {_MOST_TUPLES:,} tuples, which no state_dict needs: refused")


def _allowed(name: str, path: str) -> Any:
    if name not in _ALLOWED:
        raise InputError(f"{path} wants {printable(name)}, which weights do not need and which may run a program: "
                         "refused")
    return _ALLOWED[name]


def printable(text: str) -> str:
    """Text of a file that is not trusted, for one line of a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:200])


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62
