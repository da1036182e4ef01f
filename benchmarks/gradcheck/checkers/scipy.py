"""scipy.optimize.check_grad, on all arguments as one vector: the norm of the difference, wrong above 1e-5."""

from __future__ import annotations

import numpy as np
import scipy
from scipy.optimize import check_grad

from ..op import Op, weighted_sum
from . import Checker

WRONG = 1e-5  # it leaves the judgement to the caller; its forward difference is good to about 1e-7


def is_wrong(op: Op, seed: int) -> bool:
    dys, shapes = op.draw_dys(seed), [x.shape for x in op.inputs()]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]

    def parts(vector: np.ndarray) -> list[np.ndarray]:
        return [part.reshape(shape) for part, shape in zip(np.split(vector, ends), shapes, strict=True)]

    def loss(vector: np.ndarray) -> float:
        return float(weighted_sum(op.run(*parts(vector))[0], dys))

    def gradient(vector: np.ndarray) -> np.ndarray:
        return np.concatenate([g.reshape(-1) for g in op.recomputed(parts(vector), dys)])
    return not check_grad(loss, gradient, np.concatenate([x.reshape(-1) for x in op.inputs()])) <= WRONG


CHECKERS = (Checker(f"scipy {scipy.__version__}, check_grad", is_wrong),)
