"""Optimizers over one flat vector of weights: clipping, SGD, Adam, RMSprop, schedules of the rate, averaging.

Adam (Kingma & Ba 2015), with g the gradient, t counting steps from 1, and the moments kept divided
by the constant that multiplies every new term, which saves one pass over the vector for each:

    M = b1 M + g                                  M = m / (1 - b1)              (1)
    V = b2 V + g^2                                V = v / (1 - b2)              (2)
    w = w - c M / (sqrt(V) + eps / s)                                          (3)
    s = sqrt((1 - b2) / (1 - b2^t)),   c = rate (1 - b1) / ((1 - b1^t) s)      (4)

which is the same as  w - rate m^ / (sqrt(v^) + eps)  with both bias corrections folded into the two
numbers of (4).  Each pass reads what the one before wrote, so the vector is worked through in pieces
that stay in cache, and its parts run on several threads; no element's result depends on either.

SGD, Adam and RMSprop name their attributes in __slots__: to set a misspelt one, such as lr, is an AttributeError.

Every class raises InputError for a rate below 0, an eps of 0 or less, and a momentum, beta, rho or decay outside
of [0, 1).
"""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi, sqrt
from numbers import Integral, Real
from typing import Any

import numpy as np

from .arrays import Array, array_module, for_ranges, lazy_zeros_like
from .errors import END, InputError, shown
from .parameters import Parameters

PIECE = 1 << 17  # elements worked on at a time: smaller ones make two threads wait for the interpreter's lock
ROW = 8192  # elements in a partial sum of the norm: fixed, so that any number of threads gives the same sum
WHOLE = slice(None)

Schedule = Callable[[int], float]  # steps done -> factor of the learning rate


def global_norm(grads: Parameters) -> float:
    """The Euclidean norm of all gradients together, as one vector."""
    return norm_by_parts(grads, WHOLE, lambda sums: None)


def norm_by_parts(grads: Parameters, part: slice, complete: Callable[[Array], None]) -> float:
    """`global_norm`, the same bits, by several who each do a part, from a multiple of ROW to another one or to the end.

    complete: adds to a vector, in place, what the others have put into theirs.
    """
    g = grads.flat
    rows = g.size // ROW
    if array_module(g) is not np or rows < 2:
        return sqrt(float((g * g).sum()))
    table = g[: rows * ROW].reshape(rows, ROW)
    sums = np.zeros(rows + 1, g.dtype)  # the last is of what is no whole row
    first, last, _ = part.indices(g.size)
    first, last, ends = first // ROW, last // ROW, last == g.size

    def task(start: int, stop: int) -> None:
        some = slice(first + start, first + stop)
        np.vecdot(table[some], table[some], out=sums[some])

    for_ranges(task, last - first, 8)
    if ends:
        rest = g[rows * ROW :]
        sums[rows] = np.vecdot(rest, rest)
    complete(sums)
    return sqrt(float(sums[:rows].sum(dtype=np.float64)) + float(sums[rows]))


def clip_factor(norm: float, max_norm: float) -> float:
    """What to multiply a gradient of this norm by so that it is at most `max_norm`; never more than 1."""
    return min(1.0, max_norm / (norm + 1e-6))


def clip_global_norm(grads: Parameters, max_norm: float) -> float:
    """Scale all gradients in place, to a global norm of at most `max_norm`; return the norm before.

    Pascanu, Mikolov & Bengio 2013, algorithm 1, over all weights as one vector.
    """
    norm = global_norm(grads)
    factor = clip_factor(norm, max_norm)
    if factor < 1.0:
        g = grads.flat
        _in_parts(g, lambda part, room: np.multiply(g[part], factor, out=g[part]))
    return norm


class _Rated:
    """Has a rate, which whoever trains may change: a float of Python, as it is saved, whatever number is given."""

    __slots__ = ("_rate",)

    @property
    def learning_rate(self) -> float:
        return self._rate

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        self._rate = _in_range("learning_rate", rate, 0.0, float("inf"))


class SGD(_Rated):
    """w -= learning_rate * velocity, where velocity = momentum * velocity + gradient."""

    __slots__ = ("momentum", "params", "step_count", "velocity")

    def __init__(self, params: Parameters, learning_rate: float, momentum: float = 0.0):
        self.learning_rate = learning_rate
        self.momentum = _in_range("momentum", momentum, 0.0, 1.0)
        self.params = params
        self.step_count = 0
        self.velocity = lazy_zeros_like(params.flat) if momentum else None

    def step(self, grads: Parameters, scale: float = 1.0, part: slice = WHOLE) -> None:
        """Move the weights along `scale` times the gradients, which are left as they are; of all, those in `part`."""
        self.step_count += 1
        rate = self.learning_rate * (scale if self.velocity is None else 1.0)
        xp = array_module(self.params.flat)

        def update(part: slice, room: Array) -> None:
            w, move = self.params.flat[part], grads.flat[part]
            if self.velocity is not None:
                move = self.velocity[part]
                move *= self.momentum
                move += xp.multiply(grads.flat[part], scale, out=room)
            w -= xp.multiply(move, rate, out=room)

        _in_parts(self.params.flat, update, part)

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on besides the weights; arrays are not copied."""
        state = {"step": self.step_count, "learning_rate": self.learning_rate}
        return state if self.velocity is None else state | {"velocity": self.velocity}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state()` returned; InputError, and nothing is changed, if it does not fit."""
        arrays = {} if self.velocity is None else {"velocity": self.velocity}
        _load(self, state, arrays)


