"""Beam search, sentences per second: in batches and a sentence at a time, each beside the peers that can do it.

With --model and --src it translates a file with a trained model, which is what a user waits for.
Without, the weights and the sentences are random and every search runs to its limit of steps.
Before the clock starts, a peer searches some sentences by our stopping rule and must find the same translations,
unless it is another model; then leave --model out.
PyTorch as people write it is then timed by its own (CS224N's, which narrows the beam and so does less).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, product
from typing import NamedTuple

import numpy as np

from scratchnmt.cli.parser import computing
from scratchnmt.data.batches import make_batch
from scratchnmt.data.text import read_lines
from scratchnmt.errors import InputError
from scratchnmt.models.nmt import NMT
from scratchnmt.parallel.ranks import Ranks
from scratchnmt.search import Hypothesis, beam_search
from scratchnmt.translate import Translator

from . import measure, rows
from .ours import random_sentences
from .peers import begin

PEERS = ["workers", "torch", "torch-best"]
CLOSE = 1e-3  # nats per token between two searches in float32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="DIR", help="a trained model's folder")
    parser.add_argument("--src", metavar="FILE", help="sentences to translate")
    parser.add_argument("--beam", type=int, action="append", help="repeatable (default 5)")
    parser.add_argument("--max-steps", type=int, default=70, help="(default 70)")
    parser.add_argument("--batch-size", type=int, action="append",
                        help="sentences at a time; repeatable (default 64); one at a time is measured as well")
    parser.add_argument("--rounds", type=int, default=5, help="(default 5)")
    parser.add_argument("--sample", type=int, default=60,
                        help="sentences that are translated one at a time in a round (default 60)")
    parser.add_argument("--check", type=int, default=40, help="sentences compared first (default 40)")
    parser.add_argument("--random-size", default="8000,256,200,25", metavar="V,H,N,S",
                        help="without --model: vocabulary, E = H, sentences, their length")


def run(options: argparse.Namespace) -> int:
    print(measure.machine(options.threads, options.device))
    model, sentences = trained(options) if options.model else random(options)
    measured = []
    for beam, batch_size in product(options.beam or [5], options.batch_size or [64]):
        options.beam, options.batch_size = beam, batch_size
        print(f"\n{len(sentences):,} sentences, beam {options.beam}, {options.batch_size} at a time, at most "
              f"{options.max_steps} steps")
        measured += one_beam(model, sentences, options)
    rows.save(measured, options)
    return 0


class Way(NamedTuple):
    """Someone's search of many sentences, so many at a time: search(sentences) -> [(ids, score)], best of each."""

    name: str
    at_a_time: int
    search: Callable[[list[list[int]]], list]

    def __str__(self) -> str:
        return f"{self.name}, {'one' if self.at_a_time == 1 else self.at_a_time} at a time"


def one_beam(model: NMT, sentences: list[list[int]], options: argparse.Namespace) -> list[rows.Row]:
    rng = np.random.default_rng(0)
    counts = dict.fromkeys([options.batch_size, 1])
    ways = [Way("scratchnmt", count, partial(ours, model, count=count, options=options)) for count in counts]
    contestants = []
    for theirs in begin(options.peers, model, options.threads):
        contestants.append(theirs)
        if hasattr(theirs, "loss_and_gradients"):
            check(model, theirs, sample(sentences, options.check, rng), options)
        else:
            print(f"{theirs.name} {theirs.version} is another model of the same sizes: nothing to compare")
        ways += ways_of(theirs, counts, options)
    rates: dict[Way, list[float]] = {way: [] for way in ways}
    for turn in range(-1, options.rounds):
        some = sample(sentences, options.sample, rng)
        for way in ways[:: -1 if turn % 2 else 1]:
            rate = timed(way.search, some if way.at_a_time == 1 else sentences)
            if turn >= 0:
                rates[way].append(rate)
    for theirs in contestants:
        theirs.close()
    for count in counts:
        shown = {way.name: np.array(rate) for way, rate in rates.items() if way.at_a_time == count}
        middle = {name: float(np.median(rate)) for name, rate in shown.items()}
        measure.print_table(
            [f"{'one' if count == 1 else count} at a time", "sentences/s", "quartiles", "scratchnmt is faster by"],
            [[name, f"{middle[name]:.1f}", measure.spread(rate),
              "" if name == "scratchnmt" else f"{middle['scratchnmt'] / middle[name]:.2f}"]
             for name, rate in shown.items()])
        measure.print_headline(middle)
    sizes = f"V={model.config.tgt_vocab_size} H={model.config.hidden_size} sentences={len(sentences)}"
    return [rows.rates(np.array(rate), command="decode", contestant=way.name, dtype=str(model.params.flat.dtype),
                       what=f"sentences, beam {options.beam}", device=measure.device_name(options.device),
                       sizes=f"{sizes} B={way.at_a_time}")
            for way, rate in rates.items()]


