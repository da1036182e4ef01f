"""Which of the elements that differ are held to it: not those on a kink, nor for what rounding may do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import Array
from .convention import call, cast, describe, outputs
from .inputs import to_host
from .kinks import at_kinks, direction, jointly, kink_at, size_at
from .measure import noise_floors, relative_errors, rms, with_doubt
from .numeric import complex_step, element_lines

if TYPE_CHECKING:
    from .elements import Elements


def judged(f: Callable, args: Mapping[str, Any], elements: Sequence[Elements], dys: Sequence[Array], *,
           method: str, rtol: float) -> list[Elements]:
    """The elements with their floors, and True in `kinks` where a kink explains what backward says."""
    if not elements:
        return []
    references = {e.name: e.reference for e in elements}
    ys = outputs(call(f, cast(args, "float64")))
    floors = noise_floors(references, args, ys, dys, rtol=rtol, dtype=describe(args, list(references))[0])
    elements = [e._replace(floor=floors[e.name]) for e in elements]
    if method == "complex" and not _add_up(f, args, elements, dys, rtol):
        elements = [_between_sides(f, args, e, dys) for e in elements]
    judged_alone = [_alone(f, args, e, dys, rtol) for e in elements]
    if any(e.kinks.any() for e in judged_alone):
        right = [np.flatnonzero(e.kinks | (_errors(e) <= rtol)) for e in judged_alone]
        chosen = {e.name: (e.indices[k], e.backward[k]) for e, k in zip(judged_alone, right, strict=True)}
        if not jointly(f, args, chosen, dys=dys):
            return [e._replace(kinks=np.zeros_like(e.kinks)) for e in judged_alone]
    return judged_alone


def _alone(f: Callable, args: Mapping[str, Any], e: Elements, dys: Sequence[Array], rtol: float) -> Elements:
    """Each element by itself."""
    error = _errors(e)
    worst_first: list[int] = np.argsort(-error, kind="stable").tolist()
    suspects = [k for k in worst_first if error[k] > rtol and np.isfinite(e.backward[k])]
    on, explained = at_kinks(f, args, e.name, e.indices, e.backward, suspects, dys=dys)
    return e._replace(floor=with_doubt(e.floor, np.where(on, 0.0, e.doubt), rtol), kinks=explained)


def _errors(e: Elements) -> np.ndarray:
    return relative_errors(e.backward, e.reference, e.floor)


def _add_up(f: Callable, args: Mapping[str, Any], elements: Sequence[Elements], dys: Sequence[Array],
            rtol: float) -> bool:
    """Is the complex step along all elements the sum of those along each?

    At a tie it is not, since of two equal numbers that one is the larger whose imaginary part is.
    """
    right = [np.flatnonzero(_errors(e) <= rtol) for e in elements]
    chosen = {e.name: (e.indices[k], e.backward[k]) for e, k in zip(elements, right, strict=True)}
    said = [g for _, backward in chosen.values() for g in backward]
    exact = complex_step(f, args, direction(args, chosen), dys=dys)
    return abs(exact - sum(said)) <= max(1e-9, rtol) * sum(map(abs, said))


def _between_sides(f: Callable, args: Mapping[str, Any], e: Elements, dys: Sequence[Array]) -> Elements:
    """With the middle of both sides' slopes as the reference wherever there is a kink."""
    along, flat = element_lines(f, args, e.name, dys=dys), to_host(args[e.name]).reshape(-1)
    reference = e.reference.copy()
    for k in np.flatnonzero(e.backward):
        kink = kink_at(along(e.indices[k]), size_at(flat, e.indices[k]))
        if kink is not None:
            reference[k] = (kink.low + kink.high) / 2
    return e._replace(reference=reference)


def doubtful(e: Elements, rtol: float) -> str | None:
    """A note on the elements that pass though rounding, or a real difference, hides an error of a thousandth."""
    size = np.abs(e.reference) + rms(e.reference)
    noise = np.broadcast_to(e.floor * rtol, e.reference.shape)
    hidden = (noise > 1e-3 * size) & (e.backward != e.reference) & ~e.kinks
    if not hidden.any():
        return None
    which = "no element" if hidden.all() else f"not {int(hidden.sum())} of {hidden.size} elements"
    return (f"d{e.name}: rounding, or the steps of a real difference, leave {noise[hidden].max():.1g} in doubt, "
            f"so this example tells {which} apart from its reference to a thousandth")
