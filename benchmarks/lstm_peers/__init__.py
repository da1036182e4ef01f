"""Other libraries' LSTM over a batch of sentences, with our weights: a module for each, named as in --peers.

Each has lstm(args, options), which yields (name, forward, backward) for every way to compute it that fits these
arguments of ops.lstm: forward as lstm_forward, backward as lstm_backward or None if there is none.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from scratchnmt.errors import InputError

PEERS = ("torch", "keras", "jax", "onnxruntime")


def ways(name: str, args: Mapping[str, Any], options: argparse.Namespace) -> Iterator[tuple]:
    """The ways of a peer; InputError if it is not written or not installed."""
    if name not in PEERS:
        raise InputError(f"peer {name} has no LSTM here: expected one of {', '.join(PEERS)}")
    try:
        module = importlib.import_module(f"benchmarks.lstm_peers.{name}")
    except ModuleNotFoundError as error:
        raise InputError(f"peer {name}: {error}: is it installed (pip install '.[peers]')?") from error
    yield from module.lstm(args, options)
