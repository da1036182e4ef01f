"""scratchnmt microscope: one training step of a model, as a page for a browser."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..streams import quoted
from .dependent import MICROSCOPE, check_parsed
from .parser import Parser, add_option, warn

if TYPE_CHECKING:
    from ..microscope import Microscope

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
    add_option(page, "serve", False, "instead of a file, serve the page on this machine, until Ctrl-C; there any "
               "number is computed that is asked for")
    add_option(page, "port", 0, "port of --serve (default: one that is free)", type=int)
    how = parser.add_argument_group("step")
    add_option(how, "seed", None, "random seed of dropout (default: no dropout)", type=int)
    add_option(how, "checks", 200, "how many gradients, drawn at random, to compare with complex-step differentiation")
    add_option(how, "check", [], "one more of them: quantity, sentence, word and unit, as in h_dec/0/3/17; repeatable",
               action="append", metavar="NUMBER")
    add_option(how, "compare", None, "put another step beside it: of the model in another folder (of the same make), "
               "of this one in float32, or untrained", metavar="DIR|float32|untrained")
    add_option(how, "bugs", "all", "the museum's bugs to try in this step", choices=("all", "none"))


def run(args: argparse.Namespace) -> int:
    from ..checkpoint import read_alike
    from ..microscope import Microscope
    from ..translate import Translator
    from .output import check_output

    check_parsed(MICROSCOPE, args)
    if not 0 <= args.port < 1 << 16:
        raise InputError(f"port is {args.port}, expected a whole number from 0 to 65535")
    if not args.serve:
        check_output(args.out)

    pairs, compare, translator = _pairs(args), args.compare, Translator.load(args.model)
    if compare not in (None, "float32", "untrained"):
        read_alike([args.model, compare], "models whose steps are compared")
        compare = Translator.load(compare).model

    def make(pairs: Sequence[tuple[str, str | None]], **options: Any) -> Microscope:
        return Microscope(translator.model, translator.src_vocab, translator.tgt_vocab, pairs, seed=args.seed,
                          bugs=args.bugs, compare=compare, title=os.path.basename(os.path.abspath(args.model)),
                          made=f"scratchnmt microscope --model {quoted(args.model)}", **options)

    microscope = make(pairs, checks=args.checks, check=args.check)
    for line in microscope.unknown:
        warn(args, f"{line} has words that the vocabulary does not have; the page shows <unk>")
    if args.serve:
        return _serve(args, microscope, lambda src, tgt: make([(src, tgt)], checks=min(args.checks, 50)))
    microscope.save(args.out)
    _say(microscope.data, args.out)
    if args.open:
        _open(Path(args.out).resolve().as_uri())
    return 0


def _serve(args: argparse.Namespace, microscope: Microscope, make: Callable[[str, str | None], Microscope]) -> int:
    from ..microscope.serve import Server

    with Server(microscope, make, args.port) as server:
        microscope.data  # noqa: B018  computed now, so that the page comes at once
        print(f"open  {server.address}\nCtrl-C ends it", flush=True)
        if args.open:
            _open(server.address)
        with suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0


def _open(address: str) -> None:
    import webbrowser

    webbrowser.open(address)


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
                         f"head -n {SENTENCES} {path if path == '-' else quoted(path)} > few.txt")
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
