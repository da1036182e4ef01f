"""What a terminal can show: colours, and an attention map drawn with characters."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import numpy as np

_SHADES = ((0.7, "██"), (0.4, "▓▓"), (0.2, "▒▒"), (0.07, "░░"))  # least weight for each


def in_color() -> bool:
    """Whether to colour what is printed: on a terminal, unless NO_COLOR is set (see no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def attention_text(src_tokens: Sequence[str], tgt_tokens: Sequence[str], matrix: np.ndarray) -> str:
    """Weights (T, S) as lines: a row for each target token, a column for each source token."""
    margin = max(map(len, tgt_tokens), default=0)
    widths = [max(2, len(token)) for token in src_tokens]
    header = (token.center(w) for token, w in zip(src_tokens, widths, strict=True))
    lines = [" " * margin + "  " + " ".join(header)]
    for token, row in zip(tgt_tokens, matrix, strict=True):
        cells = (_shade(weight).center(w) for weight, w in zip(row, widths, strict=True))
        lines.append(f"{token.rjust(margin)}  {' '.join(cells)}")
    return "\n".join(line.rstrip() for line in lines)


def _shade(weight: float) -> str:
    return next((shade for least, shade in _SHADES if weight >= least), "·")
