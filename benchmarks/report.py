"""Rows into Markdown tables and pictures (SVG and PNG, made to be read in black and white).

    speed-up.*     how much faster a GPU is, by the size that was swept, with the crossover marked
    roofline.*     GFLOP/s against operations for each byte, below the machine's two limits
    scaling.*      a step's time against each size, with the exponent
    memory.*       peak memory of a step against the batch
    busy.*         training and search against the cores that another program takes
    ladder.*       a step of each version of an LSTM layer, of a GPU and of NumPy

Pictures are made of what is there: speed-up needs `ops --sweep` on a CPU and on a GPU, scaling needs `scaling`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from scratchnmt.errors import require

from .pictures import PICTURES
from .read import Table, read
from .rows import RESULTS

COLUMNS = {"what": "what", "contestant": "contestant", "sizes": "sizes", "dtype": "dtype", "ms": "ms",
           "low_ms": "from", "high_ms": "to", "gflop_per_s": "GFLOP/s", "gbyte_per_s": "GB/s", "share": "of the bound",
           "tokens_per_s": "per second"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rows", nargs="?", default=str(RESULTS), metavar="DIR",
                        help="a folder of rows (default benchmarks/results)")


def run(options: argparse.Namespace) -> int:
    """Write report.md and the pictures beside the rows, or to --out."""
    table = read(options.rows)
    folder = Path(options.out or options.rows)
    folder.mkdir(parents=True, exist_ok=True)
    require("matplotlib", extra="train").use("Agg")
    drawn = [name for name, draw in PICTURES.items() if draw(table, [folder / f"{name}.svg", folder / f"{name}.png"])]
    text = "\n".join(["# What was measured", "", *(f"![{name}]({name}.svg)" for name in drawn), *tables(table)])
    (folder / "report.md").write_text(text + "\n", encoding="utf-8")
    print(f"{folder / 'report.md'}: {len(table)} rows; pictures: {', '.join(drawn) or 'none'}")
    return 0


def tables(table: Table) -> Iterable[str]:
    """A table in Markdown for each command and machine, without the columns that none of its rows has."""
    for command, device in sorted({(key.command, key.device) for key in table}):
        rows = [row for key, row in table.items() if (key.command, key.device) == (command, device)]
        columns = [name for name in COLUMNS if any(row.get(name) for row in rows)]
        about = rows[0]
        yield from ("", f"## {command}, {device}", "",
                    f"{about['machine']}; {about['date']}, commit {about['commit']}. Times are medians in "
                    "milliseconds, from one quartile to the other.", "",
                    "| " + " | ".join(COLUMNS[name] for name in columns) + " |", "|" + "---|" * len(columns))
        for row in rows:
            cells = (f"{float(row[name]):.0%} of {row['bound']}" if name == "share" and row[name] else row[name]
                     for name in columns)
            yield "| " + " | ".join(cells) + " |"
