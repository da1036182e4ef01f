"""HDF5 as Keras writes it, read at a cost that the file's size bounds.

The HDF5 library is not made for files that are meant to harm: it can be made to take any time and memory, or to crash.
So it reads a file in a process of its own (see ../files/sandbox.py), which hands over what is there: groups, texts and
numbers.  HDF5 can also leave numbers out, pack them, or look for them in other files, which Keras does not: these are
not read.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, islice, takewhile
from math import prod
from typing import Any

import numpy as np

from ..errors import InputError, printable, require, shown
from ..files.sandbox import run_limited

FIRST_BYTES = b"\x89HDF\r\n\x1a\n"
TEXT_LIMIT = 1 << 22  # bytes: Keras writes some 1,500 for a layer
_ATTRIBUTE = 64_000  # bytes that HDF5 has place for in one
_TEXTS = 4  # bytes of names and texts for each byte of a file; usual files have 0.2 at most
_MEMORY = 1 << 27  # bytes that reading any file may take, beside four times its own
_SECONDS, _A_SECOND = 10, 200_000  # for any file, and one more for each so many bytes; usual ones take a tenth

Texts = str | list[str] | None


@dataclass(eq=False)
class Group:
    """What HDF5 calls a group: its attributes, and what it holds, by name.  A group may hold itself."""

    texts: dict[str, Texts]  # None for an attribute that is no text
    members: dict[str, Group | np.ndarray | str] = field(default_factory=dict)  # a string: why it is not taken


@contextmanager
def opened(data: bytes, path: str | os.PathLike) -> Iterator[Contents]:
    """What a file holds; InputError, naming it, if that cannot be found out, and for one that is raised meanwhile."""
    try:
        require("h5py", extra="keras")
    except InputError as error:
        raise InputError(f"{path} is an HDF5 file of Keras: {error}") from error
    try:
        answer = run_limited(dump, data, 4 * len(data) + _MEMORY, _SECONDS + len(data) // _A_SECOND)
        yield Contents(_load(io.BytesIO(answer)), len(data))
    except InputError as error:
        raise naming(path, error) from error


# in a process of its own

def dump(data: bytes) -> bytes:
    """What a file holds, as a sequence of arrays in NumPy's format: first what there is, as JSON, then the numbers.

    JSON: a list, of the file and of whatever groups lead to; for a group [texts, {name: its place in this list}], for
    an array null, and its numbers come in the order of the list; a string, why not, for one that is not taken.
    """
    h5py = require("h5py", extra="keras")
    try:
        with h5py.File(h5py.h5f.open_file_image(data), "r") as file:
            return _dump(file, len(data))
    except (InputError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  the library does not document its kinds
        raise _unfit(str(error)) from error


def _dump(file: Any, size: int) -> bytes:
    """See `dump`.  Nothing is kept open: the library takes 16 KB for each group or array that is."""
    h5py = require("h5py", extra="keras")
    paths, texts_left, numbers_left = ["/"], _TEXTS * size, size
    places = {h5py.h5o.get_info(file.id).addr: 0}  # in the file -> in `paths`; what many names lead to is found once
    entries: list[Any] = []
    numbers = io.BytesIO()
    for path in paths:  # which grows
        one = file[path]
        if isinstance(one, h5py.Group):
            entry: Any = [{name: _text(one, name) for name in _readable(one.attrs)}, _members(one, path, paths, places)]
            texts_left -= len(_json(entry)) + len(path)
        elif (entry := _why_not(one)) is None:
            numbers_left -= one.nbytes
        if texts_left < 0 or numbers_left < 0:
            what = "names and texts" if texts_left < 0 else "numbers"
            raise InputError(f"it is damaged: its {what} are longer, taken together, than a file of its size can hold")
        if entry is None:
            np.save(numbers, one[...])
        entries.append(entry)
    told = io.BytesIO()
    np.save(told, np.frombuffer(_json(entries), "u1"))
    return b"".join((told.getbuffer(), numbers.getbuffer()))


def _json(value: Any) -> bytes:
    """No longer than what it tells, whatever its letters."""
    return json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")


def _readable(names: Iterable[Any]) -> list[str]:
    """Those that are UTF-8, as all of Keras' are; of others h5py has bytes."""
    return [name for name in names if isinstance(name, str)]


