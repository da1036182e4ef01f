"""One module per tool, each with a tuple CHECKERS; ImportError where the tool is not installed.

A check(op, seed) is True if the tool calls the op's gradients wrong; any other error passes through.
Tools run with their defaults.  Who chooses dy: ours and CS231n's take normal numbers from the seed, autograd
draws its own (its generator gets the seed), JAX and torch's fast mode draw the same ones in every check, and
torch's slow mode goes through all elements of the output.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import NamedTuple

from scratchnmt.errors import InputError

from ..op import Op


class Checker(NamedTuple):
    name: str
    check: Callable[[Op, int], bool]


def load(peers: Sequence[str]) -> tuple[list[Checker], list[str]]:
    """The checkers of ours, the peers and CS231n; a line for each peer that is not installed."""
    checkers, skipped = [], []
    for name in ("ours", *peers, "cs231n"):
        module = f"{__name__}.{name}"
        if not importlib.util.find_spec(module):
            raise InputError(f"peer {name!r} is not known: expected torch, jax, autograd or scipy")
        try:
            checkers += importlib.import_module(module).CHECKERS
        except ImportError as error:
            skipped.append(f"{name} is left out: {error} (pip install {name})")
    return checkers, skipped


def lines_of_code(*where: ModuleType | type | Callable) -> int:
    """Lines of their functions and classes: one for each statement, none for docstrings and comments."""
    count = 0
    for part in where:
        tree = ast.parse(inspect.getsource(part))
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node):
                node.body = node.body[1:] or [ast.Pass()]
        definitions = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
        count += sum(bool(line.strip()) for node in definitions for line in ast.unparse(node).splitlines())
    return count
