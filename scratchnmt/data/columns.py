"""Files that hold both sides of a corpus: columns separated by tabs (TSV), or JSON lines.

A `Column` is one side of such a file, and is opened, counted and named like a file of its own.  A table that is given
where a sentence a line is expected would be taken for text, tabs and all: `check_is_no_table` tells them apart.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError, did_you_mean, listed, printable
from ..files.reading import parse_json

LOOKED_AT = 20  # lines that tell whether a file is a table
_FEWEST = 3  # of them; fewer may have tabs by chance


@dataclass(frozen=True)
class Column(os.PathLike):
    """A column of a file: by its number, from 1, where tabs separate them, or by its key in JSON lines.

    Of nested objects a key may be a path, "translation.en".  Tabs are not quoted: a line has a column more than tabs.
    """

    path: str
    name: str

    def __fspath__(self) -> str:
        return self.path

    def __str__(self) -> str:
        return self.path

    def of(self, line: str, number: int) -> str:
        """The column's text in line `number`; InputError, naming both, if there is none.  Of a blank line it is ""."""
        if not line.strip():
            return ""
        return self._cell(line, number) if self._is_number() else self._value(line, number)

    def command(self) -> str:
        """What one types to have the column alone."""
        if self._is_number():
            return f"cut -f{self.name} {shlex.quote(self.path)}"
        key = self.name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", self.name) else json.dumps(self.name)
        return f"jq -r {shlex.quote(f'.{key}')} {shlex.quote(self.path)}"

    def _is_number(self) -> bool:
        return re.fullmatch("0*[1-9][0-9]{,8}", self.name) is not None

    def _cell(self, line: str, number: int) -> str:
        cells = line.split("\t")
        if int(self.name) > len(cells):
            hint = "; the columns of JSON lines are keys, such as en,de" if line.startswith("{") else ""
            raise InputError(f"{self.path}, line {number} has {len(cells)} column{'s' * (len(cells) > 1)} separated by "
                             f"tabs, and column {self.name} was asked for{hint}")
        return cells[int(self.name) - 1]

    def _value(self, line: str, number: int) -> str:
        where = f"{self.path}, line {number}"
        if not line.lstrip().startswith("{"):
            raise InputError(f"{where} is not a JSON object with the key {self.name}; columns separated by tabs are "
                             "named by their numbers, such as 1,2")
        value: Any = parse_json(line, where)
        for key in [self.name] if self.name in value else self.name.split("."):
            if not isinstance(value, dict) or key not in value:
                known = list(value) if isinstance(value, dict) else []
                only = f", only {listed(known)}{did_you_mean(key, known)}" if known else ""
                raise InputError(f"{where} has no key {self.name}{only}")
            value = value[key]
        if not isinstance(value, str) or any("\ud800" <= letter <= "\udfff" for letter in value):
            raise InputError(f"{where}: the value of {self.name} is not text")
        return value.replace("\n", " ")  # it has to be one line


def check_is_no_table(path: os.PathLike | str, lines: Sequence[str]) -> None:
    """InputError if the first lines of a text are those of a table, with what reads it."""
    lines = [line for line in lines[:LOOKED_AT] if line.strip()]
    if isinstance(path, Column) or len(lines) < _FEWEST:
        return
    name, first = ("standard input", Column("FILE", "1")) if path == "-" else (path, Column(os.fspath(path), "1"))
    tabs = {line.count("\t") for line in lines}
    if len(tabs) == 1 and tabs != {0}:
        what, example = f"{tabs.pop() + 1} columns separated by tabs", "1,2"
    elif all(line.startswith('{"') and line.rstrip().endswith("}") for line in lines):
        keys = list(parse_json(lines[0], f"{name}, line 1"))
        what, example = f"JSON lines with the keys {listed(keys)}", shlex.quote(printable(",".join(keys[:2])))
        first = Column(first.path, keys[0])
    else:
        return
    raise InputError(f"{name} has {what}, expected a sentence a line: train reads it by --train-tsv FILE "
                     f"--columns {example}; for other commands, take a column out: {first.command()}")
