"""autograd.test_util.check_grads in reverse mode, on the pair as a primitive."""

from __future__ import annotations

from importlib.metadata import version

import autograd.builtins  # noqa: F401  primitives that return tuples
import numpy as np
from autograd.extend import defvjp_argnums, primitive
from autograd.test_util import check_grads

from ..op import Op
from . import Checker


def is_wrong(op: Op, seed: int) -> bool:
    np.random.seed(seed)  # it draws from NumPy's global generator
    every = tuple(range(len(op.names)))
    try:
        check_grads(function(op), every, modes=["rev"], order=1)(*op.inputs())
    except AssertionError:
        return True
    return False


def function(op: Op):
    @primitive
    def f(*inputs):
        ys, _ = op.run(*inputs)
        return tuple(ys) if len(ys) > 1 else ys[0]

    def vjp(argnums, y, inputs, kwargs):
        def backward(dys):
            gradients = op.recomputed(inputs, dys if isinstance(dys, tuple) else (dys,))
            return [gradients[i] for i in argnums]
        return backward

    defvjp_argnums(f, vjp)
    return f


CHECKERS = (Checker(f"autograd {version('autograd')}, check_grads", is_wrong),)
