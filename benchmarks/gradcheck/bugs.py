"""Bugs caught and missed, right ops called wrong, and the time that it takes."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from scratchnmt.museum import BUGS, patched
from scratchnmt.selfcheck import CASES

from .. import measure
from .checkers import Checker
from .op import Op, op_of
from .tables import Printer

SEED = 0
SCALES = {1.0: "{bugs} bugs of the museum in {places} ops, and all {ops} ops as they are",
          1e-4: "The same with all outputs times 1e-4: gradients of the size that a mean over 10,000 tokens has"}
RIGHT, WRONG = "right", "wrong"  # a verdict is one of these, or what a checker raised

Verdicts = Mapping[str, str]  # of one checker, by the name of an op or a bug


def measured(checkers: Sequence[Checker], options: argparse.Namespace, printer: Printer) -> None:
    ops = [op_of(case, SEED) for case in CASES]
    for scale, title in SCALES.items():
        right = {c.name: {op.name: verdict(c, op.times(scale)) for op in ops} for c in checkers}
        broken, op_with = bug_verdicts(checkers, scale)
        printer.title(title.format(bugs=len(op_with), places=len(set(op_with.values())), ops=len(ops)))
        print_verdicts(right, broken, op_with, printer)
    print_times(checkers, ops, options.rounds, printer)


def print_verdicts(right: Mapping[str, Verdicts], broken: Mapping[str, Verdicts], op_with: Mapping[str, str],
                   printer: Printer) -> None:
    rows, lines = [], []
    for name in right:
        missed, unfit = outcome(broken[name], right[name], op_with)
        alarms = [op for op, said in right[name].items() if said == WRONG]
        caught = len(op_with) - len(missed) - len(unfit)
        rows.append([name, f"{caught} of {len(op_with)}", *(str(len(some)) for some in (missed, alarms, unfit))])
        lines += notes(name, missed, alarms, right[name])
    printer.table(["", "bugs caught", "missed", "false alarms", "not applicable"], rows)
    printer.text("A bug is in the museum because our check of every element catches it: that row says nothing of how "
                 "many bugs it catches; the others' rows do.")
    printer.bullets(lines)


def bug_verdicts(checkers: Sequence[Checker], scale: float) -> tuple[dict[str, Verdicts], dict[str, str]]:
    """({checker: {bug: verdict}}, {bug: op})"""
    broken, op_with = {c.name: {} for c in checkers}, {}
    for bug, op in broken_ops():
        op_with[bug] = op.name
        for c in checkers:
            broken[c.name][bug] = verdict(c, op.times(scale))
    return broken, op_with


def broken_ops() -> Iterator[tuple[str, Op]]:
    """(bug, op) for each bug that a check of one op sees; its modules are there until the next is asked for."""
    names = {case.name for case in CASES}
    for bug in BUGS:
        if bug.check in names:
            with patched(bug) as package:
                case = next(case for case in package.selfcheck.CASES if case.name == bug.check)
                yield bug.name, op_of(case, SEED)


def verdict(checker: Checker, op: Op) -> str:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return WRONG if checker.check(op, SEED) else RIGHT
        except Exception as error:  # noqa: BLE001  whatever a bug or a tool may raise
            return f"{type(error).__name__}: {error}".splitlines()[0]


def outcome(broken: Verdicts, right: Verdicts, op_with: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """(bugs missed, bugs in ops that the checker cannot check even when they are right)

    An error that the right op does not raise is caused by the bug, which is therefore seen.
    """
    unfit = [bug for bug, op in op_with.items() if right[op] not in (RIGHT, WRONG)]
    return [bug for bug, said in broken.items() if said == RIGHT and bug not in unfit], unfit


def print_times(checkers: Sequence[Checker], ops: Sequence[Op], rounds: int, printer: Printer) -> None:
    seconds = times(checkers, ops, rounds)
    printer.title(f"Time to check all {len(ops)} ops, the sum of each op's median of {rounds}")
    printer.table(["", "seconds", "of the first"],
                  [[name, f"{s:.2f}", f"{s / seconds[checkers[0].name]:.2f}"] for name, s in seconds.items()])


def times(checkers: Sequence[Checker], ops: Sequence[Op], rounds: int) -> dict[str, float]:
    """Seconds of each checker over all ops, the checkers taking turns at each op."""
    total = dict.fromkeys((c.name for c in checkers), 0.0)
    for op in ops:
        turns = {c.name: lambda c=c, op=op: verdict(c, op) for c in checkers}
        for name, seconds in measure.alternate(turns, rounds, warmup=1).items():
            total[name] += float(np.median([s.device for s in seconds]))
    return total


def notes(name: str, missed: list[str], alarms: list[str], right: Verdicts) -> list[str]:
    lines = [f"{name} misses {', '.join(missed) or 'nothing'}"]
    lines += [f"{name} calls {op} wrong, which is right" for op in alarms]
    raised = {op: said for op, said in right.items() if said not in (RIGHT, WRONG)}
    return lines + [f"{name} cannot check {op}: {said}" for op, said in raised.items()]
