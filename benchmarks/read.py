"""Rows that were written earlier."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from scratchnmt.errors import InputError


class Key(NamedTuple):
    """What makes two rows the same measurement."""

    command: str
    what: str
    contestant: str
    device: str
    dtype: str
    sizes: str


Table = dict[Key, dict[str, str]]


def read(path: str | Path) -> Table:
    """The rows of a CSV file, or of all in a folder; InputError if there are none, or the file is of another kind."""
    path = Path(path)
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    rows: Table = {}
    for file in files:
        try:
            with file.open(encoding="utf-8", newline="") as lines:
                table = list(csv.DictReader(lines))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file} cannot be read: {error}") from error
        if table and not {*Key._fields, "ms"} <= {*table[0]}:
            if path.is_dir():  # a file of another kind beside them, such as a timeline
                continue
            raise InputError(f"{file} holds no rows of benchmarks: expected the columns {', '.join(Key._fields)}, ms")
        rows |= {key(row): row for row in table}
    if not rows:
        raise InputError(f"{path} holds no rows: write some with --out")
    return rows


def key(row: Mapping[str, str]) -> Key:
    """Which measurement a row is of."""
    return Key(*(row[name] for name in Key._fields))


def sizes(key: Key) -> dict[str, int]:
    """The sizes of a row by letter."""
    return {letter: int(number) for letter, _, number in (part.partition("=") for part in key.sizes.split())
            if number.isdigit()}
