"""Recurrent networks that read words and predict words, small enough to look into: a plain RNN and an LSTM.

    z[t] = Wx[word[t]] + h[t-1] Wh + b
    h[t] = tanh(z[t])                          the plain RNN (Elman 1990)
    h[t], c[t] = lstm_gates(z[t], c[t-1])      the LSTM
    loss = cross_entropy(h[t] W, target[t])    where the target is not 0, summed over t
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from scratchnmt.models.cells import LSTM
from scratchnmt.models.initialization import glorot
from scratchnmt.ops.cross_entropy import cross_entropy_backward, cross_entropy_forward
from scratchnmt.ops.lstm_gates import lstm_gates_backward, lstm_gates_forward
from scratchnmt.optim import Adam, clip_global_norm
from scratchnmt.parameters import Parameters

Batch = tuple[np.ndarray, np.ndarray]  # words (T, B); targets (T, B), 0: none


class Net:
    """forget_bias: what the forget gate's bias starts from; None: a plain RNN.  words: how many there are, with 0."""

    def __init__(self, words: int, H: int, forget_bias: float | None, seed: int = 0):
        self.lstm = forget_bias is not None
        gates = 4 if self.lstm else 1
        self.params = Parameters({"Wx": (words, gates * H), "Wh": (H, gates * H), "b": (gates * H,), "W": (H, words)},
                                 "float64")
        rng = np.random.default_rng(seed)
        for name, array in self.params.items():
            if name != "b":
                gated = f"encoder.{name}" if self.lstm and name != "W" else name
                array[...] = glorot(gated, array.shape, rng, LSTM)
        if self.lstm:
            self.params["b"][H : 2 * H] = forget_bias

    def forward(self, words: np.ndarray, targets: np.ndarray) -> tuple[float, Any]:
        """The loss in nats, and what backward needs."""
        T, B = words.shape
        Wx, Wh, b, W = (self.params[name] for name in ("Wx", "Wh", "b", "W"))
        h, caches = np.zeros((T + 1, B, len(Wh)), Wh.dtype), []  # h[-1] is the state before h[0]
        c = np.zeros_like(h[-1])
        for t in range(T):
            z = Wx[words[t]] + h[t - 1] @ Wh + b
            if self.lstm:
                (h[t], c), cache = lstm_gates_forward(z, c)
                caches.append(cache)
            else:
                np.tanh(z, out=h[t])
        loss, output = cross_entropy_forward(h[:T].reshape(T * B, -1) @ W, targets.reshape(-1))
        return loss, (words, h, caches, output)

    def backward(self, cache: Any, keep: int | None = None) -> tuple[Parameters, np.ndarray, np.ndarray]:
        """The gradients; the norms of dh and of dc that reach each step, (T,), mean over the batch.

        keep: truncated: the text is read in pieces of so many steps, of which one ends with the last step, and no
        gradient goes from a piece to the one before.
        """
        words, h, caches, output = cache
        (T, B), grads = words.shape, self.params.like()
        Wh, W = self.params["Wh"], self.params["W"]
        dlogits = cross_entropy_backward(1.0, output).dlogits
        grads["W"][...] = h[:T].reshape(T * B, -1).T @ dlogits
        dy = (dlogits @ W.T).reshape(T, B, -1)
        dh, dc = np.zeros_like(dy[0]), np.zeros_like(dy[0])
        norms = np.zeros((2, T))
        for t in reversed(range(T)):
            if keep and (T - 1 - t) % keep == 0:
                dh, dc = np.zeros_like(dh), np.zeros_like(dc)
            dh = dh + dy[t]
            norms[:, t] = [np.linalg.norm(d, axis=1).mean() for d in (dh, dc)]
            if self.lstm:
                dz, dc = lstm_gates_backward(dh, dc, caches[t])
            else:
                dz = dh * (1 - h[t] ** 2)
            np.add.at(grads["Wx"], words[t], dz)
            grads["Wh"][...] += h[t - 1].T @ dz
            grads["b"][...] += dz.sum(axis=0)
            dh = dz @ Wh.T
        return grads, *norms

    def accuracy(self, batch: Batch) -> float:
        """The share of targets that are the most probable word."""
        words, targets = batch
        _, (_, h, _, _) = self.forward(words, targets)
        predicted = (h[: len(words)] @ self.params["W"]).argmax(axis=-1)
        return float((predicted == targets)[targets != 0].mean())


def train(net: Net, batches: Iterator[Batch], steps: int, learning_rate: float) -> None:
    optimizer = Adam(net.params, learning_rate)
    for _ in range(steps):
        words, targets = next(batches)
        _, cache = net.forward(words, targets)
        grads = net.backward(cache)[0]
        grads.flat[...] /= (targets != 0).sum()
        clip_global_norm(grads, 1.0)
        optimizer.step(grads)


def recall(T: int, B: int, seed: int, symbols: int = 8) -> Iterator[Batch]:
    """Sequences of drawn symbols; at the end the first one is to be named."""
    rng = np.random.default_rng(seed)
    while True:
        words, targets = rng.integers(1, symbols + 1, (T, B)), np.zeros((T, B), int)
        targets[-1] = words[0]
        yield words, targets
