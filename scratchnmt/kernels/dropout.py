"""Dropout whose masks are a function of (seed, step, position): the twin of ops/dropout.py.

Philox 4x32 with ten rounds draws them (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"):

    words = philox(counter, key)         four 32-bit words each from four and two

No state is carried from number to number, so a mask can be made again anywhere, in any order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, array_module
from ..errors import ArgumentError
from ..ops import dropout as plain
from ..ops.dropout import DropoutCache, DropoutGradients
from .launch import LaunchConfig, launch, readable, real

EQUATIONS = plain
TWINS = {"dropout_mask": plain.dropout_mask, "dropout_forward": plain.dropout_forward}
WARP = 32


class Masks:
    """The masks of one training step, the argument `rng` of dropout: a new one each time one is asked for.

    seed: of the whole run.  step: an array of one uint64 on the device, read when the kernel runs and not
    before, so that a captured step can be replayed for another one.
    """

    def __init__(self, seed: int, step: Array):
        if step.shape != (1,) or step.dtype != np.uint64:
            raise ArgumentError(f"Masks: step is {step.dtype} {step.shape}, expected uint64 (1,)")
        self.seed, self.step, self.drawn = seed, step, 0

    def next(self, rate: float) -> Mask:
        """A mask that no other one of this step depends on."""
        if not 0 <= rate < 1:
            raise ArgumentError(f"dropout: rate is {rate}, expected 0 <= rate < 1")
        self.drawn += 1
        return Mask(self.seed, self.step, self.drawn - 1, rate)


class Mask(NamedTuple):
    """All that is kept of a mask: what it is a function of, besides the position."""

    seed: int
    step: Array  # (1,)
    number: int  # which mask of the step
    rate: float

    @property
    def threshold(self) -> int:
        """An element stays if its random word is at least this."""
        return round(self.rate * 2**32)

    @property
    def scale(self) -> float:
        return 1 / (1 - self.rate)


def dropout_mask(shape: tuple[int, ...], rate: float, rng: Masks | Any, dtype="float32") -> Array:
    """The next mask of `rng` as an array of 0 and 1 / (1 - rate), 0 <= rate < 1; a generator's by the plain op."""
    if not isinstance(rng, Masks):
        return plain.dropout_mask(shape, rate, rng, dtype)
    mask = array_module(rng.step).empty(shape, dtype)
    _launch("dropout_mask", mask.dtype, rng.next(rate), mask.size, mask.reshape(-1))
    return mask


def dropout_forward(x: Array, rate: float, *, rng: Masks | Any = None,
                    mask: Array | None = None) -> tuple[Array, DropoutCache]:
    """x with a share `rate` of its elements set to zero and the rest scaled up.

    With Masks for `rng` the cache holds what the mask is a function of, and no array; a mask, or a generator,
    is left to the plain op.
    """
    if not isinstance(rng, Masks) or mask is not None:
        return plain.dropout_forward(x, rate, rng=rng, mask=mask)
    drawn = rng.next(rate)
    return _masked(x, drawn), DropoutCache(drawn)


def dropout_backward(dy: Array, cache: DropoutCache) -> DropoutGradients:
    """dx from dy, by the same mask made once more."""
    if not isinstance(cache.mask, Mask):
        return plain.dropout_backward(dy, cache)
    return DropoutGradients(dx=_masked(dy, cache.mask))


def by_four(size: int, threads: int = 256) -> LaunchConfig:
    """A thread for every four elements."""
    return LaunchConfig((-(-size // (4 * threads)), 1, 1), (threads,))


def _masked(x: Array, mask: Mask) -> Array:
    xp = array_module(x, mask.step)
    y = xp.empty(x.shape, x.dtype)
    flat = readable(x.reshape(-1), x.dtype)
    _launch("dropout_forward", x.dtype, mask, x.size, flat, y.reshape(-1))
    return y


def _launch(name: str, dtype: np.dtype, mask: Mask, size: int, *arrays: Array) -> None:
    launch("dropout", name, dtype, by_four(size), *arrays, mask.step, np.uint64(mask.seed),
           np.uint32(mask.number), np.uint32(mask.threshold), real(dtype, mask.scale), np.int64(size))


def philox(counter: Any, key: Any) -> np.ndarray:
    """Words (..., 4) of uint32 from counters (..., 4) and keys (..., 2): the bits of dropout.cu."""
    low32, bits = np.uint64(0xFFFFFFFF), np.uint64(32)
    c0, c1, c2, c3 = (np.asarray(counter)[..., k].astype(np.uint64) for k in range(4))
    k0, k1 = (np.asarray(key)[..., k].astype(np.uint64) for k in range(2))
    for _ in range(10):
        first, second = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = second >> bits ^ c1 ^ k0, second & low32, first >> bits ^ c3 ^ k1, first & low32
        k0, k1 = k0 + np.uint64(0x9E3779B9) & low32, k1 + np.uint64(0xBB67AE85) & low32
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def random_words(mask: Mask, size: int) -> np.ndarray:
    """The words (size,) that decide about each element, as the kernels draw them."""
    step, seed, low32 = int(mask.step[0]), mask.seed, 0xFFFFFFFF
    chunks = -(-size // (4 * WARP))
    counter = np.zeros((chunks * WARP, 4), np.uint64)
    counter[:, 0] = np.arange(chunks * WARP)
    counter[:, 1:] = mask.number, step & low32, step >> 32
    words = philox(counter, np.array([seed & low32, seed >> 32], np.uint64))
    return words.reshape(chunks, WARP, 4).transpose(0, 2, 1).reshape(-1)[:size]
