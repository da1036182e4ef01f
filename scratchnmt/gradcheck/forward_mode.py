"""Derivatives along a direction, written by hand: forward mode, and products with a Hessian.

Along t, f(x + t v) has the derivative jvp(x, v) at 0; so the check of one scalar argument t checks it, once for each
random direction v.  A product with a Hessian is forward mode of the gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from .api import check_gradients
from .convention import is_float_array, outputs
from .pytree import is_container, leaves, rebuilt
from .report import Report, raise_if_wrong

PROBES = 3


def check_jvp(f: Callable[..., Any], jvp: Callable[..., Any], inputs: Any, *, probes: int = PROBES, seed: int = 0,
              **options: Any) -> Report:
    """Check jvp(inputs, directions), the derivative of f(*inputs) along directions, of the structure of inputs.

    inputs: a list or tuple of arguments, or one argument, which f takes alone.  The report has a line for each of
    `probes` random directions.  options: those of `check_gradients`.
    """
    reports = [_along(f, jvp, inputs, np.random.default_rng([seed, k]), seed=seed, **options) for k in range(probes)]
    tensors = tuple(replace(report.tensors[0], name=f"along direction {k}") for k, report in enumerate(reports))
    return replace(reports[0], tensors=tensors)


def check_hessian_vector(grad: Callable[..., Any], hessian_vector: Callable[..., Any], inputs: Any,
                         **options: Any) -> Report:
    """Check hessian_vector(inputs, directions), the Hessian times directions, by the gradient grad(*inputs)."""
    return check_jvp(grad, hessian_vector, inputs, **options)


def assert_jvp(*args: Any, **options: Any) -> Report:
    """`check_jvp`, raising GradcheckError with the report if anything is wrong."""
    __tracebackhide__ = True
    return raise_if_wrong(check_jvp(*args, **options))


def assert_hessian_vector(*args: Any, **options: Any) -> Report:
    """`check_hessian_vector`, raising GradcheckError with the report if anything is wrong."""
    __tracebackhide__ = True
    return raise_if_wrong(check_hessian_vector(*args, **options))


def _along(f: Callable[..., Any], jvp: Callable[..., Any], inputs: Any, rng: np.random.Generator,
           **options: Any) -> Report:
    flat = leaves(inputs, "x")
    directions = {path: rng.standard_normal(x.shape) for path, x in flat.items() if is_float_array(x)}

    def forward(t: Any) -> tuple[Any, Any]:
        moved = rebuilt(inputs, "x", {path: x + t * directions[path] if path in directions else x
                                      for path, x in flat.items()})
        return tuple(_arrays(f(*moved) if type(inputs) in (list, tuple) else f(moved))), None

    def backward(*dys_and_cache: Any) -> Any:
        found = jvp(inputs, rebuilt(inputs, "x", {path: directions.get(path) for path in flat}))
        return np.array(sum((dy * g).sum() for dy, g in zip(dys_and_cache[:-1], _arrays(found), strict=True)))

    return check_gradients(forward, backward, {"t": np.zeros(())}, **options)


def _arrays(y: Any) -> list[Any]:
    """The outputs that have a derivative, also those in containers."""
    return [leaf for leaf in leaves(y, "y").values() if outputs(leaf)] if is_container(y) else list(outputs(y))
