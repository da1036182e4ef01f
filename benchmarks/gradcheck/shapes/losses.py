"""Functions that return a loss and its gradients at once."""

import numpy as np

rng = np.random.default_rng(0)
X, y = rng.standard_normal((6, 4)), np.array([0, 2, 1, 1, 0, 2])
W, b = rng.standard_normal((4, 3)), rng.standard_normal(3)


# %% softmax loss of scores
# call: check_loss(softmax_loss, X, np.array([0, 3, 1, 1, 2, 0]))
# wrong: dx /= N => dx /= N + 1
def softmax_loss(x, y):
    shifted = x - np.max(x, axis=1, keepdims=True)
    log_probs = shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
    N = x.shape[0]
    loss = -np.sum(log_probs[np.arange(N), y]) / N
    dx = np.exp(log_probs)
    dx[np.arange(N), y] -= 1
    dx /= N
    return loss, dx


# %% hinge loss by loops, regularised
# call: check_loss(svm_loss_naive, W, X, y, 0.1)
# wrong: dW[:, y[i]] -= X[i] => dW[:, y[i]] += X[i]
def svm_loss_naive(W, X, y, reg):
    dW = np.zeros(W.shape)
    loss = 0.0
    for i in range(X.shape[0]):
        scores = X[i].dot(W)
        for j in range(W.shape[1]):
            margin = scores[j] - scores[y[i]] + 1
            if j != y[i] and margin > 0:
                loss += margin
                dW[:, j] += X[i]
                dW[:, y[i]] -= X[i]
    return loss / len(X) + reg * np.sum(W * W), dW / len(X) + 2 * reg * W


# %% two layers, a dict of parameters
# call: check_loss(two_layer_loss, {"W1": W, "b1": b, "W2": W[:, :3].T @ W}, X, y)
# wrong: + 0.1 * params["W1"] => + 0.2 * params["W1"]
def two_layer_loss(params, X, y):
    h = np.maximum(0, X @ params["W1"] + params["b1"])
    scores = h @ params["W2"]
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    loss = -np.log(p[np.arange(len(y)), y]).mean() + 0.05 * np.sum(params["W1"] ** 2)
    p[np.arange(len(y)), y] -= 1
    dscores = p / len(y)
    dh = dscores @ params["W2"].T
    dh[h <= 0] = 0
    return loss, {"W1": X.T @ dh + 0.1 * params["W1"], "b1": dh.sum(axis=0), "W2": h.T @ dscores}


# %% logistic regression, a flat vector
# call: check_loss(logistic_loss, rng.standard_normal(4), X, y > 0)
# wrong: X.T @ (p - y) => X.T @ (p - 2 * y)
def logistic_loss(theta, X, y):
    p = 1 / (1 + np.exp(-X @ theta))
    loss = -np.sum(y * np.log(p) + (1 - y) * np.log(1 - p))
    return loss, X.T @ (p - y)


# %% a list of parameters
# call: check_loss(autoencoder_loss, [W, W.T * 0.5], X)
# wrong: h.T @ dout] => h.T @ dout * 1.001]
def autoencoder_loss(params, X):
    encode, decode = params
    h = np.tanh(X @ encode)
    out = h @ decode
    dout = 2 * (out - X) / X.size
    dh = dout @ decode.T * (1 - h * h)
    return np.mean((out - X) ** 2), [X.T @ dh, h.T @ dout]


# %% the gradients one after another
# call: check_loss(ridge_loss, (W, b), X, np.eye(3)[y])
# wrong: 2 * r.sum(axis=0) => r.sum(axis=0)
def ridge_loss(params, X, Y):
    W, b = params
    r = X @ W + b - Y
    return np.sum(r**2), 2 * X.T @ r, 2 * r.sum(axis=0)


# %% word2vec with negative samples
# call: check_loss(word2vec_loss, {"center": W[:, 0], "outside": X}, 1, [0, 3, 3])
# wrong: d[k] += => d[k] =
def word2vec_loss(params, outside, negatives):
    v, U = params["center"], params["outside"]
    sigmoid = lambda z: 1 / (1 + np.exp(-z))
    loss, dv, d = -np.log(sigmoid(U[outside] @ v)), (sigmoid(U[outside] @ v) - 1) * U[outside], np.zeros(U.shape)
    d[outside] += (sigmoid(U[outside] @ v) - 1) * v
    for k in negatives:
        loss -= np.log(sigmoid(-U[k] @ v))
        dv = dv + sigmoid(U[k] @ v) * U[k]
        d[k] += sigmoid(U[k] @ v) * v
    return loss, {"center": dv, "outside": d}


