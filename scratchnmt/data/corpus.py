"""Sentence pairs as token ids in two flat arrays, in memory or in a folder, read through a memory map; their order.

    ids       every token, pair by pair, the source before the target      uint16, or uint32 for a larger vocabulary
    index     a row for each pair: where it begins in ids, how many tokens each side has, its line in the text

In a folder these are ids.bin and index.bin, little-endian, beside blocks.bin, a CRC-32 of each BLOCK pairs (their rows
of the index, then their ids), and header.json, written last, which tells what the corpus is made of and how long the
files are, with a checksum of its own.  A block is checked when the order of an epoch comes to it, which also brings it
into memory ahead of its use; a folder without a whole header is no corpus.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, overload
from zlib import crc32

import numpy as np

from ..errors import END, InputError, shown
from ..files.reading import CHECKSUM, bytes_with_checksum, checksum_of, read_limited
from .batches import Batch, epoch_batches, make_batch
from .coverage import BothSides, read_coverage

BLOCK = 1024  # pairs
BUFFER = 1 << 20  # pairs that an epoch shuffles at a time
ROW = np.dtype([("start", "<u8"), ("src", "<u4"), ("tgt", "<u4"), ("line", "<u8")])
HEADER, IDS, INDEX, BLOCKS = "header.json", "ids.bin", "index.bin", "blocks.bin"
_FORMAT, _VERSION = "scratchnmt corpus", 1
_LIMIT = 1 << 20  # bytes of a header


class LeftOut(NamedTuple):
    """Numbers of sentence pairs that were not encoded, by reason."""

    blank: int
    too_long: int


class Flat(NamedTuple):
    """Sentences, one behind the other."""

    ids: np.ndarray  # (tokens,)
    lengths: np.ndarray  # (B,) int64


class Sentences(Protocol):
    """What an epoch asks a text for: a `Corpus`, or one that is drawn for it."""

    def lengths(self, indices: np.ndarray) -> np.ndarray:
        """(N, 2) int64: source tokens, and target tokens with </s>."""

    def batch(self, indices: np.ndarray) -> Batch:
        """The batch of the sentence pairs at `indices`, in that order."""


class HasSides(Protocol):
    """A text whose ids can be had by side: a `Corpus`, or one that is drawn."""

    def sides(self, indices: np.ndarray) -> list[Flat]:
        """Of source and target: the ids of the sentences at `indices`, one behind the other, and their lengths."""


class DrawnText(Sentences, HasSides, Protocol):
    """A text that is drawn for an epoch."""

    def batch(self, indices: Iterable[int]) -> Batch:
        """The batch of the sentence pairs at `indices`, in that order."""
        return make_batch(*map(apart, self.sides(np.asarray(indices, np.int64))))


class Corpus(Sequence[tuple[list[int], list[int]]]):
    """N sentence pairs; a sequence of (source ids, target ids), without <s> and </s>."""

    def __init__(self, ids: np.ndarray, index: np.ndarray, crcs: np.ndarray | None = None, content: int | None = None,
                 name: str = "the corpus", coverage: BothSides | None = None, max_length: int | None = None,
                 sizes: tuple[int, int] | None = None):
        self.ids, self.rows, self.crcs, self.content, self.name = ids, index, crcs, content, name
        self.sizes = sizes  # of the vocabularies, where the ids are not known to be of them
        self.max_length = max_length  # of a side, in tokens, if that was limited
        self.coverage = coverage  # of the text by the vocabularies; folders of earlier versions do not tell

    @classmethod
    def of(cls, src: Sequence[Sequence[int]], tgt: Sequence[Sequence[int]],
           lines: Sequence[int] | None = None) -> Corpus:
        """In memory; lines: of each pair in the text that it is from, from 1 (left out: their numbers)."""
        index = np.zeros(len(src), ROW)
        index["src"], index["tgt"] = [len(ids) for ids in src], [len(ids) for ids in tgt]
        index["start"] = _starts(index, 0)
        index["line"] = np.arange(1, len(src) + 1) if lines is None else lines
        pairs = [np.asarray([*s, *t], np.uint32) for s, t in zip(src, tgt, strict=True)]
        return cls(np.concatenate(pairs) if pairs else np.zeros(0, np.uint32), index)

    @classmethod
    def open(cls, folder: str | os.PathLike, max_length: int | None = None,
             sizes: tuple[int, int] | None = None) -> Corpus:
        """Of a folder, through a memory map; max_length, sizes (of the vocabularies): what it was made with.

        Raises InputError, naming the file, if one is missing, damaged or of another version.
        """
        folder = Path(folder)
        header = read_header(folder)
        kinds = {IDS: (header["dtype"], header["tokens"]), INDEX: (ROW, header["pairs"]),
                 BLOCKS: ("<u4", -(-header["pairs"] // BLOCK))}
        arrays = {}
        for name, (dtype, count) in kinds.items():
            path = folder / name
            size = path.stat().st_size if path.is_file() else None
            if size != count * np.dtype(dtype).itemsize:
                expected = f"expected {count * np.dtype(dtype).itemsize:,}"
                what = "is not there" if size is None else f"has {size:,} bytes, {expected}"
                raise InputError(f"{path} {what}: the corpus is damaged")
            arrays[name] = np.memmap(path, dtype, "r", shape=(count,)) if count else np.zeros(0, dtype)
        return cls(arrays[IDS], arrays[INDEX], arrays[BLOCKS], header["content"], str(folder),
                   read_coverage(header.get("coverage")), max_length, sizes)

    def __len__(self) -> int:
        return len(self.rows)

    if TYPE_CHECKING:  # Python keeps overloads for ever, with their module: also of the museum's copies
        @overload
        def __getitem__(self, number: int) -> tuple[list[int], list[int]]: ...

        @overload
        def __getitem__(self, number: slice) -> list[tuple[list[int], list[int]]]: ...

    def __getitem__(self, number: int | slice) -> tuple[list[int], list[int]] | list[tuple[list[int], list[int]]]:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        src, tgt = self._pair(self.rows[number])
        return src.tolist(), tgt.tolist()

    def batch(self, indices: Iterable[int]) -> Batch:
        """The batch of the sentence pairs at `indices`, in that order."""
        rows = self.rows[np.asarray(indices, dtype=np.int64)]
        return make_batch(*zip(*(self._pair(row) for row in rows), strict=True))

    def sides(self, indices: np.ndarray) -> list[Flat]:
        """Of source and target: the ids of the sentences at `indices`, one behind the other, and their (N,) lengths."""
        rows = self.rows[indices]
        start, src, tgt = (rows[name].astype(np.int64) for name in ("start", "src", "tgt"))
        return [Flat(self.ids[ranges(start, src)], src), Flat(self.ids[ranges(start + src, tgt)], tgt)]

    def lengths(self, indices: Any = slice(None)) -> np.ndarray:
        """(N, 2) int64: source tokens, and target tokens with </s>, as in `Batch`."""
        rows = self.rows[indices]
        return np.stack([rows["src"], rows["tgt"] + 1], axis=1).astype(np.int64)

    def line(self, number: int) -> int:
        """The line, from 1, that pair `number` has in the text."""
        return int(self.rows["line"][number])

    @property
    def tokens(self) -> tuple[int, int]:
        """How many there are on each side, without </s>."""
        src, tgt = (sum(int(part[side].sum(dtype=np.int64)) for part in _parts(self.rows)) for side in ("src", "tgt"))
        return src, tgt

    def longest_source(self) -> int:
        """Tokens of the longest source; 0 without pairs."""
        return max((int(part["src"].max()) for part in _parts(self.rows)), default=0)

    def fingerprint(self) -> str:
        """What tells one corpus from another: of the ids and lengths, not of the lines."""
        if self.content is None:
            self.content = 0
            for number in range(-(-len(self) // BLOCK)):
                self.content = content_crc(*self._block(number), self.content)
        return f"{len(self)} sentence pairs with checksum {self.content:08x}"

    def first_fingerprint(self) -> str:
        """The same as runs of the first version have it: of the lengths, then of all sources, then of all targets."""
        checksum = crc32(self.lengths().data)
        for side in (0, 1):
            for row in self.rows:
                checksum = crc32(self._pair(row)[side].astype(np.int64).data, checksum)
        return f"{len(self)} sentence pairs with checksum {checksum:08x}"

    def check(self, blocks: Iterable[int]) -> None:
        """Read some blocks from the disk; InputError if one is damaged."""
        if self.crcs is None:
            return
        for number in blocks:
            if what := self._damage(number, int(self.crcs[number])):
                raise InputError(f"{self.name} is damaged: pairs {number * BLOCK:,} to {(number + 1) * BLOCK - 1:,} "
                                 f"{what}; {self._given_up()}")

    def _given_up(self) -> str:
        """Remove the header, so that nobody takes the corpus for whole again; what comes of it."""
        try:
            Path(self.name, HEADER).unlink(missing_ok=True)
        except OSError as error:
            return f"remove it ({error.strerror}), and it is made anew when the run is resumed"
        return "it is made anew when the run is resumed"

    def forget(self) -> None:
        """Give back the memory of what was read through the map; it is read again when it is needed."""
        for array in (self.ids, self.rows):
            if isinstance(array.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
                array.base.madvise(mmap.MADV_DONTNEED)

    def _pair(self, row: np.void) -> tuple[np.ndarray, np.ndarray]:
        start, middle = int(row["start"]), int(row["start"]) + int(row["src"])
        return self.ids[start:middle], self.ids[middle : middle + int(row["tgt"])]

    def _damage(self, number: int, crc: int) -> str:
        """What is wrong with a block, if anything is."""
        if not self._follows(number):
            return "do not follow one another"
        if block_crc(*self._block(number)) != crc:
            return "do not have their checksum"
        if self.sizes is None:
            return ""
        sides = self.sides(np.arange(number * BLOCK, min((number + 1) * BLOCK, len(self))))
        if any(side.ids.max() >= size for side, size in zip(sides, self.sizes, strict=True)):
            return "have ids that the vocabulary does not have"
        return ""

    def _follows(self, number: int) -> bool:
        """Whether the pairs of a block lie one behind the other, up to where the next block begins, none of them empty.

        Else all might share their tokens, and be of many times the size of the file.
        """
        begin, end = number * BLOCK, (number + 1) * BLOCK
        rows, start = self.rows[begin:end], int(self.rows["start"][begin])
        after = int(self.rows["start"][end]) if end < len(self) else len(self.ids)
        sizes = rows["src"].astype(np.int64) + rows["tgt"]
        return (start + int(sizes.sum()) == after <= len(self.ids) and (start == 0 or number > 0)
                and bool(rows["src"].all() and rows["tgt"].all())
                and np.array_equal(rows["start"].astype(np.int64), _starts(rows, start)))

    def _block(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.rows[number * BLOCK : (number + 1) * BLOCK]
        last = rows[-1]
        return rows, self.ids[int(rows[0]["start"]) : int(last["start"]) + int(last["src"]) + int(last["tgt"])]


def block_crc(rows: np.ndarray, ids: np.ndarray) -> int:
    """CRC-32 of a block of a folder: its rows of the index and its ids, as uint32."""
    return crc32(np.ascontiguousarray(ids, dtype="<u4").data, crc32(np.ascontiguousarray(rows).data))


def content_crc(rows: np.ndarray, ids: np.ndarray, before: int) -> int:
    """`before`, that of the blocks before, taken on by lengths and ids of a block: the same wherever they are kept."""
    lengths = np.stack([rows["src"], rows["tgt"]], axis=1)
    checksum = crc32(np.ascontiguousarray(lengths, dtype="<u4").data, before)
    return crc32(np.ascontiguousarray(ids, dtype="<u4").data, checksum)


def apart(sentences: Flat) -> list[Any]:
    """The ids of each sentence, an array."""
    return np.split(sentences.ids, np.cumsum(sentences.lengths)[:-1])


def _starts(index: np.ndarray, first: int) -> np.ndarray:
    """Where pairs begin that follow one another from `first` on."""
    sizes = index["src"].astype(np.int64) + index["tgt"]
    return first + np.cumsum(sizes) - sizes


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """All whole numbers of ranges that begin at `starts`, one range behind the other."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))