class Adam(_Rated):
    """Adam with bias correction, equal to torch.optim.Adam up to rounding.

    eps_hat: add eps before v's correction instead of after it, which is what Kingma & Ba's section 2 calls the
    more efficient order, and what Keras does.
    """

    __slots__ = ("betas", "eps", "eps_hat", "params", "step_count", "m", "v")

    def __init__(self, params: Parameters, learning_rate: float = 1e-3,
                 betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, eps_hat: bool = False):
        self.learning_rate = learning_rate
        self.betas = (_in_range("betas[0]", betas[0], 0.0, 1.0), _in_range("betas[1]", betas[1], 0.0, 1.0))
        self.eps, self.eps_hat = _above_zero("eps", eps, params), eps_hat
        self.params = params
        self.step_count = 0
        self.m = lazy_zeros_like(params.flat)  # m / (1 - b1)
        self.v = lazy_zeros_like(params.flat)  # v / (1 - b2)

    def step(self, grads: Parameters, scale: float = 1.0, part: slice = WHOLE) -> None:
        """Move the weights along `scale` times the gradients, which are left as they are; of all, those in `part`."""
        self.step_count += 1
        b1, b2 = self.betas
        s = sqrt((1 - b2) / (1 - b2**self.step_count))  # (4)
        c = self.learning_rate * (1 - b1) / ((1 - b1**self.step_count) * s)  # (4)
        eps = self.eps / (sqrt(1 - b2) if self.eps_hat else s)
        xp = array_module(self.params.flat)

        def update(part: slice, room: Array) -> None:
            w, m, v = self.params.flat[part], self.m[part], self.v[part]
            t = xp.multiply(grads.flat[part], scale, out=room)  # (1)
            m *= b1
            m += t
            t *= t  # (2)
            v *= b2
            v += t
            xp.sqrt(v, out=t)  # (3)
            t += eps
            xp.divide(m, t, out=t)
            t *= c
            w -= t

        _in_parts(self.params.flat, update, part)

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on besides the weights; arrays are not copied.

        "m" and "v" are the moments divided by 1 - betas[0] and 1 - betas[1].
        """
        return {"step": self.step_count, "learning_rate": self.learning_rate, "m": self.m, "v": self.v}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state()` returned; InputError, and nothing is changed, if it does not fit."""
        _load(self, state, {"m": self.m, "v": self.v})


class RMSprop(_Rated):
    """w -= learning_rate * g / sqrt(v + eps), v = rho v + (1 - rho) g^2 (Hinton 2012, lecture 6e; eps as in Keras)."""

    __slots__ = ("rho", "eps", "params", "step_count", "v")

    def __init__(self, params: Parameters, learning_rate: float = 1e-3, rho: float = 0.9, eps: float = 1e-7):
        self.learning_rate = learning_rate
        self.rho, self.eps = _in_range("rho", rho, 0.0, 1.0), _above_zero("eps", eps, params)
        self.params = params
        self.step_count = 0
        self.v = lazy_zeros_like(params.flat)

    def step(self, grads: Parameters, scale: float = 1.0, part: slice = WHOLE) -> None:
        """Move the weights along `scale` times the gradients, which are left as they are; of all, those in `part`."""
        self.step_count += 1
        xp = array_module(self.params.flat)

        def update(part: slice, room: Array) -> None:
            v, g = self.v[part], grads.flat[part]
            xp.multiply(g, scale * sqrt(1 - self.rho), out=room)
            room *= room
            v *= self.rho
            v += room
            xp.sqrt(xp.add(v, self.eps, out=room), out=room)
            xp.divide(g, room, out=room)
            room *= scale * self.learning_rate
            self.params.flat[part] -= room

        _in_parts(self.params.flat, update, part)

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on besides the weights; arrays are not copied."""
        return {"step": self.step_count, "learning_rate": self.learning_rate, "v": self.v}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state()` returned; InputError, and nothing is changed, if it does not fit."""
        _load(self, state, {"v": self.v})


