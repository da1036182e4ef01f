"""Bugs as they were found in the wild, each a small patch to our own code with the check that catches it.

    from scratchnmt.museum import BUGS, examine
    for bug in BUGS:
        verdict = examine(bug)      # ok is False: the named check sees it

A check that has never failed proves nothing; these show that ours can, and what their reports then say.
"""

from .bug import Bug
from .bugs import BUGS, SECTIONS
from .examine import Verdict, examine
from .patch import patched

__all__ = ["BUGS", "SECTIONS", "Bug", "Verdict", "examine", "patched"]
