"""scratchnmt translate: text in, text out, line by line."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

from ..arrays import to_device
from ..errors import InputError
from ..parallel.mpi import together, world
from ..parallel.ranks import Ranks
from ..streams import Stream
from .dependent import TRANSLATE, check_parsed
from .output import check_output, write_lines
from .parser import (
    Parser,
    add_computing,
    add_models,
    add_option,
    add_remove_bpe,
    add_replacing,
    add_search_options,
    add_workers,
    computing,
    long_lines,
    replacing,
    sampling_options,
    search_options,
    warn,
    workers_of,
)

HELP = "translate standard input, or a file, with a trained model"
USAGE = "scratchnmt translate --model DIR [DIR ...] [--input FILE] [--output FILE] [options]"
EPILOG = """\
One line in, one line out, in the same order; a blank line gives a blank line.  A line that is too long to be
translated is cropped, with a warning; --long says what else to do with it.  With --n-best N, up to N
lines for each line of the input, best first, of three columns separated by tabs: the number of the
input's line (from 1), the log-probability of the translation, the translation.

examples:
  echo "A dog runs ." | scratchnmt translate --model runs/en-de
  scratchnmt translate --model runs/en-de --input test.en --output test.out.de
  mpirun -n 4 scratchnmt translate --model runs/en-de --input test.en --output test.out.de
  echo "A dog runs ." | scratchnmt translate --model runs/en-de --attention dog.png
  scratchnmt translate --model runs/en-de --input test.en --replace-unknown --dictionary en-de.tsv
  scratchnmt translate --model runs/en-de --input test.en --no-repeat-ngram 3 --min-length 2
  xz -dc crawl.en.xz | scratchnmt translate --model runs/en-de --input - --max-length 200 --long skip
  echo "A dog runs ." | scratchnmt translate --model runs/en-de --sample --temperature 0.5 --seed 1"""


def add_arguments(parser: Parser) -> None:
    text = parser.add_argument_group("model and text")
    add_models(text)
    text.add_argument("--input", default="-", metavar="FILE",
                      help="input file, a sentence a line, UTF-8, plain or packed (.gz, .xz, .bz2); -: standard input, "
                      "which is the default")
    text.add_argument("--output", metavar="FILE",
                      help="output file, which appears when all is translated; if that fails, what was done is in "
                      "FILE.partial (default: standard output)")
    search = parser.add_argument_group("search")
    add_search_options(search)
    add_option(search, "read_ahead", None, "lines read before the first is translated, so that sentences of similar "
               "length share a batch (default: 16 batches for each process; 1 on a terminal)", type=int)
    add_computing(search)
    add_workers(search)
    add_replacing(parser.add_argument_group("unknown words"))
    drawing = parser.add_argument_group("sampling instead of searching")
    add_option(drawing, "sample", False, "sample from the model's distribution instead of searching")
    add_option(drawing, "temperature", 1.0,
               "temperature of the softmax; below 1 sharpens the distribution, above 1 flattens it")
    add_option(drawing, "top_k", 0, "sample from the K most likely words only; 0: from all", metavar="K")
    add_option(drawing, "seed", 0, "random seed of the sampling")
    more = parser.add_argument_group("more output")
    add_option(more, "n_best", None,
               "print the N best translations of each line with their scores (log-probabilities)", type=int)
    add_option(more, "pieces", False, "print the tokens that were found, with spaces between, for score --pieces")
    add_remove_bpe(more)
    more.add_argument("--attention", metavar="FILE",
                      help="draw the attention weights, of several heads their mean: line 1 to FILE (.png, .svg, "
                      ".pdf), line 2 to FILE-2.png and so on")


def run(args: argparse.Namespace) -> int:
    from ..plots import check_picture

    ranks = world()
    with together(ranks, tempfile.gettempdir(), "translation stopped on all ranks", worded=args.parser.worded):
        ranks.check_alike({"command": "translate", **{name: value for name, value in vars(args).items()
                                                      if name not in ("run", "parser")}})
        for path in args.output, args.attention:
            ranks.on_first(partial(check_output, path))
        check_parsed(TRANSLATE, args)
        if args.attention:
            check_picture(args.attention)
            if ranks.size > 1:
                raise InputError("--attention draws in one process: leave mpirun out")
        if args.read_ahead is not None and args.read_ahead < 1:
            raise InputError(f"read_ahead must be at least 1, not {args.read_ahead}")
        _translate(args, ranks)
    return 0


def _translate(args: argparse.Namespace, ranks: Ranks) -> None:
    from ..data.text import stream_lines
    from ..translate import Translator
    from . import doubts

    with ranks.waiting():  # for a disk
        shared = {**replacing(args), "long": long_lines(args, warns=ranks.first)}
    interactive = args.input == "-" and Stream(sys.stdin).isatty()
    # the first one reads and writes; the others have its lines, and nothing to write
    lines = ranks.on_first(lambda: stream_lines(args.input)) or ()
    with ranks.waiting():
        translator = Translator.load(args.model, ranks=ranks, workers=workers_of(vars(args), ranks),
                                     **computing(vars(args), ranks))
    if ranks.size > 1:
        models = getattr(translator.model, "models", [translator.model])
        ranks.check_alike({"the model": [crc32(to_device(model.params.flat, "cpu")) for model in models]})
    window = ranks.from_first(lambda: args.read_ahead or (1 if interactive else None))
    lines = ranks.same(lines, window or args.batch_size)
    if args.attention:
        lines = _draw_maps(translator, lines, args)
    results = _results(translator, lines, {**shared, "window": window, "pieces": args.pieces,
                                           "remove_bpe": args.remove_bpe}, args)
    if interactive:
        print("Type a sentence and press Enter; Ctrl-D ends.", file=sys.stderr)
    if not ranks.first:
        for _ in results:
            pass
    else:
        ranks.passed_on(_format(results), partial(write_lines, args.output))
    if ranks.first:
        for doubt in doubts.of_side(translator.seen[0].coverage, translator.src_vocab,
                                    "the input" if args.input == "-" else args.input, translator.usual):
            warn(args, doubt)


def _results(translator: Any, lines: Iterable[str], shared: dict[str, Any], args: argparse.Namespace) -> Iterator[Any]:
    """What is found or drawn for each line; `shared`: the options that both take."""
    if not args.sample:
        return translator.stream(lines, n_best=args.n_best, **search_options(args), **shared)
    drawn = translator.sample(lines, temperature=args.temperature, top_k=args.top_k, seed=args.seed,
                              **sampling_options(args), **shared)
    return (text for text, _ in drawn)


def _format(results: Iterable[Any]) -> Iterator[str]:
    for number, result in enumerate(results, start=1):
        if isinstance(result, str):
            yield result
        else:
            yield from (f"{number}\t{score:.4f}\t{text}" for text, score in result)


def _draw_maps(translator: Any, lines: Iterable[str], args: argparse.Namespace) -> Iterator[str]:
    """Pass the lines on, drawing the attention of each that is not blank."""
    from ..plots import attention_map

    options = {name: value for name, value in search_options(args).items() if name != "batch_size"}
    options["long"] = long_lines(args, warns=False)  # the translation itself warns
    first = Path(args.attention)
    for number, line in enumerate(lines, start=1):
        attended = translator.translate_with_attention(line, **options)
        if len(attended.attention):
            path = first if number == 1 else first.with_name(f"{first.stem}-{number}{first.suffix}")
            attention_map(attended.src_tokens, attended.tgt_tokens, attended.attention, path)
        yield line
