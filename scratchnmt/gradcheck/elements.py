"""Gradients element by element: which elements to look at, the comparison, what to say about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from .clue import Clue
from .hints import hints_for
from .inputs import is_float_array, to_host
from .kinks import at_kinks
from .measure import noise_floor, relative_errors, tensor_report
from .numeric import gradient
from .report import TensorReport


class Elements(NamedTuple):
    """Some elements of one argument, n of them, and their gradient as backward and as the reference has it."""

    name: str  # "W"
    shape: tuple[int, ...]
    indices: np.ndarray  # (n,) into the flattened array
    backward: np.ndarray  # (n,)
    reference: np.ndarray  # (n,)
    labels: Sequence[str] | None = None  # of the last axis
    kinks: np.ndarray = np.array(False)  # (n,) True where a kink explains that the two differ


def compare(f: Callable, args: Mapping[str, Any], found: Mapping[str, Array], dys: Sequence[Array], *,
            method: str, rtol: float, most: int, labels: Mapping[str, Sequence[str]],
            seed: int) -> tuple[tuple[TensorReport, ...], tuple[str, ...], tuple[str, ...]]:
    """(reports, hints, notes) on backward's gradients `found`, {argument: gradient}."""
    dys = [dy.astype("float64") if is_float_array(dy) else dy for dy in dys]
    elements = []
    for name, g in found.items():
        indices = sample(args[name].shape, most, labels.get(name), seed)
        reference = gradient(f, args, name, dys=dys, method=method, indices=indices)
        backward = to_host(g).astype(float).reshape(-1)[indices]
        elements.append(Elements(name, args[name].shape, indices, backward, reference, labels.get(name)))
    floor = noise_floor([e.reference for e in elements], dys)
    for k, e in enumerate(elements):
        kinks = at_kinks(f, args, e.name, e.indices, e.backward, e.reference,
                         relative_errors(e.backward, e.reference, floor), dys=dys, rtol=rtol, method=method)
        elements[k] = e._replace(kinks=kinks)
    tensors = [tensor_report(f"d{e.name}", e.shape, e.backward, e.reference, rtol=rtol, floor=floor,
                             indices=e.indices, labels=e.labels, kinks=e.kinks) for e in elements]
    notes = [_kink_note(e) for e in elements if e.kinks.any()]
    return tuple(tensors), tuple(hints_of(elements, args, tensors, rtol, floor)), tuple(notes)


def hints_of(elements: Sequence[Elements], args: Mapping[str, Any], tensors: Sequence[TensorReport], rtol: float,
             floor: float) -> list[str]:
    """Guesses at what is wrong, in sentences; tensors are the reports on the elements."""
    whole = {e.name: e.reference.reshape(e.shape) for e in elements if e.reference.size == prod(e.shape)}
    said = []
    for e, tensor in zip(elements, tensors):
        if not tensor.ok:
            wrong = (relative_errors(e.backward, e.reference, floor) > rtol) & ~e.kinks
            value = to_host(args[e.name]).astype(float).reshape(-1)[e.indices]
            groups = None if e.labels is None else tuple(label.partition(",")[0] for label in e.labels)
            said += hints_for(Clue(tensor.name, e.name, e.shape, e.backward, e.reference, value, wrong, rtol, args,
                                   e.indices, groups, whole))
    return said


def sample(shape: tuple[int, ...], most: int, labels: Sequence[str] | None, seed: int) -> np.ndarray:
    """Flat indices to check: all, or `most` of them with an equal share for every label."""
    size = prod(shape)
    if size <= most:
        return np.arange(size)
    rng = np.random.default_rng(seed)
    if labels is None:
        return np.sort(rng.choice(size, most, replace=False))
    columns, rows = shape[-1], size // shape[-1]
    chosen = range(columns) if columns <= most else rng.choice(columns, most, replace=False)
    share = max(1, most // columns)
    picked = [rng.choice(rows, share, replace=False) * columns + c for c in chosen]
    return np.sort(np.concatenate(picked))


def _kink_note(e: Elements) -> str:
    count = int(e.kinks.sum())
    index = tuple(int(i) for i in np.unravel_index(e.indices[int(np.argmax(e.kinks))], e.shape))
    label = f" ({e.labels[index[-1]]})" if e.labels is not None else ""
    lies, at = ("1 element lies", "at") if count == 1 else (f"{count} elements lie", "the first at")
    return (f"d{e.name}: {lies} on a kink of the forward pass (relu, max, clip), {at} {index}{label}: the slope "
            "jumps there, and what backward says is between both sides, so it is not counted as wrong")
