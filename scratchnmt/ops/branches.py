"""Branches: two pieces of work of which neither needs the other's result may be computed at the same time.

    with branch(kernels) as beside:
        beside(work, *arguments)        # starts work(*arguments) in the branch
        ...                             # computed at the same time
    ...                                 # here both are done

What `work` reads must be complete when it is handed over, and unchanged until the end of the `with`; what it writes,
no other code may read or write before that.  It returns nothing.  Several works of one branch come one after another.

A backend without branches, array code for one, does the work when it is handed over.  Next: kernels/branches.py.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from .plain import Beside, Kernels


def branch(kernels: Kernels) -> AbstractContextManager[Beside]:
    """A context whose value, `beside`, takes work; all of it is done at the end of the `with`."""
    return nullcontext(in_turn) if kernels.branches is None else kernels.branches.branch()


def directions(D: int, kernels: Kernels) -> list[slice]:
    """The D directions of a layer in groups, each computed as one array: without branches all of them together."""
    return [slice(None)] if kernels.branches is None else kernels.branches.directions(D)


def in_turn(work: Any, *arguments: Any) -> None:
    """`beside` where there is no branch: the work is done at once."""
    work(*arguments)
