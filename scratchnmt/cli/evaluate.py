"""scratchnmt evaluate: how good a trained model is, on text with reference translations."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

from .dependent import EVALUATE, check_parsed
from .parser import (
    Parser,
    add_computing,
    add_models,
    add_option,
    add_remove_bpe,
    add_replacing,
    add_search_options,
    computing,
    long_lines,
    replacing,
    search_options,
)

HELP = "score a trained model: BLEU, chrF, perplexity, sentences per second"
USAGE = "scratchnmt evaluate --model DIR [DIR ...] --src FILE --ref FILE [options]"
EPILOG = """\
BLEU and chrF are sacreBLEU's, of detokenised translations against the references as they are; quote them
with their signatures.  Perplexity is of the references' tokens, so that models with different vocabularies
cannot be compared by it.  Sources that are too long to be translated are cropped, with a warning (--long).

example:
  scratchnmt evaluate --model runs/en-de --src test.en --ref test.de"""


def add_arguments(parser: Parser) -> None:
    given = parser.add_argument_group("what to score")
    add_models(given)
    given.add_argument("--src", required=True, metavar="FILE",
                       help="source sentences, one a line, UTF-8, plain or packed (.gz, .xz, .bz2); -: standard input")
    given.add_argument("--ref", required=True, metavar="FILE", help="reference translations, line by line")
    add_search_options(parser.add_argument_group("search"))
    add_replacing(parser.add_argument_group("unknown words"))
    output = parser.add_argument_group("output")
    output.add_argument("--output", metavar="FILE", help="write the translations to this file")
    add_remove_bpe(output)
    add_option(output, "json", False, "print JSON instead of the table")
    add_computing(output)


def run(args: argparse.Namespace) -> int:
    from ..data.segmented import joiner
    from ..data.text import read_parallel
    from ..errors import require
    from ..translate import Translator
    from .output import check_output, write_lines

    check_parsed(EVALUATE, args)
    check_output(args.output)
    require("sacrebleu", extra="train")
    unknown = replacing(args)
    src, ref = read_parallel(args.src, args.ref)
    translator, long = Translator.load(args.model, **computing(vars(args))), long_lines(args)
    started = time.perf_counter()
    results = translator.stream(src, **search_options(args), **unknown, remove_bpe=args.remove_bpe, long=long)
    found: list[str] = []
    if args.output:
        write_lines(args.output, _noted(results, found))
    else:
        found.extend(results)
    seconds = time.perf_counter() - started
    perplexity = translator.perplexity(src, ref, batch_size=args.batch_size, long=long)
    if args.remove_bpe:
        ref = list(map(joiner(translator.tgt_vocab), ref))
    scores = {**_scores(ref, found), "perplexity": perplexity, "beam_size": args.beam,
              "length_penalty": args.length_penalty, "replace_unknown": args.replace_unknown, "sentences": len(src),
              "seconds": round(seconds, 3), "sentences_per_second": round(len(src) / seconds, 1)}
    print(json.dumps(scores) if args.json else _table(scores))
    return 0


def _noted(lines: Iterable[str], found: list[str]) -> Iterator[str]:
    """The lines, which are also kept in `found`."""
    for line in lines:
        found.append(line)
        yield line


def _scores(ref: list[str], found: list[str]) -> dict[str, Any]:
    from ..metrics import chrf, corpus_bleu

    bleu, characters = corpus_bleu(found, ref), chrf(found, ref)
    return {"bleu": bleu.score, "bleu_signature": bleu.signature, "chrf": characters.score,
            "chrf_signature": characters.signature}


def _table(scores: dict[str, Any]) -> str:
    return "\n".join([
        f"BLEU        {scores['bleu']:6.2f}   {scores['bleu_signature']}",
        f"chrF        {scores['chrf']:6.2f}   {scores['chrf_signature']}",
        f"perplexity  {scores['perplexity']:6.2f}   of the references",
        f"speed       {scores['sentences_per_second']:6.1f}   sentences per second: {scores['sentences']:,} "
        f"in {scores['seconds']:.1f} s, beam {scores['beam_size']}"])
