"""float32 inside, and steps that complex numbers cannot take."""

import math

import numpy as np

rng = np.random.default_rng(0)
x, W, s = rng.standard_normal((4, 3)), rng.standard_normal((3, 5)), rng.standard_normal(4)


# %% a float32 buffer
# call: gradcheck(buffer_forward, buffer_backward, (x, W))
# wrong: x.T @ d => x.T @ d * 1.01
def buffer_forward(x, W):
    y = np.empty((len(x), W.shape[1]), np.float32)
    for n in range(len(x)):
        y[n] = np.tanh(x[n] @ W)
    return y, (x, W, y)


def buffer_backward(dy, cache):
    x, W, y = cache
    d = dy * (1 - y * y)
    return d @ W.T, x.T @ d


# %% cast to float32 at the start
# call: gradcheck(cast_forward, cast_backward, (x, W))
# wrong: np.cos(x @ W) * dy).T @ x).T => np.cos(x @ W) * dy).T @ x).T * 0.99
def cast_forward(x, W):
    x, W = x.astype(np.float32), W.astype("float32")
    return np.sin(x @ W), (x, W)


def cast_backward(dy, cache):
    x, W = cache
    return (np.cos(x @ W) * dy) @ W.T, ((np.cos(x @ W) * dy).T @ x).T


# %% float32 in the middle, float64 outside
# call: gradcheck(hidden_forward, hidden_backward, (x, W))
# wrong: (1 - h * h) * dh => (1 - h) * dh
def hidden_forward(x, W):
    h = np.zeros((len(x), W.shape[1]), dtype=np.float32)
    h[:] = np.tanh(x @ W)
    return h.astype(np.float64) ** 2, (x, W, h)


def hidden_backward(dy, cache):
    x, W, h = cache
    dh = 2 * h * dy
    da = (1 - h * h) * dh
    return da @ W.T, x.T @ da


# %% a gradient in float32
# call: gradcheck(single_forward, single_backward, x)
# wrong: dx[n] = 3 * x[n] ** 2 => dx[n] = 3 * x[n] ** 2.01
def single_forward(x):
    return np.abs(x) ** 3, np.abs(x)


def single_backward(dy, x):
    dx = np.zeros(x.shape, dtype="f4")
    for n in range(len(x)):
        dx[n] = 3 * x[n] ** 2 * dy[n]
    return dx * np.sign(signs)


signs = x


# %% everything in float32
# call: gradcheck(all_forward, all_backward, (x.astype("float32"), W.astype("float32")))
# wrong: dy.sum(axis=1, keepdims=True) => dy.mean(axis=1, keepdims=True)
def all_forward(x, W):
    return np.exp(0.1 * x @ W) + x.sum(axis=1, keepdims=True), (x, W, np.exp(0.1 * x @ W))


def all_backward(dy, cache):
    x, W, e = cache
    return 0.1 * (dy * e) @ W.T + dy.sum(axis=1, keepdims=True), 0.1 * x.T @ (dy * e)


# %% a softmax in float32, by rows
# call: gradcheck(softmax32_forward, softmax32_backward, x)
# wrong: (dy * y).sum(axis=1, keepdims=True) => (dy * y).mean(axis=1, keepdims=True)
def softmax32_forward(x):
    y = np.empty(x.shape, "float32")
    for n, row in enumerate(x):
        e = np.exp(row - row.max())
        y[n] = e / e.sum()
    return y, y


def softmax32_backward(dy, y):
    return y * (dy - (dy * y).sum(axis=1, keepdims=True))


# %% the weights are cast
# call: gradcheck(scaled_forward, scaled_backward, {"x": x, "scale": np.array([1.5, -0.5, 2.0])})
# wrong: (dy * x).sum(axis=0) => (dy * x)[1:].sum(axis=0)
def scaled_forward(x, scale):
    return x * np.float32(scale), (x, scale)


def scaled_backward(dy, cache):
    x, scale = cache
    return {"dx": dy * np.float32(scale), "dscale": (dy * x).sum(axis=0)}


# %% an absolute value
# call: gradcheck(abs_forward, abs_backward, x)
# wrong: np.sign(x) * dy => np.sign(x) * dy * (1 + 1e-5)
def abs_forward(x):
    return np.abs(x), x


def abs_backward(dy, x):
    return np.sign(x) * dy


