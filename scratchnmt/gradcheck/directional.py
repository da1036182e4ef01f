"""A whole model in a few forward passes: directional derivatives, tensor by tensor.

The directional derivative of the loss along u must equal <gradient, u>.  With u = +-1 in every element
no element is weighted down, and one complex forward pass per tensor checks all of its elements at
once.  When a tensor fails, halves of its direction lead to the element.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..arrays import array_module
from .contract import describe
from .convention import cast, check_array, named_gradients, to_host
from .numeric import check_analytic, complex_step
from .report import Offender, Report, TensorReport, raise_if_wrong, rms


def check_directional(loss: Callable, grads: Callable, params: Mapping[str, Any], *, probes: int = 2,
                      rtol: float = 1e-11, per_tensor: bool = True, locate: bool = True,
                      seed: int = 0) -> Report:
    """Check the gradients of a whole model: loss(params) -> scalar, grads(params) -> {name: gradient}.

    `params` maps names to arrays of floats; loss and grads are called with dicts of the same names in
    complex128 and float64.  Each probe costs one complex forward pass per tensor, or one in all with
    per_tensor=False, where tensors are looked at singly only after a failure.  The error is that of the
    directional derivative, relative to the gradient's norm.  `locate` bisects a failing tensor to an element.
    """
    for name, value in params.items():
        check_array(f"parameter {name}", value)
    names = list(params)
    values = cast(params, "float64")
    found = named_gradients(dict(grads(dict(values))), params, names)
    for name in names:
        if np.shape(found[name]) != values[name].shape:
            raise ValueError(f"the gradient of {name} has shape {np.shape(found[name])}, "
                             f"the parameter {values[name].shape}")
    probe = _Probe(loss, values, {name: to_host(found[name]).astype(float) for name in names}, seed)
    check_analytic(probe.function, values, names, dys=[1.0], seed=seed)
    if not per_tensor:
        together = max(probe.error(names, k) for k in range(probes))
        per_tensor = not together <= rtol
    errors = {n: [probe.error([n], k) for k in range(probes)] if per_tensor else [together] for n in names}
    tensors = tuple(_tensor(probe, name, errors[name], rtol, locate) for name in names)
    _, device = describe(params, names)
    return Report("complex, directional", "float64", device, rtol, seed, tensors)


def assert_directional(*args: Any, **kwargs: Any) -> Report:
    """`check_directional`, raising GradcheckError with the report if a gradient is wrong."""
    __tracebackhide__ = True
    return raise_if_wrong(check_directional(*args, **kwargs))


class _Probe:
    """Directional derivatives of the loss beside those that the gradients predict."""

    def __init__(self, loss: Callable, values: dict[str, Any], gradients: dict[str, np.ndarray], seed: int):
        self.function = lambda **params: loss(params)
        self.values, self.gradients, self.seed = values, gradients, seed
        self.complex_values = cast(values, "complex128")
        self.norms = {name: float(np.linalg.norm(g)) for name, g in gradients.items()}

    def signs(self, name: str, probe: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, probe, list(self.values).index(name)])
        return rng.choice([-1.0, 1.0], self.values[name].shape)

    def derivative(self, directions: Mapping[str, np.ndarray]) -> float:
        u = {name: array_module(self.values[name]).asarray(d) for name, d in directions.items()}
        return complex_step(self.function, self.complex_values, u, dys=[1.0])

    def gap(self, directions: Mapping[str, np.ndarray]) -> tuple[float, float]:
        """(<gradient, u> - derivative along u, derivative along u)"""
        reference = self.derivative(directions)
        return sum(float((self.gradients[n] * u).sum()) for n, u in directions.items()) - reference, reference

    def error(self, names: list[str], probe: int) -> float:
        gap, reference = self.gap({name: self.signs(name, probe) for name in names})
        norm = math.sqrt(sum(self.norms[name] ** 2 for name in names))
        scale = max(norm, 0.01 * max(self.norms.values())) + abs(reference)
        return (abs(gap) / scale if scale else 0.0) if math.isfinite(gap) else math.inf

    def locate(self, name: str, probe: int) -> Offender:
        """Halve the direction, keeping the half with the larger gap, down to one element."""
        signs = self.signs(name, probe).reshape(-1)
        broken = np.flatnonzero(~np.isfinite(self.gradients[name]))
        inside = broken[:1] if broken.size else np.arange(signs.size)
        gap = None
        while inside.size > 1:
            gap = self._gap_at(name, signs, inside) if gap is None else gap
            half, rest = np.split(inside, [inside.size // 2])
            half_gap = self._gap_at(name, signs, half)
            inside, gap = (half, half_gap) if abs(half_gap) >= abs(gap - half_gap) else (rest, gap - half_gap)
        index = tuple(int(i) for i in np.unravel_index(inside[0], self.values[name].shape))
        backward = float(self.gradients[name].flat[inside[0]])
        reference = self.derivative({name: self._restrict(name, np.ones_like(signs), inside)})
        error = abs(backward - reference) / (rms(self.gradients[name]) + abs(reference) or 1.0)
        return Offender(name, index, "", backward, reference, error)

    def _gap_at(self, name: str, signs: np.ndarray, inside: np.ndarray) -> float:
        return self.gap({name: self._restrict(name, signs, inside)})[0]

    def _restrict(self, name: str, signs: np.ndarray, inside: np.ndarray) -> np.ndarray:
        u = np.zeros_like(signs)
        u[inside] = signs[inside]
        return u.reshape(self.values[name].shape)


def _tensor(probe: _Probe, name: str, errors: list[float], rtol: float, locate: bool) -> TensorReport:
    failed = [k for k, error in enumerate(errors) if not error <= rtol]
    worst = (probe.locate(name, failed[0]),) if failed and locate else ()
    gradient = probe.gradients[name]
    return TensorReport(name, gradient.shape, len(errors), len(failed), max(errors), rms(gradient), worst)
