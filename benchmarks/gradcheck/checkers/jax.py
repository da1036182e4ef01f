"""jax.test_util.check_grads in reverse mode, on the pair as a jax.custom_vjp around callbacks to NumPy."""

from __future__ import annotations

import jax
import numpy as np
from jax.test_util import check_grads

from ..op import Op
from . import Checker


def is_wrong(op: Op, seed: int) -> bool:
    """Its random numbers are its own, the same in every check: the seed is not used."""
    with jax.enable_x64(True):
        try:
            check_grads(function(op), op.inputs(), order=1, modes=["rev"])
        except AssertionError:
            return True
    return False


def function(op: Op):
    shapes_in = [like(x) for x in op.inputs()]
    shapes_out = [like(y) for y in op.run(*op.inputs())[0]]

    @jax.custom_vjp
    def f(*inputs):
        return jax.pure_callback(lambda *xs: op.run(*on_host(xs))[0], shapes_out, *inputs)

    def backward(inputs, dys):
        return tuple(jax.pure_callback(lambda xs, dys: op.recomputed(on_host(xs), on_host(dys)),
                                       shapes_in, inputs, dys))

    f.defvjp(lambda *inputs: (f(*inputs), inputs), backward)
    return f


def like(array: np.ndarray) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def on_host(arrays) -> list[np.ndarray]:
    return [np.asarray(array) for array in arrays]


CHECKERS = (Checker(f"jax {jax.__version__}, check_grads", is_wrong),)
