"""The package's own code as text: the function that a line stands in, the equation that it computes, what it says."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from typing import Any, NamedTuple

from .record import ROOT, Site

_NUMBER = re.compile(r"#.*?\((\d+)\)")


class Function(NamedTuple):
    """A function, as it stands in its file."""

    file: str
    name: str  # "LSTMCell.step"
    first: int  # its first line, from 1
    lines: list[str]


class Equation(NamedTuple):
    text: str  # "(3)  c = f * c_prev + i * g", as the file's docstring has it
    file: str


class _File(NamedTuple):
    lines: list[str]
    tree: ast.Module
    functions: list[tuple[str, ast.FunctionDef]]  # with their qualified names


@lru_cache(maxsize=100)
def _file(name: str) -> _File:
    text = (ROOT / name).read_text(encoding="utf-8")
    tree = ast.parse(text)
    return _File(text.split("\n"), tree, list(_functions(tree, "")))


def _functions(node: ast.AST, prefix: str) -> Any:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
            if isinstance(child, ast.FunctionDef):
                yield prefix + child.name, child
            yield from _functions(child, f"{prefix}{child.name}.")


def function_at(site: Site) -> Function:
    """The innermost function around a line."""
    file = _file(site.file)
    around = [(name, node) for name, node in file.functions if node.lineno <= site.line <= (node.end_lineno or 0)]
    name, node = around[-1]
    return Function(site.file, name, node.lineno, file.lines[node.lineno - 1 : node.end_lineno])


def statement_at(site: Site) -> tuple[int, int]:
    """The first and the last line of the smallest statement around a line."""
    around = [(node.lineno, node.end_lineno or node.lineno) for node in ast.walk(_file(site.file).tree)
              if isinstance(node, ast.stmt) and node.lineno <= site.line <= (node.end_lineno or 0)]
    return min(around, key=lambda lines: lines[1] - lines[0])


def line_that_makes(site: Site, name: str) -> Site:
    """The last line of the function at `site` that gives the argument `name` its value; its first one if none does."""
    file = _file(site.file)
    node = next(node for _, node in file.functions if node.lineno <= site.line <= (node.end_lineno or 0)
                and node.name == site.function)
    made = [statement.lineno for statement in ast.walk(node) if isinstance(statement, (ast.Assign, ast.AugAssign,
                                                                                      ast.Expr, ast.Return))
            and _gives(statement, name)]
    return site._replace(line=max(made, default=node.lineno))


def _gives(statement: ast.stmt, name: str) -> bool:
    """Whether it assigns to the name, or hands it on as a buffer to be filled: out=name."""
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    names = [node for target in targets if target is not None for node in ast.walk(target)]  # dW[ids] += is dW's
    buffers = [keyword.value for node in ast.walk(statement) if isinstance(node, ast.Call)
               for keyword in node.keywords if keyword.arg == "out"]
    return any(isinstance(node, ast.Name) and node.id == name for node in (*names, *buffers))


def equation_at(site: Site, above: bool = False) -> Equation | None:
    """The equation whose number stands behind a line, in the words of the file's docstring.

    above: or behind the nearest line above, in the same function.  Parts of the decoder have their numbers from it.
    """
    file, (first, last) = _file(site.file), statement_at(site)
    if last - first > 8:  # a loop or a function, not a line
        first = last = site.line
    if above:
        first = function_at(site).first
    number = next((match[1] for line in reversed(file.lines[first - 1 : last]) if (match := _NUMBER.search(line))), "")
    for name in (site.file, *(["models/decoder.py"] if site.file.startswith("models/") else [])):
        if number and (text := _equation(name, number)):
            return Equation(text, name)
    return None


@lru_cache(maxsize=500)
def _equation(file: str, number: str) -> str:
    """The equation of that number in a file's docstring, with the lines that go on with it."""
    lines = (ast.get_docstring(_file(file).tree) or "").split("\n")
    start = next((n for n, line in enumerate(lines) if line.strip().startswith(f"({number})")), None)
    if start is None:
        return ""
    text = [lines[start].strip()]
    for line in lines[start + 1 :]:
        if not line.startswith("     ") or line.strip().startswith("("):
            break
        text.append(line.strip())
    return "\n".join(text)
