"""From two text files to a corpus of ids: in memory, or once and for all in a folder, on every core.

Lines are read in chunks, encoded by worker processes, and written in their order, so that of a text of any length only
a few chunks are in memory.  A folder is written beside the one that it replaces and gets its name when it is whole.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from itertools import islice, zip_longest
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..arrays import own_cores
from ..errors import InputError, MachineError, require
from ..files.atomic import AnyPath, access_of, give, replace_folder, write_atomically
from ..streams import Messages
from .corpus import (
    BLOCK,
    BLOCKS,
    HEADER,
    IDS,
    INDEX,
    ROW,
    Corpus,
    LeftOut,
    block_crc,
    content_crc,
    header_bytes,
    read_header,
)
from .coverage import BothSides, Coverage, CoverageCounter
from .formats import ByteFile, Column, bytes_read
from .text import READ_ERRORS, TextPath, check_parallel, clean_line, file_status, open_text, raw_lines, unreadable
from .vocab import Vocabulary

CHUNK, CHUNK_BYTES = 4096, 1 << 26  # lines that a worker encodes at a time; fewer if these have so many bytes
_WORTH_WORKERS = 1 << 25  # bytes of text; for less, starting them takes longer than the work

How: TypeAlias = tuple[Vocabulary, Vocabulary, int | None]  # source and target vocabulary, max_length
Lines: TypeAlias = tuple[list[bytes], list[bytes], int]  # of both sides, and the number of the first
Job: TypeAlias = tuple[Lines, tuple[TextPath, TextPath]]  # with the files that they are of

_how: How  # in a worker: the same for all of its jobs


class Chunk(NamedTuple):
    """Some lines, encoded."""

    ids: np.ndarray  # uint32
    rows: np.ndarray  # of ROW, `start` counted from the beginning of ids
    blank: int
    too_long: int
    coverage: BothSides


def encode_parallel(src_lines: Sequence[str], tgt_lines: Sequence[str], src_vocab: Vocabulary, tgt_vocab: Vocabulary,
                    max_length: int | None = None) -> tuple[Corpus, LeftOut]:
    """Pairs of lines in memory, without those that are blank or over `max_length` tokens on either side.

    Raises InputError if nothing is left.
    """
    _check_max_length(max_length)
    chunk = encode_lines(zip(src_lines, tgt_lines, strict=True), src_vocab, tgt_vocab, max_length, 1)
    left_out = LeftOut(chunk.blank, chunk.too_long)
    _check_something_is_left(len(chunk.rows), len(src_lines), left_out, max_length)
    return Corpus(chunk.ids, chunk.rows, coverage=chunk.coverage, max_length=max_length), left_out


def encode_lines(pairs: Iterable[tuple[str, str]], src_vocab: Vocabulary, tgt_vocab: Vocabulary, max_length: int | None,
                 first: int) -> Chunk:
    """Encode pairs of lines of which the first is line `first` of the text."""
    ids: list[int] = []
    rows: list[tuple[int, int, int, int]] = []
    blank = too_long = 0
    covered = CoverageCounter(src_vocab), CoverageCounter(tgt_vocab)
    for line, (src_line, tgt_line) in enumerate(pairs, start=first):
        src, tgt = src_vocab.encode(src_line), tgt_vocab.encode(tgt_line)
        if not src or not tgt:
            blank += 1
        elif max_length is not None and max(len(src), len(tgt)) > max_length:
            too_long += 1
        else:
            rows.append((len(ids), len(src), len(tgt), line))
            ids += src
            ids += tgt
            covered[0].add(src_line, src)
            covered[1].add(tgt_line, tgt)
    return Chunk(ids=np.array(ids, np.uint32), rows=np.array(rows, ROW), blank=blank, too_long=too_long,
                 coverage=(covered[0].coverage, covered[1].coverage))


def open_or_build(folder: str | os.PathLike, src_path: TextPath, tgt_path: TextPath, src_vocab: Vocabulary,
                  tgt_vocab: Vocabulary, *, max_length: int | None = None, processes: int | None = None,
                  may_build: bool = True, check: Callable[[Corpus, LeftOut], None] | None = None,
                  say: Callable[[str], None] = print, like: AnyPath | None = None) -> tuple[Corpus, LeftOut]:
    """The corpus of two text files in `folder`: as it is there, or, if it is of something else or damaged, made anew.

    It is the same if path, size and times of both files, the vocabularies and max_length are.  processes: workers (left
    out: one for each core, or none for a small text).  may_build: False makes it an InputError if it is not there.
    check: is shown a corpus that was made before it takes the place of the one that is there, and may raise.
    like: a file, if it is there, whose mode and owner the new ones have, and its folder's a new folder.
    Raises InputError as `read_parallel` does, if nothing is left, and if a worker dies; WriteError if the folder cannot
    be written, and what was there before is then still there.
    """
    _check_max_length(max_length)
    folder = Path(os.path.realpath(folder))
    check_place(folder)
    made_of = {"texts": [_stamp(src_path), _stamp(tgt_path)], "max_length": max_length,
               "vocabularies": [src_vocab.digest(), tgt_vocab.digest()]}
    why = "it is not there"
    if folder.exists():
        try:
            header = read_header(folder)
            why = "text, vocabulary or max_length changed"
            if header["made_of"] == made_of:
                corpus = Corpus.open(folder, max_length, (len(src_vocab), len(tgt_vocab)))
                if read_header(folder) == header:
                    return corpus, LeftOut(*header["left_out"])
                why = "another process has replaced it"
        except InputError as error:
            why = str(error)
        if may_build:
            say(f"{folder} has to be made anew: {why}")
    if not may_build:
        raise InputError(f"{folder} is not what the first process has just written ({why}): all processes need the "
                         "same text files, and one folder that all of them see")
    return build(folder, src_path, tgt_path, src_vocab, tgt_vocab, made_of, max_length, processes, check, like)


def check_place(folder: Path) -> None:
    """InputError if what is there is something else than a corpus, and must not be replaced by one."""
    if folder.exists():
        ours = {HEADER, IDS, INDEX, BLOCKS}
        others = sorted({path.name for path in folder.iterdir()} - ours) if folder.is_dir() else [folder.name]
        if others:
            raise InputError(f"{folder} is in the way: the text is to be written there as ids, and it holds "
                             f"{others[0]}; choose another folder for the run, or move it")


def build(folder: Path, src_path: TextPath, tgt_path: TextPath, src_vocab: Vocabulary, tgt_vocab: Vocabulary,
          made_of: Any, max_length: int | None = None, processes: int | None = None,
          check: Callable[[Corpus, LeftOut], None] | None = None, like: AnyPath | None = None
          ) -> tuple[Corpus, LeftOut]:
    """Write the corpus of two text files; errors as `open_or_build`.

    What is returned is what was written, also if another builder has put his in its place meanwhile.
    """
    sizes = [os.path.getsize(path) for path in (src_path, tgt_path)]
    if processes is None:
        processes = len(own_cores()) if sum(sizes) > _WORTH_WORKERS else 1
    wide = max(len(src_vocab), len(tgt_vocab)) > 1 << 16
    access = access_of(like) if like else None
    with replace_folder(folder, overwrite=True, like=folder.parent if access else None) as new:
        with _Writer(new, "<u4" if wide else "<u2") as writer, _Bar(sizes[0]) as bar:
            for chunk in _encoded(_chunks(src_path, tgt_path, bar), (src_vocab, tgt_vocab, max_length), processes):
                writer.add(chunk)
        left_out = LeftOut(writer.blank, writer.too_long)
        lines = writer.pairs + sum(left_out)
        if not lines:
            raise InputError(f"{src_path} is empty")
        _check_something_is_left(writer.pairs, lines, left_out, max_length, f" ({src_path} and {tgt_path})")
        content = {"pairs": writer.pairs, "tokens": writer.tokens, "dtype": writer.dtype, "content": writer.content,
                   "left_out": list(left_out), "coverage": writer.coverage, "made_of": made_of}
        write_atomically(new / HEADER, header_bytes(content))  # and the folder's list of files
        for path in new.iterdir():
            give(path, access)
        corpus = Corpus.open(new, max_length)  # whose files stay what they are when their folder gets its name
        if check is not None:
            check(corpus, left_out)
    corpus.name = str(folder)
    return corpus, left_out


class _Writer:
    """Appends chunks to the files of a corpus."""

    def __init__(self, folder: Path, dtype: str):
        self.files = {name: open(folder / name, "wb") for name in (IDS, INDEX, BLOCKS)}  # noqa: SIM115, closed by us
        self.dtype, self.pairs, self.tokens, self.blank, self.too_long = dtype, 0, 0, 0, 0
        self.content, self.coverage = 0, (Coverage(0, 0, 0), Coverage(0, 0, 0))
        self.rows, self.ids = np.zeros(0, ROW), np.zeros(0, np.uint32)  # of a block that is not full yet

    def add(self, chunk: Chunk) -> None:
        self.blank, self.too_long = self.blank + chunk.blank, self.too_long + chunk.too_long
        self.coverage = (self.coverage[0].plus(chunk.coverage[0]), self.coverage[1].plus(chunk.coverage[1]))
        rows = chunk.rows.copy()
        rows["start"] += self.tokens
        self.files[INDEX].write(rows.tobytes())
        self.files[IDS].write(chunk.ids.astype(self.dtype).tobytes())
        self.pairs, self.tokens = self.pairs + len(rows), self.tokens + len(chunk.ids)
        self.rows, self.ids = np.concatenate([self.rows, rows]), np.concatenate([self.ids, chunk.ids])
        while len(self.rows) >= BLOCK:
            self._close_block(BLOCK)

    def _close_block(self, count: int) -> None:
        rows = self.rows[:count]
        size = int(rows["src"].sum(dtype=np.int64) + rows["tgt"].sum(dtype=np.int64))
        self.files[BLOCKS].write(np.array(block_crc(rows, self.ids[:size]), "<u4").tobytes())
        self.content = content_crc(rows, self.ids[:size], self.content)
        self.rows, self.ids = self.rows[count:], self.ids[size:]

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        try:
            if kind is None:
                if len(self.rows):
                    self._close_block(len(self.rows))
                for file in self.files.values():
                    file.flush()
                    os.fsync(file.fileno())
        finally:
            for file in self.files.values():
                file.close()


class _Bar:
    """How much of a file is read, on a terminal."""

    def __init__(self, size: int):
        self.bar = None
        if Messages(sys.stderr).isatty():
            self.bar = require("tqdm", extra="train").tqdm(total=size, unit="B", unit_scale=True, desc="encoding",
                                                           file=sys.stderr, dynamic_ncols=True)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.bar:
            self.bar.close()

    def at(self, file: ByteFile) -> None:
        if self.bar:
            self.bar.update(bytes_read(file) - self.bar.n)


def _chunks(src_path: TextPath, tgt_path: TextPath, bar: _Bar) -> Iterator[Job]:
    """The lines of two files, some at a time; InputError if the numbers of lines differ."""
    with _opened(src_path) as (src_file, src), _opened(tgt_path) as (_, tgt):
        first = 1
        while True:
            pairs = list(_no_more_than(CHUNK_BYTES, islice(zip_longest(src, tgt), CHUNK)))
            bar.at(src_file)
            if not pairs:
                return
            sides = [[line for line in side if line is not None] for side in zip(*pairs, strict=True)]
            if len(sides[0]) != len(sides[1]):
                counts = [first - 1 + len(lines) + sum(1 for _ in rest)
                          for lines, rest in zip(sides, (src, tgt), strict=True)]
                check_parallel(src_path, counts[0], tgt_path, counts[1])
            yield (sides[0], sides[1], first), (src_path, tgt_path)
            first += len(pairs)


def _no_more_than(size: int, pairs: Iterable[tuple[bytes | None, bytes | None]]
                  ) -> Iterator[tuple[bytes | None, bytes | None]]:
    """The pairs of lines up to the first one with which they have so many bytes."""
    for pair in pairs:
        yield pair
        size -= sum(map(len, filter(None, pair)))
        if size <= 0:
            return


@contextmanager
def _opened(path: TextPath) -> Iterator[tuple[ByteFile, Iterator[bytes]]]:
    """A text file and its lines, whose errors are those of reading it, not of what is written meanwhile."""
    def lines(file: ByteFile) -> Iterator[bytes]:
        try:
            yield from raw_lines(file)
        except READ_ERRORS as error:
            raise unreadable(path, error) from error

    with ExitStack() as stack:
        try:
            file = stack.enter_context(open_text(path))
        except READ_ERRORS as error:
            raise unreadable(path, error) from error
        yield file, lines(file)


def _encoded(jobs: Iterator[Job], how: How, processes: int) -> Iterator[Chunk]:
    """The chunks, encoded, in their order; at most a few for each worker are on the way."""
    if processes <= 1:
        yield from (_encode(lines, paths, *how) for lines, paths in jobs)
        return
    waiting: deque[Future[Chunk]] = deque()
    with ProcessPoolExecutor(processes, get_context("spawn"), _start_worker, how) as pool:
        try:
            for job in jobs:
                waiting.append(_submitted(pool, job))
                if len(waiting) > 3 * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise InputError("a process that encodes the text ended before its work was done; perhaps memory was "
                             "short: try again with fewer processes") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _submitted(pool: ProcessPoolExecutor, job: Job) -> Future[Chunk]:
    """The work on a chunk, for which the pool may have to start a process first."""
    try:
        return pool.submit(_work, *job)
    except BrokenProcessPool:
        raise
    except (OSError, RuntimeError) as error:
        raise MachineError(f"no process can be started to encode the text ({error}): end other programs of yours, "
                           "or have more allowed (ulimit -u), and try again") from error


def _start_worker(src_vocab: Vocabulary, tgt_vocab: Vocabulary, max_length: int | None) -> None:
    global _how
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the first process' affair
    threading.Thread(target=_end_with, args=(parent_process(),), daemon=True).start()
    _how = src_vocab, tgt_vocab, max_length


def _end_with(parent: Any) -> None:
    """A worker whose first process was killed would wait for work for ever."""
    parent.join()
    os._exit(1)


def _work(lines: Lines, paths: tuple[TextPath, TextPath]) -> Chunk:
    return _encode(lines, paths, *_how)


def _encode(lines: Lines, paths: tuple[TextPath, TextPath], src_vocab: Vocabulary,
            tgt_vocab: Vocabulary, max_length: int | None) -> Chunk:
    *sides, first = lines
    src, tgt = ([clean_line(data, path, number) for number, data in enumerate(side, start=first)]
                for side, path in zip(sides, paths, strict=True))
    return encode_lines(zip(src, tgt, strict=False), src_vocab, tgt_vocab, max_length, first)


def _stamp(path: TextPath) -> list[Any]:
    """What tells whether a file is still the same; InputError if it is none that can be read more than once."""
    about, column = file_status(path), [path.name] if isinstance(path, Column) else []
    return [os.path.abspath(path), about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino, *column]


def _check_max_length(max_length: int | None) -> None:
    if max_length is not None and max_length < 1:
        raise InputError(f"max_length must be at least 1, not {max_length}")


def _check_something_is_left(pairs: int, lines: int, left_out: LeftOut, max_length: int | None,
                             texts: str = "") -> None:
    if not pairs:
        limit = "" if max_length is None else f", {left_out.too_long} longer than {max_length} tokens"
        raise InputError(f"no sentence pair is left: of {lines}, {left_out.blank} are blank on a side{limit}{texts}")
