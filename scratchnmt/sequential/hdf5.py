"""HDF5 as Keras writes it, read at a cost that the file's size bounds.

HDF5 can leave numbers out, pack them, or look for them in other files, which Keras does not: what is read is what lies
in the file, as many bytes as the network's weights have, known before memory is taken.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count, islice, takewhile
from math import prod
from typing import Any

import numpy as np

from ..errors import InputError, printable, require, shown

FIRST_BYTES = b"\x89HDF\r\n\x1a\n"
TEXT_LIMIT = 1 << 22  # bytes: Keras writes some 1,500 for a layer
_ATTRIBUTE = 64_000  # bytes that HDF5 has place for in one
_MOST_PARTS = 1000  # attributes that one list is laid out in
_MOST_MESSAGES = 1000  # of a group's header, such as attributes
_DEEPEST = 50  # groups in one another on the way to a weight
_LOOKS = 4  # bytes that are looked at for each that the file has, of names, texts and lists of links
_STEP = 8  # and a step from a group to what it holds counts as so many; a group or an array takes a hundred or more
_FIXED = 3  # HDF5's number of the class of texts that are all of one length


@contextmanager
def opened(data: bytes, path: str | os.PathLike) -> Iterator[Contents]:
    """What a file holds, while it is open; InputError, naming it, for whatever the library says of it."""
    try:
        h5py = require("h5py", extra="keras")
    except InputError as error:
        raise InputError(f"{path} is an HDF5 file of Keras: {error}") from error
    try:
        _check_strings(data)
        with h5py.File(_Memory(data), "r") as file:
            yield Contents(file, data)
    except InputError as error:
        raise naming(path, error) from error
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  the library does not document its kinds
        raise InputError(f"{path} does not hold the weights of this network, or is damaged: "
                         f"{printable(str(error))}") from error


class Contents:
    """What lies in an opened file: no more is looked at than a few times its size.

    In HDF5 all that is named, texts and lists of links among them, may be in many places at once, a group even in
    itself: so what is found is kept, and each look is counted, before it is taken where that can be.  Texts of any
    length lie elsewhere in the file; the library takes memory for them before it looks whether they are there.
    """

    def __init__(self, file: Any, data: bytes):
        self.data, self.left = data, _LOOKS * len(data)
        self.found: dict[int, Any] = {}  # by their places in the file
        self.ways: dict[tuple[Any, str], Any] = {}  # by the group that they are in, and their name there
        self.told: dict[tuple[Any, str], list[str]] = {}
        self.checked: set[str] = set()  # names of attributes
        self.file = self._counted(file)

    def at(self, path: str, group: Any = None) -> Any:
        """The group or array that is called so in a group, or in the file.

        KeyError if it is not there, or in another file; InputError if all names together are longer than a file of
        this size has place for.
        """
        group, names = self.file if group is None else group, path.split("/")
        self._spend(len(path) + _STEP * len(names))
        if len(names) > _DEEPEST:
            raise InputError(f"it is damaged: {shown(path)} is a way through more groups than Keras makes")
        for name in names:
            if (group, name) not in self.ways:
                self.ways[group, name] = self._looked_up(group, name)
            group = self.ways[group, name]
        return group

    def _looked_up(self, group: Any, name: str) -> Any:
        """What one name of a group leads to."""
        h5py = require("h5py", extra="keras")
        there = isinstance(group, h5py.Group) and name in group
        link = group.id.links.get_info(name.encode()) if there else None
        if link is None or link.type != h5py.h5l.TYPE_HARD:
            raise KeyError(f"{shown(name)} is not there")
        if link.u not in self.found:
            self.found[link.u] = self._counted(group[name])
        return self.found[link.u]

    def arrays(self, group: Any) -> Iterator[Any]:
        """All that lie below a group, but for a generator's state; each group is looked into once."""
        h5py = require("h5py", extra="keras")
        seen, waiting = set(), [group]
        while waiting:
            group = waiting.pop()
            for name, place in self._links(group):
                if place in seen or name == "seed_generator":  # of Keras' Dropout
                    continue
                one = self.at(name, group)
                if isinstance(one, h5py.Group):
                    seen.add(place)
                    waiting.append(one)
                else:
                    yield one

    def text(self, group: Any, name: str) -> bytes:
        value = self._read(group, name, name)
        text = value if isinstance(value, bytes) else str(value).encode()
        if len(text) > TEXT_LIMIT:
            raise _too_large(name)
        return text

    def names(self, group: Any, name: str, most: int) -> list[str]:
        """A list of names, which Keras lays out in several attributes, name0, name1 ..., if one has no place for it.

        InputError, before they are read, if there are more than `most`.
        """
        if (group, name) in self.told:
            return self.told[group, name]
        size = lambda part: prod(group.attrs.get_id(part).shape) if part in group.attrs else 0
        numbered = takewhile(size, (f"{name}{number}" for number in count()))  # of which none is empty
        most_parts = min(most, _MOST_PARTS)
        parts = [name] if name in group.attrs else list(islice(numbered, most_parts + 1))
        if len(parts) > most_parts:
            raise InputError(f"it is damaged: its {name} are in more parts than Keras makes of them")
        if (many := sum(map(size, parts))) > most:
            raise InputError(f"it is damaged: its {name} are {many:,}, expected at most {most:,}")
        names = [one for part in parts for one in np.atleast_1d(self._read(group, part, name))]
        self.told[group, name] = [one.decode() if isinstance(one, bytes) else str(one) for one in names]
        return self.told[group, name]

    def _read(self, group: Any, part: str, name: str) -> Any:
        """An attribute of text, one of those of a name; an empty one may be of anything."""
        h5py = require("h5py", extra="keras")
        told = group.attrs.get_id(part)
        if not (size := prod(told.shape)):
            return np.zeros(0, "S1")
        if told.get_type().get_class() != h5py.h5t.STRING:  # the library may fall over others that it is told of
            raise InputError(f"it is damaged: its attribute {name} is no text")
        if name not in self.checked and _told_lengths(self.data, name) > len(self.data):
            raise _too_large(name)
        self.checked.add(name)
        if size * told.get_type().get_size() > len(self.data):
            raise _too_large(name)
        self._spend(size * told.get_type().get_size())
        value = group.attrs[part]
        if told.get_type().is_variable_str():
            self._spend(sum(map(len, np.atleast_1d(value))))
        return value

    def _links(self, group: Any) -> list[tuple[str, int]]:
        """The names in a group, and the places in the file that they lead to."""
        found: list[tuple[bytes, int]] = []

        def take(name: bytes, link: Any) -> bool | None:
            self.left -= len(name) + _STEP
            found.append((name, link.u))
            return self.left < 0 or None  # the library stops where it is not None, and falls over an error

        group.id.links.iterate(take, info=True)
        self._spend(0)
        return [(name.decode(), place) for name, place in found]

    def _counted(self, one: Any) -> Any:
        """A group or array that was found; InputError for one that Keras does not write.

        A header is searched from its start.  It, and a list of links, may be that of others as well.
        """
        h5py = require("h5py", extra="keras")
        told = h5py.h5o.get_info(one.id)
        if told.hdr.nmesgs > _MOST_MESSAGES:
            raise InputError("it is damaged: a group holds more in its header than Keras writes there")
        lists = told.meta_size.obj, told.meta_size.attr  # of links, of attributes
        self._spend(told.hdr.space.total + sum(part.index_size + part.heap_size for part in lists))
        if isinstance(one, h5py.Dataset):
            _check_plain(one)
        return one

    def _spend(self, many: int) -> None:
        self.left -= many
        if self.left < 0:
            raise InputError("it is damaged: its names are longer, taken together, than a file of its size can hold")


