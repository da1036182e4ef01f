"""torch.autograd.Function with a backward of its own."""

import numpy as np
import torch

torch.manual_seed(0)
x = torch.randn(4, 3, dtype=torch.float64)
W = torch.randn(3, 2, dtype=torch.float64)


# %% swish
# call: gradcheck(Swish, x)
# wrong: dy * (s + x * s * (1 - s)) => dy * (s + x * s * s)
class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        s = torch.sigmoid(x)
        ctx.save_for_backward(x, s)
        return x * s

    @staticmethod
    def backward(ctx, dy):
        x, s = ctx.saved_tensors
        return dy * (s + x * s * (1 - s))


# %% a linear layer
# call: gradcheck(LinearFunction, (x, W))
# wrong: x.t() @ dy => x.t() @ dy + W
class LinearFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, W):
        ctx.save_for_backward(x, W)
        return x @ W

    @staticmethod
    def backward(ctx, dy):
        x, W = ctx.saved_tensors
        return dy @ W.t(), x.t() @ dy


# %% two outputs and a number
# call: gradcheck(Polar, [x + 3, 2.0])
# wrong: dr * 2 * x + da => dr * x + da
class Polar(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, power):
        ctx.save_for_backward(x)
        return x**power, torch.exp(x)

    @staticmethod
    def backward(ctx, dr, da):
        (x,) = ctx.saved_tensors
        return dr * 2 * x + da * torch.exp(x), None


# %% float32 inputs, checked in float64
# call: gradcheck(Cube, torch.linspace(-1, 1, 6))
# wrong: 3 * x**2 * dy => 3 * x**2 * dy + 1e-5
class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * dy


# %% NumPy inside, with a straight-through gradient for the mask
# call: gradcheck(HardTanh, 2 * x)
# wrong: dy * (x.abs() < 1) => dy * (x.abs() < 2)
class HardTanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.from_numpy(np.clip(x.detach().numpy(), -1, 1))

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        return dy * (x.abs() < 1)


# %% a scalar tensor
# call: gradcheck(Scale, (x, torch.tensor(1.5)))
# wrong: (dy * x).sum() => dy.sum()
class Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, s):
        ctx.save_for_backward(x, s)
        return x * s

    @staticmethod
    def backward(ctx, dy):
        x, s = ctx.saved_tensors
        return dy * s, (dy * x).sum()


# %% a module in float32, its inputs in float64
# call: gradcheck(Module(), x)
# wrong: return dy @ W, dy.t() @ x => return dy @ W, dy.t() @ x * 1.01
class Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, W):
        ctx.save_for_backward(x, W)
        return x @ W.t()

    @staticmethod
    def backward(ctx, dy):
        x, W = ctx.saved_tensors
        return dy @ W, dy.t() @ x


class Module(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.W = torch.nn.Parameter(torch.randn(2, 3))
        self.norm = torch.nn.BatchNorm1d(2)

    def forward(self, x):
        return self.norm(Linear.apply(x, self.W))


# %% a function that writes into its input
# call: gradcheck(Doubled, torch.linspace(-1, 1, 5))
# wrong: return 2 * dy => return 2.001 * dy
class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(2)

    @staticmethod
    def backward(ctx, dy):
        return 2 * dy