class Average:
    """An exponential moving average of the weights (Polyak & Juditsky 1992), for validation and for use.

    The n-th update (from 0) keeps min(decay, (1 + n) / (10 + n)) of the average, so that it does not
    remember the initial weights for long.
    """

    def __init__(self, params: Parameters, decay: float):
        self.decay = _in_range("average", decay, 0.0, 1.0)
        self.params = params
        self.flat = params.flat.copy()
        self.updates = 0

    def update(self) -> None:
        """Take the present weights into the average."""
        keep = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1

        xp = array_module(self.flat)

        def update(part: slice, room: Array) -> None:
            step = xp.subtract(self.params.flat[part], self.flat[part], out=room)
            step *= 1 - keep
            self.flat[part] += step

        _in_parts(self.flat, update)


def constant(warmup: int = 0) -> Schedule:
    """The full rate, after a linear rise over the first `warmup` steps."""
    return lambda step: _rise(step, warmup)


def luong(start: int, every: int, warmup: int = 0) -> Schedule:
    """Half the rate from step `start` on, and half again each `every` steps (Luong et al. 2015).

    Theirs: ten epochs, halved after each one from the fifth on: start = 5 epochs, every = 1 epoch.
    """
    return lambda step: _rise(step, warmup) * 0.5 ** max(0, 1 + (step - start) // every)


def linear(total: int, warmup: int = 0) -> Schedule:
    """Down to zero along a line that ends at step `total`."""
    return lambda step: _rise(step, warmup) * (1 - _done(step, total, warmup))


def cosine(total: int, warmup: int = 0) -> Schedule:
    """Down to zero along half a cosine that ends at step `total` (Loshchilov & Hutter 2017)."""
    return lambda step: _rise(step, warmup) * 0.5 * (1 + cos(pi * _done(step, total, warmup)))


def _rise(step: int, warmup: int) -> float:
    return min(1.0, (step + 1) / (warmup + 1))


def _done(step: int, total: int, warmup: int) -> float:
    return min(1.0, max(0.0, (step - warmup) / max(1, total - warmup)))


def _in_parts(flat: Array, task: Callable[[slice, Array], Any], whole: slice = WHOLE) -> None:
    """Call task(part, room) for parts that cover `whole` of the vector, with room for as many results as the part has.

    On the CPU: pieces, on several threads.  On a GPU: everything at once.
    """
    xp = array_module(flat)
    low, high, _ = whole.indices(flat.size)
    if xp is not np:
        task(slice(low, high), xp.empty(high - low, flat.dtype))
        return

    def run(first: int, last: int) -> None:
        start, stop = low + first * 16, min(low + last * 16, high)
        room = np.empty(min(PIECE, stop - start), flat.dtype)
        for at in range(start, stop, PIECE):
            end = min(at + PIECE, stop)
            task(slice(at, end), room[: end - at])

    for_ranges(run, -(-(high - low) // 16), PIECE // 32)  # counted in cache lines of float32


def _in_range(name: str, value: float, low: float, high: float) -> float:
    if not low <= value < high:
        raise InputError(f"{name} is {value}, expected at least {low} and below {high}")
    return float(value)


def _above_zero(name: str, value: float, params: Parameters) -> float:
    """InputError unless the weights' dtype has it as a normal number above 0."""
    kind = np.finfo(params.flat.dtype)
    least = float(kind.tiny)
    if not least <= value <= float(kind.max):
        raise InputError(f"{name} is {value}, expected above 0, for {params.flat.dtype} at least {least:.2g}: with 0, "
                         "a weight without a gradient becomes 0 / 0")
    return float(value)


def _load(optimizer: Any, state: dict[str, Any], arrays: dict[str, Array]) -> None:
    wanted = {"step", "learning_rate", *arrays}
    if set(state) != wanted:
        raise InputError(f"the optimizer's state holds {shown(sorted(state))}, expected {sorted(wanted)}")
    step, rate = state["step"], state["learning_rate"]
    if isinstance(step, bool) or not isinstance(step, Integral) or not 0 <= int(step) < END:
        raise InputError(f"the optimizer's step is {shown(step)}, expected a whole number of at least 0, below 2^63")
    if isinstance(rate, bool) or not isinstance(rate, Real):
        raise InputError(f"the optimizer's learning_rate is {shown(rate)}, expected a number")
    rate = _in_range("learning_rate", float(rate), 0.0, float("inf"))
    for name, array in arrays.items():
        value, expected = state[name], f"{array.dtype} {array.shape}"
        given = f"{value.dtype} {value.shape}" if hasattr(value, "shape") else shown(value)
        if given != expected:
            raise InputError(f"the optimizer's {name} is {given}, expected {expected}")
        if not array_module(value).isfinite(value).all() or name == "v" and (value < 0).any():
            raise InputError(f"the optimizer's {name} holds numbers that no run can have come to")
    for name, array in arrays.items():
        array[...] = array_module(array).asarray(state[name])
    optimizer.learning_rate = rate
    optimizer.step_count = int(step)
