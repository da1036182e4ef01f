"""scratchnmt with R-Drop: each sentence passes twice.  Its dropout drops next to nothing, so that the loss agrees."""

from __future__ import annotations

import scratchnmt
from scratchnmt.arrays import device_of
from scratchnmt.models.nmt import NMT

from .ours import Contestant as Ours


class Contestant(Ours):
    name = "scratchnmt, R-Drop"
    version = scratchnmt.__version__

    def __init__(self, model: NMT, threads: int) -> None:
        flat, config = model.params.flat, model.config.to_dict()
        own = NMT(**config | {"r_drop": 1.0, "dropout": 1e-9}, dtype=str(flat.dtype), device=device_of(flat))
        own.params.flat[...] = flat
        super().__init__(own)