def _too_large(name: str) -> InputError:
    return InputError(f"it is damaged: its attribute {name} is larger than any that Keras writes")


def _check_plain(array: Any) -> None:
    """InputError for an array that is not of numbers which lie in the file, unpacked."""
    h5py = require("h5py", extra="keras")
    kind = array.id.get_type()
    plain = kind.get_class() in (h5py.h5t.FLOAT, h5py.h5t.INTEGER) and not kind.committed() and array.chunks is None
    if (not plain or array.is_virtual or array.external
            or array.id.get_storage_size() != prod(array.shape) * array.dtype.itemsize):
        raise InputError(f"it is damaged: {printable(array.name)} is not numbers that lie in it, unpacked, as Keras "
                         "saves them")


def numbers(contents: Contents, arrays: list[Any], kinds: str) -> list[np.ndarray]:
    """Read arrays, of whole numbers, "iu", or others, "f"."""
    for array in arrays:
        if array.dtype.kind not in kinds:
            raise InputError(f"it is damaged: {printable(array.name)} is of {array.dtype}, which Keras does not save "
                             "there")
    if sum(array.nbytes for array in arrays) > len(contents.data):
        raise InputError("it is damaged: its weights are larger than the file")
    return [array[...] for array in arrays]


def naming(path: str | os.PathLike, error: InputError) -> InputError:
    """The error, which names the file."""
    return error if str(error).startswith(str(path)) else InputError(f"{path}: {error}")


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


