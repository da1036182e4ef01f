"""What the museum keeps of a bug."""

from __future__ import annotations

from typing import NamedTuple


class Bug(NamedTuple):
    """One wrong change to our own code, and the check that sees it."""

    name: str  # "dc-overwritten"
    title: str  # one line
    origin: str  # "MXNet, issue 4057"; "a classic" where it is not one project's
    file: str  # "ops/lstm_gates.py", below the package
    right: str  # whole lines of the file, without the last one's end; they stand in it exactly once
    wrong: str  # what they are replaced by; "" takes them out
    check: str  # a line of `scratchnmt gradcheck`, or a function of scratchnmt.museum.invariants
    caught: str  # the gradient that the check must name, or words of its sentence
    story: str  # what happened there, and why no test saw it
