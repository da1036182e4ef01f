"""scratchnmt gradcheck: every hand-written gradient against a numerical one; also those of your own op."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import InputError, encodable
from ..gradcheck.reference import METHODS
from ..gradcheck.report import paint
from .dependent import GRADCHECK, check_parsed
from .parser import Parser, add_device, add_option

if TYPE_CHECKING:
    from ..gradcheck import Report
    from ..selfcheck import Row

HELP = "check every operation, the whole model or an op of your own against numerical gradients"
USAGE = "scratchnmt gradcheck [NAME ...] [options]"
EPILOG = """\
Operations and layers are checked element by element against complex-step differentiation, the model in each
of its configurations tensor by tensor.  The exit status is 1 if a gradient is wrong; its report says where.

examples:
  scratchnmt gradcheck
  scratchnmt gradcheck lstm attention
  scratchnmt gradcheck "two directions" --verbose
  scratchnmt gradcheck --module my_op.py:gelu_forward,gelu_backward --arg x=3,4
  scratchnmt gradcheck --module package.layers:Linear --arg x=3,4

An op of your own is two functions: forward(**args) returns (y, cache), backward(dy, cache) returns the
gradients by name, "d" + argument.  docs/gradcheck.md tells more."""
_HEADER = ("gradients", "elements", "largest error", "tolerance", "", "seconds")


def add_arguments(parser: Parser) -> None:
    parser.add_argument("names", nargs="*", default=[], metavar="NAME",
                        help="check every line whose name holds all of these words, or parts of words: lstm, "
                             "'lstm gates', 'two directions'; repeat it for more lines (default: all lines)")
    add_option(parser, "list", False, "list what can be checked, and check nothing")
    add_device(parser)
    add_option(parser, "dtype", "float64", "of the operations' arrays; the whole model is always checked in "
               "float64", choices=("float64", "float32"))
    add_option(parser, "seed", 0, "random seed of the arguments")
    add_option(parser, "verbose", False, "print every report, not only those of what is wrong")
    own = parser.add_argument_group("an op of your own")
    add_option(own, "module", None, "the file, or module, and in it two functions or a layer; without a name its "
               "forward and backward or, if there are none, every pair X_forward, X_backward and every layer class",
               metavar="FILE.py[:FORWARD,BACKWARD]")
    own.add_argument("--arg", action="append", default=[], metavar="NAME=SHAPE",
                     help="an argument of normal values, such as x=3,4, or of whole numbers below 10, such as "
                          "'ids=int:3,4<10'; repeat it for each (default: what `args` in the file holds, "
                          "a dict or a function args(rng))")
    own.add_argument("--wrt", action="append", metavar="NAME",
                     help="check this argument's gradient; repeat it (default: every array of floats)")
    add_option(own, "method", None, "the numerical gradient (default: auto, complex-step where it can go)",
               choices=("auto", *METHODS))
    add_option(own, "json", False, "print the reports as JSON")


def run(args: argparse.Namespace) -> int:
    from ..arrays import device_module
    from ..selfcheck import choose
    from ..training import TrainingOptions

    TrainingOptions(seed=args.seed)
    check_parsed(GRADCHECK, args)
    if args.list:
        print("\n".join(case.name for case in choose(args.names)))
        return 0
    device_module(args.device)
    reports = _table(args) if args.module is None else _own_op(args)
    return 0 if all(report.ok for report in reports) else 1


def _own_op(args: argparse.Namespace) -> list[Report]:
    from ..selfcheck import placed
    from .user_module import check_file

    checked = check_file(args.module, args.arg, lambda values: placed(values, args.device, args.dtype),
                         seed=args.seed, wrt=args.wrt, method=args.method or "auto")
    reports = [one.report for one in checked if one.report]
    if not reports:
        raise InputError(f"--module {args.module}: nothing could be checked: "
                         + "; ".join(f"{one.name}: {one.skipped}" for one in checked))
    if args.json:
        print(json.dumps([{"name": encodable(one.name),
                           **(one.report.to_dict() if one.report else {"skipped": one.skipped})}
                          for one in checked], indent=1, allow_nan=False))
    else:
        for one in checked:
            title = f"{encodable(one.name)}: " if len(checked) > 1 else ""
            print(title + (one.report.text(color=in_color()) if one.report else f"skipped, {one.skipped}"))
    return reports


def _table(args: argparse.Namespace) -> list[Report]:
    """Print a line as each check ends; then the reports of what is wrong, or of all."""
    from ..selfcheck import choose, rows

    checked = []
    width = max(len(case.name) for case in choose(args.names))
    print(_line(width, "name", *_HEADER))
    for row in rows(args.names, device=args.device, dtype=args.dtype, seed=args.seed):
        checked.append(row)
        print(_line(width, row.name, *_cells(row, in_color())), flush=True)
    print("\n" + _summary(checked))
    for row in checked:
        if args.verbose or not row.report.ok:
            print(f"\n{row.name}: {row.report.text(color=in_color())}")
    return [row.report for row in checked]


def _cells(row: Row, color: bool) -> tuple[str, ...]:
    report = row.report
    verdict = paint(f"{'ok' if report.ok else 'WRONG':<5}", "green" if report.ok else "red", color)
    return (str(len(report.tensors)), f"{report.elements:,}", f"{report.max_error:.1e}", f"{report.rtol:.1e}",
            verdict, f"{row.seconds:.2f}")


def _line(width: int, name: str, *cells: str) -> str:
    gradients, elements, error, tolerance, verdict, seconds = cells
    return (f"  {name:<{width}}  {gradients:>9}  {elements:>8}  {error:>13}  {tolerance:>9}  "
            f"{verdict:<5}  {seconds:>7}")


def _summary(checked: Sequence[Row]) -> str:
    wrong = [row.name for row in checked if not row.report.ok]
    seconds = sum(row.seconds for row in checked)
    total = f"  {len(checked) - len(wrong)} of {len(checked)} right in {seconds:.1f} seconds"
    if wrong:
        return f"{total}; wrong: {'; '.join(wrong)}"
    least = min(checked, key=lambda row: row.report.margin)
    if least.report.margin == math.inf:
        return f"{total}; all exact"
    return f"{total}; the smallest margin is {least.report.margin:,.0f} ({least.name})"


def in_color() -> bool:
    """Whether to colour what is printed: on a terminal, unless NO_COLOR is set (see no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
