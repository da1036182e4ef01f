"""Four ops with their backward passes as somebody else might write them, who knows nothing of this library."""

from collections import namedtuple

import numpy as np


def layer_norm_forward(x, gamma, beta, eps=1e-5):
    centred = x - x.mean(axis=-1, keepdims=True)
    var = (centred * centred).mean(axis=-1, keepdims=True)
    rstd = 1.0 / np.sqrt(var + eps)
    xhat = centred * rstd
    return gamma * xhat + beta, (xhat, rstd, gamma)


def layer_norm_backward(dy, cache):
    xhat, rstd, gamma = cache
    dxhat = dy * gamma
    mean = dxhat.mean(axis=-1, keepdims=True)
    slope = (dxhat * xhat).mean(axis=-1, keepdims=True)
    dx = rstd * (dxhat - mean - xhat * slope)
    return {"dx": dx, "dgamma": (dy * xhat).sum(axis=0), "dbeta": dy.sum(axis=0)}


GRUGradients = namedtuple("GRUGradients", "dx dh0 dW dU db")


def sigmoid(a):
    return 0.5 * (1 + np.tanh(0.5 * a))


def gru_forward(x, h0, W, U, b):
    """x (T, B, I), h0 (B, H), W (I, 3H), U (H, 3H), b (3H,): reset, update, new; all h (T, B, H)"""
    H = h0.shape[1]
    h, hs, steps = h0, [], []
    for x_t in x:
        a, m = x_t @ W + b, h @ U
        r = sigmoid(a[:, :H] + m[:, :H])
        z = sigmoid(a[:, H:2 * H] + m[:, H:2 * H])
        n = np.tanh(a[:, 2 * H:] + r * m[:, 2 * H:])
        steps.append((h, r, z, n, m[:, 2 * H:]))
        h = (1 - z) * n + z * h
        hs.append(h)
    return np.stack(hs), (x, W, U, steps)


def gru_backward(dhs, cache):
    x, W, U, steps = cache
    dx, dW, dU = np.zeros_like(x), np.zeros_like(W), np.zeros_like(U)
    db = np.zeros(W.shape[1], W.dtype)
    dh = np.zeros_like(dhs[0])
    for t in reversed(range(len(x))):
        h_prev, r, z, n, m_n = steps[t]
        dh = dh + dhs[t]
        da_n = dh * (1 - z) * (1 - n * n)
        da_r = da_n * m_n * r * (1 - r)
        da_z = dh * (h_prev - n) * z * (1 - z)
        da = np.concatenate([da_r, da_z, da_n], axis=1)
        dm = np.concatenate([da_r, da_z, da_n * r], axis=1)
        dW += x[t].T @ da
        dU += h_prev.T @ dm
        db += da.sum(axis=0)
        dx[t] = da @ W.T
        dh = dh * z + dm @ U.T
    return GRUGradients(dx, dh, dW, dU, db)


def conv2d_forward(x, K, b, stride=1):
    """x (B, C, H, W), K (O, C, k, k), b (O,); no padding"""
    k = K.shape[-1]
    rows, columns = ((size - k) // stride + 1 for size in x.shape[2:])
    y = np.empty((len(x), len(K), rows, columns), x.dtype)
    for i in range(rows):
        for j in range(columns):
            window = x[:, :, i * stride:i * stride + k, j * stride:j * stride + k]
            y[:, :, i, j] = np.einsum("bcuv,ocuv->bo", window, K) + b
    return y, (x, K, stride)


def conv2d_backward(dy, cache):
    x, K, stride = cache
    k = K.shape[-1]
    dx, dK = np.zeros_like(x), np.zeros_like(K)
    for i in range(dy.shape[2]):
        for j in range(dy.shape[3]):
            at = np.s_[:, :, i * stride:i * stride + k, j * stride:j * stride + k]
            dx[at] += np.einsum("bo,ocuv->bcuv", dy[:, :, i, j], K)
            dK += np.einsum("bo,bcuv->ocuv", dy[:, :, i, j], x[at])
    return {"dx": dx, "dK": dK, "db": dy.sum(axis=(0, 2, 3))}


def smooth_forward(signal, w):
    """A convolution (the kernel is turned round) of one signal (N,) with w (k,)."""
    return np.convolve(signal, w, "valid"), (signal, w)


def smooth_backward(dy, cache):
    signal, w = cache
    dsignal = np.convolve(dy, w[::-1], "full")
    dw = np.convolve(signal[::-1], dy, "valid")
    return {"dsignal": dsignal, "dw": dw}
