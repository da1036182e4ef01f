"""Two gradients side by side: backward's and its reference's, element by element, or those of two implementations.

Which elements to look at, the comparison, what to say about it; then `check_variant`, for a fused kernel or float32
beside plain float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, array_module
from .convention import (
    call,
    cast,
    check_callable,
    check_numbers,
    describe,
    differentiable,
    is_float_array,
    kind,
    named_gradients,
    output_names,
    outputs,
    run_backward,
    run_forward,
    to_host,
)
from .differences import at_kinks, direction, element_lines, jointly, kink_at, size_at
from .directional import draw_direction, halve
from .hints import Mismatch, hints_for, said_once
from .reference import NotAnalyticError, central, choose_dys, complex_step, derivatives
from .report import (
    DOUBTS,
    Floor,
    Report,
    TensorReport,
    noise_floors,
    raise_if_wrong,
    relative_errors,
    rms,
    tensor_report,
    with_doubt,
)

CONFIRMED = 8  # wrong elements that a real difference must confirm
SMALL = 1e-3  # an error above this needs no confirmation


class Elements(NamedTuple):
    """Some elements of one argument, n of them, and their gradient as backward and as the reference has it."""

    name: str  # "W"
    shape: tuple[int, ...]
    indices: np.ndarray  # (n,) into the flattened array
    backward: np.ndarray  # (n,)
    reference: np.ndarray  # (n,)
    labels: Sequence[str] | None = None  # of the last axis
    method: str = "complex"
    rtol: float = 1e-12
    doubt: np.ndarray = np.array(0.0)  # (n,) how far a real difference may be off
    floor: Floor = 0.0  # of the error
    kinks: np.ndarray = np.array(False)  # (n,) True where a kink explains that the two differ


def compare(f: Callable[..., Any], args: Mapping[str, Any], found: Mapping[str, Array], dys: Sequence[Array], *,
            methods: Mapping[str, str], rtols: Mapping[str, float], dtype: str, most: int,
            labels: Mapping[str, Sequence[str]], seed: int
            ) -> tuple[tuple[TensorReport, ...], tuple[str, ...], tuple[str, ...]]:
    """(reports, hints, notes) on backward's gradients `found`, {argument: gradient}."""
    dys = [dy.astype("float64") if is_float_array(dy) else dy for dy in dys]
    elements = []
    for name, g in found.items():
        shape, backward = args[name].shape, to_host(g).astype(float).reshape(-1)
        indices = sample(shape, most, labels.get(name), seed)
        if indices.size < backward.size:
            left_out = overlooked(f, args, name, backward, dys=dys, method=methods[name], rtol=rtols[name], seed=seed)
            indices = np.union1d(with_nonzero(indices, backward, most, seed), left_out).astype(int)
        reference, doubt = derivatives(f, args, name, indices, dys=dys, method=methods[name],
                                       dtype=dtype if args[name].dtype == "float64" else "float64")
        elements.append(Elements(name=name, shape=shape, indices=indices, backward=backward[indices],
                                 reference=reference, labels=labels.get(name), doubt=doubt,
                                 method=methods[name], rtol=rtols[name]))
    elements = judged(f, args, elements, dys, dtype=dtype)
    for e in elements:
        confirm(f, args, e, dys)
    tensors = [replace(tensor_report(f"d{e.name}", e.shape, e.backward, e.reference, rtol=e.rtol, floor=e.floor,
                                     indices=e.indices, labels=e.labels, kinks=e.kinks), method=e.method, rtol=e.rtol)
               for e in elements]
    notes = [note for e, tensor in zip(elements, tensors, strict=True) for note in _notes(e, tensor, e.rtol)]
    return tuple(tensors), tuple(hints_of(elements, args, tensors, tuple(np.shape(dy) for dy in dys))), tuple(notes)


