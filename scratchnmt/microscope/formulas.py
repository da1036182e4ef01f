"""The formulas of quantities, as lines of text that can be evaluated: "o_dec[t,j] * tanh(c_dec[t,j])".

    formula   ["-"] term, then (" + " or " - ") term, ...
    term      "sum" LETTER ":" term, or factor, then (" * " or " / ") factor, ...
    factor    a number, a constant, NAME[index,...], FUNCTION(formula) or (formula)
    index     a letter, a number or a constant, then "+" or "-" another, ...

A NAME is a quantity, "d" and a quantity (its gradient), or a weight; the letters stand for the row and the column of
the number that is asked for, or for what a sum runs over.  The page evaluates the same lines by the same rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np

FUNCTIONS: dict[str, Callable[[float], Any]] = {
    "sigmoid": lambda x: 0.5 * (1 + np.tanh(0.5 * x)), "tanh": np.tanh, "exp": np.exp, "log": np.log,
    "sqrt": np.sqrt}
_TOKEN = re.compile(r"\s*(?:(sum)\s+([a-z])\s*:|(\d+\.?\d*)|([A-Za-z_][\w.]*(?:\[\d\](?=\[))?)|(.))")


class Reference(NamedTuple):
    name: str
    indices: tuple[tuple[tuple[int, str], ...], ...]  # each a sum of symbols with signs


class Node(NamedTuple):
    """A part of a formula: a sum, a product, a sum over a letter, a function, a reference or a number."""

    kind: str  # "add", "multiply", "sum", a function, "reference", "number"
    parts: tuple[Any, ...]  # "add", "multiply": (sign or power, node), ...


class Numbers(Protocol):
    """Where the numbers of a formula come from."""

    @property
    def constants(self) -> Mapping[str, int]:
        """Sizes, by their letters."""

    def get(self, name: str, indices: tuple[int, ...]) -> float: ...

    def size(self, name: str, axis: int) -> int: ...


class Term(NamedTuple):
    """One summand of a formula with its numbers; of a sum, a summand for each place."""

    text: str
    values: list[tuple[str, list[tuple[str, float]], float]]  # "k = 3", the factors with their numbers, the product

    @property
    def total(self) -> float:
        return float(sum(value for _, _, value in self.values))


def evaluate(formula: str, letters: Mapping[str, int], numbers: Numbers) -> float:
    """The formula at a cell; letters: its row and its column."""
    return _value(parse(formula), dict(letters), numbers)


def terms(formula: str, letters: Mapping[str, int], numbers: Numbers) -> Iterator[Term]:
    """The summands of a formula at a cell, with their factors."""
    for (sign, node), text in zip(parse(formula).parts, split(formula), strict=True):
        places = [dict(letters)] if node.kind != "sum" else [
            {**letters, node.parts[0]: n} for n in range(_range(node, numbers))]
        body = node.parts[1] if node.kind == "sum" else node
        values = []
        for at in places:
            factors = [(write(part, at, numbers.constants), _value(part, at, numbers) ** power)
                       for power, part in (body.parts if body.kind == "multiply" else [(1, body)])]
            name = f"{node.parts[0]} = {at[node.parts[0]]}" if node.kind == "sum" else ""
            values.append((name, factors, sign * float(np.prod([value for _, value in factors]))))
        yield Term(text, values)


def split(formula: str) -> list[str]:
    """The texts of the summands."""
    parts, depth, start = [], 0, 0
    for match in re.finditer(r"[()]| [+-] ", formula):
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if not depth and match[0] in (" + ", " - "):
            parts.append(formula[start : match.start()])
            start = match.end() if match[0] == " + " else match.start() + 1
    return [*parts, formula[start:]]


@lru_cache(maxsize=10_000)
def parse(formula: str) -> Node:
    """The formula as a tree, a sum at its root; ValueError if it is none."""
    tokens = [next((kind, text) for kind, text in zip(("sum", "letter", "number", "name", "mark"), match.groups(),
                                                      strict=True) if text and kind != "sum")
              for match in _TOKEN.finditer(formula)]
    return _Parser(tokens, formula).whole()


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]], formula: str):
        self.tokens, self.formula, self.at = tokens, formula, 0

    def whole(self) -> Node:
        node = self.sum()
        if self.at < len(self.tokens):
            raise ValueError(f"the formula {self.formula!r} has {self.tokens[self.at][1]!r} where nothing was expected")
        return node

    def sum(self) -> Node:
        parts = [(-1 if self._next("-") else 1, self.term())]
        while sign := self._next("+", "-"):
            parts.append((-1 if sign == "-" else 1, self.term()))
        return Node("add", tuple(parts))

    def term(self) -> Node:
        if self._peek()[0] == "letter":
            return Node("sum", (self._take(), self.term()))
        parts = [(1, self.factor())]
        while mark := self._next("*", "/"):
            parts.append((-1 if mark == "/" else 1, self.factor()))
        return parts[0][1] if len(parts) == 1 else Node("multiply", tuple(parts))

    def factor(self) -> Node:
        kind, text = self._peek()
        if kind == "number":
            self._take()
            return Node("number", (float(text),))
        if kind == "name":
            self._take()
            return self._named(text)
        self._expect("(")
        node = self.sum()
        self._expect(")")
        return node

    def _named(self, name: str) -> Node:
        if name in FUNCTIONS:
            self._expect("(")
            node = self.sum()
            self._expect(")")
            return Node(name, (node,))
        indices = []
        if self._next("["):
            indices = [self._index()]
            while self._next(","):
                indices.append(self._index())
            self._expect("]")
        return Node("reference", (Reference(name, tuple(indices)),))

    def _index(self) -> tuple[tuple[int, str], ...]:
        parts = [(1, self._take())]
        while sign := self._next("+", "-"):
            parts.append((-1 if sign == "-" else 1, self._take()))
        return tuple(parts)

    def _peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def _take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1][1]

    def _next(self, *marks: str) -> str:
        return self._take() if self._peek()[0] == "mark" and self._peek()[1] in marks else ""

    def _expect(self, mark: str) -> None:
        if not self._next(mark):
            raise ValueError(f"the formula {self.formula!r} has {self._peek()[1]!r} where {mark} was expected")


def _value(node: Node, at: dict[str, int], numbers: Numbers) -> float:
    if node.kind == "add":
        return float(sum(sign * _value(part, at, numbers) for sign, part in node.parts))
    if node.kind == "multiply":
        return float(np.prod([_value(part, at, numbers) ** power for power, part in node.parts]))
    if node.kind == "sum":
        letter, body = node.parts
        return sum(_value(body, {**at, letter: n}, numbers) for n in range(_range(node, numbers)))
    if node.kind == "number":
        return float(node.parts[0])
    if node.kind == "reference":
        reference = node.parts[0]
        if not reference.indices:
            return numbers.constants[reference.name]
        return numbers.get(reference.name, tuple(_index(index, at, numbers.constants) for index in reference.indices))
    return float(FUNCTIONS[node.kind](_value(node.parts[0], at, numbers)))


def _index(index: tuple[tuple[int, str], ...], at: Mapping[str, int], constants: Mapping[str, int]) -> int:
    return sum(sign * (int(symbol) if symbol.isdigit() else at[symbol] if symbol in at else constants[symbol])
               for sign, symbol in index)


def _range(node: Node, numbers: Numbers) -> int:
    """How many places a sum runs over: the shortest of the axes where its letter stands.

    In sum k: o[t-1,k] * decoder.Wh[k+H,j] these are H, though decoder.Wh has more rows.  An index with a number in it,
    as in t+1, does not count.
    """
    letter, body = node.parts
    sizes = [numbers.size(reference.name, axis) - sum(sign * numbers.constants[symbol] for sign, symbol in index[1:])
             for reference in _references(body) for axis, index in enumerate(reference.indices)
             if index[0] == (1, letter) and not any(symbol.isdigit() for _, symbol in index[1:])]
    if not sizes:
        raise ValueError(f"no index of the sum's letter {letter}")
    return min(sizes)


def _references(node: Node) -> Iterator[Reference]:
    if node.kind == "reference":
        if node.parts[0].indices:
            yield node.parts[0]
    elif node.kind != "number":
        for part in node.parts:
            part = part[1] if isinstance(part, tuple) and not isinstance(part, Node) else part
            if isinstance(part, Node):
                yield from _references(part)


def references(formula: str) -> Iterator[Reference]:
    """What a formula reads."""
    return _references(parse(formula))


def write(node: Node, at: Mapping[str, int], constants: Mapping[str, int]) -> str:
    """A factor with the places in it: "decoder.Wh[3,17]"."""
    if node.kind == "reference":
        name, indices = node.parts[0]
        return str(name) + (f"[{','.join(str(_index(index, at, constants)) for index in indices)}]" if indices else "")
    if node.kind == "number":
        return f"{node.parts[0]:g}"
    if node.kind == "add":
        texts = [f"{' - ' if sign < 0 else ' + ' if n else ''}{write(part, at, constants)}"
                 for n, (sign, part) in enumerate(node.parts)]
        return f"({''.join(texts)})"
    if node.kind == "multiply":
        return " * ".join(write(part, at, constants) for _, part in node.parts)
    if node.kind == "sum":
        return f"sum {node.parts[0]}: ..."
    return f"{node.kind}{write(node.parts[0], at, constants)}"
