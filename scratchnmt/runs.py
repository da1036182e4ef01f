"""Several runs' folders at once: models that search together, and the mean of their weights."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .checkpoint import Folder, Run, load_model, load_run, save_weights, start_run
from .data.text import flush_to_disk
from .data.vocab import Vocabulary
from .errors import InputError
from .models.nmt import NMT
from .search import Ensemble


class LoadedModels(NamedTuple):
    """As `LoadedModel`, of one folder or of several."""

    model: NMT | Ensemble
    src_vocab: Vocabulary
    tgt_vocab: Vocabulary


def load_models(folders: Sequence[Folder], device: str = "cpu", **computing: Any) -> LoadedModels:
    """The model of the one folder, or an `Ensemble` of several, with their vocabularies; arguments as load_model's.

    Raises InputError as load_model does, and naming the file if a vocabulary differs.
    """
    if len(folders) == 1:
        return LoadedModels(*load_model(folders[0], device, **computing))
    _check_alike(folders, [load_run(folder) for folder in folders], "models that search together")
    loaded = [load_model(folder, device, **computing) for folder in folders]
    return LoadedModels(Ensemble([one.model for one in loaded]), loaded[0].src_vocab, loaded[0].tgt_vocab)


def average(folders: Sequence[Folder], out: Folder) -> None:
    """Write a folder whose weights are the mean of the folders' weights, each weight summed in float64.

    The mean is a good model only if all are near each other: states of one training run (Polyak & Juditsky 1992;
    Vaswani et al. 2017, section 6.1, of the last five).  Models that were trained from different first weights have
    their units in different places, and the mean of those is none.

    The new folder is there as a whole or not at all.  Raises InputError, naming what differs, unless all models have
    one configuration, dtype and vocabularies; if `out` exists and is no empty folder; and as load_model does.
    """
    out = Path(out)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"{out} exists already, expected a new or an empty folder for the mean")
    runs = [load_run(folder) for folder in folders]
    _check_alike(folders, runs, "models whose weights are averaged")
    for folder, run in zip(folders, runs, strict=True):
        _check_configuration(folders[0], runs[0], folder, run)
    model, src_vocab, tgt_vocab = load_model(folders[0])
    total = model.params.flat.astype(np.float64)
    for folder in folders[1:]:
        total += load_model(folder).model.params.flat
    model.params.flat[...] = total / len(folders)
    write_whole(out, model, src_vocab, tgt_vocab, {"average_of": [str(folder) for folder in folders]})


def _check_alike(folders: Sequence[Folder], runs: Sequence[Run], who: str) -> None:
    """InputError, naming the files, unless all have the first one's vocabularies."""
    if not folders:
        raise InputError("no folder of a model is given, expected at least one")
    for (folder, run), side in ((pair, side) for pair in zip(folders, runs, strict=True) for side in ("src", "tgt")):
        (first, right), (name, found) = runs[0].vocabularies[side], run.vocabularies[side]
        if found != right:
            raise InputError(f"{Path(folder) / name} is not the same vocabulary as {Path(folders[0]) / first}: "
                             f"{who} must share their vocabularies")


def _check_configuration(first: Folder, right: Run, folder: Folder, run: Run) -> None:
    """InputError, naming the first choice that differs."""
    for name, expected in chain(right.config.to_dict().items(), [("dtype", right.dtype)]):
        found = run.dtype if name == "dtype" else getattr(run.config, name)
        if found != expected:
            raise InputError(f"{name} is {found!r} in {folder} and {expected!r} in {first}: models whose weights are "
                             "averaged must have one configuration")


def write_whole(out: Folder, model: Any, src_vocab: Any, tgt_vocab: Any, data: dict[str, Any] | None = None) -> None:
    """A model's folder, new or in the place of an empty one: there as a whole or not at all.

    All files are written in a folder beside, which then takes its name.  InputError if that cannot be.
    """
    out = Path(out).resolve()
    beside = out.with_name(f".{out.name}.tmp")
    try:
        shutil.rmtree(beside, ignore_errors=True)  # of a process that was killed
        start_run(beside, model, src_vocab, tgt_vocab, data=data)
        save_weights(beside, model.params)
        if out.is_dir():
            out.rmdir()  # an empty one, or this fails
        beside.replace(out)
        flush_to_disk(out.parent)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
