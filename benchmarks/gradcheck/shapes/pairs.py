"""forward(x, w, b) -> (out, cache), backward(dout, cache) -> gradients in the order of the arguments, as in CS231n."""

import numpy as np

rng = np.random.default_rng(0)
x, w, b = rng.standard_normal((4, 3, 2)), rng.standard_normal((6, 5)), rng.standard_normal(5)
images, filters, biases = rng.standard_normal((2, 2, 5, 5)), rng.standard_normal((3, 2, 3, 3)), rng.standard_normal(3)
rows, gamma, beta = rng.standard_normal((4, 5)), rng.standard_normal(5), rng.standard_normal(5)


# %% affine
# call: gradcheck(affine_forward, affine_backward, (x, w, b))
# wrong: x.reshape(len(x), -1).T @ dout => x.reshape(len(x), -1).T @ dout / len(x)
def affine_forward(x, w, b):
    return x.reshape(len(x), -1) @ w + b, (x, w, b)


def affine_backward(dout, cache):
    x, w, _ = cache
    return (dout @ w.T).reshape(x.shape), x.reshape(len(x), -1).T @ dout, dout.sum(axis=0)


# %% relu into dout
# call: gradcheck(relu_forward, relu_backward, rows)
# wrong: x <= 0 => x <= 0.9
def relu_forward(x):
    return np.maximum(0, x), x


def relu_backward(dout, x):
    dx = dout
    dx[x <= 0] = 0
    return dx


# %% affine and relu
# call: gradcheck(affine_relu_forward, affine_relu_backward, [rows, rows.T, rows[:, 0]])
# wrong: * (a > 0) => * (a > 0) * 1.01
def affine_relu_forward(x, w, b):
    a = x @ w + b
    out = np.maximum(a, 0)
    fc_cache, relu_cache = (x, w, b), a
    return out, (fc_cache, relu_cache)


def affine_relu_backward(dout, cache):
    (x, w, _), a = cache
    da = dout * (a > 0)
    return da @ w.T, x.T @ da, np.sum(da, axis=0)


