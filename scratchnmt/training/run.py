"""One run: what it is given is checked, its folder opened, and it starts or goes on."""

from __future__ import annotations

import traceback
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from ..arrays import device_of
from ..data.batches import Batch
from ..errors import InputError, OutOfMemoryError, require
from ..files.atomic import AnyPath
from ..files.run_folder import MODEL, RunFolder
from ..models.inputs import check_longest
from ..models.nmt import NMT
from ..parallel.ranks import Ranks
from ..parallel.watchdog import remove_marks
from ..parallel.workers import check_workers, in_workers
from ..search.model import check_vocabulary_sizes
from .loop import Trainer
from .plan import TrainingData, TrainingOptions, check_distilled
from .progress import Progress
from .saving import TrainingResult
from .validation import NoPairFitsError

_PACKAGE = Path(__file__).parents[1]


def train(model: NMT, data: TrainingData, options: TrainingOptions, out_dir: AnyPath | RunFolder, *,
          resume: bool = False, overwrite: bool = False, progress: Progress | None = None,
          ranks: Ranks | None = None) -> TrainingResult:
    """Train `model` and write the run to `out_dir`: the best weights, the state, metrics, curves.

    resume: go on with the run in `out_dir`; `model` has the sizes of its config.json, its weights are read.
    overwrite: replace the run in `out_dir`.  With neither, a run there is an InputError.  A `RunFolder` that is open
    tells both itself.  Ctrl-C ends the run after the step at hand and saves; the result says so.  The model ends with
    the last weights, which need not be the best.  Raises NotFiniteError if loss, gradient or weights overflow,
    OutOfMemoryError if memory, the GPU's or the machine's, is too small, WriteError if a save is impossible (the one
    before is then still there), InputError if somebody else trains in `out_dir`, WorkerError if one of several workers
    is gone.  progress: what shows the course of the run, on the first process alone.  ranks: the processes that train
    together, each calling this (see parallel/ranks.py); without them, options.workers are started.
    """
    check_workers(options.workers, device_of(model.params.flat))
    if ranks is None and options.workers > 1:
        return in_workers(lambda ranks: train(model, data, options, out_dir, resume=resume, overwrite=overwrite,
                                              progress=progress, ranks=ranks),
                          options.workers, stopped="training stopped", resume="; resume it")
    ranks = ranks or Ranks()
    for name in ("sacrebleu", "safetensors"):
        require(name, extra="train")
    check_distilled(len(data.distilled), options)
    if options.minimum_risk != "none":
        _check_minimum_risk(model, data, options)
    if data.teachers:
        _check_teachers(model, data)
    for one in (model, *data.teachers):
        if one.config.longest is not None:
            check_longest(np.array([data.train.longest_source()]), one.config.longest)
    with ExitStack() as stack:
        if isinstance(out_dir, RunFolder):
            for name, given in ("resume", resume), ("overwrite", overwrite):
                if given and not getattr(out_dir, name):
                    raise InputError(f"{name} is True, but the RunFolder was opened without: it tells resume and "
                                     "overwrite itself")
            folder = out_dir
        else:
            folder = RunFolder(out_dir, resume=resume, overwrite=overwrite)
            ranks.on_first(lambda: stack.enter_context(folder))
        ranks.on_first(lambda: stack.enter_context(folder.one_run()))
        return _run(model, data, options, folder, progress, ranks)


def _check_minimum_risk(model: NMT, data: TrainingData, options: TrainingOptions) -> None:
    """InputError for what would have no part in it, or change what it measures by."""
    if options.subword_sampling or data.distilled or data.teachers:
        raise InputError(f"minimum_risk {options.minimum_risk!r} measures by the references: train without "
                         "subword_sampling and without a teacher")
    for name in ("label_smoothing", "r_drop"):
        if value := getattr(model.config, name):
            raise InputError(f"{name} of the model is {value}, expected 0: minimum_risk {options.minimum_risk!r} "
                             "trains without the cross-entropy that it is of")


def _check_teachers(model: NMT, data: TrainingData) -> None:
    """InputError if the model cannot learn from them."""
    check_vocabulary_sizes([model, *data.teachers], "a model and its teachers")
    if model.config.r_drop:
        raise InputError(f"r_drop of the model is {model.config.r_drop}, expected 0: the loss with teachers is of one "
                         "pass")


def _run(model: NMT, data: TrainingData, options: TrainingOptions, folder: RunFolder, progress: Progress | None,
         ranks: Ranks) -> TrainingResult:
    trainer = None
    try:
        trainer = Trainer(model, data, options, folder, ranks, progress)
        if ranks.first:
            remove_marks(folder.path, old=0)
        return trainer.run()
    except MemoryError as error:
        kept = trainer.kept() if trainer else "no step was taken" + " since it was resumed" * folder.resume
        raise _out_of_memory(error, options, trainer.batch if trainer else None, kept, folder) from error
    finally:
        if trainer:
            trainer.steps.close()


def _out_of_memory(error: MemoryError, options: TrainingOptions, batch: Batch | None, kept: str,
                   folder: RunFolder) -> OutOfMemoryError:
    """The sentence for a MemoryError of NumPy or CuPy, whose own words tell how much was asked for.

    batch: the one at hand, None before the first; kept: where the run stands and what of it is saved.
    """
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(_PACKAGE)]
    asked = f"{str(error).rstrip('.') or 'no size is told'}, in {frames[-1].name}: {frames[-1].line}"
    if any(frame.name == "write_tensors" for frame in frames):
        remedy = "what is saved does not fit into memory once more: resume it where more memory is free"
    elif any(frame.name == "_validate" for frame in frames):
        what = "no pair of the validation fits" if isinstance(error, NoPairFitsError) else "the validation does not fit"
        remedy = f"{what}: resume it where more memory is free, such as --device cpu"
    elif batch is None and folder.resume:  # with the sizes that it has
        remedy = "weights, gradients and optimizer do not fit: resume it where more memory is free"
    elif batch is None:
        remedy = "lower hidden_size, embed_size or the vocabularies' sizes: weights, gradients and optimizer do not fit"
    else:
        sentences, drawn = len(batch.src_lengths), options.risk_samples if options.minimum_risk != "none" else 0
        longest = f"of up to {batch.src_lengths.max()} and {batch.tgt_lengths.max()} tokens"
        another = ", to which --init-from gives the weights of this one" * folder.keeps(MODEL)
        if drawn >= sentences:  # MinimumRisk has one sentence at hand at a time
            remedy = (f"{drawn} draws for a sentence {longest} do not fit: start another run with a smaller "
                      f"--risk-samples{another}")
        elif sentences == 1:
            remedy = (f"a sentence {longest} alone does not fit: start another run with a smaller --max-length"
                      f"{another}")
        else:
            remedy = (f"resume it with a larger --accumulate, now {options.accumulate}: {sentences} sentences "
                      f"{longest} are computed at a time")
    return OutOfMemoryError(f"out of memory ({asked}); {remedy}; {kept}")
