"""Work beside other work: what does not need each other's results may be computed at the same time.

    with branch(kernels) as beside:
        beside(work, *arguments)        # work(*arguments), for which nobody waits
        ...                             # while this is computed
    ...                                 # here both are done

What `work` reads must be there when it is handed over, and stay as it is until the end of the `with`; what it writes,
nobody else may touch before that.  It returns nothing.  Several works of one branch come one after another.

A backend without branches, array code for one, does the work when it is handed over.  Next: kernels/branches.py.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from .plain import Beside, Kernels


def branch(kernels: Kernels) -> AbstractContextManager[Beside]:
    """What takes work that may be done beside what is done inside the `with`, and is done at its end."""
    return nullcontext(in_turn) if kernels.branches is None else kernels.branches.branch()


def directions(D: int, kernels: Kernels) -> list[slice]:
    """Which of D directions, which never need each other, are computed together: at first all, as one axis."""
    return [slice(None)] if kernels.branches is None else kernels.branches.directions(D)


def in_turn(work: Any, *arguments: Any) -> None:
    """As if there were no branch."""
    work(*arguments)
