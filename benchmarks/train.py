"""Target tokens per second of a training loop on parallel text.

Ours is the loop of scratchnmt.training.  PyTorch's is the usual one of its users: random batches of 32
pairs, each sorted by source length, padded, Adam, clipping; at its best it has our batches (--pool), no padding, and
as torch-ddp several processes.  They start from the same weights and take turns in slices of some seconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scratchnmt.arrays import keep_freed_memory
from scratchnmt.cli.parser import computing
from scratchnmt.data.batches import epoch_batches
from scratchnmt.data.corpus import Corpus
from scratchnmt.data.encode import encode_parallel
from scratchnmt.data.text import read_parallel
from scratchnmt.data.vocab import SentencePieceVocabulary, WordVocabulary
from scratchnmt.models.nmt import NMT

from . import measure, rows
from .ours import Contestant
from .peers import enter

PEERS = ["workers", "torch", "torch-best", "torch-ddp"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--train-src", required=True, metavar="FILE")
    parser.add_argument("--train-tgt", required=True, metavar="FILE")
    parser.add_argument("--vocab", choices=["bpe", "unigram", "word"], default="bpe", help="(default bpe)")
    parser.add_argument("--vocab-size", type=int, default=8000, help="of each side (default 8000)")
    parser.add_argument("--max-length", type=int, default=100, help="in tokens; longer pairs are left out")
    parser.add_argument("--hidden", type=int, default=256, help="E = H (default 256)")
    parser.add_argument("--batch-size", type=int, default=32, help="sentences (default 32)")
    parser.add_argument("--pool", type=int, default=1,
                        help="batches among which lengths are sorted, of all but torch (default 1)")
    parser.add_argument("--dropout", type=float, default=0.2, help="(default 0.2)")
    parser.add_argument("--seconds", type=float, default=10, help="of a slice (default 10)")
    parser.add_argument("--slices", type=int, default=6, help="of each contestant (default 6)")


def run(options: argparse.Namespace) -> int:
    print(measure.machine(options.threads, options.device))
    keep_freed_memory()  # as `scratchnmt train` does; PyTorch's steps profit too
    examples, sizes = read(options)
    model = NMT(*sizes, options.hidden, options.hidden, dropout=options.dropout, dtype="float32", seed=0,
                **computing(vars(options)))
    tokens = examples.lengths()[:, 1]
    print(f"{len(examples):,} pairs, vocabularies {sizes[0]:,} and {sizes[1]:,}, E = H = {options.hidden}, "
          f"batches of {options.batch_size}, {tokens.mean():.1f} target tokens a sentence")
    ours = Contestant(model)
    loops = {"scratchnmt": epochs(ours, examples, options.batch_size, options.pool)}
    batch = examples.batch(range(min(options.batch_size, len(examples))))
    contestants = enter(options.peers, ours, options.threads, batch)
    for theirs in contestants:
        own = getattr(theirs, "epochs", None)
        loops[theirs.name] = (own(*map(list, zip(*examples, strict=True)), options.batch_size) if own
                              else epochs(theirs, examples, options.batch_size, options.pool))
    rates = alternate_slices(loops, options.seconds, options.slices)
    for theirs in contestants:
        theirs.close()
    what = f"training, {Path(options.train_src).name}"
    rows.save([rows.rates(rate, command="train", what=what, contestant=name, dtype="float32",
                                   device=measure.device_name(options.device),
                                   sizes=f"V={sizes[1]} H={options.hidden} B={options.batch_size}")
                        for name, rate in rates.items()], options)
    middle = {name: float(np.median(rate)) for name, rate in rates.items()}
    measure.print_table(
        ["", "target tokens/s", "quartiles", "scratchnmt is faster by"],
        [[name, f"{middle[name]:,.0f}", measure.spread(rate),
          "" if name == "scratchnmt" else f"{middle['scratchnmt'] / middle[name]:.2f}"]
         for name, rate in rates.items()])
    measure.print_headline(middle)
    return 0


def read(options: argparse.Namespace) -> tuple[Corpus, tuple[int, int]]:
    """The encoded text and the sizes of the two vocabularies, which are learnt from it."""
    sides = read_parallel(options.train_src, options.train_tgt)
    if options.vocab == "word":
        vocabs = [WordVocabulary.build(lines, size=options.vocab_size) for lines in sides]
    else:
        vocabs = [SentencePieceVocabulary.train(lines, options.vocab_size, options.vocab) for lines in sides]
    examples, _ = encode_parallel(*sides, *vocabs, max_length=options.max_length)
    return examples, (len(vocabs[0]), len(vocabs[1]))


def epochs(contestant, examples: Corpus, batch_size: int, pool: int, seed: int = 0) -> Iterator[int]:
    """Our loop, for ever; yields the target tokens of every step."""
    rng = np.random.default_rng(seed)
    lengths = examples.lengths()
    while True:
        for indices in epoch_batches(lengths, batch_size, "sentences", rng, pool):
            batch = examples.batch(indices)
            contestant.step(batch)
            yield int(batch.tgt_lengths.sum())


def alternate_slices(loops: dict[str, Iterator[int]], seconds: float, slices: int) -> dict[str, np.ndarray]:
    """Tokens per second of every slice, (slices,); the first turn of each is a warm-up of ten steps."""
    for loop in loops.values():
        for _ in range(10):
            next(loop)
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for turn in range(slices):
        for name in list(loops)[:: -1 if turn % 2 else 1]:
            time.sleep(measure.REST)
            rates[name].append(slice_rate(loops[name], seconds))  # a GPU is some steps behind at both ends
    return {name: np.array(rate) for name, rate in rates.items()}


def slice_rate(loop: Iterator[int], seconds: float) -> float:
    tokens, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        tokens += next(loop)
    return tokens / passed
