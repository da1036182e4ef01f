"""Ranks of `mpirun` that have workers each: their Comm, see ranks.py, of which the first worker alone knows MPI."""

from __future__ import annotations

from typing import Any

import numpy as np

from .ranks import Comm
from .team import Team


class _Elsewhere:
    """What another worker alone can talk by."""

    def __init__(self, rank: int, size: int):
        self.rank, self.size = rank, size


class Both:
    """between: how the first workers talk; team: the workers of one of them."""

    def __init__(self, between: Any, team: Team):
        self.between, self.team = between, team
        self.rank = between.rank * team.size + team.rank
        self.size = between.size * team.size

    @property
    def _first(self) -> bool:
        return self.team.rank == 0

    def bcast(self, value: Any) -> Any:
        return self.team.bcast(self.between.bcast(value) if self._first else None)

    def gather(self, value: Any) -> list[Any]:
        values = self.team.gather(value)
        return [one for some in self.between.gather(values) for one in some] if self._first else []

    def allgather(self, value: Any) -> list[Any]:
        values: list[Any] = self.bcast(self.gather(value))
        return values

    def add_up(self, vector: np.ndarray) -> None:
        self.team.add_up(vector)
        if self._first:
            self.between.add_up(vector)
        vector[...] = self.team.bcast(vector if self._first else None)

    def gather_parts(self, vector: np.ndarray, bounds: list[int]) -> None:
        first, size = self.rank - self.team.rank, self.team.size
        self.team.gather_parts(vector, bounds[first : first + size + 1])
        if self._first:
            self.between.gather_parts(vector, bounds[::size])

    def wait(self) -> None:
        self.team.wait()
        if self._first:
            self.between.wait()
        self.team.wait()

    def wait_idly(self) -> None:
        self.team.wait()
        if self._first:
            self.between.wait_idly()
        self.team.wait()

    def of_machine(self) -> Both:
        here = self.between.of_machine() if self._first else None
        rank, size = self.team.bcast((here.rank, here.size) if here else None)
        return Both(here or _Elsewhere(rank, size), self.team)

    def of_machines(self) -> Comm | None:
        return self.between.of_machines() if self._first else None
