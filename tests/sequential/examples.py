"""Networks and data for the tests, made alike from our layers and from Keras'."""

import numpy as np

from scratchnmt.sequential import Dense, Sequential

T, I, CLASSES = 7, 5, 6


def seed_network(layers, **first):
    """The network that Sequential is known for: read, repeat, write."""
    return [layers.LSTM(8, **first), layers.RepeatVector(4), layers.LSTM(8, return_sequences=True),
            layers.TimeDistributed(layers.Dense(CLASSES, activation="softmax"))]


def classifier(layers):
    return [layers.Embedding(20, 8, mask_zero=True),
            layers.Bidirectional(layers.LSTM(6, return_sequences=True), merge_mode="sum"),
            layers.LSTM(5, go_backwards=True), layers.Dense(3, activation="relu"),
            layers.Dense(1, activation="sigmoid")]


def tagger(layers):
    return [layers.Embedding(20, 8, mask_zero=True), layers.Bidirectional(layers.LSTM(6, return_sequences=True)),
            layers.LSTM(6, return_sequences=True), layers.Dense(CLASSES), layers.Activation("softmax")]


def masked_regression(layers):
    return [layers.Masking(0.0), layers.LSTM(6, return_sequences=True), layers.Dense(2, activation="tanh")]


def vectors(rng, count=24):
    return rng.standard_normal((count, T, I)).astype("float32")


def gappy(rng, count=24):
    """Some steps, anywhere, are all zeros."""
    return vectors(rng, count) * (rng.random((count, T, 1)) < 0.7).astype("float32")


def ids(rng, count=24):
    """Words from 1 to 19, padded with 0 in front or behind; one sentence is nothing but padding."""
    words = rng.integers(1, 20, (count, T))
    for row, n in zip(words, rng.integers(0, T, count), strict=True):
        row[n:] = 0
    words[::2] = words[::2, ::-1]
    words[3] = 0
    return words


def one_hot(rng, *shape):
    return np.eye(CLASSES, dtype="float32")[rng.integers(0, CLASSES, shape)]


def small(*layers, loss="mean_squared_error", optimizer="sgd", inputs=(3,)):
    """One of ours, compiled."""
    model = Sequential(layers or [Dense(4, "tanh", name="hidden"), Dense(2, name="out")])
    model.build(inputs)
    model.compile(optimizer, loss)
    return model
