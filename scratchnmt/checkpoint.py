"""Models in folders: saved, loaded one by one or to search together, and the mean of their weights.

What a folder holds is in files/run_folder.py.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .arrays import put
from .data.vocab import Vocabulary
from .errors import InputError, WriteError
from .files.atomic import AnyPath, replace_folder
from .files.run_folder import COVERAGE, Run, RunFolder
from .models.nmt import NMT
from .search import Ensemble

# of a folder that may be ours to write in, while the one that it lies in is not, or is on another disk
_NOT_REPLACED = (errno.EACCES, errno.EPERM, errno.EBUSY, errno.EXDEV)


class LoadedModel(NamedTuple):
    """A model that can translate."""

    model: NMT
    src_vocab: Vocabulary
    tgt_vocab: Vocabulary


class LoadedModels(NamedTuple):
    """As `LoadedModel`, of one folder or of several."""

    model: NMT | Ensemble
    src_vocab: Vocabulary
    tgt_vocab: Vocabulary


def save_model(folder: AnyPath, model: NMT, src_vocab: Vocabulary, tgt_vocab: Vocabulary, *,
               overwrite: bool = False, data: dict[str, Any] | None = None) -> None:
    """Write a model that can be loaded for translating, without a training run.

    data: what config.json tells of where the model comes from.  Raises InputError if the folder holds a run or a
    model, unless `overwrite`: then that is removed once the new model is whole on the disk.
    """
    with RunFolder(folder, overwrite=overwrite) as opened:
        opened.replace_model(model, src_vocab, tgt_vocab, data)


def save_new_model(out: AnyPath, model: NMT, src_vocab: Vocabulary, tgt_vocab: Vocabulary,
                   data: dict[str, Any] | None = None) -> None:
    """The same in a folder that is new or empty: it is there as a whole or not at all.  InputError if it cannot be."""
    there = os.path.exists(out)
    try:
        with replace_folder(out) as new:
            save_model(new, model, src_vocab, tgt_vocab, data=data)
    except WriteError as error:
        if not there or getattr(error.__cause__, "errno", None) not in _NOT_REPLACED:
            raise
        raise WriteError(f"{error}: a whole folder is put into its place; give one that is not there") from error


def load_model(folder: AnyPath, device: str = "cpu", *, dtype: str | None = None, **computing: Any) -> LoadedModel:
    """The model of a run's folder with its vocabularies; unpacks as model, src_vocab, tgt_vocab.

    dtype: of the weights, if not as they are saved; computing: kernels and matmul, as NMT takes them.

    Raises InputError if the folder or a part of it is missing, damaged, or of a newer version.
    """
    return _model_of(folder, RunFolder(folder).read(), device, dtype=dtype, **computing)


def _model_of(folder: AnyPath, run: Run, device: str = "cpu", *, dtype: str | None = None,
              **computing: Any) -> LoadedModel:
    """The same of a folder that was read: another model may have taken its place, whose weights are refused."""
    tensors = RunFolder(folder).read_weights(run)
    model = NMT(**run.config.to_dict(), dtype=dtype or run.dtype, device=device, seed=None, **computing)
    for name, tensor in tensors.items():
        put(f"{folder}: {name}", tensor, model.params[name])
    return LoadedModel(model, run.src_vocab, run.tgt_vocab)


def load_models(folders: Sequence[AnyPath], device: str = "cpu", **computing: Any) -> LoadedModels:
    """The model of the one folder, or an `Ensemble` of several, with their vocabularies; arguments as load_model's.

    Raises InputError as load_model does, and naming the file if a vocabulary differs.
    """
    if len(folders) == 1:
        return LoadedModels(*load_model(folders[0], device, **computing))
    loaded = load_alike(folders, "models that search together", device=device, **computing)
    return LoadedModels(Ensemble([one.model for one in loaded]), loaded[0].src_vocab, loaded[0].tgt_vocab)


def load_alike(folders: Sequence[AnyPath], who: str, *, beside: Sequence[AnyPath] = (),
               **how: Any) -> list[LoadedModel]:
    """Several models that share their vocabularies, also with those of the folders `beside`; how: as of load_model.

    Raises InputError as load_model does, and naming the file if a vocabulary differs.
    """
    runs = read_alike([*beside, *folders], who)[len(beside):]
    return [_model_of(folder, run, **how) for folder, run in zip(folders, runs, strict=True)]


def average(folders: Sequence[AnyPath], out: AnyPath) -> None:
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
    runs = read_alike(folders, "models whose weights are averaged")
    for folder, run in zip(folders, runs, strict=True):
        _check_configuration(folders[0], runs[0], folder, run)
    model, src_vocab, tgt_vocab = _model_of(folders[0], runs[0])
    total = model.params.flat.astype(np.float64)
    for folder, run in zip(folders[1:], runs[1:], strict=True):
        total += _model_of(folder, run).model.params.flat
    model.params.flat[...] = total / len(folders)
    kept = {COVERAGE: runs[0].data[COVERAGE]} if COVERAGE in runs[0].data else {}
    save_new_model(out, model, src_vocab, tgt_vocab, {"average_of": [str(folder) for folder in folders], **kept})


def read_alike(folders: Sequence[AnyPath], who: str) -> list[Run]:
    """What all tell; InputError, naming the files, unless they have the first one's vocabularies."""
    if not folders:
        raise InputError("no folder of a model is given, expected at least one")
    runs = [RunFolder(folder).read() for folder in folders]
    for (folder, run), side in ((pair, side) for pair in zip(folders, runs, strict=True) for side in ("src", "tgt")):
        (first, right), (name, digest) = runs[0].vocabularies[side], run.vocabularies[side]
        if digest != right:
            raise InputError(f"{Path(folder) / name} is not the same vocabulary as {Path(folders[0]) / first}: "
                             f"{who} must share their vocabularies")
    return runs


def _check_configuration(first: AnyPath, right: Run, folder: AnyPath, run: Run) -> None:
    """InputError, naming the first choice that differs."""
    for name, expected in chain(right.config.to_dict().items(), [("dtype", right.dtype)]):
        value = run.dtype if name == "dtype" else getattr(run.config, name)
        if value != expected:
            raise InputError(f"{name} is {value!r} in {folder} and {expected!r} in {first}: models whose weights are "
                             "averaged must have one configuration")
