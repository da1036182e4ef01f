"""An op or a layer in one configuration, with its check, and example arguments for it.

The functions that draw arguments, at any sizes, are functions of (sizes, rng) that return a dict of arrays.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, to_device
from ..gradcheck import Report, check_gradients, gate_labels
from ..ops.cross_entropy import PAD
from ..ops.dropout import dropout_mask

Sizes = dict[str, int]
Draw = Callable[[Sizes, np.random.Generator], Any]
SIZES: Sizes = dict(T=4, S=5, B=3, Q=2, N=6, I=4, O=3, E=4, H=5, M=6, A=4, V=7)


def normal(*names_and_shapes: str, **fixed: Any) -> Draw:
    """Arguments from texts like "x B I" and "Wh H 4H": normal values in an array of that shape."""
    def arguments(sizes: Sizes, rng: np.random.Generator) -> dict[str, Any]:
        drawn = {}
        for text in names_and_shapes:
            name, *terms = text.split()
            drawn[name] = rng.standard_normal([_size(term, sizes) for term in terms])
        return {**drawn, **{k: v(sizes, rng) if callable(v) else v for k, v in fixed.items()}}
    return arguments


def _size(term: str, sizes: Sizes) -> int:
    """4H is four times H, H+M a sum, 2 a number."""
    parts = [part.strip() for part in term.split("+")]
    return sum(int(p) if p.isdigit() else int(p[:-1] or 1) * sizes[p[-1]] for p in parts)


def mask(letters: str) -> Draw:
    return lambda sizes, rng: rng.random([_size(x, sizes) for x in letters.split()]) < 0.7


def prefix_mask(sizes: Sizes, rng: np.random.Generator) -> Array:
    """(S, B) True for the tokens of each sentence, as many as `lengths` says."""
    return np.arange(sizes["S"])[:, None] < lengths("S")(sizes, rng)


def ids(shape: str, upper: str) -> Draw:
    return lambda sizes, rng: rng.integers(0, sizes[upper], [_size(x, sizes) for x in shape.split()])


def lengths(letter: str) -> Draw:
    """(B,) from 1 to the size of the letter, one of them that size, in no order."""
    def draw(sizes: Sizes, rng: np.random.Generator) -> Array:
        longest = sizes[letter]
        return rng.permutation(np.append(rng.integers(1, longest + 1, sizes["B"] - 1), longest))
    return draw


def targets(sizes: Sizes, rng: np.random.Generator) -> Array:
    """(N,) ids, about a quarter of them padding."""
    return np.where(rng.random(sizes["N"]) < 0.25, PAD, rng.integers(0, sizes["V"], sizes["N"]))


def paired_targets(sizes: Sizes, rng: np.random.Generator) -> Array:
    """(2N,) the same, each twice in a row: of the two passes of R-Drop."""
    return np.repeat(targets(sizes, rng), 2)


def scaled_mask(shape: str) -> Draw:
    """Of 0 and 1 / 0.7."""
    return lambda sizes, rng: dropout_mask(tuple(_size(x, sizes) for x in shape.split()), 0.3, rng, "float64")


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

    @property
    def op(self) -> str:
        return self.name.partition(",")[0]

    @property
    def own_backward(self) -> Callable:
        """The X_backward beside the operation X_forward, where the check puts another one around it."""
        name = f"{self.forward.__name__.removesuffix('_forward')}_backward"
        return getattr(sys.modules[self.forward.__module__], name, self.backward)

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
    moved = dict(args)
    for name, value in args.items():
        if isinstance(value, np.ndarray) and not name.endswith("lengths"):
            value = value.astype(dtype) if value.dtype.kind == "f" else value
            moved[name] = to_device(value, device)
    return moved


def cases(op: str, forward: Callable, backward: Callable, configurations: Mapping[str, tuple[str, Draw]],
          wrt: tuple[str, ...] | None = None, sizes: Sizes = SIZES) -> list[Case]:
    """One case for each {configuration: (letters, arguments)}."""
    return [Case(name=f"{op}, {name}" if name else op, forward=forward, backward=backward, letters=letters,
                 arguments=arguments, wrt=wrt, sizes=sizes)
            for name, (letters, arguments) in configurations.items()]
