"""What every line of a module computes while it runs: each assignment with its values, in the order of the lines.

    (loss, cache), lines = traced(textbook, textbook.forward, params, src, tgt)
    print("\\n".join(map(str, lines)))            # the lines of the file, with numbers in the place of comments

Of a line that adds to a value, as dh_dec[t] += dscore[s] * keys[s] does, the summand is kept, too.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from types import CodeType, FrameType, ModuleType
from typing import Any, NamedTuple

import numpy as np

COLUMN = 68  # where the numbers begin
_DECIMALS, _WIDTH = 4, 60


Tracer = Callable[[FrameType, str, Any], Any]  # of sys.settrace


class Value(NamedTuple):
    """What a line has given a name."""

    name: str  # "h_dec[0]": an index as it was when the line ran
    value: Any  # a copy
    added: Any = None  # of +=: the summand


@dataclass
class Line:
    """One run of one line."""

    number: int  # in the file, from 1
    depth: int  # of calls, 0 for the function that was traced
    code: str  # the line without its comment
    values: list[Value] = field(default_factory=list)

    def __str__(self) -> str:
        """The line, and its numbers from COLUMN on."""
        code, rows = 4 * self.depth * " " + self.code, self.numbers()
        if len(code) >= COLUMN or not rows:
            return "\n".join([code, *(f"{'':{COLUMN}}# {row}" for row in rows)])
        return "\n".join(f"{'' if k else code:{COLUMN}}# {row}" for k, row in enumerate(rows))

    def numbers(self) -> list[str]:
        """The values as text, as many side by side as _WIDTH has room for."""
        rows: list[str] = []
        for text in (text for value in self.values for text in _formatted(value)):
            if rows and len(rows[-1]) + len(text) < _WIDTH:
                rows[-1] += f", {text}"
            elif len(text) > _WIDTH and " + " in text:
                summand, equals, result = text.rpartition(" = ")
                rows += [summand, f"   {equals}{result}"]
            else:
                rows.append(text)
        return rows


def traced(module: ModuleType, function: Callable[..., Any], *args: Any) -> tuple[Any, list[Line]]:
    """function(*args), and the lines of `module` that it ran.  Each statement must have a line of its own."""
    tracer = _Tracer(module)
    before = sys.gettrace()
    sys.settrace(tracer.enter)
    try:
        return function(*args), tracer.lines
    finally:
        sys.settrace(before)


class _Tracer:
    """Follows the functions of a module, line by line."""

    def __init__(self, module: ModuleType):
        text = inspect.getsource(module)
        self.file = inspect.getsourcefile(module)
        self.texts = text.split("\n")
        self.statements = {node.lineno: node for node in ast.walk(ast.parse(text))
                           if isinstance(node, (ast.Assign, ast.AugAssign, ast.For)) and node.col_offset}
        self.lines: list[Line] = []
        self.running: list[Line | None] = []  # of each call that is under way
        self.before: list[Any] = []  # the value that a += of it adds to

    def enter(self, frame: FrameType, event: str, _: Any) -> Tracer | None:
        if not is_named(frame.f_code) or frame.f_code.co_filename != self.file:
            return None
        self.running.append(None)
        self.before.append(None)
        return self.follow

    def follow(self, frame: FrameType, event: str, _: Any) -> Tracer | None:
        failed = self.running[-1] if event == "exception" else None
        if failed and not isinstance(self.statements[failed.number], ast.For):
            self.running[-1] = None  # it has given nothing a value
        elif event in ("line", "return"):
            self._finish(frame)
        if event == "line" and (statement := self.statements.get(frame.f_lineno)):
            code = _without_comment(self.texts[frame.f_lineno - 1])
            line = Line(frame.f_lineno, len(self.running) - 1, code.removeprefix("    "))
            self.running[-1] = line
            self.lines.append(line)
            if isinstance(statement, ast.AugAssign):
                self.before[-1] = _copy(_evaluate(statement.target, frame))
        elif event == "return":
            self.running.pop()
            self.before.pop()
        return self.follow

    def _finish(self, frame: FrameType) -> None:
        """Note what the line has computed that was running till now."""
        line, self.running[-1] = self.running[-1], None
        if line is None:
            return
        statement = self.statements[line.number]
        if isinstance(statement, ast.For) and not line.number < frame.f_lineno <= (statement.end_lineno or 0):
            self.lines.pop()  # the loop has ended: it gave its variable no further value
            return
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in sum(map(_names, targets), []):
            value = _copy(_evaluate(target, frame))
            added = value - self.before[-1] if isinstance(statement, ast.AugAssign) else None
            line.values.append(Value(_label(target, frame), value, added))


def is_named(code: CodeType) -> bool:
    """Whether it is a function's, not a comprehension's."""
    return not code.co_name.startswith("<")


def _without_comment(text: str) -> str:
    return text.partition("  #")[0].rstrip()


def _names(target: ast.expr) -> list[ast.expr]:
    """The single targets of an assignment."""
    if isinstance(target, ast.Tuple):
        return [name for part in target.elts for name in _names(part)]
    return [] if isinstance(target, ast.Name) and target.id == "_" else [target]


def _evaluate(target: ast.expr, frame: FrameType) -> Any:
    return eval(_reading(target), frame.f_globals, frame.f_locals)


@lru_cache(maxsize=1000)
def _reading(target: ast.expr) -> CodeType:
    """The expression that reads what the target writes."""
    return compile(ast.unparse(target), "<trace>", "eval")


def _label(target: ast.expr, frame: FrameType) -> str:
    """The target with the value of its index: h_dec[t] is h_dec[0] at t = 0."""
    if isinstance(target, ast.Subscript):
        return f"{_label(target.value, frame)}[{json.dumps(_evaluate(target.slice, frame))}]"
    return ast.unparse(target)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(part) for key, part in value.items()}
    return value.copy() if isinstance(value, np.ndarray) else value


def _formatted(value: Value) -> list[str]:
    """"h_dec[0] = 0.0769", "do[0] + 0.003 = 0.1024"; a dict has a text for each entry, what is no number none."""
    name, numbers, added = value
    if isinstance(numbers, dict) and all(isinstance(part, np.ndarray) and not part.any() for part in numbers.values()):
        return [f"{name}: zeros"] if numbers else []
    if isinstance(numbers, dict):
        return [text for key, part in numbers.items() for text in _formatted(Value(f"{name}[{json.dumps(key)}]", part))]
    if not isinstance(numbers, (np.ndarray, float, int)):
        return []
    return [f"{name} = {_digits(numbers)}" if added is None else f"{name} + {_digits(added)} = {_digits(numbers)}"]


def _digits(value: Any) -> str:
    numbers = [str(round(number, _DECIMALS) + 0) for number in np.asarray(value).reshape(-1).tolist()]  # + 0: no -0.0
    return numbers[0] if len(numbers) == 1 else f"[{' '.join(numbers)}]"
