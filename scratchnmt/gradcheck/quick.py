"""One op along random directions: a few forward passes where element by element takes thousands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from .check import check_gradients
from .contract import check_contract
from .convention import cast, differentiable, named_gradients, outputs, run_backward, run_forward
from .directional import check_directional
from .dys import choose_dys
from .report import Report


def quick_check(forward: Callable, backward: Callable, args: Mapping[str, Any], *,
                wrt: Sequence[str] | None = None, dys: Any = None, method: str = "complex",
                rtol: float | None = None, contract: bool = True, seed: int = 0,
                **of_elements: Any) -> Report:
    """`check_gradients` by `check_directional` of the loss <y, dy>, in float64; a wrong gradient is bisected.

    What concerns single elements (`max_elements`, `labels`) has no use here.  A `method` other than
    complex-step, and a gradient of the wrong shape, are left to `check_gradients`.
    """
    names = differentiable(args, wrt)
    params = {name: args[name] for name in names}
    y, cache = run_forward(forward, {**args, **cast(params, "float64")})
    drawn = choose_dys(lambda **some: run_forward(forward, some)[0], args, names, y, dys, method=method, seed=seed)
    found = named_gradients(run_backward(backward, drawn, cache), args, names)
    if method != "complex" or any(np.shape(found[name]) != args[name].shape for name in names):
        return check_gradients(forward, backward, args, wrt=wrt, dys=dys, method=method, rtol=rtol,
                               contract=contract, seed=seed, **of_elements)

    def loss(some: Mapping[str, Any]) -> Any:
        ys = outputs(run_forward(forward, {**args, **some})[0])
        return sum((y * dy).sum() for y, dy in zip(ys, drawn, strict=True))

    check = check_directional if rtol is None else partial(check_directional, rtol=rtol)
    report = _of_gradients(check(loss, lambda _: found, params, seed=seed))
    if not contract:
        return report
    promises = check_contract(forward, backward, args, wrt=wrt, dys=None if dys is None else drawn, seed=seed)
    return replace(report, broken_promises=promises.broken_promises or report.broken_promises)


def _of_gradients(report: Report) -> Report:
    """Gradients of an op have names of their own: dW, where a model's report says W."""
    tensors = tuple(replace(tensor, name=f"d{tensor.name}",
                            worst=tuple(replace(offender, name=f"d{offender.name}") for offender in tensor.worst))
                    for tensor in report.tensors)
    return replace(report, tensors=tensors, hints=tuple(f"d{hint}" for hint in report.hints))
