"""scratchnmt train: two text files in, a folder with the trained model out."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np

from ..arrays import device_of, keep_freed_memory
from ..errors import encodable, require
from ..files.run_folder import STATE, RunFolder
from ..metrics import tokenizer_for
from ..parallel.mpi import processes, together, world
from ..parallel.ranks import Ranks
from ..parallel.workers import in_workers
from ..streams import quoted
from ..training import TrainingResult, train
from .choices import DATA_FILES
from .choices import add_arguments as add_arguments  # as every command has it
from .dependent import flag
from .parser import COMPUTING, warn
from .prepare import Prepared, as_typed, prepare, prepare_resumed, text_files

HELP = "train a model on two files of sentences that are translations of each other"
USAGE = """scratchnmt train --train-src FILE --train-tgt FILE --valid-src FILE --valid-tgt FILE
                        --out DIR [options]
       scratchnmt train --train-tsv FILE --valid-tsv FILE [--columns SRC,TGT] --out DIR [options]
       scratchnmt train --out DIR --resume"""
EPILOG = """\
Line n of one file must be the translation of line n of the other.  The text can be raw: the vocabulary of
subwords is learned from it.  Ctrl-C saves and stops; --resume goes on with everything as it was.

examples:
  scratchnmt train --train-src train.en --train-tgt train.de --valid-src val.en --valid-tgt val.de \\
                   --out runs/en-de
  scratchnmt train --out runs/en-de --resume
  scratchnmt train --train-src law.en --train-tgt law.de --valid-src val.en --valid-tgt val.de \\
                   --init-from runs/en-de --out runs/en-de-law
  scratchnmt translate --model runs/en-de --input test.en"""


def run(args: argparse.Namespace) -> int:
    given = {name: value for name, value in vars(args).items() if name not in ("run", "parser")}
    out, resume, overwrite = given.pop("out"), given.pop("resume"), given.pop("overwrite")
    for package in ("sacrebleu", "safetensors", "tqdm", "matplotlib"):
        require(package, extra="train")
    ranks = world()
    command = resume_command(out, ranks.size, given)
    resume_with = f"; resume it with\n  {command}"
    with together(ranks, out, "training stopped on all ranks", resume_with, args.parser.worded):
        ranks.check_alike({"command": "train", "out": out, "resume": resume, "overwrite": overwrite, **given})
        folder = RunFolder(out, resume=resume, overwrite=overwrite)
        with ExitStack() as stack:
            ranks.on_first(lambda: stack.enter_context(folder))
            with ranks.waiting():  # for the disks that text and folders are on
                ready = (prepare_resumed if resume else prepare)(folder, given, ranks)
            if ranks.first:
                print(describe(ready, ranks), flush=True)
                for doubt in ready.doubts:
                    warn(args, doubt)
            result = start(ready, folder, command, ranks)
    return finish(result, ready, command) if ranks.first else 0


def resume_command(out: str, processes: int, given: Mapping[str, Any]) -> str:
    """What goes on with a run as it was computed: that is not noted, as another machine may have other devices."""
    computed = "".join(f" {flag(name)} {given[name]}" for name in COMPUTING if name in given)
    return f"mpirun -n {processes} " * (processes > 1) + f"scratchnmt train --out {quoted(out)} --resume{computed}"


def start(ready: Prepared, folder: RunFolder, command: str, ranks: Ranks | None = None) -> TrainingResult:
    """Train; a second Ctrl-C, which ends at once, tells the command that goes on."""
    keep_freed_memory()
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # a loss that overflows has its own error
            return in_workers(lambda ranks: train(ready.model, ready.data, ready.options, folder, ranks=ranks),
                              ready.options.workers, ranks=ranks, stopped="training stopped",
                              resume=f"; resume it with\n  {command}")
    except KeyboardInterrupt:
        if processes() > 1 or not folder.begun or not folder.keeps(STATE):  # several have their own way to say it
            raise
        raise KeyboardInterrupt(f"stopped; from the last save it goes on with\n  {command}") from None


def describe(ready: Prepared, ranks: Ranks | None = None) -> str:
    """What is about to be trained, on what."""
    data, params = ready.data, ready.model.params
    left_out = data.left_out
    why = f" ({left_out.blank:,} blank and {left_out.too_long:,} too long left out)" if any(left_out) else ""
    tokens, tokenize = data.train.tokens, tokenizer_for(data.valid_references, ready.options.tokenize)
    alpha, on_gpu = ready.options.subword_sampling, device_of(params.flat) != "cpu"
    unknown = [f"{where}{covered[0]} of source and {covered[1]} of target {data.tgt_vocab.UNIT}"
               for where, covered in (("", data.train.coverage), ("in validation ", data.valid.coverage)) if covered]
    lines = [
        ("training", f"{len(data.train):,} sentence pairs{why}, "
                     f"{tokens[0]:,} source and {tokens[1]:,} target tokens"),
        ("distilled", ", ".join(f"{len(text):,} translations by a teacher, for {weight:.0%} of an epoch"
                                for text, weight in zip(data.distilled, ready.options.distill_weights, strict=False))),
        ("teachers", f"{len(data.teachers)}, for {ready.options.teacher_weight:.0%} of the loss" * bool(data.teachers)),
        ("validation", f"{len(data.valid):,} sentence pairs"
                       + f", BLEU with tokenizer {tokenize}" * (tokenize != "13a")),
        ("vocabulary", f"{len(data.src_vocab):,} source and {len(data.tgt_vocab):,} target tokens"
                       + (", joint" if data.src_vocab is data.tgt_vocab else "")),
        ("unknown", ", ".join(unknown)),
        ("sampling", f"subwords anew in each epoch, alpha {alpha:g}" if alpha else ""),
        ("model", f"{params.flat.size:,} weights, {params.flat.dtype}, on {ready.model.computing}"),
        ("start", ready.first_weights),
        ("batches", f"{ready.options.pool} at a time sorted by length" if on_gpu and ready.options.pool > 1 else ""),
        ("workers", _workers(ready, ranks or Ranks())),
    ]
    return "\n".join(f"{name:<12}{text}" for name, text in lines if text)


def _workers(ready: Prepared, ranks: Ranks) -> str:
    """Which processes compute."""
    workers, cores = ready.options.workers, ranks.cores
    here = f"{workers} on {cores} core{'s' * (cores > 1)}"
    return here if ranks.size == 1 else f"{ranks.size} processes by mpirun, {here} each"


def finish(result: TrainingResult, ready: Prepared, command: str) -> int:
    """Say how it ended and what to type next; the exit status."""
    print(result)
    out = quoted(str(result.folder))
    if result.interrupted:
        print(f"\n  {command}")
        return 130
    if result.model_is_there:
        texts = text_files(ready.data.origin)
        src, ref = (as_typed(texts[name]) for name in DATA_FILES[2:])
        tokenize = ready.options.tokenize
        chosen = f" --tokenize {tokenize}" if tokenize not in ("auto", "13a") else ""
        curves = f"learning curves: {encodable(str(result.curves))}\n\n" if result.curves else "\n"
        print(f"{curves}next:\n"
              f"  scratchnmt translate --model {out} --input {src}\n"
              f"  scratchnmt evaluate --model {out} --src {src} --ref {ref}{chosen}")
    return 0
