"""scratchnmt microscope: one training step of a model, as a page for a browser."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from ..streams import quoted
from .dependent import MICROSCOPE, check_parsed
from .parser import Parser, add_option, warn

HELP = "look into one training step: every number, its gradient and where that comes from, in the browser"
USAGE = 'scratchnmt microscope --model DIR (--src "..." [--tgt "..."] | --input FILE [--target FILE]) [options]'
EPILOG = """\
The page is one file.  It opens from the disk, in any browser, without a network.  Without --tgt the step is that
towards the model's own translation.  Several sentences (--src and --tgt again, or files of a few lines) make one
padded batch.

example:
  scratchnmt microscope --model scratchnmt-demo --src "the white cat does not sleep ." --open"""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--model", required=True, metavar="DIR", help="folder of a training run")
    what = parser.add_argument_group("sentences, four at most")
    add_option(what, "src", None, "a source sentence", action="append", metavar="TEXT")
    add_option(what, "tgt", None, "its translation, one for each --src (default: the model's own)", action="append",
               metavar="TEXT")
    add_option(what, "input", None, "source sentences, one a line", metavar="FILE")
    add_option(what, "target", None, "their translations, line by line", metavar="FILE")
    page = parser.add_argument_group("page")
    add_option(page, "out", "microscope.html", "the page to write", metavar="FILE")
    add_option(page, "open", False, "open it in the browser")
    how = parser.add_argument_group("step")
    add_option(how, "seed", None, "random seed of dropout (default: no dropout)", type=int)
    add_option(how, "checks", 200, "how many gradients, drawn at random, to compare with complex-step differentiation")
    add_option(how, "check", [], "one more of them: quantity, sentence, word and unit, as in h_dec/0/3/17; repeatable",
               action="append", metavar="NUMBER")
    add_option(how, "bugs", "all", "the museum's bugs to try in this step", choices=("all", "none"))


def run(args: argparse.Namespace) -> int:
    from ..microscope import Microscope
    from .output import check_output

    check_parsed(MICROSCOPE, args)
    check_output(args.out)
    made = f"scratchnmt microscope --model {quoted(args.model)}"
    microscope = Microscope.load(args.model, _pairs(args), seed=args.seed, checks=args.checks, check=args.check,
                                 bugs=args.bugs, made=made)
    for line in microscope.unknown:
        warn(args, f"{line} has words that the vocabulary does not have; the page shows <unk>")
    microscope.save(args.out)
    _say(microscope.data, args.out)
    if args.open:
        import webbrowser

        webbrowser.open(Path(args.out).resolve().as_uri())
    return 0


def _pairs(args: argparse.Namespace) -> list[tuple[str, str | None]]:
    if args.src is None and args.input is None:
        raise InputError('no sentence was given: expected --src "..." or --input FILE')
    src = args.src if args.src is not None else _lines(args.input)
    tgt: Sequence[str | None] = args.tgt or (_lines(args.target) if args.target is not None else [None] * len(src))
    if len(src) != len(tgt):
        raise InputError(f"{len(src)} source sentences and {len(tgt)} translations, expected one for each")
    return list(zip(src, tgt, strict=True))


def _lines(path: str) -> list[str]:
    """The lines of a file; InputError if there are more than a page can hold."""
    from ..data.text import read_lines
    from ..microscope.api import SENTENCES

    lines = read_lines(path)
    if len(lines) > SENTENCES:
        raise InputError(f"{path} has more than {SENTENCES} lines, and a page holds no more sentences: "
                         f"head -n {SENTENCES} {quoted(path)} > few.txt")
    return lines


def _say(data: dict, out: str) -> None:
    checks = data["checks"]
    right = sum(check["ok"] for check in checks)
    print(f"{out}: {len(data['sentences'])} sentence{'s' if len(data['sentences']) > 1 else ''}, loss "
          f"{data['loss']:.4f}, {len(data['calls']['list'])} operations, {Path(out).stat().st_size / 1e6:.2f} MB\n"
          f"{right} of {len(checks)} gradients inside the step agree with complex-step differentiation")
    if data["bugs"]:
        silent = sum(bug["loss_difference"] == 0 for bug in data["bugs"])
        print(f"{len(data['bugs'])} bugs of the museum show in it, {silent} of them in the gradients alone")
