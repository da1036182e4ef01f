"""What a run tells about itself: metrics.jsonl, and the picture of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..checkpoint import CURVES, METRICS
from ..data.text import write_atomically
from ..errors import InputError, WriteError


def write_metrics(folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """One JSON object for each validation; WriteError if the file cannot be written."""
    lines = "".join(json.dumps(record) + "\n" for record in history)
    try:
        write_atomically(folder / METRICS, lines.encode())
    except OSError as error:
        raise WriteError(f"{folder / METRICS} cannot be written: {error.strerror}") from error


def draw_curves(folder: Path, say: Callable[[str], None]) -> None:
    """The learning curves of what was written; if they cannot be drawn, `say` why."""
    from ..plots import learning_curves

    try:
        learning_curves(folder / METRICS, folder / CURVES)
    except InputError as error:  # a picture is not worth a failure after hours of training
        say(f"no learning curves drawn: {error}")
