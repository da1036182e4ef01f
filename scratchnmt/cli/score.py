"""scratchnmt score: how probable given translations are, without a search (forced decoding)."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from math import isnan
from typing import Any

from ..long_lines import CHOICES
from .parser import Parser, add_computing, add_models, add_option, add_workers, computing, long_lines, warn, workers_of

HELP = "tell how probable given translations are, line by line"
USAGE = "scratchnmt score --model DIR [DIR ...] --src FILE --tgt FILE [options]"
EPILOG = """\
One line for each pair of lines, of columns separated by tabs: the log-probability of the translation (natural
logarithm, summed over its tokens with </s>) and the number of tokens; with --tokens also the tokens and the
log-probability of each, separated by spaces.  A pair of blank lines has no tokens; one that is skipped, since
it is too long, gives an empty line.

example:
  scratchnmt score --model runs/en-de --src test.en --tgt test.de"""


def add_arguments(parser: Parser) -> None:
    given = parser.add_argument_group("what to score")
    add_models(given)
    given.add_argument("--src", required=True, metavar="FILE", help="source sentences, one a line, UTF-8, plain "
                       "or packed (.gz, .xz, .bz2); -: standard input")
    given.add_argument("--tgt", required=True, metavar="FILE", help="their translations, line by line")
    add_option(given, "pieces", False, "the translations are tokens, as translate --pieces prints them")
    add_option(given, "max_length", None, "maximum length of a line in tokens, on either side (default: what fits into "
               "memory and what the model knows)", type=int)
    add_option(given, "long", "skip", "what to do with a pair that is longer: crop both its lines, skip it (an empty "
               "line), or stop", choices=CHOICES)
    output = parser.add_argument_group("output")
    add_option(output, "tokens", False, "print the log-probability of every token, too")
    output.add_argument("--out", metavar="FILE",
                        help="output file, which appears when all is scored; if that fails, what was done is in "
                        "FILE.partial (default: standard output)")
    how = parser.add_argument_group("computing")
    add_option(how, "batch_size", 64, "batch size, in sentences")
    add_computing(how)
    add_workers(how)


def run(args: argparse.Namespace) -> int:
    from ..data.text import read_parallel
    from ..translate import Translator
    from . import doubts
    from .output import check_output, write_lines

    check_output(args.out)
    src, tgt = read_parallel(args.src, args.tgt)
    translator = Translator.load(args.model, workers=workers_of(vars(args)), **computing(vars(args)))
    scored = translator.stream_scores(src, tgt, batch_size=args.batch_size, pieces=args.pieces, long=long_lines(args))
    write_lines(args.out, _format(scored, args.tokens))
    vocabularies = translator.src_vocab, translator.tgt_vocab
    if args.pieces:
        told = doubts.of_side(translator.seen[0].coverage, vocabularies[0], args.src, translator.usual)
    else:
        covered = translator.seen[0].coverage, translator.seen[1].coverage
        told = doubts.of_pairs(covered, (src, tgt), vocabularies, (args.src, args.tgt), translator.usual)
    for doubt in told:
        warn(args, doubt)
    return 0


def _format(scored: Iterable[Any], tokens: bool) -> Iterator[str]:
    for one in scored:
        if isnan(one.score) and not one.tokens:
            yield ""
            continue
        columns = [f"{one.score:.4f}", str(len(one.tokens))]
        if tokens:
            columns += [" ".join(one.tokens), " ".join(f"{score:.4f}" for score in one.token_scores)]
        yield "\t".join(columns)
