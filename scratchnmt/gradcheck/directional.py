"""A whole model in a few forward passes: directional derivatives, tensor by tensor.

The directional derivative of the loss along u must equal <gradient, u>.  With every element of u between
0.5 and 1.5 in size none is weighted down by much, and one complex forward pass per tensor checks all of
its elements at once.  When a tensor fails, halves of its direction lead to the element.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ..arrays import array_module
from .convention import (
    cast,
    check_array,
    check_callable,
    check_numbers,
    describe,
    is_array,
    kind,
    named_gradients,
    run_backward,
    to_host,
)
from .differences import Line, element_lines, extrapolated, kink_at, settled, size_of, slope, terms, widest_step
from .hints import Mismatch, hints_for
from .reference import METHODS, STEP, Carried, NotAnalyticError, check_analytic, check_method, compared, inner_complex
from .report import Offender, Report, TensorReport, raise_if_wrong, rms
from .trees import changed, snapshot

RTOL = {"complex": 1e-11, "richardson": 1e-7, "central": 1e-5}
CLOSE_ENOUGH = 1e-6  # of a loss, whose terms are many
Measured = dict[tuple[str, ...], list[tuple[float, float]]]


def check_directional(loss: Callable[..., Any], grads: Callable[..., Any], params: Mapping[str, Any], *,
                      probes: int = 2, rtol: float | None = None, per_tensor: bool = True, locate: bool = True,
                      method: str = "auto", seed: int = 0) -> Report:
    """Check the gradients of a whole model: loss(params) -> scalar, grads(params) -> {name: gradient}.

    `params` maps names to arrays of floats; loss and grads are called with dicts of the same names in
    complex128 and float64.  Each probe costs one complex forward pass per tensor, or one in all with
    per_tensor=False, where tensors are looked at singly only after a failure.  The error is that of the
    directional derivative, relative to the gradient's norm.  `locate` bisects a failing tensor to an element.
    method: "auto" takes complex-step or, where it cannot go, real differences, and a note says why.
    ValueError: what was given does not fit; NotAnalyticError: complex-step cannot go through the loss;
    GradcheckError: grads raised.
    """
    check_numbers(rtol, seed)
    check_method(method, ("auto", *METHODS))
    check_callable("loss", loss)
    check_callable("grads", grads)
    _check_given(params, probes)
    check = partial(_check, loss, grads, params, probes=probes, rtol=rtol, per_tensor=per_tensor, locate=locate,
                    seed=seed)
    try:
        return check(method)
    except NotAnalyticError as error:
        if method != "auto":
            raise
        return replace(check("richardson"), notes=(f"by richardson, not complex-step: {error}",))


def _check(loss: Callable[..., Any], grads: Callable[..., Any], params: Mapping[str, Any], method: str, *, probes: int,
           rtol: float | None, per_tensor: bool, locate: bool, seed: int) -> Report:
    method, function = ("complex", Carried(_by_name(loss))) if method == "auto" else (method, _by_name(loss))
    rtol = RTOL[method] if rtol is None else rtol
    _, device = describe(params, list(params))
    values = cast(params, "float64")
    given = snapshot(values)
    broken = _writes("loss", given, values, _run_twice(loss, values))
    gradients = {} if broken else _gradients(grads, values)
    broken = broken or _writes("grads", given, values)
    report = partial(Report, method=f"{method}, directional", dtype="float64", device=device, rtol=rtol, seed=seed)
    if broken:
        return report(tensors=(), broken_promises=broken)
    probe = Probe(function, values, gradients, method=method, rtol=rtol, seed=seed)
    found = _measure(probe, probes, rtol, per_tensor)
    if method == "complex":
        _guard(probe, found, seed)
    tensors, hints = [], []
    for name in values:
        tensors.append(_tensor(probe, name, found, rtol, locate))
        hints += [] if tensors[-1].ok else _hints(probe, tensors[-1], found, rtol)
    return report(tensors=tuple(tensors), hints=tuple(hints))


def _guard(probe: Probe, found: Measured, seed: int) -> None:
    """NotAnalyticError if complex-step and a real difference disagree, along each tensor (each group) by itself."""
    for names, measured in found.items():
        along, exact, at = probe.line(names, 0), measured[0][1] / probe.length(names), size_of(probe.values, names)
        step = widest_step(at, "richardson")
        with np.errstate(all="ignore"):
            found_there = extrapolated([slope(along, step), slope(along, step / 2)])[0]
        if abs(found_there - exact) <= CLOSE_ENOUGH * abs(exact):  # as a rule: four forward passes
            continue
        if compared(along, exact, at)[1] != "same":
            check_analytic(probe.function, probe.values, names, dys=[1.0], seed=seed)


def _by_name(loss: Callable[..., Any]) -> Callable[..., Any]:
    return lambda **params: loss(params)


def assert_directional(*args: Any, **kwargs: Any) -> Report:
    """`check_directional`, raising GradcheckError with the report if a gradient is wrong."""
    __tracebackhide__ = True
    return raise_if_wrong(check_directional(*args, **kwargs))


def _check_given(params: Mapping[str, Any], probes: int) -> None:
    if not isinstance(params, Mapping):
        raise TypeError(f"params is {kind(params)}: expected a dict of arrays by name")
    if not params:
        raise ValueError("params is empty: there is nothing to check")
    if probes < 1:
        raise ValueError(f"probes is {probes}, expected at least 1")
    for name, value in params.items():
        check_array(f"parameter {name}", value)


def _writes(what: str, given: Mapping[str, np.ndarray], values: Mapping[str, Any],
            otherwise: tuple[str, ...] = ()) -> tuple[str, ...]:
    """A sentence for every parameter that is no longer as it was given, else those of `otherwise`."""
    return tuple(f"{what} writes into the parameter {name}" for name in changed(given, values)) or otherwise


def _run_twice(loss: Callable[..., Any], values: Mapping[str, Any]) -> tuple[str, ...]:
    """A sentence if the loss is random; ValueError if it is no finite number."""
    first, second = (loss(dict(values)) for _ in range(2))
    if isinstance(first, (tuple, list, Mapping)) or first is None or np.shape(first) != ():
        what = f"an array of shape {first.shape}" if is_array(first) else kind(first)
        raise ValueError(f"loss must return one number, got {what}")
    first, second = float(first), float(second)
    if not math.isfinite(first):
        raise ValueError(f"the loss is {first} at these parameters: it has no gradient")
    if first != second:
        return ("loss is random: two calls with the same parameters differ (pass masks, or a seed)",)
    return ()


def _gradients(grads: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What grads returns, on the host, in float64."""
    result = run_backward(grads, [], dict(values), name="grads")
    found = named_gradients(dict(result) if hasattr(result, "keys") else result, values, list(values))
    for name, value in values.items():
        if np.shape(found[name]) != value.shape:
            raise ValueError(f"the gradient of {name} has shape {np.shape(found[name])}, "
                             f"the parameter {value.shape}")
    return {name: to_host(g).astype(float) for name, g in found.items()}


