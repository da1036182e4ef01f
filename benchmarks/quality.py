"""Perplexity and BLEU on real text of training recipes, each trained with several seeds.

A run is a `scratchnmt train` in a folder of its own below --out, resumed if it was stopped, then a `scratchnmt
evaluate` on the validation text, beam 5, by which recipes are chosen; --test scores test sets, for what was chosen.  A
finished run is a row of --rows and is not repeated.  Tables are made of the rows: without --data nothing is run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import scratchnmt
from scratchnmt.errors import InputError, require
from scratchnmt.files.atomic import write_atomically
from scratchnmt.files.run_folder import CONFIG, METRICS

from . import measure, rows

RUNS = "runs/quality"
OUT = f"folder of the runs (default {RUNS})"
ROWS = rows.RESULTS / "quality.jsonl"
BEGIN, END = "<!-- python -m benchmarks quality --page -->\n", "<!-- end -->\n"
PAPERS = ("BLEU", "BLEU, lower-cased Moses tokens")  # of what `evaluate --paper` has, what a table shows

# the base; of a recipe that goes on from another's model, by --init-from, TRAINING alone
MODEL = "--vocab-size 5000 --tie-embeddings"
TRAINING = ("--label-smoothing 0.1 --dropout 0.4 --embed-dropout 0.3 --batch-size 64 --pool 100 --learning-rate 0.002 "
            "--schedule linear --warmup 400 --average 0.9 --patience 0 --metric bleu")
RECIPES = {  # what differs; of other recipes that it names, A+B, the runs of the same epochs are meant
    "base": "",
    "word-dropout": "--word-dropout 0.1",
    "recurrent-dropout": "--recurrent-dropout 0.2",
    "encoder-dropout": "--encoder-dropout 0.3",
    "layer-norm": "--cell layer-norm-lstm",
    "r-drop-1": "--r-drop 1",
    "r-drop-5": "--r-drop 5",
    "subword-sampling": "--subword-sampling 0.2",
    "heads-4": "--attention multi-head --heads 4",
    "pool-1": "--pool 1",
    "pool-1-size-384": "--pool 1 --embed-size 384 --hidden-size 384",
    "pool-1-size-384-heads-4": "--pool 1 --embed-size 384 --hidden-size 384 --attention multi-head --heads 4",
    "pool-1-size-384-encoder-dropout": "--pool 1 --embed-size 384 --hidden-size 384 --encoder-dropout 0.3",
    "pool-1-size-384-heads-4-encoder-dropout": "--pool 1 --embed-size 384 --hidden-size 384 --attention multi-head "
                                               "--heads 4 --encoder-dropout 0.3",
    "pool-1-size-384-distill": "--pool 1 --embed-size 384 --hidden-size 384 "
                               "--distill pool-1-size-384-heads-4+pool-1-size-384-encoder-dropout --distill-weight 0.5",
    "pool-1-size-512-heads-4": "--pool 1 --embed-size 512 --hidden-size 512 --attention multi-head --heads 4",
    "pool-1-size-512-heads-4-dropout": "--pool 1 --embed-size 512 --hidden-size 512 --attention multi-head --heads 4 "
                                       "--dropout 0.5 --embed-dropout 0.4",
    "minimum-risk": "--init-from base --minimum-risk bleu --risk-samples 5 --label-smoothing 0 --learning-rate 0.0002 "
                    "--warmup 50 --max-epochs 1",
}


def options_of(text: str) -> dict[str, str]:
    """"--a 1 --b" as {"--a": "1", "--b": ""}."""
    return dict(re.findall(r"(--[\w-]+) ?((?!--)\S*)", text))


class Run(NamedTuple):
    """One training, or an ensemble of several; what makes two rows the same measurement."""

    text: str  # "multi30k": the name of the folder that it is in
    pair: str  # "en-de"
    recipe: str
    epochs: int
    seed: int | str  # "0+1+2": the models of these seeds together
    options: str  # of `scratchnmt train`, but for the files, the seed and, unless the recipe has its own, the epochs

    @classmethod
    def of(cls, text: str, pair: str, recipe: str, epochs: int, seed: int | str) -> Run:
        changed = options_of(RECIPES[recipe])
        chosen = ({} if "--init-from" in changed else options_of(MODEL)) | options_of(TRAINING) | changed
        options = " ".join(f"{name} {value}".strip() for name, value in chosen.items())
        return cls(text, pair, recipe, epochs, seed, options)

    def named_by(self, option: str, seed: int | str) -> list[Run]:
        """The runs of other recipes, "A+B", that an option names."""
        recipes = options_of(self.options).get(option, "").split("+")
        return [Run.of(self.text, self.pair, recipe, self.epochs, seed) for recipe in recipes if recipe]

    @property
    def first(self) -> list[Run]:
        """The one whose model it goes on from; none if it does not."""
        return self.named_by("--init-from", self.seed)

    @property
    def teachers(self) -> list[Run]:
        """Those whose translations it learns from, of seed 0 whatever its own seed; none if it does not."""
        return self.named_by("--distill", 0)

    @property
    def members(self) -> list[Run]:
        """Itself, or those of an ensemble."""
        return [self._replace(seed=int(seed)) for seed in str(self.seed).split("+")]

    def folder(self, out: Path) -> Path:
        return out / f"{self.text}-{self.pair}-{self.recipe}-{self.epochs}-{self.seed}"

    def distilled(self, out: Path) -> Path:
        """What its teachers make of the training text; of all who have the same teachers."""
        recipes = "+".join(teacher.recipe for teacher in self.teachers)
        return out / f"{self.text}-{self.pair}-{recipes}-{self.epochs}-0.{self.pair.partition('-')[2]}"

    def command(self, data: Path, out: Path) -> list[str]:
        """The arguments of `scratchnmt` that begin it, or go on with it; then it refuses another text or recipe."""
        folder = self.folder(out)
        files = [part for which, name in (("train", "train"), ("valid", "val"))
                 for side, path in zip(("src", "tgt"), texts(data, name, self.pair), strict=True)
                 for part in (f"--{which}-{side}", str(path))]
        options = options_of(self.options)
        for first in self.first:
            options["--init-from"] = str(first.folder(out))
        if self.teachers:
            options["--distill"] = str(self.distilled(out))
        options = {"--max-epochs": str(self.epochs), "--seed": str(self.seed), "--out": str(folder)} | options
        return ["train", *files, *(part for option in options.items() for part in option if part),
                *["--resume"] * (folder / CONFIG).exists()]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="DIR", help="train, val and test sets: DIR/train.en.gz, DIR/val.de, ...")
    parser.add_argument("--pair", default="en-de", metavar="SRC-TGT", help="languages (default en-de)")
    parser.add_argument("--recipes", type=_listed, default=list(RECIPES), metavar="NAME,...",
                        help=f"of {', '.join(RECIPES)} (default: all)")
    parser.add_argument("--epochs", type=int, default=8, metavar="N", help="(default 8, which screens)")
    parser.add_argument("--seeds", type=_listed, default=["0", "1"], metavar="N,...", help="(default 0,1)")
    parser.add_argument("--ensemble", action="store_true", help="score the models of all the seeds together, too")
    parser.add_argument("--test", type=_listed, default=[], metavar="NAME,...",
                        help="test sets to score, too, such as test_2016_flickr")
    parser.add_argument("--rows", type=Path, metavar="FILE", help=f"(default {ROWS.name} among the runs, of one's own "
                        "text; without --data that of the results)")
    parser.add_argument("--page", type=Path, metavar="FILE", help="put the tables into this page, such as "
                        "docs/quality.md, in the place of those that it has")


def _listed(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def run(options: argparse.Namespace) -> int:
    """Exit status 1 if a run has failed, 130 after Ctrl-C."""
    wanted, status = runs(options), 0
    options.rows = options.rows or (Path(options.out or RUNS) / ROWS.name if options.data else ROWS)
    try:
        if options.data:
            status = int(not all([finished(one, options) for one in wanted]))
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        status = 130
    made = "\n".join(tables(read(options.rows)))
    print(made)
    if options.page:
        put(made, options.page)
    return status


def runs(options: argparse.Namespace) -> list[Run]:
    """Those that are asked for, seed by seed, so that each recipe soon has a row; InputError for what there is not."""
    for name in options.recipes:
        if name not in RECIPES:
            raise InputError(f"no recipe is called {name!r}: expected some of {', '.join(RECIPES)}")
    if wrong := [seed for seed in options.seeds if not seed.isdecimal()]:
        raise InputError(f"--seeds has {wrong[0]!r}, expected whole numbers, such as 0,1")
    if not re.fullmatch(r"\w+-\w+", options.pair):
        raise InputError(f"--pair is {options.pair!r}, expected two languages, such as en-de")
    if options.ensemble and len(options.seeds) < 2:
        raise InputError("--ensemble is of several models: expected several --seeds, such as 0,1,2,3")
    if options.data:
        for name in ("train", "val", *options.test):
            texts(Path(options.data), name, options.pair)
        if options.test:
            require("sacremoses", extra="paper")  # before hours of training, not after them
    seeds = [*map(int, options.seeds), *["+".join(options.seeds)] * options.ensemble]
    text = Path(os.path.abspath(options.data or "")).name
    return [Run.of(text, options.pair, recipe, options.epochs, seed) for seed in seeds for recipe in options.recipes]


def texts(data: Path, name: str, pair: str) -> tuple[Path, Path]:
    """The two files of a text, packed or not."""
    def text(language: str) -> Path:
        for end in ("", ".gz", ".xz", ".bz2"):
            if (path := data / f"{name}.{language}{end}").exists():
                return path
        raise InputError(f"--data {data} has no {name}.{language}, plain or packed (.gz)")

    src, tgt = map(text, pair.split("-"))
    return src, tgt


def finished(one: Run, options: argparse.Namespace) -> bool:
    """Whether the run has its row in the end: trained, scored and written down unless it had."""
    row = read(options.rows).get(one, {})
    if row and not set(options.test) - set(row["tests"]):
        return True
    print(f"\n{one.folder(Path())}: {RECIPES[one.recipe] or 'the base'}", flush=True)
    try:
        made = measured(one, sorted({*options.test, *row.get("tests", ())}), options)
    except subprocess.CalledProcessError:  # the command has told why
        return False
    table = read(options.rows) | {one: made}  # another process may have added some meanwhile
    options.rows.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.rows, "".join(f"{json.dumps(row)}\n" for row in table.values()).encode())
    return True


def measured(one: Run, tests: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Train and score; the row."""
    data, out = Path(options.data), Path(options.out or RUNS)
    folders = [member.folder(out) for member in one.members]
    workers = options.threads if options.device == "cpu" else 1
    computing = ["--device", options.device, "--workers", str(workers)]
    if options.device != "cpu":
        computing += ["--matmul", options.matmul] + (["--kernels", options.kernels] if options.kernels else [])
    for member in one.members:
        train(member, data, out, computing)

    def scores(name: str, *more: str) -> dict[str, Any]:
        src, ref = map(str, texts(data, name, one.pair))
        return json.loads(scratchnmt_command("evaluate", "--model", *map(str, folders), "--src", src, "--ref", ref,
                                             "--json", *more, *computing))

    valid = scores("val")
    of_tests = {name: scores(name, "--paper", "--language", one.pair.split("-")[1]) for name in tests}
    seconds = sum(json.loads((folder / METRICS).read_text(encoding="utf-8").splitlines()[-1])["seconds"]
                  for folder in folders)
    return {**one._asdict(), "perplexity": round(valid["perplexity"], 4), "bleu": round(valid["bleu"], 3),
            "signature": valid["bleu_signature"], "seconds": seconds, "workers": workers,
            "tests": {name: {score["measure"]: {"score": round(score["score"], 3), "signature": score["signature"]}
                             for score in found["paper"]["this model"]} for name, found in of_tests.items()},
            "device": measure.device_name(options.device), "machine": measure.machine_facts(),
            "date": datetime.date.today().isoformat(), "commit": rows.commit(), "scratchnmt": scratchnmt.__version__}


