"""Objects with forward(x) and backward(dy): where they keep weights and gradients differs."""

import numpy as np

rng = np.random.default_rng(0)
x = rng.standard_normal((4, 3))


# %% W and dW
# call: check_layer(Linear(), x)
# wrong: self.db = dy.sum(axis=0) => self.db = dy.mean(axis=0)
class Linear:
    def __init__(self):
        self.W, self.b = rng.standard_normal((3, 5)), rng.standard_normal(5)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy):
        self.dW = self.x.T @ dy
        self.db = dy.sum(axis=0)
        return dy @ self.W.T


# %% params and grads, two dicts
# call: check_layer(Tanh2(), x)
# wrong: d @ self.params["W"].T => d @ self.params["W"].T * 0.5
class Tanh2:
    def __init__(self):
        self.params = {"W": rng.standard_normal((3, 2)), "b": np.zeros(2)}
        self.grads = {}

    def forward(self, x):
        self.cache = x, np.tanh(x @ self.params["W"] + self.params["b"])
        return self.cache[1]

    def backward(self, dy):
        x, y = self.cache
        d = dy * (1 - y * y)
        self.grads["W"], self.grads["b"] = x.T @ d, d.sum(axis=0)
        return d @ self.params["W"].T


# %% two lists, shared with attributes, written in place
# call: check_layer(Affine(), x)
# wrong: self.grads[1][...] = dout.sum(0) => self.grads[1][...] = dout[0]
class Affine:
    def __init__(self):
        W, b = rng.standard_normal((3, 2)), rng.standard_normal(2)
        self.params = [W, b]
        self.grads = [np.zeros_like(W), np.zeros_like(b)]

    def forward(self, x):
        W, b = self.params
        self.x = x
        return np.dot(x, W) + b

    def backward(self, dout):
        W, b = self.params
        self.grads[0][...] = np.dot(self.x.T, dout)
        self.grads[1][...] = dout.sum(0)
        return np.dot(dout, W.T)


# %% parameters with data and grad, added up
# call: check_layer(Dense(), x)
# wrong: self.weight.grad += self.x.T @ dy => self.weight.grad += self.x.T @ (dy * dy)
class Parameter:
    def __init__(self, data):
        self.data, self.grad = data, np.zeros_like(data)


class Dense:
    def __init__(self):
        self.weight, self.bias = Parameter(rng.standard_normal((3, 4))), Parameter(rng.standard_normal(4))

    def forward(self, x):
        self.x = x
        return x @ self.weight.data + self.bias.data

    def backward(self, dy):
        self.weight.grad += self.x.T @ dy
        self.bias.grad += dy.sum(axis=0)
        return dy @ self.weight.data.T


# %% a network, a list of layers
# call: check_layer(Network([Fc(3, 5), Relu(), Fc(5, 2)]), x)
# wrong: return dy * (self.x > 0) => return dy * (self.x > -1)
class Fc:
    def __init__(self, n, m):
        self.W, self.dW = rng.standard_normal((n, m)), None

    def forward(self, x):
        self.x = x
        return x.dot(self.W)

    def backward(self, dy):
        self.dW = self.x.T.dot(dy)
        return dy.dot(self.W.T)


class Relu:
    def forward(self, x):
        self.x = x
        return x * (x > 0)

    def backward(self, dy):
        return dy * (self.x > 0)


class Network:
    def __init__(self, layers):
        self.layers = layers

    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dy):
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy


# %% weights that move inside backward
# call: check_layer(Moving(), x, update=0.1)
# wrong: self.b -= lr * dy.sum(axis=0) => self.b -= lr * dy.mean(axis=0)
class Moving:
    def __init__(self):
        self.W, self.b = rng.standard_normal((3, 2)), np.zeros(2)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy, lr):
        dx = dy @ self.W.T
        self.W -= lr * self.x.T @ dy
        self.b -= lr * dy.sum(axis=0)
        return dx


# %% batch normalisation in training, running statistics
# call: check_layer(BatchNorm(), x)
# wrong: np.sum(dy * self.xhat, axis=0) => np.sum(dy, axis=0)
class BatchNorm:
    def __init__(self):
        self.gamma, self.beta = rng.standard_normal(3), rng.standard_normal(3)
        self.running_mean, self.running_var = np.zeros(3), np.ones(3)

    def forward(self, x):
        mean, var = np.mean(x, axis=0), np.var(x, axis=0)
        self.running_mean *= 0.9
        self.running_mean += 0.1 * mean
        self.running_var = 0.9 * self.running_var + 0.1 * var
        self.std = np.sqrt(var + 1e-5)
        self.xhat = (x - mean) / self.std
        return self.gamma * self.xhat + self.beta

    def backward(self, dy):
        self.dgamma = np.sum(dy * self.xhat, axis=0)
        self.dbeta = np.sum(dy, axis=0)
        d = dy * self.gamma
        return (d - d.mean(axis=0) - self.xhat * (d * self.xhat).mean(axis=0)) / self.std


