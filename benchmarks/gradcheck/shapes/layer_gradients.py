"""Layers whose weights are attributes, and whose gradients lie in a dict, in a list, or are returned."""

import numpy as np

rng = np.random.default_rng(0)
x = rng.standard_normal((4, 3))


class Affine:
    def __init__(self, n=3, m=5):
        self.W, self.b = rng.standard_normal((n, m)), rng.standard_normal(m)
        self.grads = {}

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b


# %% a dict by the weights' names
# call: check_layer(InDict(), x)
# wrong: "b": dy.sum(axis=0) => "b": dy.mean(axis=0)
class InDict(Affine):
    def backward(self, dy):
        self.grads = {"W": self.x.T @ dy, "b": dy.sum(axis=0)}
        return dy @ self.W.T


# %% a dict that is filled, names with a d
# call: check_layer(Filled(), x)
# wrong: self.grads["dW"] = self.x.T @ dy => self.grads["dW"] = self.x.T @ dy + self.W
class Filled(Affine):
    def backward(self, dy):
        self.grads["dW"] = self.x.T @ dy
        self.grads["db"] = dy.sum(axis=0)
        return dy @ self.W.T


# %% a list in the weights' order
# call: check_layer(InList(), x)
# wrong: [self.x.T @ dy, dy.sum(axis=0)] => [self.x.T @ dy, dy[0]]
class InList(Affine):
    def backward(self, dy):
        self.grads = [self.x.T @ dy, dy.sum(axis=0)]
        return dy @ self.W.T


# %% a list in another order
# call: check_layer(Reversed(), x)
# wrong: [dy.sum(axis=0), self.x.T @ dy] => [dy.sum(axis=0), 2 * self.x.T @ dy]
class Reversed(Affine):
    def backward(self, dy):
        self.grads = [dy.sum(axis=0), self.x.T @ dy]
        return dy @ self.W.T


# %% a network of layers with dicts of their own
# call: check_layer(Network(), x)
# wrong: {"W": self.x.T @ dz, "b": dz.sum(axis=0)} => {"W": self.x.T @ dz, "b": dy.sum(axis=0)}
class Tanh(Affine):
    def forward(self, x):
        self.y = np.tanh(super().forward(x))
        return self.y

    def backward(self, dy):
        dz = dy * (1 - self.y**2)
        self.grads = {"W": self.x.T @ dz, "b": dz.sum(axis=0)}
        return dz @ self.W.T


class Network:
    def __init__(self):
        self.layers = [Tanh(3, 5), Tanh(5, 2)]

    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dy):
        for layer in self.layers[::-1]:
            dy = layer.backward(dy)
        return dy


# %% all gradients are returned, in a tuple
# call: check_layer(Returning(), x)
# wrong: dy @ self.W.T, self.x.T @ dy, dy.sum(axis=0) => dy @ self.W.T, self.x.T @ dy, dy.sum(axis=0) / 2
class Returning(Affine):
    def backward(self, dy):
        return dy @ self.W.T, self.x.T @ dy, dy.sum(axis=0)


# %% dx and a dict are returned
# call: check_layer(ReturningDict(), x)
# wrong: {"W": self.x.T @ dy, "b": dy.sum(axis=0)} => {"W": self.x.T @ (dy + 1), "b": dy.sum(axis=0)}
class ReturningDict(Affine):
    def backward(self, dy):
        return dy @ self.W.T, {"W": self.x.T @ dy, "b": dy.sum(axis=0)}


# %% one dict of all gradients is returned
# call: check_layer(ByName(), x)
# wrong: "db": dy.sum(axis=0) => "db": dy.sum(axis=0) * (self.b > 0)
class ByName(Affine):
    def backward(self, dy):
        return {"dx": dy @ self.W.T, "dW": self.x.T @ dy, "db": dy.sum(axis=0)}


# %% params in a dict, dx and gradients returned
# call: check_layer(WithParams(), x)
# wrong: self.x.T @ dz => self.x.T @ dy
class WithParams:
    def __init__(self):
        self.params = {"W": rng.standard_normal((3, 2)), "b": rng.standard_normal(2)}

    def forward(self, x):
        self.x, self.y = x, np.sin(x @ self.params["W"] + self.params["b"])
        return self.y

    def backward(self, dy):
        dz = dy * np.cos(self.x @ self.params["W"] + self.params["b"])
        return dz @ self.params["W"].T, {"W": self.x.T @ dz, "b": dz.sum(0)}


