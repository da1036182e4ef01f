"""An op or a layer in one configuration, with example arguments, and its check."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..arrays import to_device
from ..gradcheck import Report, check_gradients, gate_labels
from .arguments import SIZES, Draw, Sizes

STRICT: dict[str, Any] = {"method": "complex", "allow": ()}  # no real difference, and no promise broken
_GATED_OPS = ("lstm", "encoder", "decoder")
_GATED = ("z", "Wx", "Wh", "b", "encoder", "decoder")  # "Wx", or "decoder.Wx", but not "init.Wh"


class Case(NamedTuple):
    """An op in one configuration."""

    name: str  # "lstm, two directions": the op, a comma, the configuration
    forward: Callable
    backward: Callable
    letters: str  # the sizes that `arguments` asks for
    arguments: Draw
    wrt: tuple[str, ...] | None = None  # None: every array of floats
    sizes: Sizes = SIZES  # of the example

    def sibling(self, suffix: str) -> Callable | None:
        """The function X_suffix beside the operation X_forward, such as X_flop; None if there is none."""
        name = f"{self.forward.__name__.removesuffix('_forward')}_{suffix}"
        return getattr(sys.modules[self.forward.__module__], name, None)

    def check(self, args: dict[str, Any], check: Callable = check_gradients, **options: Any) -> Report:
        """`check_gradients`, or another `check`, on these arguments; columns of LSTM weights labelled by gate."""
        gated = {n: gate_labels(args[n].shape[-1] // 4) for n in args
                 if self.name.startswith(_GATED_OPS) and n.partition(".")[0] in _GATED}
        return check(self.forward, self.backward, args, wrt=self.wrt, labels=gated, **STRICT, **options)

    def report(self, device: str = "cpu", dtype: str = "float64", seed: int = 0) -> Report:
        """The check at the example's sizes."""
        args = self.arguments(self.sizes, np.random.default_rng(seed))
        return self.check(placed(args, device, dtype), seed=seed)


def placed(args: Mapping[str, Any], device: str, dtype: str) -> dict[str, Any]:
    """The arguments with float arrays in `dtype`, and all arrays but lengths on `device`."""
    found = dict(args)
    for name, value in args.items():
        if isinstance(value, np.ndarray) and not name.endswith("lengths"):
            value = value.astype(dtype) if value.dtype.kind == "f" else value
            found[name] = to_device(value, device)
    return found


def cases(op: str, forward: Callable, backward: Callable, configurations: Mapping[str, tuple[str, Draw]],
          wrt: tuple[str, ...] | None = None, sizes: Sizes = SIZES) -> list[Case]:
    """One case for each {configuration: (letters, arguments)}."""
    return [Case(name=f"{op}, {name}" if name else op, forward=forward, backward=backward, letters=letters,
                 arguments=arguments, wrt=wrt, sizes=sizes)
            for name, (letters, arguments) in configurations.items()]
