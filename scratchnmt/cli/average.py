"""scratchnmt average: one model whose weights are the mean of several models' weights."""

from __future__ import annotations

import argparse

from ..errors import encodable
from ..streams import quoted
from .parser import Parser, add_models

HELP = "average the weights of several states of one training run"
USAGE = "scratchnmt average --model DIR DIR2 [...] --out DIR"
EPILOG = """\
All must have one configuration and the same vocabularies.  The mean is good only of models that are near each
other, such as copies of a run's folder at several points of its training; models that were trained from
different seeds belong side by side instead: scratchnmt translate --model DIR DIR2.

example:
  scratchnmt train --out runs/en-de --resume --max-epochs 8
  cp -r runs/en-de runs/en-de-8
  scratchnmt train --out runs/en-de --resume --max-epochs 9
  scratchnmt average --model runs/en-de-8 runs/en-de --out runs/en-de-mean"""


def add_arguments(parser: Parser) -> None:
    add_models(parser, "all that go into the mean")
    parser.add_argument("--out", required=True, metavar="DIR", help="a new folder for the mean, made if needed")


def run(args: argparse.Namespace) -> int:
    from ..checkpoint import average

    average(args.model, args.out)
    print(f"the mean of {len(args.model)} models is in {encodable(args.out)}\n\nnext:\n"
          f"  scratchnmt translate --model {quoted(args.out)}")
    return 0
