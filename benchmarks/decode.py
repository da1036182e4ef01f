"""Beam search, sentences per second: ours in batches, the peer a sentence at a time.

With --model and --src it translates a file with a trained model, which is what a user waits for.
Without, the weights and the sentences are random and every search runs to its limit of steps.
Before the clock starts, the peer searches some sentences by our stopping rule and must find the same
translations; then it is timed by its own (CS224N's, which narrows the beam and so does less).
"""

from __future__ import annotations

import argparse
import time
from itertools import product

import numpy as np

from scratchnmt.cli.parser import computing
from scratchnmt.data.batches import make_batch
from scratchnmt.data.text import read_lines
from scratchnmt.errors import InputError
from scratchnmt.models.nmt import NMT
from scratchnmt.search import Hypothesis, beam_search
from scratchnmt.translate import Translator

from . import measure, rows
from .ours import random_sentences
from .peers import peer

CLOSE = 1e-3  # nats per token between two searches in float32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="DIR", help="a trained model's folder")
    parser.add_argument("--src", metavar="FILE", help="sentences to translate")
    parser.add_argument("--beam", type=int, action="append", help="repeatable (default 5)")
    parser.add_argument("--max-steps", type=int, default=70, help="(default 70)")
    parser.add_argument("--batch-size", type=int, action="append",
                        help="our sentences at a time; repeatable (default 64)")
    parser.add_argument("--rounds", type=int, default=5, help="(default 5)")
    parser.add_argument("--sample", type=int, default=60,
                        help="sentences that the peer translates in a round (default 60)")
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


def one_beam(model: NMT, sentences: list[list[int]], options: argparse.Namespace) -> list[rows.Row]:
    rng = np.random.default_rng(0)
    rates: dict[str, list[float]] = {"scratchnmt": []}
    peers = [peer(name).Contestant(model, options.threads) for name in options.peers]
    for theirs in peers:
        check(model, theirs, sample(sentences, options.check, rng), options)
        rates[theirs.name] = []
    for turn in range(-1, options.rounds):
        some = sample(sentences, options.sample, rng)
        this_turn = {"scratchnmt": timed(ours, model, sentences, options)}
        for theirs in peers:
            this_turn[theirs.name] = timed(one_by_one, theirs, some, options)
        if turn >= 0:
            for name, rate in this_turn.items():
                rates[name].append(rate)
    fastest = np.median(rates["scratchnmt"])
    measure.print_table(
        ["", "sentences/s", "quartiles", "scratchnmt is faster by"],
        [[name, f"{np.median(rate):.1f}", measure.spread(np.array(rate)),
          "" if name == "scratchnmt" else f"{fastest / np.median(rate):.2f}"]
         for name, rate in rates.items()])
    sizes = f"V={model.config.tgt_vocab_size} H={model.config.hidden_size} sentences={len(sentences)}"
    return [rows.rates(np.array(rate), command="decode", contestant=name, dtype=str(model.params.flat.dtype),
                       what=f"sentences, beam {options.beam}", device=measure.device_name(options.device),
                       sizes=f"{sizes} B={options.batch_size if name == 'scratchnmt' else 1}")
            for name, rate in rates.items()]


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


def ours(model: NMT, sentences: list[list[int]], options: argparse.Namespace) -> list[Hypothesis]:
    """The best translation of every sentence, in batches of like length."""
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    best: dict[int, Hypothesis] = {}
    for start in range(0, len(order), options.batch_size):
        chosen = order[start : start + options.batch_size]
        batch = make_batch([sentences[i] for i in chosen], [[] for _ in chosen])
        translations = beam_search(model, batch.src, batch.src_lengths, beam_size=options.beam,
                                   max_steps=options.max_steps)
        best.update((i, hypotheses[0]) for i, hypotheses in zip(chosen, translations, strict=True))
    return [best[i] for i in range(len(sentences))]


def one_by_one(theirs, sentences: list[list[int]], options: argparse.Namespace, shrink: bool = True) -> list:
    return [theirs.beam_search(ids, options.beam, options.max_steps, shrink)[0] for ids in sentences]


def check(model: NMT, theirs, sentences: list[list[int]], options: argparse.Namespace) -> None:
    """ValueError if the peer's best translation by our rule scores otherwise than ours."""
    same = 0
    expected = one_by_one(theirs, sentences, options, shrink=False)
    for ids, hypothesis, (value, score) in zip(sentences, ours(model, sentences, options), expected, strict=True):
        same += list(hypothesis.value) == value
        if abs(hypothesis.score - score) > CLOSE * (len(value) + 1):
            raise ValueError(f"{theirs.name} and scratchnmt disagree on {ids}: {score} and {hypothesis.score}")
    print(f"{same} of {len(sentences)} translations are those of {theirs.name} {theirs.version}, "
          f"and all scores (to {CLOSE} a token)")


def sample(sentences: list, count: int, rng: np.random.Generator) -> list:
    return [sentences[i] for i in rng.permutation(len(sentences))[:count]]


def timed(search, contestant, sentences: list, options: argparse.Namespace) -> float:
    """Sentences per second of one search."""
    time.sleep(measure.REST)
    start = time.perf_counter()
    search(contestant, sentences, options)
    return len(sentences) / (time.perf_counter() - start)