def _parts(index: np.ndarray, size: int = 1 << 20) -> Iterator[np.ndarray]:
    """An index a piece at a time, so that a large one is never in memory as a whole."""
    return (index[start : start + size] for start in range(0, len(index), size))


def read_header(folder: Path) -> dict[str, Any]:
    """What header.json tells; InputError if it is missing, damaged or of another version."""
    path = folder / HEADER
    try:
        header = json.loads(read_limited(path, _LIMIT))
        if header["format"] != _FORMAT:
            raise InputError(f'{path} is not the header of a corpus: its "format" is not "{_FORMAT}"')
        if header["version"] != _VERSION:
            raise InputError(f"{path} has version {shown(header['version'])}, this program reads version {_VERSION}")
        if header[CHECKSUM] != checksum_of(header):
            raise InputError(f"{path} is damaged: its contents do not have the checksum that it carries")
        if header["dtype"] not in ("<u2", "<u4"):  # others NumPy may take for addresses
            raise InputError(f"{path} is damaged: its ids are {shown(header['dtype'])}")
        if any(type(header[name]) is not int or not 0 <= header[name] < END for name in ("tokens", "pairs", "content")):
            raise InputError(f"{path} is damaged: its sizes are none")
        if not all(type(count) is int and 0 <= count < END for count in LeftOut(*header["left_out"])):
            raise InputError(f"{path} is damaged: it left out {shown(header['left_out'])}")
        header["made_of"], read_coverage(header.get("coverage"))  # noqa: B018  KeyError if it is missing
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}") from error
    return header


