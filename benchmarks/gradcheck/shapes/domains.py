"""Functions that are not defined, and raise, not far from where they are checked."""

import math

import numpy as np

rng = np.random.default_rng(0)
S, r = 2 * np.eye(3) + 0.1, rng.standard_normal(3)
p = np.array([1e-5, 0.02, 0.3, 0.67999])


# %% a matrix that must be positive definite
# call: check_loss(gaussian_loss, S, r)
# wrong: np.linalg.inv(S) - np.outer(a, a) => np.linalg.inv(S) + np.outer(a, a)
def gaussian_loss(S, r):
    symmetric = (S + S.T) / 2
    a = np.linalg.solve(symmetric, r)
    loss = r @ a / 2 + np.log(np.diag(np.linalg.cholesky(symmetric))).sum()
    return loss, 0.5 * (np.linalg.inv(S) - np.outer(a, a))


# %% math.log close to zero
# call: gradcheck(entropy_forward, entropy_backward, p)
# wrong: -(1 + np.log(p)) => -np.log(p)
def entropy_forward(p):
    return -sum(v * math.log(v) for v in p), p


def entropy_backward(dy, p):
    return dy * -(1 + np.log(p))


# %% an assertion on the arguments
# call: gradcheck(odds_forward, odds_backward, p)
# wrong: dy / (p * (1 - p)) => dy / (p * (1 + p))
def odds_forward(p):
    assert all(0 < float(v) < 1 for v in p), "no probabilities"
    return np.log(p / (1 - p)), p


def odds_backward(dy, p):
    return dy / (p * (1 - p))