# %% a character-level RNN
# call: check_loss(char_loss, dict(Wxh=W.T @ X.T, Whh=W[:3], Why=X[:6, :3], bh=b), [0, 2, 5, 2], [2, 5, 2, 1])
# wrong: dhnext = np.dot(params["Whh"].T, dhraw) => dhnext = np.dot(params["Whh"], dhraw)
def char_loss(params, inputs, targets):
    hs, ps, loss = {-1: np.zeros((3, 1))}, {}, 0
    for t in range(len(inputs)):
        xs = np.zeros((6, 1))
        xs[inputs[t]] = 1
        hs[t] = np.tanh(np.dot(params["Wxh"], xs) + np.dot(params["Whh"], hs[t - 1]) + params["bh"][:, None])
        ys = np.dot(params["Why"], hs[t])
        ps[t] = np.exp(ys) / np.sum(np.exp(ys))
        loss += -np.log(ps[t][targets[t], 0])
    grads = {name: np.zeros_like(value) for name, value in params.items()}
    dhnext = np.zeros_like(hs[0])
    for t in reversed(range(len(inputs))):
        dy = np.copy(ps[t])
        dy[targets[t]] -= 1
        grads["Why"] += np.dot(dy, hs[t].T)
        dhraw = (1 - hs[t] * hs[t]) * (np.dot(params["Why"].T, dy) + dhnext)
        grads["bh"] += dhraw[:, 0]
        grads["Wxh"][:, inputs[t]] += dhraw[:, 0]
        grads["Whh"] += np.dot(dhraw, hs[t - 1].T)
        dhnext = np.dot(params["Whh"].T, dhraw)
    return loss, grads


# %% a variational autoencoder's loss
# call: check_loss(vae_loss, [W[:, :2], W[:, 1:], W[:, :2].T], X, rng.standard_normal((6, 2)))
# wrong: np.exp(logvar) - 1) => np.exp(logvar))
def vae_loss(params, X, noise):
    M, V, D = params
    mu, logvar = X @ M, X @ V
    z = mu + np.exp(0.5 * logvar) * noise
    r = z @ D - X
    loss = 0.5 * (r * r).sum() + 0.5 * (np.exp(logvar) + mu**2 - 1 - logvar).sum()
    dz = r @ D.T
    dmu = dz + mu
    dlogvar = dz * noise * 0.5 * np.exp(0.5 * logvar) + 0.5 * (np.exp(logvar) - 1)
    return loss, [X.T @ dmu, X.T @ dlogvar, z.T @ r]


# %% a linear-chain CRF
# call: check_loss(crf_loss, {"emit": X[:, :3], "move": W[:3]}, y)
# wrong: expected_move - observed => expected_move * 0.5 - observed
def crf_loss(params, tags):
    emit, move = params["emit"], params["move"]
    T, K = emit.shape
    log_sum = lambda a, axis: a.max(axis) + np.log(np.exp(a - a.max(axis, keepdims=True)).sum(axis))
    alpha, beta = np.zeros((T, K)), np.zeros((T, K))
    alpha[0] = emit[0]
    for t in range(1, T):
        alpha[t] = emit[t] + log_sum(alpha[t - 1][:, None] + move, 0)
    for t in reversed(range(T - 1)):
        beta[t] = log_sum(move + emit[t + 1] + beta[t + 1], 1)
    log_z = log_sum(alpha[-1], 0)
    demit, expected_move, observed = np.exp(alpha + beta - log_z), np.zeros((K, K)), np.zeros((K, K))
    for t in range(1, T):
        expected_move += np.exp(alpha[t - 1][:, None] + move + emit[t] + beta[t] - log_z)
        observed[tags[t - 1], tags[t]] += 1
    score = emit[np.arange(T), tags].sum() + move[tags[:-1], tags[1:]].sum()
    demit[np.arange(T), tags] -= 1
    return log_z - score, {"emit": demit, "move": expected_move - observed}