def header_bytes(content: Mapping[str, Any]) -> bytes:
    """header.json, with the checksum of its contents."""
    return bytes_with_checksum({"format": _FORMAT, "version": _VERSION, **content})


class Epoch(Sequence[np.ndarray]):
    """The batches of one pass over a corpus, each the numbers of its pairs, in an order that needs little memory.

    A corpus of up to BUFFER pairs is shuffled as a whole.  Of a larger one the blocks of BLOCK pairs are shuffled,
    dealt out into buffers, and the pairs of each buffer shuffled among themselves: what is read from the disk at a time
    is whole blocks, and what is in memory is one buffer.  Within it, pairs of like length are brought together in pools
    (see `epoch_batches`).  Every pair is in one batch.

    seeds: of the generators; the same give the same order.  by, pool: as in `epoch_batches`.  sentences: gives lengths
    and batches, if the epoch has the sentences of the corpus cut in another way (see subword_sampling.py).
    """

    def __init__(self, corpus: Corpus, batch_size: int, by: str, pool: int, seeds: Sequence[int],
                 sentences: Sentences | None = None):
        self.corpus, self.seeds, self.how = corpus, list(seeds), (batch_size, by, pool)
        self.sentences = sentences or corpus
        blocks = -(-len(corpus) // BLOCK)
        self.parts = [np.arange(blocks)]
        if len(corpus) > BUFFER:
            per = BUFFER // BLOCK
            order = np.random.default_rng(self.seeds).permutation(blocks)
            self.parts = [order[start : start + per] for start in range(0, blocks, per)]
        self.ends = np.cumsum([self._count(part) for part in range(len(self.parts))])
        self.part = -1  # the buffer at hand, and its batches
        self.batches: list[np.ndarray] = []

    def __len__(self) -> int:
        return int(self.ends[-1])

    if TYPE_CHECKING:  # as in Corpus
        @overload
        def __getitem__(self, position: int) -> np.ndarray: ...

        @overload
        def __getitem__(self, position: slice) -> list[np.ndarray]: ...

    def __getitem__(self, position: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(position, slice):
            return [self[one] for one in range(*position.indices(len(self)))]
        if not 0 <= position < len(self):
            raise IndexError(position)
        part = int(np.searchsorted(self.ends, position, side="right"))
        if part != self.part:
            if len(self.parts) > 1:
                self.corpus.forget()
            if self.sentences is self.corpus:
                self._check(part)
            self.part, self.batches = part, self._batches(part)
        return self.batches[position - (int(self.ends[part - 1]) if part else 0)]

    def _check(self, part: int) -> None:
        self.corpus.check(np.sort(self.parts[part]).tolist())

    def _count(self, part: int) -> int:
        """How many batches a buffer has."""
        batch_size, by, _ = self.how
        if by == "sentences" and batch_size >= 1:
            return -(-self._pairs(part) // batch_size)
        return len(self._batches(part))

    def _pairs(self, part: int) -> int:
        last = -(-len(self.corpus) // BLOCK) - 1
        missing = (last + 1) * BLOCK - len(self.corpus) if last in self.parts[part] else 0
        return len(self.parts[part]) * BLOCK - missing

    def _batches(self, part: int) -> list[np.ndarray]:
        batch_size, by, pool = self.how
        alone = len(self.parts) == 1
        if self.sentences is not self.corpus:  # then lengths depend on the ids
            self._check(part)
        pairs = np.concatenate([np.arange(block * BLOCK, min((block + 1) * BLOCK, len(self.corpus)))
                                for block in self.parts[part].tolist()])
        rng = np.random.default_rng(self.seeds if alone else [*self.seeds, part])
        return [pairs[batch] for batch in epoch_batches(self.sentences.lengths(pairs), batch_size, by, rng, pool)]
