"""Code that writes where it should not, draws random numbers, or returns its results in other ways."""

import numpy as np

rng = np.random.default_rng(0)
x, W = rng.standard_normal((4, 3)), rng.standard_normal((3, 5))


# %% dropout from the global generator
# call: gradcheck(dropout_forward, dropout_backward, x)
# wrong: dy * mask => dy * mask.mean()
def dropout_forward(x):
    mask = np.random.binomial(1, 0.8, x.shape) / 0.8
    return x * mask, mask


def dropout_backward(dy, mask):
    return dy * mask


# %% noise from a generator that is an argument
# call: gradcheck(noisy_forward, noisy_backward, (x, np.random.default_rng(1)))
# wrong: 2 * z * dy => 2 * dy * x
def noisy_forward(x, rng):
    z = x + rng.standard_normal(x.shape)
    return z**2, (x, z)


def noisy_backward(dy, cache):
    x, z = cache
    return 2 * z * dy


# %% backward writes into the cache
# call: gradcheck(softmax_forward, softmax_backward, x)
# wrong: y *= total => y *= total * y
def softmax_forward(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    y = e / e.sum(axis=1, keepdims=True)
    return y.copy(), y


def softmax_backward(dy, y):
    total = (dy * y).sum(axis=1, keepdims=True)
    dx = y * dy
    y *= total
    dx -= y
    return dx


# %% forward scales its argument in place
# call: gradcheck(scaling_forward, scaling_backward, x)
# wrong: dy * 0.2 * x => dy * 0.1 * x
def scaling_forward(x):
    x *= 0.1
    return 10 * x**2, x.copy()


def scaling_backward(dy, x):
    return dy * 0.2 * x * 10


# %% a counter and the moments in an argument
# call: gradcheck(moments_forward, moments_backward, (x, {"m": np.zeros(3), "t": 0}))
# wrong: np.cos(x) * dy => np.cos(x) + dy
def moments_forward(x, state):
    state["t"] += 1
    state["m"] += 0.1 * x.mean(axis=0)
    return np.sin(x), x


def moments_backward(dy, x):
    return np.cos(x) * dy


# %% three outputs and a cache
# call: gradcheck(stats_forward, stats_backward, x)
# wrong: dsum + 2 * x * dsquares => dsum + x * dsquares
def stats_forward(x):
    return x.sum(axis=0), (x * x).sum(axis=0), len(x), x


def stats_backward(dsum, dsquares, x):
    return dsum + 2 * x * dsquares


# %% outputs in a tuple
# call: gradcheck(split_forward, split_backward, W)
# wrong: np.concatenate([da, db], axis=1) => np.concatenate([db, da], axis=1)[:, ::-1][:, :5]
def split_forward(x):
    return (x[:, :2], x[:, 2:] ** 1), None


def split_backward(da, db, cache):
    return np.concatenate([da, db], axis=1)


# %% the same array for two gradients
# call: gradcheck(add_forward, add_backward, (x, 2 * x))
# wrong: return dy, dy => return dy, -dy
def add_forward(a, b):
    return a + b, None


def add_backward(dy, cache):
    return dy, dy


# %% None for what has no gradient
# call: gradcheck(pick_forward, pick_backward, (x, np.array([0, 2, 2, 1])))
# wrong: dx[np.arange(4), ids] = dy => dx[np.arange(4), ids] = dy * x[np.arange(4), ids]
def pick_forward(x, ids):
    return x[np.arange(4), ids], (x, ids)


def pick_backward(dy, cache):
    x, ids = cache
    dx = np.zeros(x.shape)
    dx[np.arange(4), ids] = dy
    return dx, None


# %% clipping
# call: gradcheck(clip_forward, clip_backward, (3 * x, -1.0, 1.5))
# wrong: (x > low) & (x < high) => (x > low)
def clip_forward(x, low, high):
    return np.clip(x, low, high), (x, low, high)


def clip_backward(dy, cache):
    x, low, high = cache
    return dy * ((x > low) & (x < high))


# %% the loss of a mean over all elements
# call: gradcheck(mse_forward, mse_backward, (x, x[::-1]))
# wrong: 2 * r / r.size => 2 * r / len(r)
def mse_forward(y, target):
    r = y - target
    return np.mean(r**2), r


def mse_backward(dloss, r):
    dy = dloss * 2 * r / r.size
    return dy, -dy


# %% relu in place, the result of which is the cache
# call: gradcheck(inplace_forward, inplace_backward, x)
# wrong: dy * (x > 0) => dy * (x >= 0)
def inplace_forward(x):
    x[x < 0] = 0
    return x, x


def inplace_backward(dy, x):
    return dy * (x > 0)


# %% np.clip into its argument
# call: gradcheck(out_forward, out_backward, 2 * x)
# wrong: dy * (np.abs(x) < 1) => dy
def out_forward(x):
    np.clip(x, -1, 1, out=x)
    return x, x


def out_backward(dy, x):
    return dy * (np.abs(x) < 1)


# %% a number with a gradient
# call: gradcheck(scale_forward, scale_backward, [x, 2.0])
# wrong: (dy * x).sum() => dy.sum()
def scale_forward(x, s):
    return s * x, (x, s)


def scale_backward(dy, cache):
    x, s = cache
    return s * dy, (dy * x).sum()


# %% a NumPy number with a gradient, by name
# call: gradcheck(temperature_forward, temperature_backward, {"x": x, "T": np.float64(0.7)})
# wrong: -(dy * z / T).sum() => (dy * z / T).sum()
def temperature_forward(x, T):
    return np.exp(x / T), (x / T, T)


def temperature_backward(dy, cache):
    z, T = cache
    dy = dy * np.exp(z)
    return {"dx": dy / T, "dT": -(dy * z / T).sum()}


# %% an output of whole numbers, for which backward has a place
# call: gradcheck(top_forward, top_backward, x)
# wrong: dx[np.arange(len(dx)), k] = dy => dx[np.arange(len(dx)), k] = 2 * dy
def top_forward(x):
    k = x.argmax(axis=1)
    return x.max(axis=1), k, (x, k)


def top_backward(dy, dk, cache):
    x, k = cache
    dx = np.zeros_like(x)
    dx[np.arange(len(dx)), k] = dy
    return dx


# %% one gradient too few in a tuple
# call: gradcheck(short_forward, short_backward, (x, W, W[0]))
# wrong: return dy @ W.T, x.T @ dy, dy.sum(axis=0) => return dy @ W.T, x.T @ dy
def short_forward(x, W, b):
    return x @ W + b, (x, W)


def short_backward(dy, cache):
    x, W = cache
    return dy @ W.T, x.T @ dy, dy.sum(axis=0)


# %% one gradient too few in a dict
# call: gradcheck(partial_forward, partial_backward, {"x": x, "P": {"W": W, "b": W[0]}})
# wrong: {"W": x.T @ dy, "b": dy.sum(axis=0)} => {"W": x.T @ dy}
def partial_forward(x, P):
    return x @ P["W"] + P["b"], (x, P)


def partial_backward(dy, cache):
    x, P = cache
    return {"dx": dy @ P["W"].T, "dP": {"W": x.T @ dy, "b": dy.sum(axis=0)}}


# %% rates and an eps, which are no weights
# call: gradcheck(rates_forward, rates_backward, (x, {"eps": 1e-5, "momentum": 0.9, "mode": "train"}, 0.5))
# wrong: (dy - y * (dy * y).mean(axis=1, keepdims=True)) => (dy - y * (dy * y).sum(axis=1, keepdims=True))
def rates_forward(x, config, rate):
    rms = np.sqrt((x**2).mean(axis=1, keepdims=True) + config["eps"])
    return rate * x / rms, (x / rms, rms, rate)


def rates_backward(dy, cache):
    y, rms, rate = cache
    return rate * (dy - y * (dy * y).mean(axis=1, keepdims=True)) / rms


# %% a generator of the module
# call: gradcheck(masked_forward, masked_backward, x)
# wrong: dy * mask => dy * (mask > 0)
generator = np.random.default_rng(1)


def masked_forward(x):
    mask = 2.0 * (generator.random(x.shape) > 0.5)
    return x * mask, mask


def masked_backward(dy, mask):
    return dy * mask
