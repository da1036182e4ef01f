"""Functions in the style of Chainer: forward(inputs) and backward(inputs, grad_outputs), both of tuples."""

import numpy as np

rng = np.random.default_rng(0)
x, W = rng.standard_normal((4, 3)), rng.standard_normal((2, 3))


# %% a linear function
# call: gradcheck(LinearFunction(), (x, W))
# wrong: gy.T.dot(x) => gy.T.dot(x) / len(x)
class LinearFunction:
    def forward(self, inputs):
        x, W = inputs
        return x.dot(W.T),

    def backward(self, inputs, grad_outputs):
        x, W = inputs
        gy, = grad_outputs
        return gy.dot(W), gy.T.dot(x)


# %% a product, of which nothing is kept
# call: gradcheck(Product(), [x, x + 1])
# wrong: gy * a => gy * b
class Product:
    def forward(self, inputs):
        return inputs[0] * inputs[1],

    def backward(self, inputs, grad_outputs):
        a, b = inputs
        gy = grad_outputs[0]
        return b * gy, gy * a
