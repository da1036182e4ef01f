"""What gradient checkers see: bugs caught, smallest error noticed, and what ours costs.

bugs: the numerical bugs of the museum that live in an op, and all ops as they are; the time of each checker.
sensitivity: the smallest relative error in one element of an LSTM's dWh that each checker notices.
cost: our checker on all ops, on a model of five million weights, and at the start of pytest.
shapes: code as people write it, in functions, objects and frameworks, right and with one slip each.
Every checker runs with its defaults on the same op, arguments and precision (float64).
"""

from __future__ import annotations

import argparse
import importlib

from scratchnmt.errors import InputError

from .. import measure

PEERS = ["torch", "jax", "autograd", "scipy"]
PARTS = ["bugs", "sensitivity", "cost", "shapes"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", type=lambda text: text.split(","), default=PARTS, metavar="PART,...",
                        help="bugs, sensitivity, cost, shapes (default: all four)")
    parser.add_argument("--rounds", type=int, default=5, help="timed checks of each op (default 5)")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")


def run(options: argparse.Namespace) -> int:
    from .checkers import load
    from .tables import Printer

    for part in options.only:
        if part not in PARTS:
            raise InputError(f"--only {part!r} is not known: expected {', '.join(PARTS)}")
    checkers, skipped = load(options.peers)
    printer = Printer(options.markdown)
    printer.text(measure.machine(options.threads))
    for line in skipped:
        printer.text(line)
    for part in options.only:
        importlib.import_module(f".{part}", __name__).measured(checkers, options, printer)
    return 0
