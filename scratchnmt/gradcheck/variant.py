"""Two implementations of one op side by side: a fused kernel or float32 beside plain float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .convention import (cast, describe, differentiable, draw_dys, given_dys, named_gradients, output_names,
                         outputs, run_backward, run_forward)
from .elements import Elements, hints_of
from .inputs import is_float_array, to_host
from .measure import noise_floor, tensor_report
from .report import Report, raise_if_wrong


def check_variant(plain: tuple[Callable, Callable], fused: tuple[Callable, Callable], args: Mapping[str, Any],
                  *, wrt: Sequence[str] | None = None, dys: Any = None, rtol: float | None = None,
                  steps: int = 1, seed: int = 0) -> Report:
    """Compare two implementations of one op, each (forward, backward): outputs and gradients.

    `fused` runs on args as they are; `plain` in float64 on the same values, so that the rounding of the
    inputs does not count as error.  The tolerance is 64 eps of the dtype of args, times the root of `steps`.
    """
    names = differentiable(args, wrt)
    dtype, device = describe(args, names)
    rtol = 64 * float(np.finfo(dtype).eps) * steps**0.5 if rtol is None else rtol
    y, cache = run_forward(fused[0], args)
    dys = draw_dys(outputs(y), seed) if dys is None else given_dys(y, dys)
    found = named_gradients(run_backward(fused[1], dys, cache), args, names)
    y64, cache64 = run_forward(plain[0], cast(args, "float64"))
    dys64 = [dy.astype("float64") if is_float_array(dy) else dy for dy in dys]
    if len(outputs(y)) != len(outputs(y64)):
        raise ValueError(f"the plain op has {len(outputs(y64))} outputs with a gradient, "
                         f"the fused one {len(outputs(y))}")
    expected = named_gradients(run_backward(plain[1], dys64, cache64), args, names)
    pairs = {name: (v, r) for name, v, r in zip(output_names(y), outputs(y), outputs(y64))}
    pairs |= {f"d{name}": (found[name], expected[name]) for name in names}
    host = {name: (to_host(v).astype(float), to_host(r)) for name, (v, r) in pairs.items()}
    broken = tuple(
        f"{name} has shape {v.shape}, but {r.shape} in the plain op"
        for name, (v, r) in host.items()
        if v.shape != r.shape
    )
    same = {name: (v.reshape(-1), r.reshape(-1)) for name, (v, r) in host.items() if v.shape == r.shape}
    floor = noise_floor([r for _, r in host.values()], dys)
    tensors = {name: tensor_report(name, host[name][0].shape, v, r, rtol=rtol, floor=floor)
               for name, (v, r) in same.items()}
    gradients = {name: Elements(name, args[name].shape, np.arange(args[name].size), *same[f"d{name}"])
                 for name in names if f"d{name}" in same}
    hints = hints_of(list(gradients.values()), args, [tensors[f"d{name}"] for name in gradients], rtol, floor)
    return Report("variant", dtype, device, rtol, seed, tuple(tensors.values()), broken, tuple(hints))


def assert_variant(*args: Any, **kwargs: Any) -> Report:
    """`check_variant`, raising GradcheckError with the report if the two differ."""
    __tracebackhide__ = True
    return raise_if_wrong(check_variant(*args, **kwargs))