# %% an embedding, a list, nothing is returned
# call: check_layer(Embedding(), np.array([0, 2, 2, 1]))
# wrong: np.add.at(dW, self.ids, dy) => dW[self.ids] += dy
class Embedding:
    def __init__(self):
        self.W, self.grads = rng.standard_normal((4, 3)), []

    def forward(self, ids):
        self.ids = ids
        return self.W[ids]

    def backward(self, dy):
        dW = np.zeros_like(self.W)
        np.add.at(dW, self.ids, dy)
        self.grads = [dW]


# %% a number as a weight
# call: check_layer(PReLU(), x)
# wrong: np.sum(dy * np.minimum(self.x, 0)) => np.sum(dy * self.x)
class PReLU:
    def __init__(self):
        self.alpha, self.dalpha = 0.25, 0.0

    def forward(self, x):
        self.x = x
        return np.where(x > 0, x, self.alpha * x)

    def backward(self, dy):
        self.dalpha = np.sum(dy * np.minimum(self.x, 0))
        return np.where(self.x > 0, dy, self.alpha * dy)


# %% a NumPy number in a dict of weights
# call: check_layer(Scaled(), x)
# wrong: "s": np.sum(dy * self.x) => "s": np.mean(dy * self.x)
class Scaled:
    def __init__(self):
        self.params = {"s": np.float64(1.5), "b": rng.standard_normal(3)}
        self.grads = {}

    def forward(self, x):
        self.x = x
        return self.params["s"] * x + self.params["b"]

    def backward(self, dy):
        self.grads = {"s": np.sum(dy * self.x), "b": dy.sum(axis=0)}
        return self.params["s"] * dy


# %% the weight that a gradient was forgotten for
# call: check_layer(Forgetful(), x)
# wrong: self.db = dy.sum(axis=0) => pass
class Forgetful(Affine):
    def backward(self, dy):
        self.dW = self.x.T @ dy
        self.db = dy.sum(axis=0)
        return dy @ self.W.T


# %% lists of weights, and lists of gradients made in backward
# call: check_layer(Perceptron(), x)
# wrong: self.dbs[i] = d.sum(axis=0) => self.dbs[i] = d.mean(axis=0)
class Perceptron:
    def __init__(self):
        self.Ws = [rng.standard_normal((3, 5)), rng.standard_normal((5, 2))]
        self.bs = [rng.standard_normal(5), rng.standard_normal(2)]

    def forward(self, x):
        self.inputs = [x]
        for W, b in zip(self.Ws, self.bs, strict=True):
            self.inputs.append(np.tanh(self.inputs[-1] @ W + b))
        return self.inputs[-1]

    def backward(self, d):
        self.dWs, self.dbs = [None, None], [None, None]
        for i in (1, 0):
            d = d * (1 - self.inputs[i + 1] ** 2)
            self.dWs[i] = self.inputs[i].T @ d
            self.dbs[i] = d.sum(axis=0)
            d = d @ self.Ws[i].T
        return d


# %% weights made at the first call
# call: check_layer(Lazy(3), x)
# wrong: self.dbias = dy.sum(axis=0) => self.dbias = 2 * dy.sum(axis=0)
class Lazy:
    def __init__(self, units):
        self.units, self.kernel, self.bias = units, None, None

    def forward(self, x):
        if self.kernel is None:
            self.kernel, self.bias = np.random.standard_normal((x.shape[-1], self.units)), np.zeros(self.units)
        self.x = x
        return x @ self.kernel + self.bias

    def backward(self, dy):
        self.dkernel = self.x.T @ dy
        self.dbias = dy.sum(axis=0)
        return dy @ self.kernel.T


# %% methods that return weights and gradients by name
# call: check_layer(Named(), x)
# wrong: self.gradient_b = dy.sum(axis=0) => self.gradient_b = -dy.sum(axis=0)
class Named:
    def __init__(self):
        self._w, self._b = rng.standard_normal((3, 2)), np.zeros(2)

    def params(self):
        return {"w": self._w, "b": self._b}

    def grads(self):
        return {"w": self.gradient_w, "b": self.gradient_b}

    def forward(self, x):
        self.x = x
        return x @ self._w + self._b

    def backward(self, dy):
        self.gradient_w = self.x.T @ dy
        self.gradient_b = dy.sum(axis=0)
        return dy @ self._w.T


# %% float32 weights, arguments of float64
# call: check_layer(Single(), x)
# wrong: self.dW = self.x.T @ dy => self.dW = 1.001 * self.x.T @ dy
class Single:
    def __init__(self):
        self.W = rng.standard_normal((3, 2)).astype(np.float32)

    def forward(self, x):
        self.x = x.astype(np.float32)
        return self.x @ self.W

    def backward(self, dy):
        dy = dy.astype(np.float32)
        self.dW = self.x.T @ dy
        return dy @ self.W.T