# %% convolution by loops
# call: gradcheck(conv_forward, conv_backward, (images, filters, biases, {"stride": 2, "pad": 1}))
# wrong: dw[f] += xp[n => dw[f] = xp[n
def conv_forward(x, w, b, conv_param):
    pad, stride = conv_param["pad"], conv_param["stride"]
    N, C, H, W = x.shape
    F, _, HH, WW = w.shape
    xp = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    out = np.zeros((N, F, 1 + (H + 2 * pad - HH) // stride, 1 + (W + 2 * pad - WW) // stride))
    for n in range(N):
        for f in range(F):
            for i in range(out.shape[2]):
                for j in range(out.shape[3]):
                    window = xp[n, :, i * stride:i * stride + HH, j * stride:j * stride + WW]
                    out[n, f, i, j] = np.sum(window * w[f]) + b[f]
    return out, (x, w, b, conv_param)


def conv_backward(dout, cache):
    x, w, b, conv_param = cache
    pad, s = conv_param["pad"], conv_param["stride"]
    xp = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    dxp, dw = np.zeros(xp.shape), np.zeros(w.shape)
    for n in range(dout.shape[0]):
        for f in range(dout.shape[1]):
            for i in range(dout.shape[2]):
                for j in range(dout.shape[3]):
                    dw[f] += xp[n, :, i * s:i * s + w.shape[2], j * s:j * s + w.shape[3]] * dout[n, f, i, j]
                    dxp[n, :, i * s:i * s + w.shape[2], j * s:j * s + w.shape[3]] += w[f] * dout[n, f, i, j]
    return dxp[:, :, pad:-pad, pad:-pad], dw, dout.sum(axis=(0, 2, 3))


# %% max pooling by loops
# call: gradcheck(max_pool_forward, max_pool_backward, (images, {"size": 2, "stride": 2}))
# wrong: (window == window.max()) * => (window >= np.sort(window.ravel())[-2]) *
def max_pool_forward(x, pool_param):
    k, s = pool_param["size"], pool_param["stride"]
    N, C, H, W = x.shape
    out = np.empty((N, C, 1 + (H - k) // s, 1 + (W - k) // s))
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            out[:, :, i, j] = x[:, :, i * s:i * s + k, j * s:j * s + k].max(axis=(2, 3))
    return out, (x, pool_param)


def max_pool_backward(dout, cache):
    x, pool_param = cache
    k, s = pool_param["size"], pool_param["stride"]
    dx = np.zeros_like(x)
    for n, c, i, j in np.ndindex(*dout.shape):
        window = x[n, c, i * s:i * s + k, j * s:j * s + k]
        dx[n, c, i * s:i * s + k, j * s:j * s + k] += (window == window.max()) * dout[n, c, i, j]
    return dx


# %% batch normalisation with running statistics
# call: gradcheck(batchnorm_forward, batchnorm_backward, (rows, gamma, beta, bn_param))
# wrong: - dxhat.mean(axis=0) - xhat => - xhat
bn_param = {"mode": "train", "running_mean": np.zeros(5), "running_var": np.ones(5)}


def batchnorm_forward(x, gamma, beta, bn_param):
    mean, var = x.mean(axis=0), x.var(axis=0)
    xhat = (x - mean) / np.sqrt(var + 1e-5)
    bn_param["running_mean"] = 0.9 * bn_param["running_mean"] + 0.1 * mean
    bn_param["running_var"] = 0.9 * bn_param["running_var"] + 0.1 * var
    return gamma * xhat + beta, (xhat, gamma, var)


def batchnorm_backward(dout, cache):
    xhat, gamma, var = cache
    dxhat = dout * gamma
    dx = (dxhat - dxhat.mean(axis=0) - xhat * (dxhat * xhat).mean(axis=0)) / np.sqrt(var + 1e-5)
    return dx, (dout * xhat).sum(axis=0), dout.sum(axis=0)


# %% layer normalisation by np.std
# call: gradcheck(layernorm_forward, layernorm_backward, (rows, gamma, beta))
# wrong: np.sqrt(var + 1e-3) + beta => np.sqrt(var) + beta
def layernorm_forward(x, gamma, beta):
    mean, var = x.mean(axis=1, keepdims=True), np.std(x, axis=1, keepdims=True) ** 2
    out = gamma * (x - mean) / np.sqrt(var + 1e-3) + beta
    return out, (x, mean, var, gamma)


def layernorm_backward(dout, cache):
    x, mean, var, gamma = cache
    istd = 1 / np.sqrt(var + 1e-3)
    xhat, dxhat = (x - mean) * istd, dout * gamma
    dx = istd * (dxhat - dxhat.mean(1, keepdims=True) - xhat * (dxhat * xhat).mean(1, keepdims=True))
    return dx, np.sum(dout * xhat, axis=0), np.sum(dout, axis=0)


# %% dropout with a seed
# call: gradcheck(dropout_forward, dropout_backward, (rows, {"p": 0.6, "seed": 3}))
# wrong: return dout * mask => return dout * (mask > 0)
def dropout_forward(x, dropout_param):
    p = dropout_param["p"]
    if "seed" in dropout_param:
        np.random.seed(dropout_param["seed"])
    mask = (np.random.rand(*x.shape) < p) / p
    return x * mask, (dropout_param, mask)


def dropout_backward(dout, cache):
    _, mask = cache
    return dout * mask


# %% word embedding
# call: gradcheck(embed_forward, embed_backward, (np.array([[1, 3, 1], [0, 1, 2]]), rows))
# wrong: np.add.at(dW, x, dout) => dW[x] += dout
def embed_forward(x, W):
    return W[x, :], (x, W.shape)


def embed_backward(dout, cache):
    x, shape = cache
    dW = np.zeros(shape)
    np.add.at(dW, x, dout)
    return dW


# %% spatial batch normalisation
# call: gradcheck(spatial_forward, spatial_backward, (images, biases[:2], biases[1:]))
# wrong: dxhat.sum(axis=axes, keepdims=True) / m => dxhat.sum(axis=axes, keepdims=True) / len(dout)
def spatial_forward(x, gamma, beta):
    axes = (0, 2, 3)
    mean, var = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
    std = np.sqrt(var + 1e-5)
    xhat = (x - mean) / std
    return gamma[None, :, None, None] * xhat + beta[None, :, None, None], (xhat, std, gamma)


def spatial_backward(dout, cache):
    xhat, std, gamma = cache
    axes, m = (0, 2, 3), dout.size // dout.shape[1]
    dxhat = dout * gamma[None, :, None, None]
    dx = (dxhat - dxhat.sum(axis=axes, keepdims=True) / m
          - xhat * (dxhat * xhat).sum(axis=axes, keepdims=True) / m) / std
    return dx, (dout * xhat).sum(axis=axes), dout.sum(axis=axes)


# %% sigmoid by exp
# call: gradcheck(sigmoid_forward, sigmoid_backward, rows)
# wrong: out * (1 - out) => out * (1 + out)
def sigmoid_forward(x):
    out = 1 / (1 + np.exp(-x))
    return out, out


def sigmoid_backward(dout, out):
    return dout * out * (1 - out)


# %% scaled dot-product attention
# call: gradcheck(attention_forward, attention_backward, (rows, rows[::-1].copy(), rows * 0.5))
# wrong: / np.sqrt(q.shape[1]) @ k => @ k
def attention_forward(q, k, v):
    scores = q @ k.T / np.sqrt(q.shape[1])
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights = weights / weights.sum(axis=1, keepdims=True)
    return weights @ v, (q, k, v, weights)


def attention_backward(dout, cache):
    q, k, v, weights = cache
    dweights = dout @ v.T
    dscores = weights * (dweights - (dweights * weights).sum(axis=1, keepdims=True))
    return dscores / np.sqrt(q.shape[1]) @ k, dscores.T / np.sqrt(q.shape[1]) @ q, weights.T @ dout


# %% flatten hands dout on
# call: gradcheck(flatten_forward, flatten_backward, images)
# wrong: dout.reshape(shape) => dout.reshape(shape)[:, ::-1]
def flatten_forward(x):
    return x.reshape(len(x), -1), x.shape


def flatten_backward(dout, shape):
    return dout.reshape(shape)
