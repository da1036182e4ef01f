"""scratchnmt museum: bugs of other projects in our own code, and the checks that catch them."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

from ..errors import InputError, did_you_mean
from .parser import Parser, add_option

HELP = "real bugs of other projects, each with the check that catches it"
USAGE = "scratchnmt museum [NAME ...] [--check | --markdown]"
EPILOG = """\
Each bug is a small patch to a copy of our own code; nothing that is installed is changed.  Without a name the
bugs are listed; with one, its story is told, the wrong lines and the right ones are shown, and the report that
caught it.

examples:
  scratchnmt museum
  scratchnmt museum dc-overwritten
  scratchnmt museum --check"""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("bugs", nargs="*", metavar="NAME", help="a bug of the list")
    output = parser.add_mutually_exclusive_group()
    add_option(output, "check", False, "run every check with and without its bug; the exit status is 1 if one "
               "fails to catch it")
    add_option(output, "markdown", False, "print the page docs/museum.md")


def run(args: argparse.Namespace) -> int:
    from ..museum import BUGS
    from ..museum.page import exhibit, markdown

    if args.markdown:
        if args.bugs:
            raise InputError(f"--markdown prints the whole page: expected no name beside it, not {args.bugs[0]}")
        sys.stdout.write(markdown())
        return 0
    chosen = [_find(name, BUGS) for name in args.bugs]
    if args.check:
        return _check(chosen or BUGS)
    print("\n\n\n".join(map(exhibit, chosen)) if chosen else _listing())
    return 0


def _find(name: str, bugs: Sequence[Any]) -> Any:
    named = {bug.name: bug for bug in bugs}
    if name in named:
        return named[name]
    hint = did_you_mean(name, named, most=3) or ": `scratchnmt museum` lists them"
    raise InputError(f"{name!r} is not a bug of the museum{hint}")


def _listing() -> str:
    from ..museum import SECTIONS
    from ..museum.page import by

    lines = []
    for section, bugs in SECTIONS.items():
        lines += [section, ""]
        for bug in bugs:
            lines += [f"  {bug.name:<29}{bug.title}", f"{'':31}caught by {by(bug)}"]
        lines.append("")
    count = sum(map(len, SECTIONS.values()))
    return "\n".join([*lines, f"{count} bugs; `scratchnmt museum NAME` shows one"])


def _check(bugs: Sequence[Any]) -> int:
    from ..museum import examine, sentence

    start, missed = time.perf_counter(), 0
    for bug in bugs:
        began = time.perf_counter()
        verdict, right = examine(bug), examine(bug, broken=False)
        result = "caught" if not verdict.ok and verdict.names(bug.caught) else "MISSED"
        result = result if right.ok else "RIGHT CODE FAILS"
        missed += result != "caught"
        print(f"  {bug.name:<29}{sentence(bug.check):<58}{result}  {time.perf_counter() - began:5.2f}", flush=True)
    print(f"\n  {len(bugs) - missed} of {len(bugs)} bugs are caught by their checks, which pass without them; "
          f"{time.perf_counter() - start:.1f} seconds")
    return 1 if missed else 0