def ways_of(theirs, counts: dict[int, None], options: argparse.Namespace) -> Iterator[Way]:
    """A search of batches in any number, or else of one sentence."""
    if hasattr(theirs, "search_batches"):
        for count in counts:
            yield Way(theirs.name, count, partial(theirs.search_batches, beam_size=options.beam,
                                                  max_steps=options.max_steps, batch_size=count))
    else:
        yield Way(theirs.name, 1, partial(one_by_one, theirs, options=options))


def trained(options: argparse.Namespace) -> tuple[NMT, list[list[int]]]:
    if not options.src:
        raise InputError("--model needs --src, a file of sentences to translate")
    translator = Translator.load(options.model, **computing(vars(options)))
    encoded = map(translator.src_vocab.encode, read_lines(options.src))
    return translator.model, [ids for ids in encoded if ids]


def random(options: argparse.Namespace) -> tuple[NMT, list[list[int]]]:
    V, H, N, S = measure.sizes("--random-size", options.random_size, "V,H,N,S")
    model = NMT(V, V, H, H, dtype="float32", seed=0, **computing(vars(options)))
    # sharper choices, so that two searches seldom meet near-ties; not by way of the recurrent weights, which would
    # magnify rounding from step to step
    for name, factor in (("embed.src", 10), ("embed.tgt", 10), ("vocab.W", 30)):
        model.params[name][...] *= factor
    return model, random_sentences(np.random.default_rng(0), V, N, S)


def ours(model: NMT, sentences: list[list[int]], count: int, options: argparse.Namespace,
         ranks: Ranks | None = None) -> list[Hypothesis]:
    """The best translation of every sentence, in batches of like length; each batch by one of the ranks."""
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    batches = [order[start : start + count] for start in range(0, len(order), count)]

    def search(chosen: list[int]) -> list[Hypothesis]:
        batch = make_batch([sentences[i] for i in chosen], [[] for _ in chosen])
        found = beam_search(model, batch.src, batch.src_lengths, beam_size=options.beam, max_steps=options.max_steps)
        return [hypotheses[0] for hypotheses in found]

    found = (ranks or Ranks()).each(batches, search)
    best = dict(zip(order, chain.from_iterable(found), strict=True))
    return [best[i] for i in range(len(sentences))]


def one_by_one(theirs, sentences: list[list[int]], options: argparse.Namespace, shrink: bool = True) -> list:
    return [theirs.beam_search(ids, options.beam, options.max_steps, shrink)[0] for ids in sentences]


def check(model: NMT, theirs, sentences: list[list[int]], options: argparse.Namespace) -> None:
    """ValueError if the peer's best translation by our rule scores otherwise than ours."""
    same = 0
    if hasattr(theirs, "search_batches"):
        expected = theirs.search_batches(sentences, options.beam, options.max_steps, options.batch_size)
    else:
        expected = one_by_one(theirs, sentences, options, shrink=False)
    found = ours(model, sentences, options.batch_size, options)
    for ids, hypothesis, (value, score) in zip(sentences, found, expected, strict=True):
        same += list(hypothesis.value) == value
        if abs(hypothesis.score - score) > CLOSE * (len(value) + 1):
            raise ValueError(f"{theirs.name} and scratchnmt disagree on {ids}: {score} and {hypothesis.score}")
    print(f"{same} of {len(sentences)} translations are those of {theirs.name} {theirs.version}, "
          f"and all scores (to {CLOSE} a token)")


def sample(sentences: list, count: int, rng: np.random.Generator) -> list:
    return [sentences[i] for i in rng.permutation(len(sentences))[:count]]


def timed(search: Callable[[list], object], sentences: list) -> float:
    """Sentences per second of one search."""
    time.sleep(measure.REST)
    start = time.perf_counter()
    search(sentences)
    return len(sentences) / (time.perf_counter() - start)
