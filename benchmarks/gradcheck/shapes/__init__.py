"""Code of the shapes that people write, right and with one slip each: false alarms, misses, refusals, seconds.

Each file beside this one holds examples of one shape, parted by lines "# %% name".  The lines "# call: ..." check an
example with our checker; "# wrong: A => B" is the slip.  What stands before the first example belongs to all.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from ..bugs import RIGHT, WRONG
from ..checkers import Checker, lines_of_code
from ..op import Op
from ..tables import Printer

FOLDER = Path(__file__).parent


class Example(NamedTuple):
    """An example of code, and how to check it."""

    name: str
    shape: str  # the name of its file
    source: str
    call: tuple[str, ...]  # lines; the last is an expression, our report
    slip: tuple[str, str]  # the right text, which stands in the source once, and the wrong one

    def namespace(self, wrong: bool) -> dict[str, Any]:
        """What the source defines."""
        assert self.source.count(self.slip[0]) == 1, f"{self.name}: the slip must fit one place"
        text = self.source.replace(*self.slip) if wrong else self.source
        names: dict[str, Any] = {"__name__": self.shape}
        exec(compile(text, f"{self.shape}.py", "exec"), names)  # noqa: S102
        return names

    def run(self, wrong: bool, **calls: Callable) -> Any:
        """The value of the call's last line; calls: the functions that its lines may use."""
        names = {**self.namespace(wrong), **calls}
        exec("\n".join(self.call[:-1]), names)  # noqa: S102
        return eval(self.call[-1], names)  # noqa: S307


def examples() -> Iterator[Example]:
    """Those of all files in which everything that they import is there."""
    for path in sorted(FOLDER.glob("[!_]*.py")):
        header, *cells = re.split(r"^# %% ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        try:
            exec(header, {"__name__": path.stem})  # noqa: S102
        except ImportError:
            continue
        for cell in cells:
            [slip] = re.findall(r"^# wrong: (.*)$", cell, re.MULTILINE)
            right, wrong = slip.split(" => ")
            code = "".join(line for line in cell.splitlines(keepends=True)[1:] if not line.startswith("# "))
            yield Example(name=cell.partition("\n")[0], shape=path.stem, source=header + code,
                          call=tuple(re.findall(r"^# call: (.*)$", cell, re.MULTILINE)), slip=(right, wrong))


class Kept(Exception):
    """The pair is there, and there is nothing else to do."""


def op_of(example: Example, wrong: bool) -> Op:
    """An example as a pair of functions of plain arrays, by our own calls, for tools that take nothing else."""
    from scratchnmt.gradcheck import api, layers, pairs
    from scratchnmt.gradcheck.op import Op as Given

    held: list[Op] = []

    def keep(forward: Callable, backward: Any = None, args: Any = None, *, wrt: Any = None, **_: Any) -> Any:
        given = Given(*api.pair_of(forward, backward, args), wrt)
        given.settle(*given.forward(**given.args))
        held.append(Op(example.name, given.forward, given.backward, given.args, tuple(given.names)))
        raise Kept

    with contextlib.suppress(Kept), mock.patch.object(pairs, "check_gradients", keep), (
            mock.patch.object(layers, "check_gradients", keep)):
        example.run(wrong, gradcheck=keep, check_loss=pairs.check_loss, check_layer=layers.check_layer)
    return held[0]


def others(checkers: Sequence[Checker], every: Sequence[Example], printer: Printer) -> None:
    """The same examples for other tools."""
    rows = []
    for checker in checkers:
        start, said = time.perf_counter(), []
        for example in every:
            said.append(tuple(_of_peer(checker, example, wrong) for wrong in (False, True)))
        adapter = lines_of_code(sys.modules[checker.check.__module__])
        rows.append([checker.name, *map(str, counted(said)), str(adapter), f"{time.perf_counter() - start:.1f}"])
    printer.title(f"The same {len(every)}, turned into pairs of functions of plain arrays, by other tools' defaults "
                  f"(that takes {lines_of_code(op_of, Op)} lines more, and our own package)")
    printer.table(["", "false alarms", "misses", "refusals", "lines of adapter", "seconds"], rows)


def _of_peer(checker: Checker, example: Example, wrong: bool) -> str:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return WRONG if checker.check(op_of(example, wrong), 0) else RIGHT
        except Exception as error:  # noqa: BLE001  a refusal is counted
            return f"{type(error).__name__}: {error}"


def verdict(example: Example, wrong: bool) -> str:
    """What our checker says of an example: right, wrong, or the error it ends in."""
    import scratchnmt.gradcheck as checks

    def missing(*_: Any, **__: Any) -> None:
        raise NotImplementedError("there is no such call")

    calls = {name: getattr(checks, name, missing) for name in ("gradcheck", "check_loss", "check_layer")}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return RIGHT if example.run(wrong, **calls).ok else WRONG
        except checks.GradcheckError:
            return WRONG
        except Exception as error:  # noqa: BLE001  a refusal is counted
            return f"{type(error).__name__}: {error}".splitlines()[0]


def counted(said: Sequence[tuple[str, str]]) -> tuple[int, int, int]:
    """(false alarms, misses, refusals) of pairs (the verdict on the right one, that on the wrong one)"""
    count = Counter((WRONG if right == WRONG else RIGHT if right == RIGHT else "refused") for right, _ in said)
    return count[WRONG], sum(wrong == RIGHT for _, wrong in said), count["refused"]


def measured(checkers: Sequence[Checker], options: argparse.Namespace, printer: Printer) -> None:
    by_shape: dict[str, list[Example]] = {}
    for example in examples():
        by_shape.setdefault(example.shape, []).append(example)
    rows, lines = [], []
    for shape, some in by_shape.items():
        start = time.perf_counter()
        said = [(verdict(example, False), verdict(example, True)) for example in some]
        seconds = time.perf_counter() - start
        longest = max(len(example.call) for example in some)
        rows.append([shape, str(len(some)), *map(str, counted(said)), str(longest), f"{seconds:.1f}"])
        lines += [f"{shape}, {e.name}: {right if right != RIGHT else 'the slip is missed'}"
                  for e, (right, wrong) in zip(some, said, strict=True) if right != RIGHT or wrong == RIGHT]
    total = sum(map(len, by_shape.values()))
    printer.title(f"{total} examples of code as people write it, each right and with one slip")
    printer.table(["", "examples", "false alarms", "misses", "refusals", "lines", "seconds"], rows)
    if lines:
        printer.bullets(lines)
    others([checker for checker in checkers if not checker.name.startswith("scratchnmt")],
           [example for some in by_shape.values() for example in some], printer)