# %% a small penalty beside a large term
# call: gradcheck(penalty_forward, penalty_backward, x)
# wrong: 1e-6 * np.sign(W) => 0 * np.sign(W)
def penalty_forward(W):
    return (W**2).sum() + 1e-6 * np.abs(W).sum(), W


def penalty_backward(dy, W):
    return dy * (2 * W + 1e-6 * np.sign(W))


# %% a small argument beside a large one
# call: gradcheck(beside_forward, beside_backward, (x[:, 0], s))
# wrong: 1e-4 * np.sign(s) * dy => 0 * s * dy
def beside_forward(x, s):
    return 1e3 * x**2 + 1e-4 * np.abs(s), (x, s)


def beside_backward(dy, cache):
    x, s = cache
    return 2e3 * x * dy, 1e-4 * np.sign(s) * dy


# %% divided by its norm
# call: gradcheck(unit_forward, unit_backward, s)
# wrong: (dy - y * (y @ dy)) => (dy - y * (y * dy))
def unit_forward(v):
    norm = np.linalg.norm(v)
    return v / norm, (v / norm, norm)


def unit_backward(dy, cache):
    y, norm = cache
    return (dy - y * (y @ dy)) / norm


# %% cosine similarity, norms along an axis
# call: gradcheck(cosine_forward, cosine_backward, (x, x[::-1] + 1))
# wrong: a / na**2 * c[:, None] => a / na * c[:, None]
def cosine_forward(a, b):
    na, nb = np.linalg.norm(a, axis=1, keepdims=True), np.linalg.norm(b, axis=1, keepdims=True)
    c = (a * b / (na * nb)).sum(axis=1)
    return c, (a, b, na, nb, c)


def cosine_backward(dy, cache):
    a, b, na, nb, c = cache
    da = dy[:, None] * (b / (na * nb) - a / na**2 * c[:, None])
    return da, dy[:, None] * (a / (na * nb) - b / nb**2 * c[:, None])


# %% log(1 + e^x) by logaddexp
# call: gradcheck(softplus_forward, softplus_backward, x)
# wrong: / (1 + np.exp(-x)) => / (1.00001 + np.exp(-x))
def softplus_forward(x):
    return np.logaddexp(0, x), x


def softplus_backward(dy, x):
    return dy / (1 + np.exp(-x))


# %% the standard library's functions, element by element
# call: gradcheck(gelu_forward, gelu_backward, x)
# wrong: 0.5 * math.erf(v / math.sqrt(2)) + 0.5 + v => 0.5 * math.erf(v / math.sqrt(2)) + v
def gelu_forward(x):
    y = np.zeros(x.shape)
    for index, v in np.ndenumerate(x):
        y[index] = v * (0.5 * math.erf(v / math.sqrt(2)) + 0.5)
    return y, x


def gelu_backward(dy, x):
    dx = np.zeros_like(x)
    for index, v in np.ndenumerate(x):
        dx[index] = 0.5 * math.erf(v / math.sqrt(2)) + 0.5 + v * math.exp(-v * v / 2) / math.sqrt(2 * math.pi)
    return dx * dy


# %% Huber's loss
# call: check_loss(huber_loss, s, 0.5)
# wrong: delta * np.sign(r)) => np.sign(r))
def huber_loss(r, delta):
    small = np.abs(r) <= delta
    loss = np.where(small, 0.5 * r**2, delta * (np.abs(r) - 0.5 * delta)).sum()
    return float(loss), np.where(small, r, delta * np.sign(r))


# %% instance normalisation by x.std()
# call: gradcheck(instance_forward, instance_backward, x)
# wrong: (dy * y).mean(1, keepdims=True) => (dy * y).sum(1, keepdims=True) / 2
def instance_forward(x):
    std = x.std(axis=1, keepdims=True)
    return (x - x.mean(axis=1, keepdims=True)) / std, std


def instance_backward(dy, std):
    y = (x - x.mean(axis=1, keepdims=True)) / std
    return (dy - dy.mean(1, keepdims=True) - y * (dy * y).mean(1, keepdims=True)) / std


# %% a quadratic form by vdot
# call: gradcheck(vdot_forward, vdot_backward, (s, x @ x.T))
# wrong: A @ v + A.T @ v => 2 * A @ v + v
def vdot_forward(v, A):
    return np.vdot(v, A @ v), (v, A)


def vdot_backward(dy, cache):
    v, A = cache
    return dy * (A @ v + A.T @ v), dy * np.outer(v, v)
