"""scratchnmt evaluate: how good a trained model is, on text with reference translations."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from functools import reduce
from itertools import chain
from typing import Any

from ..data.coverage import Coverage
from ..errors import InputError
from ..metrics import TOKENIZERS, check_tokenizer
from .dependent import EVALUATE, check_parsed
from .parser import (
    TOKENIZE,
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
    search_options,
    warn,
    workers_of,
)

_OURS = "this model"  # among the systems that --paper compares
HELP = "score a trained model: BLEU, chrF, perplexity, sentences per second"
USAGE = "scratchnmt evaluate --model DIR [DIR ...] --src FILE --ref FILE [FILE ...] [options]"
EPILOG = """\
BLEU and chrF are sacreBLEU's, of detokenised translations against the references as they are; quote them
with their signatures.  Perplexity is of the references' tokens, so that models with different vocabularies
cannot be compared by it.  Sources that are too long to be translated are cropped, with a warning (--long).

Of several references, line n of each file translates line n of the source; where one of them has none, its line
is blank.

--paper also prints the scores that papers give, which do not compare with each other: BLEU with case, without it, and
of lower-cased Moses tokens (pip install sacremoses).  Intervals and p-values are sacreBLEU's, by bootstrap.

examples:
  scratchnmt evaluate --model runs/en-de --src test.en --ref test.de
  scratchnmt evaluate --model runs/en-ja --src test.en --ref test.ja --tokenize ja-mecab
  scratchnmt evaluate --model runs/zh-en --src test.zh --ref test.en.0 test.en.1 test.en.2 test.en.3"""


def add_arguments(parser: Parser) -> None:
    given = parser.add_argument_group("what to score")
    add_models(given)
    given.add_argument("--src", required=True, metavar="FILE",
                       help="source sentences, one a line, UTF-8, plain or packed (.gz, .xz, .bz2); -: standard input")
    given.add_argument("--ref", required=True, nargs="+", action="extend", metavar="FILE",
                       help="reference translations, line by line; several files: several references for each line")
    add_option(given, "tokenize", "auto", TOKENIZE, choices=TOKENIZERS)
    add_search_options(parser.add_argument_group("search"))
    add_replacing(parser.add_argument_group("unknown words"))
    output = parser.add_argument_group("output")
    output.add_argument("--output", metavar="FILE", help="write the translations to this file")
    add_remove_bpe(output)
    add_option(output, "json", False, "print JSON instead of the table")
    paper = parser.add_argument_group("scores as papers give them")
    add_option(paper, "paper", False, "BLEU by several measures, and chrF, with intervals of 95 per cent")
    add_option(paper, "language", "en", "language of the references, for the Moses tokenizer, such as de",
               metavar="CODE")
    add_option(paper, "against", None, "compare with the translations of these files: is the difference chance?",
               nargs="+", metavar="FILE")
    add_computing(output)
    add_workers(output)


def run(args: argparse.Namespace) -> int:
    from ..data.encode import encode_parallel
    from ..data.text import check_is_no_table, check_parallel, read_lines
    from ..data.vocab import joiner
    from ..paper_scores import check_measures, paper_scores
    from ..translate import Translator
    from . import doubts
    from .output import check_output, write_lines

    check_parsed(EVALUATE, args)
    check_output(args.output)
    check_tokenizer(args.tokenize)
    unknown = replacing(args)
    src, references = read_lines(args.src), [read_lines(path) for path in args.ref]
    for path, lines in zip((args.src, *args.ref), (src, *references), strict=True):
        check_is_no_table(path, lines)
        check_parallel(args.src, len(src), path, len(lines))
    others = _others(args, len(src))
    if args.paper:
        check_measures(references, args.tokenize, args.language)
    translator = Translator.load(args.model, workers=workers_of(vars(args)), **computing(vars(args)))
    long = long_lines(args)
    vocabularies = translator.src_vocab, translator.tgt_vocab
    covered = [encode_parallel(src, lines, *vocabularies)[0].coverage for lines in references]
    for path, lines, coverage in zip(args.ref, references, covered, strict=True):
        for doubt in chain(doubts.of_pairs(coverage, (src, lines), vocabularies, (args.src, path), translator.usual),
                           doubts.of_tokenizer(args.tokenize, lines, path)):
            warn(args, doubt)
    # first, as it tells of references that cannot be scored before the long work of a search
    perplexity = translator.perplexity(src, *references, batch_size=args.batch_size, long=long)
    started = time.perf_counter()
    results = translator.stream(src, **search_options(args), **unknown, remove_bpe=args.remove_bpe, long=long)
    translations: list[str] = []
    if args.output:
        write_lines(args.output, _noted(results, translations))
    else:
        translations.extend(results)
    seconds = time.perf_counter() - started
    if args.remove_bpe:
        references = [list(map(joiner(translator.tgt_vocab), lines)) for lines in references]
    unknown_src, unknown_ref = (reduce(Coverage.plus, sides).share for sides in zip(*covered, strict=True))
    paper = paper_scores({_OURS: translations, **others}, *references, tokenize=args.tokenize, language=args.language
                         ) if args.paper else None
    scores = {**_scores(translations, references, args.tokenize), "perplexity": perplexity, "unknown_src": unknown_src,
              "unknown_ref": unknown_ref, "unknown_of": translator.tgt_vocab.UNIT, "beam_size": args.beam,
              "length_penalty": args.length_penalty, "min_length": args.min_length,
              "no_repeat_ngram_size": args.no_repeat_ngram, "replace_unknown": args.replace_unknown,
              "sentences": len(src), "seconds": round(seconds, 3), "sentences_per_second": round(len(src) / seconds, 1)}
    if args.json:
        print(json.dumps(scores | ({} if paper is None else {"paper": _as_json(paper)})))
    else:
        print("\n".join([_table(scores), *([] if paper is None else ["", _paper_table(paper)])]))
    return 0


def _others(args: argparse.Namespace, lines: int) -> dict[str, list[str]]:
    """The translations that the model's are compared with, by the names of their files."""
    from ..data.text import check_parallel, read_lines

    systems: dict[str, list[str]] = {}
    for path in args.against or ():
        if path in (_OURS, *systems):
            raise InputError(f"--against {path}: the table has a system of that name already")
        systems[path] = read_lines(path)
        check_parallel(args.src, lines, path, len(systems[path]))
    return systems


