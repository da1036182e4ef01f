"""Lines that are too long: each is cropped, skipped or refused by itself, and the others do not suffer for it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

from .errors import InputError, check_choice

CHOICES = ("crop", "skip", "refuse")


def _warn(told: str) -> None:
    warnings.warn(told, stacklevel=2)


@dataclass(frozen=True)
class LongLines:
    """What becomes of a line with more tokens than can be used.

    what: "crop" it to as many as can, "skip" it, as if it were blank, or "refuse" it by an InputError.  most: tokens
    that it may have; None: as many as fit into memory and as the model knows positions for.  warn: is told, in a
    sentence with the line's number, of each that is cropped or skipped.
    """

    what: str = "refuse"
    most: int | None = None
    warn: Callable[[str], None] = _warn

    def __post_init__(self) -> None:
        check_choice("long", self.what, CHOICES)
        if self.most is not None and self.most < 1:
            raise InputError(f"max_length must be at least 1, not {self.most}")

    def decide(self, told: str, most: int, taken: str = "") -> int | None:
        """How many tokens to take of a line that is too long, None to skip it.

        told: says which line, and why; taken: how many, where that is not `most`.
        """
        if self.what == "refuse":
            raise InputError(f"{told}; long lines can be cropped or skipped (--long)")
        becomes = "it is skipped" if self.what == "skip" else f"the first {taken or f'{most:,}'} are taken"
        self.warn(f"{told}: {becomes}")
        return most if self.what == "crop" else None


REFUSED = LongLines()
