"""scratchnmt by several workers of one thread, as many as the others have threads; on the CPU."""

from __future__ import annotations

import scratchnmt
from scratchnmt.models.nmt import NMT

from .ours import WorkersContestant

CPU_ALONE = True


class Contestant(WorkersContestant):
    version = scratchnmt.__version__

    def __init__(self, model: NMT, threads: int) -> None:
        own = NMT(**model.config.to_dict(), dtype=str(model.params.flat.dtype))
        own.params.flat[...] = model.params.flat
        super().__init__(own, threads)
