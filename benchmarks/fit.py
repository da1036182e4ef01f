"""Time of a training step of `Sequential.fit`, beside Keras' on PyTorch.

The network is the one that Sequential is known for: an LSTM reads, RepeatVector repeats, an LSTM writes, a softmax
at every step.  Both start from the same weights; the losses of a first epoch must agree before anything is timed.
"""

from __future__ import annotations

import argparse
import os

import numpy as np

from scratchnmt import sequential
from scratchnmt.arrays import keep_freed_memory
from scratchnmt.errors import require

from . import measure, rows
from .clock import Seconds

PEERS = ["keras"]
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
    rng = np.random.default_rng(0)
    x = rng.standard_normal((STEPS * B, T, features)).astype("float32")
    y = np.eye(features, dtype="float32")[rng.integers(0, features, (len(x), T))]
    ours = sequential.Sequential(network(sequential, units, T, features), device=options.device)
    ours.build((T, features))
    contestants = {"scratchnmt": ours}
    if "keras" in options.peers:
        contestants["Keras on PyTorch"] = theirs = keras_network(units, T, features, options.threads)
        theirs.set_weights(ours.get_weights())
    losses = {}
    for name, model in contestants.items():
        model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
        losses[name] = fit(model, x, y, B)
        if abs(losses[name] - losses["scratchnmt"]) > AGREEMENT:
            raise ValueError(f"{name} and scratchnmt disagree: losses {losses}; nothing is timed")
    print(f"\n{units} units, B {B}, T {T}, {features} features; losses of the first {STEPS} steps: {losses}")
    times = measure.alternate({name: lambda model=model: fit(model, x, y, B) for name, model in contestants.items()},
                              options.rounds, device=options.device, warmup=1)
    sizes = f"H={units} B={B} T={T} I={features}"
    made = {name: [Seconds(*(s / STEPS for s in one)) for one in seconds] for name, seconds in times.items()}
    measured = [rows.row(seconds, command="fit", what="a step of fit", contestant=name, sizes=sizes, dtype="float32",
                         device=measure.device_name(options.device)) for name, seconds in made.items()]
    measure.print_table(["", "ms a step", "quartiles", "scratchnmt is faster by"], [
        [row.contestant, f"{row.ms:.4g}", measure.spread(np.array([s.device for s in made[row.contestant]])),
         "" if row is measured[0] else f"{row.ms / measured[0].ms:.2f}"] for row in measured])
    return measured


def network(layers, units: int, T: int, features: int) -> list:
    """From the layers of either package."""
    return [layers.LSTM(units), layers.RepeatVector(T), layers.LSTM(units, return_sequences=True),
            layers.TimeDistributed(layers.Dense(features, activation="softmax"))]


def keras_network(units: int, T: int, features: int, threads: int):
    os.environ.setdefault("KERAS_BACKEND", "torch")
    require("torch", extra="peers").set_num_threads(threads)
    keras = require("keras", extra="peers")
    model = keras.Sequential(network(keras.layers, units, T, features))
    model.build((None, T, features))
    return model


def fit(model, x: np.ndarray, y: np.ndarray, batch_size: int) -> float:
    """One epoch; its loss."""
    return model.fit(x, y, batch_size=batch_size, verbose=0, shuffle=False).history["loss"][0]
