"""One run: what it is given is checked, its folder locked, and it starts or goes on."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from .. import checkpoint
from ..errors import require
from ..models.inputs import check_longest
from ..models.nmt import NMT
from ..parallel.guard import sweep
from ..parallel.ranks import Ranks
from .data import TrainingData
from .lock import FolderLock
from .loop import Trainer
from .memory import out_of_memory
from .options import TrainingOptions
from .progress import Progress
from .state import TrainingResult


def train(model: NMT, data: TrainingData, options: TrainingOptions, out_dir: str | os.PathLike, *,
          resume: bool = False, overwrite: bool = False, progress: Progress | None = None,
          ranks: Ranks | None = None) -> TrainingResult:
    """Train `model` and write the run to `out_dir`: the best weights, the state, metrics, curves.

    resume: go on with the run in `out_dir`; `model` has the sizes of its config.json, its weights are read.
    overwrite: replace the run in `out_dir`.  With neither, a run there is an InputError.  Ctrl-C ends the
    run after the step at hand and saves; the result says so.  The model ends with the last weights, which
    need not be the best.  Raises NotFiniteError if the loss overflows, OutOfMemoryError if memory, the GPU's or
    the machine's, is too small, WriteError if a save is impossible (the one before is then still there), InputError
    if another process trains in `out_dir`.  ranks: the processes that train together, each calling this (see
    parallel/ranks.py).
    """
    ranks, choice = ranks or Ranks(), {"resume": resume, "overwrite": overwrite}
    ranks.on_first(lambda: checkpoint.check_out_dir(out_dir, **choice))
    for name in ("sacrebleu", "safetensors"):
        require(name, extra="train")
    if model.config.longest is not None:
        for corpus in (data.train, data.valid):
            check_longest(np.array([corpus.longest_source()]), model.config.longest)
    with ExitStack() as stack:
        ranks.on_first(lambda: stack.enter_context(FolderLock(out_dir)))
        ranks.on_first(lambda: checkpoint.check_out_dir(out_dir, **choice))  # once more, now that nobody else is at it
        return _run(model, data, options, out_dir, resume, progress, ranks)


def _run(model: NMT, data: TrainingData, options: TrainingOptions, out_dir: str | os.PathLike, resume: bool,
         progress: Progress | None, ranks: Ranks) -> TrainingResult:
    trainer = None
    try:
        if ranks.first:
            checkpoint.sweep(out_dir)
            sweep(out_dir, old=0)
        trainer = Trainer(model, data, options, Path(out_dir), ranks)
        ranks.check_alike({**model.config.to_dict(), "dtype": str(model.params.flat.dtype),
                           "device": re.sub(r":\d+", "", model.computing), **options.to_dict(), **trainer.plan.texts,
                           "vocabularies": [data.src_vocab.digest(), data.tgt_vocab.digest()]})
        if resume:
            trainer.resume()
        elif ranks.first:
            checkpoint.start_run(out_dir, model, data.src_vocab, data.tgt_vocab, options.to_dict(),
                                 data.origin)
        ranks.wait()  # until the folder is there
        ranks.begin()
        return trainer.run(progress)
    except MemoryError as error:
        batch, kept = (trainer.batch, trainer.kept()) if trainer else (None, "nothing was written")
        raise out_of_memory(error, options, batch, kept) from error
    finally:
        if trainer:
            trainer.steps.close()
