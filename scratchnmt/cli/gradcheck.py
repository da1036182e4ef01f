"""scratchnmt gradcheck: every hand-written gradient against a numerical one."""

from __future__ import annotations

import argparse

from .parser import Parser, add_device, add_option

HELP = "check every operation and the whole model against numerical gradients"
USAGE = "scratchnmt gradcheck [OPERATION ...] [options]"
EPILOG = """\
Operations are checked element by element against complex-step differentiation, the model in each of its
configurations tensor by tensor.  The exit status is 1 if a gradient is wrong; its report says where.

examples:
  scratchnmt gradcheck
  scratchnmt gradcheck lstm attention
  scratchnmt gradcheck "lstm, two directions\""""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("operations", nargs="*", metavar="OPERATION",
                        help="an operation, or one line of the table (default: all)")
    add_option(parser, "list", False, "list what can be checked, and check nothing")
    add_device(parser)
    add_option(parser, "dtype", "float64", "of the operations' arrays; the whole model is always checked in "
               "float64", choices=("float64", "float32"))
    add_option(parser, "seed", 0, "of the random arguments")


def run(args: argparse.Namespace) -> int:
    from ..arrays import device_module
    from ..selfcheck import CASES, MODELS, rows, table
    from ..training import TrainingOptions

    TrainingOptions(seed=args.seed)
    if args.list:
        print("\n".join(case.name for case in (*CASES, *MODELS)))
        return 0
    device_module(args.device)
    checked = list(rows(args.operations, device=args.device, dtype=args.dtype, seed=args.seed))
    print(table(checked))
    wrong = [row for row in checked if not row.ok]
    for row in wrong:
        print(f"\n{row.name}: {row.report}")
    return 1 if wrong else 0