def confirm(f: Callable[..., Any], args: Mapping[str, Any], e: Elements, dys: Sequence[Array]) -> None:
    """NotAnalyticError if a real difference agrees with backward where complex-step does not."""
    if e.method != "complex":
        return
    error = np.where(e.kinks, 0.0, _errors(e))
    worst = [int(k) for k in np.argsort(-error, kind="stable")[:CONFIRMED]
             if error[k] > e.rtol and np.isfinite(e.backward[k])]
    if not worst or error[worst[0]] > SMALL:
        return
    try:
        found, doubt = derivatives(f, args, e.name, e.indices[worst], dys=dys, method="richardson")
    except ValueError:  # no difference can be taken there
        return
    slack = DOUBTS * doubt + 1e-8 * np.abs(found)
    agree = np.abs(found - e.backward[worst]) <= slack
    if (agree & (np.abs(found - e.reference[worst]) > 2 * slack)).all():
        index = tuple(int(i) for i in np.unravel_index(e.indices[worst[0]], e.shape))
        raise NotAnalyticError(f"at {e.name}{list(index)} complex-step gives {e.reference[worst[0]]:.9g}, but a real "
                               f"difference {found[0]:.9g}, as backward has it: the forward pass is not "
                               "complex-analytic; check with method='richardson'", e.name)


def hints_of(elements: Sequence[Elements], args: Mapping[str, Any], tensors: Sequence[TensorReport],
             outputs: tuple[tuple[int, ...], ...] = ()) -> list[str]:
    """Guesses at what is wrong, in sentences; tensors are the reports on the elements."""
    whole = {e.name: e.reference.reshape(e.shape) for e in elements if e.reference.size == prod(e.shape)}
    said = []
    for e, tensor in zip(elements, tensors, strict=True):
        if not tensor.ok:
            wrong = (relative_errors(e.backward, e.reference, e.floor) > e.rtol) & ~e.kinks
            value = to_host(args[e.name]).astype(float).reshape(-1)[e.indices]
            groups = None if e.labels is None else tuple(label.partition(",")[0] for label in e.labels)
            said += hints_for(Mismatch(name=tensor.name, argument=e.name, shape=e.shape, backward=e.backward,
                                   reference=e.reference, value=value, wrong=wrong, tolerance=e.rtol, args=args,
                                   indices=e.indices, groups=groups, references=whole, outputs=outputs))
    return said_once(said, [tensor.name for tensor in tensors])


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


REAL = 1e-4  # a real difference along thousands of elements at once has few digits, but it sees what is left out


def sample(shape: tuple[int, ...], most: int, labels: Sequence[str] | None, seed: int) -> np.ndarray:
    """Flat indices to check: all, or `most` of them with an equal share for every label."""
    size = prod(shape)
    if size <= most:
        return np.arange(size)
    rng = np.random.default_rng(seed)
    if labels is None:
        return np.sort(rng.choice(size, most, replace=False))
    columns, rows = shape[-1], size // shape[-1]
    shares = most // columns + (rng.permutation(columns) < most % columns)
    picked = [rng.choice(rows, share, replace=False) * columns + c for c, share in enumerate(shares)]
    return np.sort(np.concatenate(picked))


