"""torch.autograd.gradcheck, slow and fast, on the pair as a torch.autograd.Function."""

from __future__ import annotations

import numpy as np
import torch
from torch.autograd.gradcheck import GradcheckError, gradcheck

from ..op import Op
from . import Checker


def slow(op: Op, seed: int) -> bool:
    return is_wrong(op, seed, fast_mode=False)


def fast(op: Op, seed: int) -> bool:
    return is_wrong(op, seed, fast_mode=True)


def is_wrong(op: Op, seed: int, **mode: bool) -> bool:
    torch.manual_seed(seed)
    inputs = [torch.from_numpy(x).requires_grad_() for x in op.inputs()]
    try:
        return not gradcheck(function(op).apply, inputs, **mode)
    except GradcheckError:
        return True


def function(op: Op) -> type[torch.autograd.Function]:
    class Pair(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *tensors):
            ys, ctx.cache = op.run(*(t.detach().numpy() for t in tensors))
            results = tuple(torch.from_numpy(np.array(y)) for y in ys)  # copies: an output may be an input
            return results if len(results) > 1 else results[0]

        @staticmethod
        def backward(ctx, *dys):
            gradients = op.gradients([dy.numpy() for dy in dys], ctx.cache)
            return tuple(torch.from_numpy(np.array(gradient)) for gradient in gradients)

    return Pair


CHECKERS = (
    Checker(f"torch {torch.__version__}, gradcheck", slow),
    Checker(f"torch {torch.__version__}, gradcheck fast_mode", fast),
)
