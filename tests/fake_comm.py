"""A communicator as MPI's, for ranks that are threads of one process: what the tests need of it and no more."""

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

from scratchnmt.parallel.ranks import Ranks


class Comm:
    def __init__(self, rank, places, barrier):
        self.rank, self.places, self.barrier = rank, places, barrier

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return len(self.places)

    def Barrier(self):
        self.barrier.wait(10)

    def allgather(self, value):
        self.places[self.rank] = value
        self.Barrier()
        found = list(self.places)
        self.Barrier()
        return found

    def Ibarrier(self):
        self.Barrier()
        return SimpleNamespace(Test=lambda: True)

    def bcast(self, value):
        return self.allgather(value)[0]


def on_ranks(size, work):
    """What `work` returns or raises for the Ranks of each of `size` threads, in order."""
    places, barrier = [None] * size, threading.Barrier(size)

    def one(rank):
        try:
            return work(Ranks(Comm(rank, places, barrier)))
        except Exception as error:  # noqa: BLE001  the test looks at it
            return error

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(one, range(size)))
