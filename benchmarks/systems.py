"""BLEU of the systems that NMT's choices make, trained alike on the demo's corpus, by the length of the sentence.

Each has the same sizes, epochs, learning rate and order of the sentences, those of the demo.  Writes systems.csv,
systems.png and systems.svg to --out: without attention the translation of a long sentence has to come out of one
vector.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from scratchnmt.cli.demo import CHOICES as DEMO
from scratchnmt.cli.demo import write_corpus
from scratchnmt.cli.prepare import prepare
from scratchnmt.data.toy import ToyCorpus, toy_corpus
from scratchnmt.errors import InputError, require
from scratchnmt.files.run_folder import RunFolder
from scratchnmt.metrics import corpus_bleu
from scratchnmt.models.config import PRESETS
from scratchnmt.training import train
from scratchnmt.translate import Translator

from . import measure, rows
from .pictures import picture, style

SYSTEMS = {
    "general, output fed: CS224N": {},
    "dot": {"score": "dot"},
    "concat": {"score": "concat"},
    "location": {"score": "location"},
    "local-m, 2 tokens on each side": {"attention": "local-m", "window": 2},
    "local-p, 2 tokens on each side": {"attention": "local-p", "window": 2},
    "the previous state asks: Bahdanau": PRESETS["bahdanau"],
    "context fed": {"feed": "context"},
    "context fed, state read": PRESETS["context-feeding"],
    "nothing fed": {"feed": "none"},
    "one direction, reversed: Luong, one layer": PRESETS["luong"] | {"layers": 1},
    "no attention": {"score": "none", "feed": "none", "readout": "state"},
    "no attention, start fed: Cho": PRESETS["cho"],
    "no attention, one direction": PRESETS["sutskever"] | {"layers": 1, "reverse_source": False},
    "no attention, one direction, reversed: Sutskever, one layer": PRESETS["sutskever"] | {"layers": 1},
}
SHOWN = ("general, output fed: CS224N", "context fed, state read", "no attention, start fed: Cho",
         "no attention", "no attention, one direction", "no attention, one direction, reversed: Sutskever, one layer")
LENGTHS = ((3, 4), (5, 5), (6, 6), (7, 7), (8, 8), (9, 9), (10, 10), (11, 11), (12, 99))  # words of the source
WHOLE = "all"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--system", action="append", metavar="NAME", help=f"repeatable (default: {'; '.join(SYSTEMS)})")
    parser.add_argument("--epochs", type=int, default=5, help="(default 5)")
    parser.add_argument("--train", type=int, default=10_000, help="sentences to train on (default 10000)")
    parser.add_argument("--test", type=int, default=3000, help="sentences to translate (default 3000)")
    parser.add_argument("--hidden", type=int, default=128, help="E = H (default 128)")


def run(options: argparse.Namespace) -> int:
    print(measure.machine(options.threads, options.device))
    names = options.system or list(SYSTEMS)
    for name in names:
        if name not in SYSTEMS:
            raise InputError(f"no system is called {name!r}: expected one of {'; '.join(SYSTEMS)}")
    corpus = toy_corpus(train=options.train, valid=300, test=options.test)
    by_system = {}
    for name in names:
        start = time.perf_counter()
        by_system[name] = by_length(trained(SYSTEMS[name], corpus, options), corpus)
        print(f"{name}: BLEU {by_system[name][WHOLE][1]:.1f}, {time.perf_counter() - start:.0f} s", flush=True)
    lengths = [length for length in map(label, LENGTHS) if any(length in scores for scores in by_system.values())]
    measure.print_table(["BLEU by words of the source", WHOLE, *lengths], [
        [name, *(f"{scores[length][1]:.1f}" if length in scores else "-" for length in (WHOLE, *lengths))]
        for name, scores in by_system.items()])
    folder = Path(options.out or rows.RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    write(by_system, folder / "systems.csv", options.epochs)
    draw(by_system, [folder / "systems.png", folder / "systems.svg"], options.epochs)
    return 0


def trained(choices: Mapping[str, object], corpus: ToyCorpus, options: argparse.Namespace) -> Translator:
    """The best model of a run, as `scratchnmt train` makes it."""
    with tempfile.TemporaryDirectory() as folder:
        files = write_corpus(Path(folder), corpus)
        sizes = {"embed_size": options.hidden, "hidden_size": options.hidden, "max_epochs": options.epochs}
        one_thread = require("threadpoolctl", extra="train").threadpool_limits(1, user_api="blas")
        with one_thread, RunFolder(f"{folder}/run") as run:
            ready = prepare(run, {**files, **DEMO, **sizes, **choices})
            train(ready.model, ready.data, ready.options, run)
        return Translator.load(f"{folder}/run")


def by_length(translator: Translator, corpus: ToyCorpus) -> dict[str, tuple[int, float]]:
    """Length -> how many sentences, and their BLEU by beam search."""
    results = translator.translate(corpus.test.src)
    chosen = {WHOLE: range(len(results))}
    for low, high in LENGTHS:
        own = [i for i, line in enumerate(corpus.test.src) if low <= len(line.split()) <= high]
        if own:
            chosen[label((low, high))] = own
    return {length: (len(own), corpus_bleu([results[i] for i in own], [corpus.test.tgt[i] for i in own]).score)
            for length, own in chosen.items()}


def label(lengths: tuple[int, int]) -> str:
    low, high = lengths
    return str(low) if low == high else f"{low}-{high}" if high < 99 else f"{low}+"


def write(by_system: Mapping[str, Mapping[str, tuple[int, float]]], path: Path, epochs: int) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["system", "epochs", "words", "sentences", "bleu"])
        writer.writerows([name, epochs, length, count, round(bleu, 2)] for name, scores in by_system.items()
                         for length, (count, bleu) in scores.items())


def draw(by_system: Mapping[str, Mapping[str, tuple[int, float]]], paths: Sequence[Path], epochs: int) -> None:
    """BLEU against the length, a line for each of SHOWN."""
    require("matplotlib", extra="train").use("Agg")
    with picture(paths) as (place, *_):
        for k, name in enumerate([name for name in SHOWN if name in by_system] or by_system):
            points = [(i, by_system[name][label(l)][1]) for i, l in enumerate(LENGTHS) if label(l) in by_system[name]]
            place.plot(*zip(*points, strict=True), label=name, **style(k))
        place.set_xticks(range(len(LENGTHS)), list(map(label, LENGTHS)))
        place.set_xlabel("words of the English sentence")
        place.set_ylabel(f"BLEU after {epochs} epochs")
        place.legend(frameon=False, fontsize=7, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
