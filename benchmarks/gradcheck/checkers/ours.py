"""scratchnmt.gradcheck: every element of an op, and the same op as if it were a whole model."""

from __future__ import annotations

import scratchnmt
from scratchnmt.gradcheck import check_directional, check_gradients

from ..op import Op, weighted_sum
from . import Checker


def every_element(op: Op, seed: int) -> bool:
    return not check_gradients(op.forward, op.backward, op.args, wrt=op.wrt, seed=seed, method="complex", allow=()).ok


def directional(op: Op, seed: int) -> bool:
    dys = op.draw_dys(seed)

    def grads(params):
        return dict(zip(op.names, op.recomputed(list(params.values()), dys), strict=True))

    params = dict(zip(op.names, op.inputs(), strict=True))
    return not check_directional(lambda p: weighted_sum(op.run(*p.values())[0], dys), grads, params, seed=seed).ok


CHECKERS = (
    Checker(f"scratchnmt {scratchnmt.__version__}, every element", every_element),
    Checker(f"scratchnmt {scratchnmt.__version__}, directional", directional),
)
