"""Recurrent steps and loops over time: several outputs, batch first, gates of various orders."""

import numpy as np

rng = np.random.default_rng(0)
N, T, D, H = 2, 4, 3, 5
x, h0 = rng.standard_normal((N, T, D)), rng.standard_normal((N, H))
Wx, Wh, b = rng.standard_normal((D, H)), rng.standard_normal((H, H)), rng.standard_normal(H)
Wx4, Wh4, b4 = rng.standard_normal((D, 4 * H)), rng.standard_normal((H, 4 * H)), rng.standard_normal(4 * H)
c0 = rng.standard_normal((N, H))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# %% a step of an RNN
# call: gradcheck(rnn_step_forward, rnn_step_backward, (x[:, 0], h0, Wx, Wh, b))
# wrong: 1 - next_h**2 => 1 - next_h
def rnn_step_forward(x, prev_h, Wx, Wh, b):
    next_h = np.tanh(x @ Wx + prev_h @ Wh + b)
    return next_h, (x, prev_h, Wx, Wh, next_h)


def rnn_step_backward(dnext_h, cache):
    x, prev_h, Wx, Wh, next_h = cache
    da = dnext_h * (1 - next_h**2)
    return da @ Wx.T, da @ Wh.T, x.T @ da, prev_h.T @ da, da.sum(axis=0)


# %% an RNN over time, batch first
# call: gradcheck(rnn_forward, rnn_backward, [x, h0, Wx, Wh, b])
# wrong: dprev = da @ Wh.T => dprev = 0 * da @ Wh.T
def rnn_forward(x, h0, Wx, Wh, b):
    N, T, D = x.shape
    h = np.zeros((N, T, h0.shape[1]))
    prev = h0
    for t in range(T):
        h[:, t, :] = np.tanh(x[:, t] @ Wx + prev @ Wh + b)
        prev = h[:, t, :]
    return h, (x, h0, Wx, Wh, b, h)


def rnn_backward(dh, cache):
    x, h0, Wx, Wh, b, h = cache
    dx, dWx, dWh, db = np.zeros_like(x), np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(b)
    dprev = np.zeros_like(h0)
    for t in reversed(range(x.shape[1])):
        da = (dh[:, t] + dprev) * (1 - h[:, t] ** 2)
        dx[:, t] = da @ Wx.T
        dWx += x[:, t].T @ da
        dWh += (h[:, t - 1] if t else h0).T @ da
        db += da.sum(axis=0)
        dprev = da @ Wh.T
    return dx, dprev, dWx, dWh, db


# %% a step of an LSTM that adds into the incoming gradient
# call: gradcheck(lstm_step_forward, lstm_step_backward, (x[:, 0], h0, c0, Wx4, Wh4, b4))
# wrong: (1 - np.tanh(next_c) ** 2) => (1 - next_c ** 2)
def lstm_step_forward(x, prev_h, prev_c, Wx, Wh, b):
    H = prev_h.shape[1]
    a = x @ Wx + prev_h @ Wh + b
    i, f, o = sigmoid(a[:, :H]), sigmoid(a[:, H:2 * H]), sigmoid(a[:, 2 * H:3 * H])
    g = np.tanh(a[:, 3 * H:])
    next_c = f * prev_c + i * g
    next_h = o * np.tanh(next_c)
    return next_h, next_c, (x, prev_h, prev_c, Wx, Wh, i, f, o, g, next_c)


def lstm_step_backward(dnext_h, dnext_c, cache):
    x, prev_h, prev_c, Wx, Wh, i, f, o, g, next_c = cache
    dnext_c += dnext_h * o * (1 - np.tanh(next_c) ** 2)
    da = np.hstack([dnext_c * g * i * (1 - i), dnext_c * prev_c * f * (1 - f),
                    dnext_h * np.tanh(next_c) * o * (1 - o), dnext_c * i * (1 - g**2)])
    return da @ Wx.T, da @ Wh.T, dnext_c * f, x.T @ da, prev_h.T @ da, da.sum(axis=0)


# %% an LSTM over time that returns names
# call: gradcheck(lstm_forward, lstm_backward, {"x": x, "h0": h0, "Wx": Wx4, "Wh": Wh4, "b": b4})
# wrong: dc = dc * f => dc = dc * i
def lstm_forward(x, h0, Wx, Wh, b):
    H, hs, caches, h, c = h0.shape[1], [], [], h0, np.zeros_like(h0)
    for t in range(x.shape[1]):
        a = x[:, t] @ Wx + h @ Wh + b
        i, f, o = (sigmoid(a[:, k * H:(k + 1) * H]) for k in range(3))
        g = np.tanh(a[:, 3 * H:])
        new = f * c + i * g
        caches.append((h, c, i, f, o, g, new))
        h, c = o * np.tanh(new), new
        hs.append(h)
    return np.stack(hs, axis=1), (x, Wx, Wh, caches)


def lstm_backward(dhs, cache):
    x, Wx, Wh, caches = cache
    dx, dWx, dWh, db = np.zeros_like(x), np.zeros_like(Wx), np.zeros_like(Wh), np.zeros(Wx.shape[1])
    dh = dc = 0
    for t in reversed(range(x.shape[1])):
        h, c, i, f, o, g, new = caches[t]
        dh = dh + dhs[:, t]
        dc = dc + dh * o * (1 - np.tanh(new) ** 2)
        da = np.concatenate([dc * g * i * (1 - i), dc * c * f * (1 - f), dh * np.tanh(new) * o * (1 - o),
                             dc * i * (1 - g * g)], axis=1)
        dx[:, t], dh = da @ Wx.T, da @ Wh.T
        dWx, dWh, db = dWx + x[:, t].T @ da, dWh + h.T @ da, db + da.sum(axis=0)
        dc = dc * f
    return dict(dx=dx, dh0=dh, dWx=dWx, dWh=dWh, db=db)


# %% a step of a GRU, gradients by the arguments' own names
# call: gradcheck(gru_forward, gru_backward, dict(x=x[:, 0], h=h0, Wz=Wx, Wr=2 * Wx, Wn=-Wx, U=Wh))
# wrong: dr * r * (1 - r) => dr * r
def gru_forward(x, h, Wz, Wr, Wn, U):
    z, r = sigmoid(x @ Wz + h), sigmoid(x @ Wr - h)
    n = np.tanh(x @ Wn + (r * h) @ U)
    return (1 - z) * h + z * n, (x, h, Wz, Wr, Wn, U, z, r, n)


def gru_backward(dy, cache):
    x, h, Wz, Wr, Wn, U, z, r, n = cache
    dan = dy * z * (1 - n * n)
    daz = dy * (n - h) * z * (1 - z)
    dr = (dan @ U.T) * h
    dar = dr * r * (1 - r)
    return {"x": daz @ Wz.T + dar @ Wr.T + dan @ Wn.T, "h": dy * (1 - z) + daz - dar + (dan @ U.T) * r,
            "Wz": x.T @ daz, "Wr": x.T @ dar, "Wn": x.T @ dan, "U": (r * h).T @ dan}


# %% the last state alone, with lengths
# call: gradcheck(last_forward, last_backward, (x, np.array([4, 2])))
# wrong: dx[n, lengths[n] - 1] => dx[n, -1]
def last_forward(x, lengths):
    return np.array([x[n, lengths[n] - 1] for n in range(len(x))]) ** 2, (x, lengths)


def last_backward(dy, cache):
    x, lengths = cache
    dx = np.zeros_like(x)
    for n in range(len(x)):
        dx[n, lengths[n] - 1] = 2 * x[n, lengths[n] - 1] * dy[n]
    return dx, None
