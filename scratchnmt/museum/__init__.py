"""Bugs as they were found in the wild, each a small patch to our own code with the check that catches it.

    from scratchnmt.museum import BUGS, examine
    for bug in BUGS:
        verdict = examine(bug)      # ok is False: the named check sees it

A check that has never failed proves nothing; these show that ours can, and what their reports then say.
"""

from contextlib import nullcontext
from importlib import import_module
from typing import NamedTuple

from ..gradcheck import Report
from . import invariants
from .bugs import BUGS, SECTIONS
from .patch import PACKAGE, Bug, part, patched

__all__ = ["BUGS", "SECTIONS", "Bug", "Verdict", "examine", "patched"]


class Verdict(NamedTuple):
    """What the check said."""

    ok: bool
    text: str  # its report, or a sentence
    wrong: tuple[str, ...]  # names of gradients; sentences on the promises and invariants that do not hold

    def names(self, what: str) -> bool:
        """Is `what` a gradient that was found wrong, or are these words, more than one, in a sentence?"""
        return any(what == entry or (" " in what and what in entry) for entry in self.wrong)


def examine(bug: Bug, broken: bool = True) -> Verdict:
    """The verdict of the bug's check on a copy of the package that has the bug; broken=False: on the package."""
    result = run_check(bug, broken)
    if not isinstance(result, str):
        return Verdict(result.ok, str(result), (*result.wrong, *result.broken_promises))
    if result:
        return Verdict(False, f"{sentence(bug.check)}: FAILED\n\n  {result}", (result,))
    return Verdict(True, f"{sentence(bug.check)}: holds", ())


def run_check(bug: Bug, broken: bool = True) -> Report | str:
    """The report of the check; of an invariant the sentence that it complains with, "" if it holds."""
    with patched(bug) if broken else nullcontext(import_module(PACKAGE)) as package:
        try:
            if is_invariant(bug.check):
                getattr(invariants, bug.check)(package)
                return ""
            selfcheck = part(package, "selfcheck")
            lines = selfcheck.EVERY
            cases = [case for case in lines if case.name == bug.check]
            if not cases:
                raise ValueError(f"the check of {bug.name} is {bug.check!r}, which is neither a line of "
                                 "`scratchnmt gradcheck` nor an invariant")
            return cases[0].report()
        except AssertionError as error:  # of an invariant, or because backward raised
            return str(error)


def is_invariant(check: str) -> bool:
    """Is the check one of our invariants, and not a line of `scratchnmt gradcheck`?"""
    return check in invariants.__all__


def sentence(check: str) -> str:
    """The name of a check as one reads it."""
    return check.replace("_", " ") if is_invariant(check) else check
