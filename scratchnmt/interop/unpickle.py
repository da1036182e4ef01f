"""Pickles of tensors, read by a machine that can do nothing else.

A pickle is a program for a small machine: its instructions push values onto a stack, make containers of them, keep
them in a memo, and may import anything by name and call it, which is how a file of weights can delete one's files.
This is that machine with the instructions alone that torch.save writes.  It imports nothing and calls nothing: a name
stands for one of a few things of this module, and any other name and any other instruction is refused:

    collections.OrderedDict          an empty dict; what attributes it is given are dropped
    torch._utils._rebuild_tensor_v2  makes a `TensorView`, which is a tuple
    torch._utils._rebuild_parameter  the tensor that it is made of
    torch.FloatStorage and so on     a `StorageType`, a tuple
    argparse.Namespace               a `Namespace`, whose attributes can be asked for
    torch.device, torch.Size, paths  an `Ignored`, whatever it is made of
    Vocab, VocabEntry, Vocabulary    the same, of any module: the course's classes, whose content is in its vocab.json

What it costs is bounded by the length of the pickle.  Through the memo a few bytes can make a tuple of a tuple of a
tuple ..., each twice in the next: small in memory, and 2^60 values for whoever walks through it.  So nothing here
hashes, compares or prints a container.  The keys of a dict are words, whose hashes nobody knows beforehand, and equal
words are one object, so that to compare them is to compare two addresses.  Small numbers can be chosen so that each
meets half of the others in the dict: as keys they become bytes, hashed as words are, and the memo's are given in order.

Reference: pickletools.py of Python's library, which describes every instruction.
"""

from __future__ import annotations

import pickletools
from math import prod
from typing import Any, BinaryIO, NamedTuple

from ..errors import InputError, printable

LIMIT = 1 << 24  # bytes of a pickle: of all but the numbers of a state_dict, and the vocabularies of the course
_MOST_AXES = 8


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


class Ignored:
    """An object without its content."""


class Namespace:
    """What options were when the file was written."""

    attributes: Any = None  # a dict, if the file is right


