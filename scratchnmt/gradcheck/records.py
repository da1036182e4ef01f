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

    def add_error(self, check: str, error: BaseException) -> None:
        """A check that came to no result."""
        found = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        self._records.append({"test": self.test, "check": check, "gradient": "", **found,
                              "report": found if self._in_full else None})

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
        if config.get_verbosity() < 0:
            lines = [f"smallest margin: {line.strip()}" for line in smallest_margins(self.records, 1)[1:]]
        else:
            terminalreporter.section(f"gradcheck: smallest margins of {len(self.records)} checks")
            lines = smallest_margins(self.records, SHOWN)
        for line in lines:
            terminalreporter.write_line(line)


def smallest_margins(records: list[dict], count: int) -> list[str]:
    """Lines of a table: for each test and kind of check its smallest margin, the smallest of all first.

    Before all of them stand the checks that raised, and those that found something wrong.
    """
    from .report import layout

    smallest: dict[tuple[str, str], dict] = {}
    for record in sorted(records, key=_by_margin):
        smallest.setdefault((record["test"], record["check"]), record)
    rows = [(_verdict(r), r["check"], r["gradient"], r["test"]) for r in list(smallest.values())[:count]]
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
    margin = record.get("margin", -math.inf)
    return record["ok"], -math.inf if math.isnan(margin) else margin


def _verdict(record: dict) -> str:
    """The margin, if there is one: a contract has none; "exact" is no error at all."""
    if not record["ok"]:
        return "ERROR" if "error" in record else "WRONG"
    if not record["gradient"]:
        return "-"
    return "exact" if record["margin"] == math.inf else f"{record['margin']:.3g}"
