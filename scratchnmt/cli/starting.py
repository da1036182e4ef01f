"""What a new run starts from besides its seed and its text: another model, or pretrained embeddings."""

from __future__ import annotations

import os
from typing import Any

from ..arrays import to_device_of
from ..data.columns import Column
from ..data.embeddings import read_embeddings
from ..data.text import TextPath
from ..data.vocab import Vocabulary
from ..errors import InputError
from ..files.run_folder import MODEL as WEIGHTS
from ..files.run_folder import Run, RunFolder
from ..models.nmt import NMT
from ..streams import quoted
from ..training.resuming import goes_with
from .choices import FIRST, MODEL
from .dependent import flag


def started_from(given: dict[str, Any]) -> dict[str, str]:
    """The files and folders among the choices that a run starts from, as they are found from anywhere."""
    return {name: os.path.abspath(given[name]) for name in FIRST if given.get(name) is not None}


def as_typed(path: TextPath) -> str:
    """As one would type it: relative if it is below the present folder, quoted if need be; a column cut out."""
    relative = os.path.relpath(path)
    name = os.fspath(path) if relative.startswith("..") else relative
    return f"<({Column(name, path.name).command()})" if isinstance(path, Column) else quoted(name)


def check_begun(folder: RunFolder, first: dict[str, str], given: dict[str, Any]) -> Run:
    """The run whose weights a new one starts with; InputError for a choice that these do not allow."""
    if os.path.realpath(first["init_from"]) == os.path.realpath(folder.path):
        raise InputError(f"--init-from {folder} is the folder of the new run itself: choose another --out")
    begun = RunFolder(first["init_from"])
    run = begun.read()
    begun.check_room(WEIGHTS, run)
    before = {**run.config.to_dict(), "dtype": run.dtype}
    for name in MODEL:
        if not goes_with(name) and given.get(name, before[name]) != before[name]:
            raise InputError(f"{flag(name)} is {given[name]}, but the model in {first['init_from']} has "
                             f"{before[name]}: leave it out, or start without --init-from")
    return run


def choices_of(run: Run, given: dict[str, Any]) -> dict[str, Any]:
    """Those of a run's model, but for what is given."""
    return {name: given.get(name, value) for name, value in {**run.config.to_dict(), "dtype": run.dtype}.items()
            if name in MODEL}


def set_first_weights(model: NMT, first: dict[str, Any], src_vocab: Vocabulary, tgt_vocab: Vocabulary) -> str:
    """Put the weights of another model, or pretrained embeddings, in the place of those from the seed; what they are.

    first: the choices that say from where, which may be among others.
    """
    told = []
    if path := first.get("init_from"):
        folder = RunFolder(path)
        run = folder.read()
        digests = [vocabulary.digest() for vocabulary in (run.src_vocab, run.tgt_vocab)]
        if run.config.shapes() != model.config.shapes() or digests != [src_vocab.digest(), tgt_vocab.digest()]:
            raise InputError(f"{path} holds another model than when it was read first: start the run again")
        for name, tensor in folder.read_weights(run).items():
            model.params[name][...] = to_device_of(tensor, model.params.flat)
        told.append(f"with the weights of {as_typed(path)}")
    for side, name, vocabulary in (("src", "source", src_vocab), ("tgt", "target", tgt_vocab)):
        if path := first.get(f"{side}_embeddings"):
            ids, vectors = read_embeddings(path, vocabulary, model.config.embed_size)
            table = model.params[f"embed.{side}"]
            table[to_device_of(ids, table)] = to_device_of(vectors.astype(table.dtype), table)
            told.append(f"with {len(ids):,} of {len(vocabulary):,} {name} embeddings from "
                        f"{as_typed(path)}")
    return ", ".join(told)