_DICT, _REBUILD, _PARAMETER, _NAMESPACE, _CLASS, _VALUE = (object() for _ in range(6))
_STORAGES = {"FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "LongStorage": "i8", "IntStorage": "i4",
             "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "?"}
_ALLOWED: dict[str, Any] = {
    "collections.OrderedDict": _DICT, "torch._utils._rebuild_tensor_v2": _REBUILD,
    "torch._utils._rebuild_parameter": _PARAMETER, "argparse.Namespace": _NAMESPACE,
    **{f"torch.{name}": StorageType(kind) for name, kind in _STORAGES.items()},
    **dict.fromkeys(("torch.device", "torch.Size", *(f"{module}.{kind}Path" for kind in ("Posix", "Windows")
                                                       for module in ("pathlib", "pathlib._local"))), _VALUE),
}
_CLASSES = ("Vocab", "VocabEntry", "Vocabulary")

WRAPPED = ("state_dict", "model_state_dict", "model")  # under which of these a checkpoint has the state_dict
_STATE = f"state = next((saved[name] for name in {WRAPPED} if name in saved), saved); "
REMEDY = ("if the file is your own, run this where it was written and read weights.bin: import torch; "
          "saved = torch.load({!r}, map_location='cpu', weights_only=False); " + _STATE +
          "torch.save({{name: tensor for name, tensor in state.items() if torch.is_tensor(tensor)}}, 'weights.bin'); "
          "of a file that is a whole model save saved.state_dict() instead")
ANEW = ("where it was written, run this and read weights.bin: import torch; "
        "saved = torch.load({!r}, map_location='cpu'); " + _STATE +
        "torch.save({{name: tensor.{}() for name, tensor in state.items()}}, 'weights.bin')")


def unpickle(file: BinaryIO, path: str) -> tuple[Any, dict[str, Storage]]:
    """What the next pickle of the file holds, TensorViews in it, and the storages that they look into, by their keys.

    Raises InputError, beginning with `path`, for a name or an instruction that is not allowed, or a damaged pickle.
    """
    machine = _Machine(path)
    try:
        for opcode, argument, _ in pickletools.genops(file):
            machine.step(opcode.name, argument)
        return machine.pop(), machine.storages
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001  a damaged pickle raises whatever the step that it spoils raises
        raise InputError(f"{path} is damaged: {printable(str(error) or type(error).__name__)}") from error


class _Machine:
    def __init__(self, path: str):
        self.path = path
        self.stack: list[Any] = []
        self.marks: list[int] = []  # heights of the stack
        self.memo: dict[int, Any] = {}
        self.words: dict[str, str] = {}
        self.storages: dict[str, Storage] = {}

    def step(self, name: str, argument: Any) -> None:
        """One instruction; ValueError if it cannot be done."""
        push, pop = self.stack.append, self.pop
        match name:
            case "BINUNICODE" | "SHORT_BINUNICODE":
                push(self.words.setdefault(argument, argument))
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                push(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                push({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
                push({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[name]())
            case "BINPUT" | "LONG_BINPUT":
                if argument > len(self.memo) + 1:  # some begin with 1
                    raise ValueError("a step of its pickle gives the memo what is not next")
                self.memo[argument] = self.top()
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.top()
            case "BINGET" | "LONG_BINGET":
                if argument not in self.memo:
                    raise ValueError("a step of its pickle asks the memo for what it was not given")
                push(self.memo[argument])
            case "MARK":
                self.marks.append(len(self.stack))
            case "TUPLE":
                push(tuple(self.pop_to_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                push(tuple(self.pop_last(int(name[-1]))))
            case "APPEND" | "APPENDS":
                items = [pop()] if name == "APPEND" else self.pop_to_mark()
                _of_kind(list, self.top()).extend(items)
            case "SETITEM" | "SETITEMS":
                items = self.pop_last(2) if name == "SETITEM" else self.pop_to_mark()
                self.set(_of_kind(dict, self.top()), items)
            case "GLOBAL":  # the argument is "module name"
                push(self.allowed(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                attribute, module = _of_kind(str, pop()), _of_kind(str, pop())
                push(self.allowed(module, attribute))
            case "REDUCE" | "NEWOBJ":
                arguments, what = _of_kind(tuple, pop()), pop()
                if what is _REBUILD and any(arguments[6:7]):  # {"neg": True}, of imaginary parts of conjugates
                    raise InputError(f"{self.path} holds a tensor whose signs are still to be turned: "
                                     f"{ANEW.format(self.path, 'resolve_neg')}")
                push(_made(what, arguments))
            case "BUILD":
                attributes = pop()
                if type(self.top()) not in (dict, Ignored, Namespace):
                    raise ValueError("attributes are given to what has none")
                if type(self.top()) is Namespace:
                    self.top().attributes = attributes
            case "BINPERSID":
                push(self.storage(pop()))
            case "PROTO" | "FRAME" | "STOP":
                pass
            case _:
                raise InputError(f"{self.path} holds the pickle opcode {name}, which torch.save does not write: "
                                 "refused")

    def top(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError("a step of its pickle lacks a value")
        return self.stack[-1]

    def pop(self) -> Any:
        self.top()
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise ValueError("a step of its pickle lacks a mark")
        return self.pop_last(len(self.stack) - self.marks.pop())

    def pop_last(self, count: int) -> list[Any]:
        start = len(self.stack) - count
        if start < (self.marks[-1] if self.marks else 0):
            raise ValueError("a step of its pickle lacks a value")
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def allowed(self, module: str, attribute: str) -> Any:
        if attribute in _CLASSES:  # of a module whose name may be long, and is not copied each time
            return _CLASS
        name = f"{module}.{attribute}"
        if name == "torch.BFloat16Storage":
            raise InputError(f"{self.path} holds numbers of bfloat16, which NumPy does not have: "
                             f"{ANEW.format(self.path, 'float')}")
        if name not in _ALLOWED:
            raise InputError(f"{self.path} wants {printable(name)}, which weights do not need and which may run a "
                             f"program: refused; {REMEDY.format(self.path)}")
        return _ALLOWED[name]

    def storage(self, pid: Any) -> Storage:
        """Of ("storage", type, key, device, size), in the older format followed by a view of it, always None."""
        if type(pid) is not tuple or len(pid) not in (5, 6) or type(pid[0]) is not str or pid[0] != "storage" or (
                pid[5:] and pid[5] is not None):
            raise ValueError("something other than numbers is kept beside the pickle")
        _, kind, key, _, size = pid[:5]
        if type(kind) is not StorageType or type(key) is not str or not _is_size(size):
            raise ValueError("a storage is made of what is none")
        storage = Storage(kind.kind, key, size)
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError("one storage is told twice, in different ways")
        return storage

    def set(self, into: dict[str | bytes, Any], items: list[Any]) -> None:
        """Keys and values in turn."""
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) is not str and not (type(key) is int and abs(key) < 1 << 31):
                raise InputError(f"{self.path} holds a dict in which a key is neither a word nor a small number, which "
                                 f"weights do not need: refused; {REMEDY.format(self.path)}")
            into[key if type(key) is str else str(key).encode()] = value


def _of_kind(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise ValueError(f"a step of its pickle needs a {kind.__name__}, not a {type(value).__name__}")
    return value


def _made(what: Any, arguments: tuple[Any, ...]) -> Any:
    """What the thing that a name stands for makes of its arguments."""
    if what is _REBUILD:
        return _tensor(*arguments[:4])
    if what is _PARAMETER:
        return _of_kind(TensorView, arguments[0])
    if what is _VALUE:
        return Ignored()
    if arguments or not any(what is one for one in (_DICT, _NAMESPACE, _CLASS)):
        raise ValueError("a step of its pickle calls what cannot be called so")
    return {} if what is _DICT else Namespace() if what is _NAMESPACE else Ignored()


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> TensorView:
    if not (type(storage) is Storage and type(shape) is type(strides) is tuple and len(shape) == len(strides)
            and len(shape) <= _MOST_AXES and all(map(_is_size, (offset, *shape, *strides)))
            and _is_size(8 * prod(max(size, 1) for size in shape))):
        raise ValueError("a tensor is made of what is none")
    return TensorView(storage, offset, shape, strides)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62
