"""scratchnmt score: how probable given translations are, without a search (forced decoding)."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import Any

from .parser import Parser, add_computing, add_models, add_option, computing, warn

HELP = "tell how probable given translations are, line by line"
USAGE = "scratchnmt score --model DIR [DIR ...] --src FILE --tgt FILE [options]"
EPILOG = """\
One line for each pair of lines, of columns separated by tabs: the log-probability of the translation (natural
logarithm, summed over its tokens with </s>) and the number of tokens; with --tokens also the tokens and the
log-probability of each, separated by spaces.  A pair of blank lines has no tokens.

example:
  scratchnmt score --model runs/en-de --src test.en --tgt test.de"""


def add_arguments(parser: Parser) -> None:
    given = parser.add_argument_group("what to score")
    add_models(given)
    given.add_argument("--src", required=True, metavar="FILE", help="source sentences, one a line, UTF-8 or .gz")
    given.add_argument("--tgt", required=True, metavar="FILE", help="their translations, line by line")
    add_option(given, "pieces", False, "the translations are tokens, as translate --pieces prints them")
    output = parser.add_argument_group("output")
    add_option(output, "tokens", False, "print the log-probability of every token, too")
    output.add_argument("--out", metavar="FILE",
                        help="output file, written when all is scored (default: standard output)")
    how = parser.add_argument_group("computing")
    add_option(how, "batch_size", 64, "batch size, in sentences")
    add_computing(how)


def run(args: argparse.Namespace) -> int:
    from ..data.text import read_parallel
    from ..translate import Translator
    from . import doubts
    from .translate import check_output, write_lines

    check_output(args.out)
    src, tgt = read_parallel(args.src, args.tgt)
    translator = Translator.load(args.model, **computing(vars(args)))
    scored = translator.score(src, tgt, batch_size=args.batch_size, pieces=args.pieces)
    lines = _format(scored, args.tokens)
    if args.out:
        write_lines(args.out, lines)
    else:
        for line in lines:
            print(line)
    vocabularies = translator.src_vocab, translator.tgt_vocab
    if args.pieces:
        told = doubts.of_side(translator.seen[0].coverage, vocabularies[0], args.src, translator.usual)
    else:
        covered = translator.seen[0].coverage, translator.seen[1].coverage
        told = doubts.of_pairs(covered, (src, tgt), vocabularies, (args.src, args.tgt), translator.usual)
    for doubt in told:
        warn(doubt)
    return 0


def _format(scored: Iterable[Any], tokens: bool) -> Iterator[str]:
    for one in scored:
        columns = [f"{one.score:.4f}", str(len(one.tokens))]
        if tokens:
            columns += [" ".join(one.tokens), " ".join(f"{score:.4f}" for score in one.token_scores)]
        yield "\t".join(columns)