def train(one: Run, data: Path, out: Path, computing: Sequence[str]) -> None:
    """Train, or go on where it was stopped; first those whose models or translations it needs."""
    for other in (*one.first, *one.teachers):
        train(other, data, out, computing)
    text = one.distilled(out)
    if one.teachers and not text.exists():
        models = [str(teacher.folder(out)) for teacher in one.teachers]
        scratchnmt_command("translate", "--model", *models, "--input", str(texts(data, "train", one.pair)[0]),
                           "--output", str(text), *computing)
    scratchnmt_command(*one.command(data, out), *computing)


def scratchnmt_command(*arguments: str) -> str:
    """What a command prints, which is shown, too, if it trains; each of its workers has one thread of BLAS.

    Ctrl-C is for the command, which saves what it has: KeyboardInterrupt when it has ended.  CalledProcessError if it
    failed.
    """
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        done = subprocess.run([sys.executable, "-m", "scratchnmt", *arguments], env=os.environ | one_thread,
                              encoding="utf-8", stdout=None if arguments[0] == "train" else subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, before)
    if done.returncode == 130:
        raise KeyboardInterrupt
    done.check_returncode()
    return done.stdout or ""


Table = dict[Run, dict[str, Any]]


def read(path: Path) -> Table:
    """The rows of a file, by run; none if there is no file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows_read = ({"text": "multi30k"} | row for row in map(json.loads, lines))  # the first rows do not tell
    return {Run(*(row[name] for name in Run._fields)): row for row in rows_read}


def tables(table: Table) -> Iterator[str]:
    """Markdown: a table for each text, pair and number of epochs, of those rows whose recipes are still what they were.
    """
    now = {one: row for one, row in table.items()
           if one.recipe in RECIPES and one == Run.of(*one[:-1])}
    for kind in sorted({(one.text, one.pair, one.epochs) for one in now}):
        yield from _table("{}, {}, {} epochs".format(*kind), [row for one, row in now.items()
                                                              if (one.text, one.pair, one.epochs) == kind])


def _table(title: str, found: list[dict[str, Any]]) -> Iterator[str]:
    tests = sorted({name for row in found for name in row["tests"]})
    yield from (f"| {title} | differs by | seeds | perplexity | BLEU |" + "".join(f" {name} |" for name in tests),
                "|" + "---|" * (5 + len(tests)))
    lines: dict[tuple[str, str], list[dict[str, Any]]] = {}  # the runs of a recipe are one, each ensemble is one
    for row in found:
        lines.setdefault((row["recipe"], row["seed"] if isinstance(row["seed"], str) else ""), []).append(row)
    order = list(RECIPES)
    for (name, ensemble), own in sorted(lines.items(), key=lambda line: (order.index(line[0][0]), line[0][1])):
        cells = [f"{name}, together" if ensemble else name, f"`{RECIPES[name]}`" if RECIPES[name] else "",
                 ", ".join(str(row["seed"]) for row in own), spread([row["perplexity"] for row in own]),
                 spread([row["bleu"] for row in own]), *(of_test(test, own) for test in tests)]
        yield "| " + " | ".join(cells) + " |"
    if missing := [name for name in RECIPES if name not in {recipe for recipe, _ in lines}]:
        yield from ("", f"Not run: {', '.join(missing)}.")
    yield from (f"\nBLEU: `{text}`" for text in sorted(signatures(found)))
    yield ""


def signatures(found: Sequence[Mapping[str, Any]]) -> set[str]:
    """What the scores depend on, as far as it is known: not how their intervals were drawn."""
    shown = [row["signature"] for row in found if row["signature"]]
    shown += [scores[name]["signature"] for row in found for scores in row["tests"].values() for name in PAPERS
              if name in scores]
    return {re.sub(r"bs:\d+\|seed:\d+\|", "", text) for text in shown}


def of_test(test: str, own: Sequence[Mapping[str, Any]]) -> str:
    """A test set's scores by those measures of PAPERS that there are, side by side, of the runs that have them."""
    scored = [row["tests"][test] for row in own if test in row["tests"]]
    by_measure = [[scores[name]["score"] for scores in scored if name in scores] for name in PAPERS]
    return "; ".join(spread(values) for values in by_measure if values) or "not run"


def spread(values: Sequence[float]) -> str:
    """The mean, and from the lowest to the highest of several."""
    several = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
    return f"{mean(values):.2f}{several}"


def put(made: str, page: Path) -> None:
    """Into the page, between the lines BEGIN and END."""
    text = page.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise InputError(f"{page} has no place for tables: expected the lines {BEGIN.strip()} and {END.strip()}")
    before, _, rest = text.partition(BEGIN)
    page.write_text(f"{before}{BEGIN}{made}{END}{rest.partition(END)[2]}", encoding="utf-8")
