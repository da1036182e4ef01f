"""Training and search while another program takes none, one or two of the cores, as a user's browser would.

The other program is a loop in Python for each core, which the system places as it likes, or with --pin on cores of its
own; with --own-session it has a session of its own, as a user's programs have, between which Linux shares out the cores
(autogroup).  A step is of one batch; training takes batches of Multi30k's lengths; search has a beam of 5.  Everybody
takes turns in slices of some seconds.  `report` draws the rows.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle

import numpy as np

from scratchnmt.arrays import keep_freed_memory
from scratchnmt.data.batches import Batch
from scratchnmt.models.nmt import NMT

from . import decode, measure, rows
from .ours import Contestant, multi30k_batches, random_batch, random_sentences
from .peers import enter
from .train import slice_rate

PEERS = ["workers", "torch", "torch-best", "torch-ddp"]
MOST_STEPS, BATCHES = 30, 4  # of a search
LOOP = "import signal; signal.alarm(3600)\nwhile True: pass"  # if nobody is left to end it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", default="8000,256,32,22", metavar="V,H,B,T", help="(default %(default)s)")
    parser.add_argument("--taken", type=int, action="append", metavar="CORES", help="repeatable (default 0, 1 and 2)")
    parser.add_argument("--pin", action="store_true", help="the other program stays on cores of its own")
    parser.add_argument("--own-session", action="store_true", help="the other program has a session of its own")
    parser.add_argument("--seconds", type=float, default=2, help="of a slice (default 2)")
    parser.add_argument("--rounds", type=int, default=3, help="slices of each (default 3)")


def run(options: argparse.Namespace) -> int:
    print(measure.machine(options.threads))
    keep_freed_memory()
    V, H, B, T = measure.sizes("--size", options.size, "V,H,B,T")
    ours = Contestant(NMT(V, V, H, H, dropout=0.2, seed=0))
    step = random_batch(V, V, B, T, T)
    peers = enter(options.peers, ours, options.threads, step)
    contestants = {who.name: who for who in (ours, *peers)}
    work = {
        "a step, tokens": {name: trained(who, [step]) for name, who in contestants.items()},
        "training, tokens": {name: trained(who, multi30k_batches(V, B, 8)) for name, who in contestants.items()},
        "search, sentences": searches(ours, peers, B, T),
    }
    measured = []
    other = " pinned" * options.pin + " apart" * options.own_session
    for what, loops in work.items():
        rates = {taken: under_load(loops, taken, options) for taken in options.taken or (0, 1, 2)}
        measured += [rows.rates(rate, command="busy", what=what, contestant=name, dtype="float32",
                                device=measure.device_name("cpu"),
                                sizes=f"V={V} H={H} B={B} T={T} taken={taken}{other}")
                     for taken, by_name in rates.items() for name, rate in by_name.items()]
        show(what, rates)
    for who in contestants.values():
        who.close()
    rows.save(measured, options)
    return 0


def trained(who, batches: list[Batch]) -> Iterator[int]:
    """Steps for ever; yields the target tokens of each."""
    for batch in cycle(batches):
        who.step(batch)
        yield int(batch.tgt_lengths.sum())


def searches(ours: Contestant, peers: list, B: int, T: int) -> dict[str, Iterator[int]]:
    """A loop for each who can search batches; yields the sentences of each."""
    sentences = random_sentences(np.random.default_rng(0), ours.model.config.src_vocab_size, BATCHES * B, T)
    options = argparse.Namespace(beam=5, max_steps=MOST_STEPS)

    def loop(search: Callable[[], object]) -> Iterator[int]:
        while True:
            search()
            yield len(sentences)

    found = {ours.name: loop(lambda: decode.ours(ours.model, sentences, B, options))}
    for theirs in peers:
        if hasattr(theirs, "search_batches"):
            found[theirs.name] = loop(lambda theirs=theirs: theirs.search_batches(sentences, 5, MOST_STEPS, B))
    return found


def under_load(loops: dict[str, Iterator[int]], taken: int, options: argparse.Namespace) -> dict[str, np.ndarray]:
    """Per second, of each slice, while another program takes so many cores; the first turn is a warm-up."""
    rates: dict[str, list[float]] = {name: [] for name in loops}
    with taking(taken, options.pin, options.own_session):
        for turn in range(options.rounds + 1):
            for name in list(loops)[:: -1 if turn % 2 else 1]:
                time.sleep(measure.REST)
                rate = slice_rate(loops[name], options.seconds if turn else 0.0001)
                if turn:
                    rates[name].append(rate)
    return {name: np.array(rate) for name, rate in rates.items()}


@contextmanager
def taking(count: int, pin: bool, own_session: bool) -> Iterator[None]:
    """Another program on so many cores."""
    others = [subprocess.Popen([sys.executable, "-c", LOOP], start_new_session=own_session)
              for _ in range(count)]
    try:
        if pin:
            cores = sorted(os.sched_getaffinity(0))
            for i, other in enumerate(others):
                os.sched_setaffinity(other.pid, {cores[i % len(cores)]})
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def show(what: str, rates: dict[int, dict[str, np.ndarray]]) -> None:
    """A line for each contestant: its rate and, beside it, its share of what it does undisturbed."""
    first = next(iter(rates.values()))
    middle = {taken: {name: float(np.median(rate)) for name, rate in own.items()} for taken, own in rates.items()}
    print()
    measure.print_table([f"{what} a second", *(f"{taken} cores taken" for taken in rates)], [
        [name, *(f"{own[name]:,.1f}, {100 * own[name] / next(iter(middle.values()))[name]:.0f} %"
                 for own in middle.values())] for name in first])
    for taken, own in middle.items():
        measure.print_headline(own, before=f"{taken} cores taken: ")