def _measure(probe: Probe, probes: int, rtol: float, per_tensor: bool) -> Measured:
    """For every tensor (or all together, if that is enough) and every probe: (predicted, derivative)."""
    groups = [(name,) for name in probe.values] if per_tensor else [tuple(probe.values)]
    found = {group: [(probe.predicted(group, k), probe.derivative(group, k)) for k in range(probes)]
             for group in groups}
    if per_tensor or max(_errors(probe, groups[0], found)) <= rtol:
        return found
    return _measure(probe, probes, rtol, per_tensor=True)


def _errors(probe: Probe, group: tuple[str, ...], found: Measured) -> list[float]:
    return [probe.error(group, predicted, derivative) for predicted, derivative in found[group]]


def _tensor(probe: Probe, name: str, found: Measured, rtol: float, locate: bool) -> TensorReport:
    errors = _errors(probe, next(group for group in found if name in group), found)
    failed = [k for k, error in enumerate(errors) if not error <= rtol]
    worst = (probe.locate(name, failed[0]),) if failed and locate else ()
    shape = probe.values[name].shape
    return TensorReport(name=name, shape=shape, checked=len(errors), wrong=len(failed), max_error=max(errors),
                        rms=rms(probe.gradients[name]), worst=worst)


def _hints(probe: Probe, tensor: TensorReport, found: Measured, rtol: float) -> list[str]:
    """The hints that projections allow: what holds of a gradient holds of its products with directions."""
    name, g = tensor.name, probe.gradients[tensor.name]
    predicted, derivative = (np.array(column) for column in zip(*found[name,], strict=True))
    if g.any() and not predicted.any():
        return []
    x = to_host(probe.values[name]).reshape(-1)
    values = np.array([float((x * probe.direction(name, k)).sum()) for k in range(len(predicted))])
    mismatch = Mismatch(name=name, argument=name, shape=tensor.shape, backward=predicted, reference=derivative,
                        value=values, wrong=np.ones(len(predicted), bool), tolerance=rtol, args=probe.values)
    return hints_for(mismatch) + [hint for offender in tensor.worst if (hint := _kink(probe, offender))]


def _kink(probe: Probe, offender: Offender) -> str | None:
    value = probe.values[offender.name]
    i = int(np.ravel_multi_index(offender.index, value.shape))
    along = element_lines(probe.function, probe.values, offender.name, dys=[1.0])(i)
    at = abs(float(value[offender.index])) or 1.0
    if (kink := kink_at(along, at)) is None or not kink.holds(offender.backward):
        return None
    return (f"{offender.name}: the loss has a kink at {offender.index} (relu, max, clip), and backward's value is "
            "between the slopes on both sides: check at parameters that are not on it")


EVERYWHERE = slice(None)
NOISE = 1e-13  # of the largest gradient's norm: what rounding leaves of a derivative that cancels to zero


def draw_direction(size: int, seed: Sequence[int]) -> np.ndarray:
    """(size,) in float32, each element between 0.5 and 1.5 in size, of either sign.

    None is weighted down by more than 3, and two errors of one size do not cancel, as they do half of the
    time where all are +-1.
    """
    uniform = 2 * np.random.default_rng(seed).random(size, dtype=np.float32) - 1
    return uniform + np.copysign(np.float32(0.5), uniform)


