"""Weights in dicts, lists and tuples."""

from typing import NamedTuple

import numpy as np

rng = np.random.default_rng(0)
x = rng.standard_normal((4, 3))
W1, b1, W2 = rng.standard_normal((3, 5)), rng.standard_normal(5), rng.standard_normal((5, 2))


# %% one weight in a list
# call: gradcheck(list_forward, list_backward, {"x": x, "P": [W1]})
# wrong: [x.T @ dy] => [x.T @ dy * 2]
def list_forward(x, P):
    return x @ P[0], (x, P)


def list_backward(dy, cache):
    x, P = cache
    return {"dx": dy @ P[0].T, "dP": [x.T @ dy]}


# %% a dict of weights
# call: gradcheck(dict_forward, dict_backward, (x, {"W1": W1, "b1": b1, "W2": W2}))
# wrong: da.sum(axis=0) => da.mean(axis=0)
def dict_forward(x, params):
    h = np.tanh(x @ params["W1"] + params["b1"])
    return h @ params["W2"], (x, h, params)


def dict_backward(dy, cache):
    x, h, params = cache
    da = dy @ params["W2"].T * (1 - h * h)
    return da @ params["W1"].T, {"W1": x.T @ da, "b1": da.sum(axis=0), "W2": h.T @ dy}


# %% a dict of weights, gradients with a d before the name
# call: gradcheck(named_forward, named_backward, {"x": x, "params": {"W": W1, "b": b1}})
# wrong: "dW": x.T @ da => "dW": x.T @ dy
def named_forward(x, params):
    y = np.tanh(x @ params["W"] + params["b"])
    return y, (x, y, params)


def named_backward(dy, cache):
    x, y, params = cache
    da = dy * (1 - y**2)
    return {"x": da @ params["W"].T, "params": {"dW": x.T @ da, "db": da.sum(0)}}


# %% a list of tuples
# call: gradcheck(mlp_forward, mlp_backward, [x, [(W1, b1), (W2, b1[:2])]])
# wrong: grads.insert(0, (h.T @ d, d.sum(axis=0))) => grads.insert(0, (h.T @ d, d.sum(axis=0) * 0))
def mlp_forward(x, layers):
    hs = [x]
    for W, b in layers:
        hs.append(np.tanh(hs[-1] @ W + b))
    return hs[-1], (hs, layers)


def mlp_backward(dy, cache):
    hs, layers = cache
    grads = []
    for (W, _), h, y in zip(layers[::-1], hs[-2::-1], hs[::-1], strict=False):
        d = dy * (1 - y * y)
        grads.insert(0, (h.T @ d, d.sum(axis=0)))
        dy = d @ W.T
    return dy, grads


# %% dicts in a dict
# call: gradcheck(nested_forward, nested_backward, {"p": {"in": {"W": W1}, "out": {"W": W2, "scale": np.array(1.5)}}})
# wrong: {"W": h.T @ dy * s, "scale": (h @ V * dy).sum()} => {"W": h.T @ dy, "scale": (h @ V * dy).sum()}
def nested_forward(p):
    h = x @ p["in"]["W"]
    return h @ p["out"]["W"] * p["out"]["scale"], (h, p)


def nested_backward(dy, cache):
    h, p = cache
    V, s = p["out"]["W"], p["out"]["scale"]
    return {"dp": {"in": {"W": x.T @ (dy @ V.T) * s}, "out": {"W": h.T @ dy * s, "scale": (h @ V * dy).sum()}}}


# %% a named tuple of weights
# call: gradcheck(record_forward, record_backward, (x, Weights(W1, b1)))
# wrong: Weights(x.T @ dy, dy.sum(0)) => Weights(x.T @ dy, dy.sum(0) + b)
class Weights(NamedTuple):
    W: np.ndarray
    b: np.ndarray


def record_forward(x, weights):
    return x @ weights.W + weights.b, (x, weights)


def record_backward(dy, cache):
    x, (W, b) = cache
    return dy @ W.T, Weights(x.T @ dy, dy.sum(0))


# %% a list of inputs
# call: gradcheck(concat_forward, concat_backward, ([x, 2 * x[:, :2], x[:, 1:]],))
# wrong: np.split(dy, np.cumsum(sizes)[:-1], axis=1) => np.split(dy, np.cumsum(sizes[::-1])[:-1], axis=1)[::-1]
def concat_forward(xs):
    return np.concatenate(xs, axis=1), [x.shape[1] for x in xs]


def concat_backward(dy, sizes):
    return np.split(dy, np.cumsum(sizes)[:-1], axis=1)
