"""Time of a training step of `Sequential.fit`, beside Keras' on PyTorch and on JAX.

The network is the one that Sequential is known for: an LSTM reads, RepeatVector repeats, an LSTM writes, a softmax
at every step.  Both start from the same weights; the losses of a first epoch must agree before anything is timed.
"""

from __future__ import annotations

import argparse
from functools import partial
from importlib.util import find_spec

import numpy as np

from scratchnmt import sequential
from scratchnmt.arrays import keep_freed_memory
from scratchnmt.errors import InputError, require

from . import measure, rows
from .clock import Seconds
from .remote import Remote

PEERS = ["keras-torch", "keras-jax"]
NAMES = {"keras-torch": "Keras on PyTorch", "keras-jax": "Keras on JAX"}  # each in a process of its own
STEPS = 20  # of one fit, whose time is divided by them
AGREEMENT = 1e-4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", action="append", metavar="UNITS,B,T,FEATURES",
                        help="repeatable (default 128,32,50,27)")
    parser.add_argument("--rounds", type=int, default=7, help="(default 7)")


def run(options: argparse.Namespace) -> int:
    print(measure.machine(options.threads, options.device))
    keep_freed_memory()  # Keras' steps profit too
    measured = [row for text in options.size or ["128,32,50,27"]
                for row in one_size(*measure.sizes("--size", text, "UNITS,B,T,FEATURES"), options)]
    rows.save(measured, options)
    return 0


def one_size(units: int, B: int, T: int, features: int, options: argparse.Namespace) -> list[rows.Row]:
    sizes = units, B, T, features
    ours = sequential.Sequential(network(sequential, units, T, features), device=options.device)
    ours.build((T, features))
    ours.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    remotes = {name: keras(name, sizes, options.threads, ours.get_weights()) for name in options.peers}
    contestants = {"scratchnmt": partial(fit, ours, *data(*sizes), B)}
    contestants |= {NAMES[name]: partial(remote.call, "fit") for name, remote in remotes.items()}
    losses = {}
    for name, call in contestants.items():
        losses[name] = call()
        if abs(losses[name] - losses["scratchnmt"]) > AGREEMENT:
            raise ValueError(f"{name} and scratchnmt disagree: losses {losses}; nothing is timed")
    print(f"\n{units} units, B {B}, T {T}, {features} features; losses of the first {STEPS} steps: {losses}")
    times = measure.alternate(contestants, options.rounds, device=options.device, warmup=1)
    for remote in remotes.values():
        remote.close()
    shown = f"H={units} B={B} T={T} I={features}"
    made = {name: [Seconds(*(s / STEPS for s in one)) for one in seconds] for name, seconds in times.items()}
    measured = [rows.row(seconds, command="fit", what="a step of fit", contestant=name, sizes=shown, dtype="float32",
                         device=measure.device_name(options.device)) for name, seconds in made.items()]
    measure.print_table(["", "ms a step", "quartiles", "scratchnmt is faster by"], [
        [row.contestant, f"{row.ms:.4g}", measure.spread(np.array([s.device for s in made[row.contestant]])),
         "" if row is measured[0] else f"{row.ms / measured[0].ms:.2f}"] for row in measured])
    measure.print_headline({row.contestant: 1 / row.ms for row in measured})
    return measured


def data(units: int, B: int, T: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of STEPS batches, (STEPS B, T, features) each."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((STEPS * B, T, features)).astype("float32")
    return x, np.eye(features, dtype="float32")[rng.integers(0, features, (len(x), T))]


def network(layers, units: int, T: int, features: int) -> list:
    """From the layers of either package."""
    return [layers.LSTM(units), layers.RepeatVector(T), layers.LSTM(units, return_sequences=True),
            layers.TimeDistributed(layers.Dense(features, activation="softmax"))]


def keras(name: str, sizes: tuple[int, ...], threads: int, weights: list[np.ndarray]) -> Remote:
    if name not in NAMES:
        raise InputError(f"peer {name} has no fit here: expected some of {', '.join(NAMES)}")
    backend = name.removeprefix("keras-")
    for package in ("keras", backend):
        if find_spec(package) is None:
            raise InputError(f"peer {name}: {package} is not installed: pip install '.[peers]'")
    return Remote(Keras, sizes, threads, weights, KERAS_BACKEND=backend)


class Keras:
    """The network in Keras, with our weights."""

    def __init__(self, sizes: tuple[int, ...], threads: int, weights: list[np.ndarray]) -> None:
        import keras

        keep_freed_memory()
        if keras.backend.backend() == "torch":
            require("torch", extra="peers").set_num_threads(threads)
        units, self.batch_size, T, features = sizes
        self.x, self.y = data(*sizes)
        self.model = keras.Sequential(network(keras.layers, units, T, features))
        self.model.build((None, T, features))
        self.model.set_weights(weights)
        self.model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])

    def fit(self) -> float:
        return fit(self.model, self.x, self.y, self.batch_size)


def fit(model, x: np.ndarray, y: np.ndarray, batch_size: int) -> float:
    """One epoch; its loss."""
    return model.fit(x, y, batch_size=batch_size, verbose=0, shuffle=False).history["loss"][0]
