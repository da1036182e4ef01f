"""Notices that another program uses a core for which a thread of BLAS waits.

Threads that share a product wait for each other at its end, and OpenBLAS' keep their cores busy while they wait.  As
soon as another program takes one of these cores, a step takes ten times as long, and nothing says why.  Processes of
one thread each (see parallel/workers.py) are slowed down by what that program uses, and no more.
"""

from __future__ import annotations

from math import inf

from ..arrays import threads_wanted

_WINDOW = 8  # steps: a single one may wait for a disk, or have few words
_TIMES = 4.0  # slower than the best ones


class Contention:
    """Is told of every step; says once that they have become several times as slow, if BLAS has several threads."""

    def __init__(self) -> None:
        self.steps, self.seconds, self.tokens = 0, 0.0, 0  # of the present window
        self.best = inf  # seconds a token, of a window
        self.said = False

    def note(self, seconds: float, tokens: int) -> str | None:
        """A sentence for people, if now is the time."""
        self.steps, self.seconds, self.tokens = self.steps + 1, self.seconds + seconds, self.tokens + tokens
        if self.said or self.steps < _WINDOW:
            return None
        each, best = self.seconds / max(self.tokens, 1), self.best
        self.steps, self.seconds, self.tokens, self.best = 0, 0.0, 0, min(each, best)
        if each < _TIMES * best or best == inf:
            return None
        self.said = True
        return _sentence(each / best) if _threads() > 1 else None


def _sentence(times: float) -> str:
    return (f"steps take {times:.0f} times as long as the fastest before: probably another program uses a core that a "
            "thread of BLAS waits for. Processes of one thread each do not wait: workers=2 of TrainingOptions, or, for "
            "one process, OPENBLAS_NUM_THREADS=1, or threadpoolctl.threadpool_limits(1)")


def _threads() -> int:
    """How many BLAS has, as threadpoolctl tells; without it, as the environment wants, or several."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return threads_wanted() or 2
    return max((pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), default=1)
