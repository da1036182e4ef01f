"""What the pytest plugin remembers of each check, sums up at the end and writes as JSON.

A test's process records; its records travel as an attribute of pytest's test report, so that they also
arrive from the workers of pytest-xdist; one collector, where pytest was started, puts them together.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

SHOWN = 10  # margins in the summary


class Recorder:
    """The checks of the running test: dicts of plain numbers and texts."""

    def __init__(self, in_full: bool):
        self.test, self._in_full = "", in_full
        self._records: list[dict] = []

    def add(self, check: str, report: Any) -> None:
        worst = max(report.tensors, key=lambda tensor: tensor.max_error, default=None)
        self._records.append({
            "test": self.test, "check": check, "ok": report.ok, "margin": float(report.margin),
            "gradient": worst.name if worst else "",
            "report": report.to_dict() if self._in_full else None})  # not for nothing: it takes a while

    def take(self) -> list[dict]:
        taken, self._records = self._records, []
        return taken


class Collector:
    """Gathers the records of all tests; shows the smallest margins; writes the JSON file, if one is wanted."""

    def __init__(self, path: Path | None):
        self.path = path
        self.records: list[dict] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.records += getattr(report, "gradcheck", [])

    def pytest_sessionfinish(self) -> None:
        if self.path is not None:
            write(self.path, [{"test": r["test"], "check": r["check"], **r["report"]} for r in self.records])

    def pytest_terminal_summary(self, terminalreporter: Any, config: pytest.Config) -> None:
        if self.path is not None:
            terminalreporter.write_line(f"gradcheck: {len(self.records)} reports in {self.path}")
        if not self.records:
            return
        terminalreporter.ensure_newline()
        if config.get_verbosity() < 0:  # one line, of what passed: pytest itself lists what failed
            lines = smallest_margins([r for r in self.records if r["ok"]], 1)[1:]
            lines = [f"smallest margin: {line.strip()}" for line in lines]
        else:
            terminalreporter.section(f"gradcheck: smallest margins of {len(self.records)} checks")
            lines = smallest_margins(self.records, SHOWN)
        for line in lines:
            terminalreporter.write_line(line)


def smallest_margins(records: list[dict], count: int) -> list[str]:
    """Lines of a table: for each test and kind of check its smallest margin, the smallest of all first."""
    from .report import layout

    smallest: dict[tuple[str, str], dict] = {}
    for record in sorted(records, key=_by_margin):
        smallest.setdefault((record["test"], record["check"]), record)
    rows = [(f"{r['margin']:.3g}" if r["ok"] else "WRONG", r["check"], r["gradient"], r["test"])
            for r in list(smallest.values())[:count]]
    return layout(("margin", "check", "gradient", "test"), rows, left=(1, 2, 3))


def check_writable(path: Path | None) -> None:
    """pytest.UsageError, before any test has run, if the file cannot be written."""
    if path is None:
        return
    if path.is_dir():
        raise pytest.UsageError(f"--gradcheck-json {path} is a folder, expected a file to write")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise pytest.UsageError(f"--gradcheck-json {path} cannot be written: {error.strerror}") from error


def write(path: Path, value: Any) -> None:
    """The value as JSON: the whole file or, if something fails, what was there before."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _by_margin(record: dict) -> tuple[bool, float]:
    return record["ok"], -math.inf if math.isnan(record["margin"]) else record["margin"]
