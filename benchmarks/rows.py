"""What was measured, as rows of a table that programs read: CSV, one file for each command and machine."""

from __future__ import annotations

import argparse
import csv
import datetime
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

import scratchnmt

from . import measure
from .limits import Limits
from .read import key, read

RESULTS = Path(__file__).parent / "results"


@dataclass
class Row:
    """One contestant at one size.  Times are medians, in milliseconds; empty: not known, or it does not apply."""

    command: str  # step, ops ...
    what: str  # what was done
    contestant: str
    device: str  # as it calls itself: "AMD EPYC", "NVIDIA H100 80GB HBM3"
    dtype: str
    sizes: str  # "V=8000 H=256 B=64"
    ms: float  # until the work was done
    low_ms: float  # the quartiles
    high_ms: float
    host_ms: float | str = ""  # until the call returned
    gflop: float | str = ""  # operations that the work needs
    gflop_per_s: float | str = ""
    gbyte: float | str = ""  # bytes that must move at least
    gbyte_per_s: float | str = ""
    share: float | str = ""  # of the bound that applies
    bound: str = ""  # "sgemm", "tf32", "copy"
    tokens_per_s: float | str = ""


def row(seconds: Sequence, *, flop: float | None = None, bytes: float | None = None, limits: Limits | None = None,
        matmul: str = "float32", tokens: int | None = None, **names: str) -> Row:
    """The row of `clock.Seconds` of several calls; with limits, how near they come to the one that bounds them."""
    device, host = (np.array([getattr(s, field) for s in seconds]) for field in ("device", "host"))
    low, middle, high = np.percentile(device, [25, 50, 75])
    made = Row(ms=_digits(1e3 * middle), low_ms=_digits(1e3 * low), high_ms=_digits(1e3 * high),
               host_ms=_digits(1e3 * np.median(host)), **names)
    if flop:
        made.gflop, made.gflop_per_s = _digits(flop / 1e9), _digits(flop / middle / 1e9)
    if bytes:
        made.gbyte, made.gbyte_per_s = _digits(bytes / 1e9), _digits(bytes / middle / 1e9)
    if tokens:
        made.tokens_per_s = round(tokens / middle)
    if limits and (flop or bytes):
        name, rate = ("tf32", limits.tf32) if matmul == "tf32" and limits.tf32 else ("sgemm", limits.sgemm)
        least = {name: (flop or 0) / rate, "copy": (bytes or 0) / limits.copy}
        made.bound = max(least, key=least.get)
        made.share = _digits(least[made.bound] / middle)
    return made


def rates(per_second: np.ndarray, **names: str) -> Row:
    """The row of tokens, or sentences, per second in several slices of time; ms is that of a thousand of them."""
    low, middle, high = np.percentile(per_second, [25, 50, 75])
    return Row(ms=_digits(1e6 / middle), low_ms=_digits(1e6 / high), high_ms=_digits(1e6 / low),
               tokens_per_s=_digits(middle), **names)


def save(rows: Sequence[Row], options: argparse.Namespace, limits: Limits | None = None) -> None:
    """Write them to the folder of --out; on a GPU to benchmarks/results if it was not given."""
    folder = options.out or (RESULTS if options.device != "cpu" else None)
    if rows and folder:
        print(f"rows: {write(rows, folder, limits)}")


def write(rows: Sequence[Row], folder: str | Path, limits: Limits | None = None) -> Path:
    """Write the rows of one command to FOLDER/COMMAND-DEVICE.csv, with what they were measured on; the path.

    Rows of the same measurement that are there are replaced, others stay.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^a-z0-9]+", "-", f"{rows[0].command}-{rows[0].device}".lower()).strip("-")
    about = {"date": datetime.date.today().isoformat(), "commit": commit(), "machine": measure.machine_facts(),
             "scratchnmt": scratchnmt.__version__, **(limits._asdict() if limits else {})}
    path = folder / f"{name}.csv"
    table = (read(path) if path.exists() else {}) | {key(made): made for made in (asdict(r) | about for r in rows)}
    columns = dict.fromkeys([*(field.name for field in fields(Row)),
                             *(name for made in table.values() for name in made)])
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(table.values())
    return path


def commit() -> str:
    """The commit that is checked out, marked if files differ from it; empty where there is no git."""
    run = lambda *arguments: subprocess.run(["git", *arguments], cwd=Path(__file__).parent, capture_output=True,
                                            text=True, check=True).stdout.strip()
    try:
        return run("rev-parse", "--short", "HEAD") + ("+" if run("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _digits(number: float) -> float:
    return float(f"{number:.4g}")
