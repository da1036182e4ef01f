"""The gradient of the loss by any number inside a step, by complex-step differentiation (Squire & Trapp 1998).

The number is moved by i h, h = 2^-100, between the operation that made it and those that read it; the imaginary part of
the loss, over h, is the derivative to the last digits.  Sentences of a batch do not know of each other, so that one
pass over many copies of a sentence finds the derivatives of as many numbers, one in each copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..arrays import Array
from ..gradcheck.reference import STEP
from ..models.nmt import NMT
from .record import Call
from .trace import Batch, Trace

COPIES = 24  # sentences in a pass


class Cell(NamedTuple):
    """One number: a unit in a row of a quantity of a sentence."""

    id: str
    b: int
    row: int
    unit: int


def can_be_moved(trace: Trace, id: str) -> bool:
    """Whether operations hand the quantity on, so that it can be moved between them.

    Logits cannot: they are made in chunks, which are others for complex numbers.
    """
    quantity = trace.table[id]
    value = quantity.value
    return bool(value and quantity.gradient and value.argument and not quantity.of and not value.derived
                and value.argument.layout != "packed_rows" and not id.startswith("row_"))


def derivatives(model: NMT, batch: Batch, cells: Sequence[Cell], seed: int | None = None) -> list[float]:
    """d loss / d cell of each, without any backward pass.

    With dropout (seed: of its masks) the masks belong to the batch as it is, so a pass moves one number in each
    sentence.
    """
    found: dict[int, float] = {}
    numbered = list(enumerate(cells))
    while numbered:
        if seed is None:
            now, numbered = numbered[:COPIES], numbered[COPIES:]
            columns = [cell.b for _, cell in now]
            moved = [(column, cell) for column, (_, cell) in enumerate(now)]
        else:
            first = {cell.b: n for n, (_, cell) in reversed(list(enumerate(numbered)))}
            now = [numbered[n] for n in sorted(first.values())]
            numbered = [entry for n, entry in enumerate(numbered) if n not in first.values()]
            columns = list(range(len(batch.src_lengths)))
            moved = [(cell.b, cell) for _, cell in now]
        losses = _moved_losses(model, Batch(batch.src[:, columns], np.asarray(batch.src_lengths)[columns],
                                            batch.tgt[:, columns]), moved, seed)
        found |= {n: losses[column].imag / STEP for (n, _), (column, _) in zip(now, moved, strict=True)}
    return [found[n] for n in range(len(cells))]


def _moved_losses(model: NMT, batch: Batch, moved: Iterable[tuple[int, Cell]], seed: int | None) -> Array:
    """The loss of each sentence (B,), complex, where the cell of each column is moved."""
    plan: dict[tuple[int, bool], list[tuple[str, tuple[int, ...], int, complex]]] = {}
    real = Trace(model, batch, seed, paths=False, backward=False)
    for column, cell in moved:
        row = real.rows(cell.id, "value")[column, cell.row]
        argument, after, amount = row.argument, row.after, 1j * STEP
        if argument == "c":  # c = f c_prev + i g, and h is made of it in the same operation: so c_prev is moved
            f = real.value("f" + cell.id[1:], column)[cell.row, cell.unit]
            argument, after, amount = "c_prev", False, amount / f
        plan.setdefault((row.call, after), []).append((argument, row.place, cell.unit, amount))

    def move(call: Call, after: bool) -> None:
        for argument, index, unit, amount in plan.get((call.number, after), ()):
            call.arguments[argument][index].reshape(-1)[unit] += amount  # a view

    weights = {name: array.astype(complex) for name, array in model.params.items()}
    trace = Trace(model.with_params(weights), batch, seed, hook=move, paths=False, backward=False)
    return trace.sentence_losses()