def _as_json(paper: Any) -> dict[str, Any]:
    return {name: [score._asdict() for score in scores] for name, scores in paper.items()}


def _paper_table(paper: Any) -> str:
    """A block for each measure, a line for each system."""
    lines, width = [], max(map(len, paper))
    for of_measure in zip(*paper.values(), strict=True):
        lines.append(f"{of_measure[0].measure}   {of_measure[0].signature}")
        for name, score in zip(paper, of_measure, strict=True):
            chance = "" if score.p is None else f"   p = {score.p:.3f}"
            lines.append(f"  {name:<{width}} {score.score:6.2f}   {score.low:.2f} to {score.high:.2f}{chance}")
    return "\n".join(lines)


def _noted(lines: Iterable[str], kept: list[str]) -> Iterator[str]:
    """The lines, which are also appended to `kept`."""
    for line in lines:
        kept.append(line)
        yield line


def _scores(translations: list[str], references: list[list[str]], tokenize: str) -> dict[str, Any]:
    from ..metrics import chrf, corpus_bleu

    bleu, characters = corpus_bleu(translations, *references, tokenize=tokenize), chrf(translations, *references)
    return {"bleu": bleu.score, "bleu_signature": bleu.signature, "chrf": characters.score,
            "chrf_signature": characters.signature}


def _table(scores: dict[str, Any]) -> str:
    return "\n".join([
        f"BLEU        {scores['bleu']:6.2f}   {scores['bleu_signature']}",
        f"chrF        {scores['chrf']:6.2f}   {scores['chrf_signature']}",
        f"perplexity  {scores['perplexity']:6.2f}   of the references",
        f"unknown     {100 * scores['unknown_src']:6.2f}   per cent of the {scores['unknown_of']} of the source, "
        f"{100 * scores['unknown_ref']:.2f} of the references",
        f"speed       {scores['sentences_per_second']:6.1f}   sentences per second: {scores['sentences']:,} "
        f"in {scores['seconds']:.1f} s, beam {scores['beam_size']}"])