class _Memory(io.BytesIO):
    """A file behind whose end there are zeros, as on a disk: else the library takes what lay in its own memory."""

    def readinto(self, buffer: Any) -> int:
        there = super().readinto(buffer)
        memoryview(buffer).cast("B")[there:] = bytes(len(buffer) - there)
        return there


def _check_strings(data: bytes) -> None:
    """InputError for a heap of strings with an entry of no length, on which the library would go round without end.

    A heap: GCOL, its version, at 8 its size; from 16 on entries: number, at 8 the length, at 16 the bytes, filled up
    to a multiple of 8.  Number 0 is free space, whose length counts its own 16 bytes (HDF5's format, III.E).
    """
    sizes = data[13:15] if data[8:9] < b"\x02" else data[9:11]  # of addresses and lengths, by the header's version
    if not data.startswith(FIRST_BYTES) or sizes != b"\x08\x08":
        raise InputError("it is damaged: its header is none that Keras writes")
    whole = lambda place, size: int.from_bytes(data[place : place + size], "little")
    heap, end, most = data.find(b"GCOL\x01"), 0, len(data) // 16  # entries
    while heap >= 0:
        if heap < end:
            raise InputError("it is damaged: its strings lie in one another")
        place, end = heap + 16, heap + min(whole(heap + 8, 8), len(data))
        while place + 16 <= end:
            free, length = whole(place, 2) == 0, whole(place + 8, 8)
            most -= 1
            if length > len(data) or free and length < 16 or most < 0:
                raise InputError("it is damaged: its strings have lengths that there cannot be")
            place += length if free else 16 + -(-length // 8) * 8
        heap = data.find(b"GCOL\x01", heap + 1)


def _told_lengths(data: bytes, name: str) -> int:
    """Bytes of all texts of any length, each as often as an attribute of this name, or it and a number, refers to it.

    An attribute (HDF5's format, IV.A.2.m): version; flags; in two bytes each the sizes of its name, type and shape; in
    version 3 a byte more; then these three, in version 1 each filled up to a multiple of 8; its values.  Of texts of
    any length these are of 16 bytes, of which the first four are the length.
    """
    whole = lambda place, size: int.from_bytes(data[place : place + size], "little")
    told = 0
    for match in re.finditer(re.escape(name).encode() + rb"\d*\0", data):
        for version, start in (1, match.start() - 8), (2, match.start() - 8), (3, match.start() - 9):
            if start < 0 or data[start] != version or whole(start + 2, 2) < len(match[0]) or told > len(data):
                continue
            flags, filled = data[start + 1], 8 if version == 1 else 1
            kind = match.start() + -(-whole(start + 2, 2) // filled) * filled
            shape = kind + -(-whole(start + 4, 2) // filled) * filled
            values = shape + -(-whole(start + 6, 2) // filled) * filled
            if values >= len(data) or not flags & 1 and data[kind] & 15 == _FIXED:
                continue
            axes = shape + (8 if data[shape] == 1 else 4)
            many = min(prod(whole(axes + 8 * axis, 8) for axis in range(min(data[shape + 1], 32))),
                       (len(data) - values) // 16)
            told += 16 * many + int(np.frombuffer(data, "<u4", 4 * many, values)[::4].sum(dtype=np.int64))
    return told