def _members(group: Any, path: str, paths: list[str], places: dict[int, int]) -> dict[str, int]:
    """The names in a group, and where in `paths` is what they lead to; appends to `paths` what is new."""
    h5py = require("h5py", extra="keras")
    members = {}
    for name in _readable(group):
        if "/" in name or name == ".":  # the library would take it for a path, perhaps through a link
            raise InputError(f"it is damaged: {shown(name)} is no name of what a group holds")
        link = group.id.links.get_info(name.encode())
        if link.type == h5py.h5l.TYPE_HARD:  # not one that leads to another name, or another file
            members[name] = places.setdefault(link.u, len(paths))
            if members[name] == len(paths):
                paths.append(f"{path}{name}/")
    return members


def _why_not(array: Any) -> str | None:
    """Why an array is not taken: None if it is of numbers which lie in the file, unpacked."""
    h5py = require("h5py", extra="keras")
    kind = array.id.get_type().get_class() if isinstance(array, h5py.Dataset) else None
    if kind == h5py.h5t.OPAQUE:
        return ("is of a kind of numbers that NumPy does not have, such as bfloat16: in Keras, copy the weights into a "
                "network of float32, and save that")
    plain = (kind in (h5py.h5t.FLOAT, h5py.h5t.INTEGER) and array.chunks is None
             and not array.is_virtual and not array.external
             and array.id.get_storage_size() == prod(array.shape or ()) * array.dtype.itemsize)
    return None if plain else "is not numbers that lie in the file, unpacked, as Keras saves them"


def _text(group: Any, name: str) -> Texts:
    """The text of an attribute, or its texts; [] if it is empty, None if it is no text."""
    h5py = require("h5py", extra="keras")
    about = group.attrs.get_id(name)
    if about.shape is None or not prod(about.shape):
        return []
    if about.get_type().get_class() != h5py.h5t.STRING:
        return None
    try:
        values = [value.decode() if isinstance(value, bytes) else str(value) for value in np.ravel(group.attrs[name])]
    except UnicodeDecodeError:
        return None
    return values if about.shape else values[0]


# in the process that asked

def _load(answer: io.BytesIO) -> Group:
    """The file, out of what `dump` wrote."""
    entries = json.loads(np.load(answer).tobytes().decode(errors="surrogatepass"))
    found = [np.load(answer) if one is None else one if isinstance(one, str) else Group(one[0]) for one in entries]
    for group, one in zip(found, entries, strict=True):
        if isinstance(group, Group):
            group.members = {name: found[place] for name, place in one[1].items()}
    assert isinstance(found[0], Group)
    return found[0]