def with_nonzero(indices: np.ndarray, backward: np.ndarray, most: int, seed: int) -> np.ndarray:
    """With up to most / 2 more where backward, flattened, is not zero, if few of the indices are there.

    Of a table of 20,000 words, the words of one sentence are hardly ever drawn.
    """
    if 2 * np.count_nonzero(backward[indices]) >= indices.size:
        return indices
    live = np.flatnonzero(backward)
    more = np.random.default_rng(seed).choice(live, min(live.size, (most + 1) // 2), replace=False)
    return np.union1d(indices, more)


def overlooked(f: Callable[..., Any], args: Mapping[str, Any], name: str, backward: np.ndarray, *, dys: Sequence[Array],
               method: str, rtol: float, seed: int) -> list[int]:
    """One flat index where the derivative along a random direction of all of args[name] is not backward's.

    Empty if the two agree.  The element is found by halving the direction, and is yet to be compared.
    """
    if not np.isfinite(backward).all():
        return [int(np.argmin(np.isfinite(backward)))]
    u = draw_direction(backward.size, [seed, 4]).astype(float)
    derivative, tolerance = (complex_step, 10 * rtol) if method == "complex" else (central, max(REAL, 10 * rtol))

    def along(part: slice) -> float:
        v = np.zeros_like(u)
        v[part] = u[part]
        v = array_module(args[name]).asarray(v.reshape(args[name].shape))
        with np.errstate(all="ignore"):
            return derivative(f, args, {name: v}, dys=dys)

    def gap(start: int, stop: int) -> float:
        part = slice(start, stop)
        return float(backward[part] @ u[part]) - along(part)

    off = abs(gap(0, backward.size))
    return [] if off <= tolerance * float(np.linalg.norm(backward)) else [halve(gap, 0, backward.size)]


def judged(f: Callable[..., Any], args: Mapping[str, Any], elements: Sequence[Elements], dys: Sequence[Array], *,
           dtype: str) -> list[Elements]:
    """The elements with their floors, and True in `kinks` where a kink explains what backward says."""
    if not elements:
        return []
    references = {e.name: e.reference for e in elements}
    ys = outputs(call(f, cast(args, "float64")))
    elements = [e._replace(floor=noise_floors(references, args, ys, dys, rtol=e.rtol, dtype=dtype)[e.name])
                for e in elements]
    exact = [e for e in elements if e.method == "complex"]
    if exact and not _add_up(f, args, exact, dys):
        elements = [_between_sides(f, args, e, dys) if e.method == "complex" else e for e in elements]
    judged_alone = [_alone(f, args, e, dys) for e in elements]
    if any(e.kinks.any() for e in judged_alone):
        right = [np.flatnonzero(e.kinks | (_errors(e) <= e.rtol)) for e in judged_alone]
        chosen = {e.name: (e.indices[k], e.backward[k]) for e, k in zip(judged_alone, right, strict=True)}
        if not jointly(f, args, chosen, dys=dys):
            return [e._replace(kinks=np.zeros_like(e.kinks)) for e in judged_alone]
    return judged_alone


def _alone(f: Callable[..., Any], args: Mapping[str, Any], e: Elements, dys: Sequence[Array]) -> Elements:
    """Each element by itself."""
    error = _errors(e)
    worst_first: list[int] = np.argsort(-error, kind="stable").tolist()
    suspects = [k for k in worst_first if error[k] > e.rtol and np.isfinite(e.backward[k])]
    on, explained = at_kinks(f, args, e.name, e.indices, e.backward, suspects, dys=dys)
    return e._replace(floor=with_doubt(e.floor, np.where(on, 0.0, e.doubt), e.rtol), kinks=explained)


def _errors(e: Elements) -> np.ndarray:
    return relative_errors(e.backward, e.reference, e.floor)


def _add_up(f: Callable[..., Any], args: Mapping[str, Any], elements: Sequence[Elements],
            dys: Sequence[Array]) -> bool:
    """Is the complex step along all elements the sum of those along each?

    At a tie it is not, since of two equal numbers that one is the larger whose imaginary part is.
    """
    right = [np.flatnonzero(_errors(e) <= e.rtol) for e in elements]
    chosen = {e.name: (e.indices[k], e.backward[k]) for e, k in zip(elements, right, strict=True)}
    said = [g for _, backward in chosen.values() for g in backward]
    exact = complex_step(f, args, direction(args, chosen), dys=dys)
    return bool(abs(exact - sum(said)) <= max(1e-9, elements[0].rtol) * sum(map(abs, said)))


def _between_sides(f: Callable[..., Any], args: Mapping[str, Any], e: Elements, dys: Sequence[Array]) -> Elements:
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


Way = tuple[Callable[..., Any], Callable[..., Any]]
CANCELLED = 0.01  # an output that is smaller beside the others, perhaps zero by cancellation, is judged by their size


class Pair(NamedTuple):
    """One output, or one gradient, by both."""

    name: str  # "y", "dx"
    argument: str  # "x"; of an output ""
    fused: np.ndarray
    plain: np.ndarray
    floor: float = 0.0  # of the error

    @property
    def fits(self) -> bool:
        return self.fused.shape == self.plain.shape


def check_variant(plain: Way, fused: Way, args: Mapping[str, Any], *, wrt: Sequence[str] | None = None,
                  dys: Any = None, rtol: float | None = None, steps: int = 1, seed: int = 0) -> Report:
    """Compare two implementations of one op, each (forward, backward): outputs and gradients.

    `fused` runs on args as they are; `plain` in float64 on the same values, so that the rounding of the
    inputs does not count as error.  The tolerance is 64 eps of the dtype of args, times the root of `steps`.
    """
    check_numbers(rtol, seed)
    _check_pair("plain", plain)
    _check_pair("fused", fused)
    names = differentiable(args, wrt)
    dtype, device = describe(args, names)
    rtol = 64 * float(np.finfo(dtype).eps) * steps**0.5 if rtol is None else rtol
    ys, gradients, dys = _run_both(plain, fused, args, names, dys, seed)
    ys, gradients = _with_floors(ys, gradients, args, dys, rtol, dtype)
    tensors = _reports(ys, rtol) + _reports(gradients, rtol)
    hints = _hints(gradients, args, tensors, rtol)
    broken = tuple(f"{p.name} has shape {p.fused.shape}, but {p.plain.shape} in the plain op"
                   for p in (*ys, *gradients) if not p.fits)
    return Report(method="variant", dtype=dtype, device=device, rtol=rtol, seed=seed, tensors=tuple(tensors),
                  broken_promises=broken, hints=tuple(hints))


def assert_variant(*args: Any, **kwargs: Any) -> Report:
    """`check_variant`, raising GradcheckError with the report if the two differ."""
    __tracebackhide__ = True
    return raise_if_wrong(check_variant(*args, **kwargs))


def _check_pair(what: str, op: Any) -> None:
    if not isinstance(op, (tuple, list)) or len(op) != 2:
        raise TypeError(f"{what} is {kind(op)}: expected a pair (forward, backward)")
    for name, function in zip(("forward", "backward"), op, strict=False):
        check_callable(f"the {name} of {what}", function)


def _run_both(plain: Way, fused: Way, args: Mapping[str, Any], names: Sequence[str], dys: Any,
              seed: int) -> tuple[list[Pair], list[Pair], list[Array]]:
    """(outputs, gradients, dys); of outputs that differ in shape no gradients."""
    args64 = cast(args, "float64")
    (y, cache), (y64, cache64) = run_forward(fused[0], args), run_forward(plain[0], args64)
    if len(outputs(y)) != len(outputs(y64)):
        raise ValueError(f"the plain op has {len(outputs(y64))} outputs with a gradient, "
                         f"the fused one {len(outputs(y))}")
    ys = [_pair(*three) for three in zip(output_names(y), outputs(y), outputs(y64), strict=True)]
    if not all(pair.fits for pair in ys):
        return ys, [], []
    dys = choose_dys(lambda **some: run_forward(plain[0], some)[0], args64, names, y, dys, method="central",
                     seed=seed)
    found = named_gradients(run_backward(fused[1], dys, cache), args, names)
    dys64 = [dy.astype("float64") if is_float_array(dy) else dy for dy in dys]
    expected = named_gradients(run_backward(plain[1], dys64, cache64), args, names)
    return ys, [_pair(f"d{name}", found[name], expected[name], name) for name in names], dys


def _with_floors(ys: Sequence[Pair], gradients: Sequence[Pair], args: Mapping[str, Any], dys: Sequence[Array],
                 rtol: float, dtype: str) -> tuple[list[Pair], list[Pair]]:
    """Outputs and gradients have different units: a large output says nothing of what a gradient's noise is."""
    size = max(rms(pair.plain) for pair in ys)
    floors = noise_floors({g.argument: g.plain for g in gradients}, args,
                          [pair.plain for pair in ys] if dys else [], dys, rtol=rtol, dtype=dtype)
    return ([pair._replace(floor=CANCELLED * size) for pair in ys],
            [pair._replace(floor=floors[pair.argument]) for pair in gradients])


def _pair(name: str, fused: Array, plain: Array, argument: str = "") -> Pair:
    return Pair(name=name, argument=argument, fused=to_host(fused).astype(float), plain=to_host(plain))


def _reports(pairs: Sequence[Pair], rtol: float) -> list[TensorReport]:
    return [tensor_report(p.name, p.fused.shape, p.fused.reshape(-1), p.plain.reshape(-1), rtol=rtol,
                          floor=p.floor)
            for p in pairs if p.fits]


def _hints(gradients: Sequence[Pair], args: Mapping[str, Any], tensors: Sequence[TensorReport],
           rtol: float) -> list[str]:
    elements = [Elements(name=g.argument, rtol=rtol, shape=args[g.argument].shape, indices=np.arange(g.plain.size),
                         backward=g.fused.reshape(-1), reference=g.plain.reshape(-1), floor=g.floor)
                for g in gradients if g.fits]
    by_name = {tensor.name: tensor for tensor in tensors}
    return hints_of(elements, args, [by_name[f"d{e.name}"] for e in elements])