# %% a model whose loss method fills in the gradients
# call: model = Model()
# call: check_loss(lambda params: (setattr(model, "params", params), model.loss(X, y))[1], model.params)
# wrong: grads["b"] = d.sum(axis=0) => grads["b"] = d.sum(axis=0, keepdims=True) + self.params["W"][:1]
class Model:
    def __init__(self):
        self.params = {"W": W.copy(), "b": b.copy()}

    def loss(self, X, y):
        d = X @ self.params["W"] + self.params["b"] - np.eye(3)[y]
        grads = {"W": X.T @ d}
        grads["b"] = d.sum(axis=0)
        return 0.5 * np.sum(d * d), grads


# %% several arguments, the gradients one after another
# call: check_loss(linear_loss, X, W[:, 0], np.ones(6))
# wrong: 2 * np.outer(r, w), 2 * x.T @ r => 2 * np.outer(r, w), 5 * x.T @ r
def linear_loss(x, w, t):
    r = x @ w - t
    return (r**2).sum(), 2 * np.outer(r, w), 2 * x.T @ r


# %% several arguments, one of them a number, gradients in a tuple
# call: check_loss(logistic, W[:, 0], 0.3, X, (y > 0).astype(float))
# wrong: (X.T @ (p - t) / len(t), np.mean(p - t)) => (X.T @ (p - t) / len(t), np.sum(p - t))
def logistic(w, b, X, t):
    p = 1 / (1 + np.exp(-(X @ w + b)))
    return -np.mean(t * np.log(p) + (1 - t) * np.log(1 - p)), (X.T @ (p - t) / len(t), np.mean(p - t))


# %% several arguments, gradients by their names
# call: check_loss(named_loss, X, W[:, 0], np.ones(6))
# wrong: "dw": 2 * x.T @ r => "dw": x.T @ r
def named_loss(x, w, t):
    r = x @ w - t
    return (r**2).sum(), {"dx": 2 * np.outer(r, w), "dw": 2 * x.T @ r}


# %% a number among the parameters
# call: check_loss(affine_loss, {"W": W, "scale": 0.5}, X)
# wrong: "scale": (2 * r * (X @ params["W"])).sum() => "scale": (r * (X @ params["W"])).sum()
def affine_loss(params, X):
    r = params["scale"] * (X @ params["W"])
    return (r**2).sum(), {"W": 2 * params["scale"] * X.T @ r, "scale": (2 * r * (X @ params["W"])).sum()}


# %% the data are centred in place
# call: check_loss(centred_loss, W, X, np.eye(3)[y])
# wrong: X.T @ r * 2 => X.T @ r
def centred_loss(W, X, Y):
    X -= X.mean(axis=0)
    X /= X.std(axis=0)
    r = X @ W - Y
    return np.sum(r**2), X.T @ r * 2


# %% the gradient of one parameter was forgotten
# call: check_loss(forgetful_loss, {"W": W, "b": b}, X)
# wrong: {"W": 2 * X.T @ r, "b": 2 * r.sum(axis=0)} => {"W": 2 * X.T @ r}
def forgetful_loss(params, X):
    r = X @ params["W"] + params["b"]
    return (r**2).sum(), {"W": 2 * X.T @ r, "b": 2 * r.sum(axis=0)}


# %% an accuracy and the scores beside the gradients
# call: check_loss(judging_loss, {"W": W, "b": b}, X, y)
# wrong: "b": d.sum(axis=0) => "b": d.mean(axis=0)
def judging_loss(params, X, y):
    scores = X @ params["W"] + params["b"]
    accuracy = np.mean(np.argmax(scores.real, axis=1) == y)
    d = scores - np.eye(3)[y]
    return (d**2).sum() / 2, {"W": X.T @ d, "b": d.sum(axis=0)}, accuracy, scores


# %% the last state, of the shape of the first, beside the gradients
# call: check_loss(state_loss, {"W": W[:3], "b": b}, b / 2, wrt=["params"])
# wrong: "b": da => "b": dh
def state_loss(params, h0):
    h = np.tanh(params["W"] @ h0 + params["b"])
    dh = 2 * h
    da = dh * (1 - h * h)
    return (h**2).sum(), {"W": np.outer(da, h0), "b": da}, h