# %% dropout with the layer's own generator
# call: check_layer(Dropout(), x)
# wrong: return dy * self.mask => return dy * self.mask * 0.75
class Dropout:
    def __init__(self):
        self.rng = np.random.default_rng(1)

    def forward(self, x):
        self.mask = (self.rng.random(x.shape) > 0.25) / 0.75
        return x * self.mask

    def backward(self, dy):
        return dy * self.mask


# %% an LSTM whose state is kept from call to call
# call: check_layer(Stateful(), x[None] * np.ones((2, 1, 1)))
# wrong: da @ self.U.T => da @ self.U
class Stateful:
    def __init__(self):
        self.W, self.U, self.h = rng.standard_normal((3, 3)), rng.standard_normal((3, 3)), np.zeros((4, 3))
        self.grad_W, self.grad_U = np.zeros((3, 3)), np.zeros((3, 3))

    def forward(self, xs):
        self.xs, self.hs = xs, [self.h]
        for x in xs:
            self.hs.append(np.tanh(x @ self.W + self.hs[-1] @ self.U))
        self.h = self.hs[-1]
        return np.stack(self.hs[1:])

    def backward(self, dys):
        dxs, dh = np.zeros_like(self.xs), 0
        for t in reversed(range(len(dys))):
            da = (dys[t] + dh) * (1 - self.hs[t + 1] ** 2)
            self.grad_W += self.xs[t].T @ da
            self.grad_U += self.hs[t].T @ da
            dxs[t], dh = da @ self.W.T, da @ self.U.T
        return dxs


# %% methods that return lists
# call: check_layer(Bias(), x)
# wrong: self.gradient = dy.sum(axis=0) => self.gradient = dy.sum(axis=0) * (np.arange(3) > 0)
class Bias:
    def __init__(self):
        self.bias = rng.standard_normal(3)

    def parameters(self):
        return [self.bias]

    def gradients(self):
        return [self.gradient]

    def forward(self, x):
        self.x = x
        return np.sin(x) + self.bias * 2

    def backward(self, dy):
        self.gradient = dy.sum(axis=0)
        self.gradient = self.gradient * 2
        return dy * np.cos(self.x)


# %% Keras-style: called, weights in a list
# call: check_layer(KerasDense(), x)
# wrong: self.gradients = [self.x.T @ d, d.sum(0)] => self.gradients = [self.x.T @ d, -d.sum(0)]
class KerasDense:
    def __init__(self):
        self.kernel, self.bias = rng.standard_normal((3, 4)), np.zeros(4)
        self.weights = [self.kernel, self.bias]

    def __call__(self, x, training=False):
        self.x, self.y = x, 1 / (1 + np.exp(-(x @ self.kernel + self.bias)))
        return self.y

    def backward(self, dy):
        d = dy * self.y * (1 - self.y)
        self.gradients = [self.x.T @ d, d.sum(0)]
        return d @ self.kernel.T


# %% an object as the cache of a pair
# call: gradcheck(lambda x: (layer.forward(x), layer), lambda dy, layer: layer.backward(dy), x)
# wrong: return dy * self.slope => return dy * self.y
class Softplus:
    def __init__(self):
        self.grads, self.calls = [np.zeros(3)], 0

    def forward(self, x):
        self.y, self.slope = np.log(1 + np.exp(x)), 1 / (1 + np.exp(-x))
        return self.y

    def backward(self, dy):
        self.grads[0] += dy.sum(axis=0)
        self.calls += 1
        return dy * self.slope


layer = Softplus()


# %% weights and gradients two layers deep
# call: check_layer(Block(), x)
# wrong: self.inner.dA = self.h.T @ dy => self.inner.dA = self.h.T @ dy + self.inner.A
class Inner:
    def __init__(self):
        self.A = rng.standard_normal((3, 2))
        self.dA = np.zeros_like(self.A)


class Block:
    def __init__(self):
        self.inner, self.scale = Inner(), np.array(1.3)
        self.dscale = np.array(0.0)

    def forward(self, x):
        self.h = x * self.scale
        self.x = x
        return self.h @ self.inner.A

    def backward(self, dy):
        self.inner.dA = self.h.T @ dy
        dh = dy @ self.inner.A.T
        self.dscale = np.sum(dh * self.x)
        return dh * self.scale
