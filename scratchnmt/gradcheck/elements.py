"""Gradients element by element: which elements to look at, the comparison, what to say about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from .clue import Clue
from .hints import hints_for
from .inputs import is_float_array, to_host
from .measure import Floor, relative_errors, tensor_report
from .numeric import derivatives
from .report import TensorReport
from .sampling import overlooked, sample, with_nonzero
from .verdict import doubtful, judged


class Elements(NamedTuple):
    """Some elements of one argument, n of them, and their gradient as backward and as the reference has it."""

    name: str  # "W"
    shape: tuple[int, ...]
    indices: np.ndarray  # (n,) into the flattened array
    backward: np.ndarray  # (n,)
    reference: np.ndarray  # (n,)
    labels: Sequence[str] | None = None  # of the last axis
    doubt: np.ndarray = np.array(0.0)  # (n,) how far a real difference may be off
    floor: Floor = 0.0  # of the error
    kinks: np.ndarray = np.array(False)  # (n,) True where a kink explains that the two differ


def compare(f: Callable, args: Mapping[str, Any], found: Mapping[str, Array], dys: Sequence[Array], *,
            method: str, rtol: float, most: int, labels: Mapping[str, Sequence[str]],
            seed: int) -> tuple[tuple[TensorReport, ...], tuple[str, ...], tuple[str, ...]]:
    """(reports, hints, notes) on backward's gradients `found`, {argument: gradient}."""
    dys = [dy.astype("float64") if is_float_array(dy) else dy for dy in dys]
    elements = []
    for name, g in found.items():
        shape, backward = args[name].shape, to_host(g).astype(float).reshape(-1)
        indices = sample(shape, most, labels.get(name), seed)
        if indices.size < backward.size:
            left_out = overlooked(f, args, name, backward, dys=dys, method=method, rtol=rtol, seed=seed)
            indices = np.union1d(with_nonzero(indices, backward, most, seed), left_out).astype(int)
        reference, doubt = derivatives(f, args, name, indices, dys=dys, method=method)
        elements.append(Elements(name=name, shape=shape, indices=indices, backward=backward[indices],
                                 reference=reference, labels=labels.get(name), doubt=doubt))
    elements = judged(f, args, elements, dys, method=method, rtol=rtol)
    tensors = [tensor_report(f"d{e.name}", e.shape, e.backward, e.reference, rtol=rtol, floor=e.floor,
                             indices=e.indices, labels=e.labels, kinks=e.kinks) for e in elements]
    notes = [note for e, tensor in zip(elements, tensors, strict=True) for note in _notes(e, tensor, rtol)]
    return tuple(tensors), tuple(hints_of(elements, args, tensors, rtol)), tuple(notes)


def hints_of(elements: Sequence[Elements], args: Mapping[str, Any], tensors: Sequence[TensorReport],
             rtol: float) -> list[str]:
    """Guesses at what is wrong, in sentences; tensors are the reports on the elements."""
    whole = {e.name: e.reference.reshape(e.shape) for e in elements if e.reference.size == prod(e.shape)}
    said = []
    for e, tensor in zip(elements, tensors, strict=True):
        if not tensor.ok:
            wrong = (relative_errors(e.backward, e.reference, e.floor) > rtol) & ~e.kinks
            value = to_host(args[e.name]).astype(float).reshape(-1)[e.indices]
            groups = None if e.labels is None else tuple(label.partition(",")[0] for label in e.labels)
            said += hints_for(Clue(name=tensor.name, argument=e.name, shape=e.shape, backward=e.backward,
                                   reference=e.reference, value=value, wrong=wrong, tolerance=rtol, args=args,
                                   indices=e.indices, groups=groups, references=whole))
    return said


def _notes(e: Elements, tensor: TensorReport, rtol: float) -> Iterator[str]:
    """What a reader of the report should know beside the numbers."""
    if e.kinks.any():
        yield _kink_note(e)
    if tensor.ok and not e.reference.any():
        yield f"d{e.name} is 0 in every element that was checked: these arguments tell nothing about it"
    elif tensor.ok and (note := doubtful(e, rtol)):
        yield note


def _kink_note(e: Elements) -> str:
    count = int(e.kinks.sum())
    index = tuple(int(i) for i in np.unravel_index(e.indices[int(np.argmax(e.kinks))], e.shape))
    label = f" ({e.labels[index[-1]]})" if e.labels is not None else ""
    lies, at = ("1 element lies", "at") if count == 1 else (f"{count} elements lie", "the first at")
    return (f"d{e.name}: {lies} on a kink of the forward pass (relu, max, clip), {at} {index}{label}: the slope "
            "jumps there, and what backward says is between both sides, so it is not counted as wrong"
            + ("; there is no other element, so these arguments tell nothing about it" if e.kinks.all() else ""))
