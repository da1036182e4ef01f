"""Layers with several inputs, with a cache that is handed on, or that write into what they are given."""

import numpy as np

rng = np.random.default_rng(0)
x, h, c = rng.standard_normal((2, 3)), rng.standard_normal((2, 4)), rng.standard_normal((2, 4))


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


# %% a step of an LSTM, three inputs
# call: check_layer(LSTMCell(), x, h, c)
# wrong: return da @ self.Wx.T, da @ self.Wh.T, dc * f => return da @ self.Wx.T, da @ self.Wh.T, dc
class LSTMCell:
    def __init__(self):
        self.Wx, self.Wh, self.b = rng.standard_normal((3, 16)), rng.standard_normal((4, 16)), np.zeros(16)
        self.dWx, self.dWh, self.db = np.zeros((3, 16)), np.zeros((4, 16)), np.zeros(16)

    def forward(self, x, h, c):
        a = x @ self.Wx + h @ self.Wh + self.b
        i, f, o, g = sigmoid(a[:, :4]), sigmoid(a[:, 4:8]), sigmoid(a[:, 8:12]), np.tanh(a[:, 12:])
        new = f * c + i * g
        self.cache = x, h, c, i, f, o, g, new
        return o * np.tanh(new), new

    def backward(self, dh, dc):
        x, h, c, i, f, o, g, new = self.cache
        dc += dh * o * (1 - np.tanh(new) ** 2)
        da = np.hstack([dc * g * i * (1 - i), dc * c * f * (1 - f), dh * np.tanh(new) * o * (1 - o),
                        dc * i * (1 - g**2)])
        self.dWx[...], self.dWh[...], self.db[...] = x.T @ da, h.T @ da, da.sum(axis=0)
        return da @ self.Wx.T, da @ self.Wh.T, dc * f


# %% a product of two inputs
# call: check_layer(MulLayer(), x, 2 * x)
# wrong: return dout * self.y, dout * self.x => return dout * self.y, dout * self.y
class MulLayer:
    def forward(self, x, y):
        self.x, self.y = x, y
        return x * y

    def backward(self, dout):
        return dout * self.y, dout * self.x


# %% two numbers, as in the textbook's apples
# call: check_layer(Product(), 100.0, 1.1)
# wrong: return dout * self.y, dout * self.x => return dout * self.y, dout * self.x / 2
class Product:
    def forward(self, x, y):
        self.x, self.y = x, y
        return x * y

    def backward(self, dout):
        return dout * self.y, dout * self.x


# %% one input of several, chosen by wrt
# call: check_layer(Weighted(), x, np.array([[1.0], [0.5]]), wrt="x")
# wrong: return 2 * dy * self.weights * self.x => return dy * self.weights * self.x
class Weighted:
    def forward(self, x, weights):
        self.x, self.weights = x, weights
        return weights * x**2

    def backward(self, dy):
        return 2 * dy * self.weights * self.x


# %% the gradient of one of two inputs was forgotten
# call: check_layer(Gate(), h, c)
# wrong: return dy * self.c, dy * self.h => return dy * self.c
class Gate:
    def forward(self, h, c):
        self.h, self.c = h, c
        return h * c

    def backward(self, dy):
        return dy * self.c, dy * self.h


# %% a loss layer with targets
# call: check_layer(SoftmaxWithLoss(), x, np.array([0, 2]))
# wrong: return dout * (self.y - self.t) / len(self.t) => return dout * (self.y - self.t)
class SoftmaxWithLoss:
    def forward(self, x, t):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        self.y, self.t = e / e.sum(axis=1, keepdims=True), np.eye(3)[t]
        return -np.sum(self.t * np.log(self.y)) / len(t)

    def backward(self, dout=1):
        return dout * (self.y - self.t) / len(self.t)


# %% relu that writes into x
# call: check_layer(Relu(), x)
# wrong: dout[self.mask] = 0 => dout[self.mask] *= 1
class Relu:
    def forward(self, x):
        self.mask = x <= 0
        x[self.mask] = 0
        return x

    def backward(self, dout):
        dout[self.mask] = 0
        return dout


# %% x is centred in place
# call: check_layer(Centre(), x)
# wrong: return 2 * self.x * dy - np.mean(2 * self.x * dy, axis=0) => return 2 * self.x * dy
class Centre:
    def forward(self, x):
        x -= x.mean(axis=0)
        self.x = x
        return x**2

    def backward(self, dy):
        return 2 * self.x * dy - np.mean(2 * self.x * dy, axis=0)