def halve(gap: Callable[[int, int], float], start: int, stop: int) -> int:
    """The element to which the halves of start:stop with the larger gap(start, stop) lead; gaps add up."""
    whole = gap(start, stop) if stop - start > 1 else 0.0
    while stop - start > 1:
        middle = (start + stop) // 2
        half = gap(start, middle)
        if abs(half) >= abs(whole - half):
            stop, whole = middle, half
        else:
            start, whole = middle, whole - half
    return start


class Probe:
    """A loss at some parameters, its gradients, and random directions.

    The parameters lie here once as complex numbers, of which a derivative sets the imaginary parts
    that it needs, and clears them again: a large model is not copied for every forward pass.
    """

    def __init__(self, function: Callable[..., Any], values: Mapping[str, Any], gradients: Mapping[str, np.ndarray], *,
                 rtol: float, seed: int, method: str = "complex"):
        self.function, self._method = function, method
        self.values, self.seed = values, seed
        self.gradients = {name: g.reshape(-1) for name, g in gradients.items()}
        self.norms = {name: rms(g) * math.sqrt(g.size) for name, g in self.gradients.items()}
        self.floor = NOISE / rtol * max(self.norms.values())  # where the tolerance is as large as the noise
        self._complex = {name: array_module(v).ascontiguousarray(v).astype("complex128").reshape(v.shape)
                         for name, v in values.items()}
        self._flat = {name: z.reshape(-1) for name, z in self._complex.items()}  # views
        self._directions: dict[tuple[str, int], np.ndarray] = {}

    def direction(self, name: str, k: int) -> np.ndarray:
        """The direction of probe k in one tensor, flattened."""
        if (name, k) not in self._directions:
            seed = [self.seed, k, list(self.values).index(name)]
            self._directions[name, k] = draw_direction(self._flat[name].size, seed)
        return self._directions[name, k]

    def derivative(self, names: Sequence[str], k: int, part: slice = EVERYWHERE) -> float:
        """Of the loss, along probe k in these tensors (in a part of their elements)."""
        if self._method != "complex":
            along = self.line(names, k, part)
            return settled(along, size_of(self.values, names), self._method).value * self.length(names)
        parts = [(self._flat[name].imag[part], self.direction(name, k)[part]) for name in names]
        for imaginary, u in parts:
            imaginary[...] = STEP * array_module(imaginary).asarray(u)
        try:
            return inner_complex(self.function, self._complex, [1.0]).imag / STEP
        finally:
            for imaginary, _ in parts:
                imaginary[...] = 0

    def predicted(self, names: Sequence[str], k: int, part: slice = EVERYWHERE) -> float:
        """The same by the gradients."""
        return sum(float((self.gradients[name][part] * self.direction(name, k)[part]).sum()) for name in names)

    def error(self, names: Sequence[str], predicted: float, derivative: float) -> float:
        """Relative to the norm of the gradient, or to what makes the tolerance as large as the noise."""
        norm = math.hypot(*(self.norms[name] for name in names))
        scale = max(norm, self.floor) + abs(derivative)
        gap = abs(predicted - derivative)
        return (gap / scale if scale else 0.0) if math.isfinite(gap) else math.inf

    def locate(self, name: str, k: int) -> Offender:
        """Halve the direction, keeping the half with the larger gap, down to one element."""
        broken = np.flatnonzero(~np.isfinite(self.gradients[name]))
        start, stop = (int(broken[0]), int(broken[0]) + 1) if broken.size else (0, self.gradients[name].size)
        return self._offender(name, k, halve(lambda *part: self._gap(name, k, *part), start, stop))

    def line(self, names: Sequence[str], k: int, part: slice = EVERYWHERE) -> Line:
        """t -> the loss at t from the parameters along probe k in these tensors, by 1 / its length."""
        u = {}
        for name in names:
            moved = np.zeros(self._flat[name].size)
            moved[part] = self.direction(name, k)[part].astype(float) / self.length(names)
            u[name] = array_module(self.values[name]).asarray(moved.reshape(self.values[name].shape))
        def at(t: float) -> np.ndarray:
            return terms(self.function, {**self.values, **{name: self.values[name] + t * v for name, v in u.items()}},
                         [1.0])
        return at

    def length(self, names: Sequence[str]) -> float:
        """About that of a direction in these tensors."""
        return math.sqrt(sum(self._flat[name].size for name in names))

    def _gap(self, name: str, k: int, start: int, stop: int) -> float:
        part = slice(start, stop)
        return self.predicted([name], k, part) - self.derivative([name], k, part)

    def _offender(self, name: str, k: int, i: int) -> Offender:
        backward = float(self.gradients[name][i])
        reference = self.derivative([name], k, slice(i, i + 1)) / float(self.direction(name, k)[i])
        index = tuple(int(n) for n in np.unravel_index(i, self.values[name].shape))
        error = abs(backward - reference) / (rms(self.gradients[name]) + abs(reference) or 1.0)
        return Offender(name=name, index=index, label="", backward=backward, reference=reference, error=error)