class Contents:
    """What lies in a file of `size` bytes.  A name that is there many times is followed once."""

    def __init__(self, file: Group, size: int):
        self.file, self.size = file, size
        self.paths: dict[tuple[Group, str], Any] = {}

    def at(self, path: str, group: Group | None = None) -> Any:
        """The group or array that is called so in a group, or in the file; InputError if it is not there."""
        group = self.file if group is None else group
        if (group, path) not in self.paths:
            self.paths[group, path] = self._followed(path, group)
        return self.paths[group, path]

    def _followed(self, path: str, group: Group) -> Any:
        found: Group | np.ndarray | str = group
        for name in path.split("/"):
            if not isinstance(found, Group) or name not in found.members:
                raise _unfit(f"{shown(path)} is not there")
            found = found.members[name]
        if isinstance(found, str):
            raise InputError(f"{shown(path)} {found}")
        return found

    def group(self, path: str, within: Group | None = None) -> Group:
        """The group that is called so; InputError if there is none, or it is an array."""
        if not isinstance(found := self.at(path, within), Group):
            raise _unfit(f"{shown(path)} is an array, expected a group")
        return found

    def text(self, group: Group, name: str) -> bytes:
        value = group.texts.get(name)
        if not isinstance(value, str):
            raise _no_text(name)
        if len(text := value.encode(errors="replace")) > TEXT_LIMIT:
            raise InputError(f"it is damaged: its attribute {name} is larger than any that Keras writes")
        return text

    def names(self, group: Group, name: str, most: int) -> list[str]:
        """A list of names, which Keras lays out in several attributes, name0, name1 ..., if one has no place for it.

        InputError if there are more than `most`, or if one is no text.
        """
        numbered = takewhile(group.texts.__contains__, (f"{name}{number}" for number in count()))
        names: list[str] = []
        for part in [name] if name in group.texts else islice(numbered, most + 1):
            if (value := group.texts[part]) is None:
                raise _no_text(name)
            names += [value] if isinstance(value, str) else value
        if len(names) > most:
            raise InputError(f"it is damaged: its {name} are {len(names):,}, expected at most {most:,}")
        return names


def arrays_below(group: Group) -> Iterator[np.ndarray | str]:
    """All arrays below a group, but for a generator's state; each group is looked into once."""
    seen, waiting = {group}, [group]
    while waiting:
        for name, one in waiting.pop().members.items():
            if name == "seed_generator":  # of Keras' Dropout
                continue
            if not isinstance(one, Group):
                yield one
            elif one not in seen:
                seen.add(one)
                waiting.append(one)


def check_numbers(contents: Contents, arrays: list[Any], kinds: str) -> None:
    """InputError unless all arrays are of these kinds of numbers, and together no larger than the file.

    kinds: NumPy's letters, "f" or, with whole numbers, "iuf".  One array may be there several times.
    """
    for array in arrays:
        if array.dtype.kind not in kinds:
            raise InputError(f"it is damaged: there are numbers of {array.dtype} where Keras does not save any")
    if sum(array.nbytes for array in arrays) > contents.size:
        raise InputError("it is damaged: its weights are larger than the file")


def _unfit(why: str) -> InputError:
    return InputError(f"it does not hold the weights of this network, or is damaged: {printable(why)}")


def _no_text(name: str) -> InputError:
    return InputError(f"it is damaged: its attribute {name} is no text")


class NamingError(InputError):
    """An InputError that names the file."""


def naming(path: str | os.PathLike, error: InputError) -> NamingError:
    """The error, which names the file once."""
    return error if isinstance(error, NamingError) else NamingError(f"{path}: {error}")


def written(fill: Callable[[Any], None]) -> bytes:
    """The bytes of a file that is filled by a function."""
    file = io.BytesIO()
    with require("h5py", extra="keras").File(file, "w") as content:
        fill(content)
    return file.getvalue()


def set_names(group: Any, name: str, names: list[str]) -> None:
    """Write a list of names as an attribute, or as several if one has no place for it."""
    encoded = np.array([one.encode() for one in names], "S") if names else np.zeros(0, "S1")
    if encoded.itemsize > _ATTRIBUTE:
        raise InputError(f"a name has {encoded.itemsize:,} bytes, and HDF5 has place for {_ATTRIBUTE:,}: save it as a "
                         ".keras, or with a shorter name")
    parts = max(1, -(-len(encoded) // (_ATTRIBUTE // encoded.itemsize)))
    for k, part in enumerate(np.array_split(encoded, parts)):
        group.attrs[f"{name}{k}" if parts > 1 else name] = part


def fill_group(group: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays, and the list of their names."""
    set_names(group, "weight_names", list(arrays))
    for name, array in arrays.items():
        group[name] = array