# %% forward returns a cache, which backward takes
# call: check_layer(Cached(), x)
# wrong: self.dW = x.T @ dz => self.dW = x.T @ dz / len(x)
class Cached:
    def __init__(self):
        self.W, self.dW = rng.standard_normal((3, 4)), None

    def forward(self, x):
        y = np.tanh(x @ self.W)
        return y, (x, y)

    def backward(self, d, cache):
        x, y = cache
        dz = d * (1 - y**2)
        self.dW = x.T @ dz
        return dz @ self.W.T


# %% an array as the cache
# call: check_layer(Square(), x)
# wrong: return 2 * x * dy => return x * dy
class Square:
    def forward(self, x):
        return x**2, x

    def backward(self, dy, cache):
        x = cache
        return 2 * x * dy


# %% two outputs and a cache, gradients of the weights returned
# call: check_layer(Step(), x, h)
# wrong: x.T @ da, h.T @ da => x.T @ da, h.T @ (da - dh)
class Step:
    def __init__(self):
        self.Wx, self.Wh = rng.standard_normal((3, 4)), rng.standard_normal((4, 4))

    def forward(self, x, h):
        new = np.tanh(x @ self.Wx + h @ self.Wh)
        return new, 2 * new, (x, h, new)

    def backward(self, dh, dy, cache):
        x, h, new = cache
        da = (dh + 2 * dy) * (1 - new**2)
        return da @ self.Wx.T, da @ self.Wh.T, x.T @ da, h.T @ da


# %% outputs and input gradients are attributes
# call: check_layer(DenseLayer(), x)
# wrong: self.dinputs = np.dot(dvalues, self.weights.T) => self.dinputs = np.dot(dvalues, self.weights.T) * 2
class DenseLayer:
    def __init__(self):
        self.weights, self.biases = rng.standard_normal((3, 4)), np.zeros((1, 4))

    def forward(self, inputs):
        self.inputs = inputs
        self.output = np.dot(inputs, self.weights) + self.biases

    def backward(self, dvalues):
        self.dweights = np.dot(self.inputs.T, dvalues)
        self.dbiases = np.sum(dvalues, axis=0, keepdims=True)
        self.dinputs = np.dot(dvalues, self.weights.T)


# %% a loss of a prediction and a target, both of floats
# call: check_layer(SquaredError(), x, 0.3 * x)
# wrong: 2 * self.d / self.d.size => 2 * self.d / len(self.d)
class SquaredError:
    def forward(self, pred, target):
        self.d = pred - target
        return np.mean(self.d**2)

    def backward(self):
        return 2 * self.d / self.d.size


# %% a loss whose target comes first
# call: check_layer(CrossEntropy(), sigmoid(h), sigmoid(c))
# wrong: (1 - self.t) / (1 - self.p) - self.t / self.p => self.t / self.p - (1 - self.t) / (1 - self.p)
class CrossEntropy:
    def forward(self, y_true, y_pred):
        self.t, self.p = y_true, y_pred
        return -np.sum(y_true * np.log(y_pred) + (1 - y_true) * np.log(1 - y_pred))

    def backward(self, dout=1.0):
        return dout * ((1 - self.t) / (1 - self.p) - self.t / self.p)


# %% backward is given the input and the gradient
# call: check_layer(Torch7Linear(), x)
# wrong: self.gradb += grad_output.sum(axis=0) => self.gradb += grad_output.mean(axis=0)
class Torch7Linear:
    def __init__(self):
        self.W, self.b = rng.standard_normal((2, 3)), rng.standard_normal(2)
        self.gradW, self.gradb = np.zeros_like(self.W), np.zeros_like(self.b)

    def forward(self, input):
        self.output = input @ self.W.T + self.b
        return self.output

    def backward(self, input, grad_output):
        self.gradW += grad_output.T @ input
        self.gradb += grad_output.sum(axis=0)
        return grad_output @ self.W


# %% backward of a loss is given the prediction and the target
# call: check_layer(Torch7Loss(), x, x / 2)
# wrong: 2 * (input - target) / len(input) => 2 * (input - target)
class Torch7Loss:
    def forward(self, input, target):
        return np.sum((input - target) ** 2) / len(input)

    def backward(self, input, target):
        return 2 * (input - target) / len(input)
