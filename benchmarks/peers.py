"""Who can run beside us, and the check that they compute what we compute.

A peer NAME is a module benchmarks/peer_NAME.py with a class Contestant(model: NMT, threads: int)
that starts from the model's weights, on its device, and has `name`, `version`, `loss_and_gradients(batch)`,
`step(batch)`, `step_loss(batch)` and `close()`; with `epochs` and `close()` alone it is another model, timed unseen.
It may also have

    epochs(src_ids, tgt_ids, batch_size)    its users' own loop, yielding the target tokens of each step (`train`)
    beam_search(src_ids, beam_size, max_steps, shrink)                   of one sentence (`decode`)
    search_batches(sentences, beam_size, max_steps, batch_size)          of many

and its module CPU_ALONE = True if it cannot run on a GPU.

Where it matters there are two of one library: as people write it (torch), and at its best (torch-best).  `workers` is
not one of the others but scratchnmt itself, by several processes.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType

import numpy as np

from scratchnmt.arrays import device_of
from scratchnmt.data.batches import Batch
from scratchnmt.errors import InputError
from scratchnmt.models.nmt import NMT

AGREEMENT = {"float32": 1e-4, "tf32": 1e-2}  # of each gradient's norm: other orders of summation, ten bits of factors


def peer(name: str) -> ModuleType:
    """The module of a peer; InputError if it is not written or not installed."""
    try:
        return importlib.import_module(f"benchmarks.peer_{name.replace('-', '_')}")
    except ModuleNotFoundError as error:
        raise InputError(f"peer {name}: {error}: is it installed (pip install '.[peers]')?") from error


def begin(names: list[str], model: NMT, threads: int) -> Iterator:
    """One after the other, the peers of these names that can run where the model is, with its weights."""
    for name in names:
        module = peer(name)
        if getattr(module, "CPU_ALONE", False) and device_of(model.params.flat) != "cpu":
            print(f"peer {name} is left out: it is for a CPU")
        else:
            yield module.Contestant(model, threads)


def enter(names: list[str], ours, threads: int, batch: Batch) -> list:
    """The peers of these names, with the weights of `ours`; ValueError if a loss or a gradient disagrees."""
    contestants = []
    for theirs in begin(names, ours.model, threads):
        contestants.append(theirs)
        if not hasattr(theirs, "loss_and_gradients"):
            print(f"{theirs.name} {theirs.version} is another model of the same sizes: there is nothing to compare")
            continue
        worst = check_agreement(ours, theirs, batch)
        print(f"loss and gradients agree with {theirs.name} {theirs.version} to {worst:.0e}")
    return contestants


def matmul(model: NMT) -> str:
    """What its products read of their factors."""
    return getattr(model.kernels.product, "matmul", "float32")


def check_agreement(ours, theirs, batch: Batch) -> float:
    """Largest relative difference of a gradient; ValueError if loss or a gradient disagrees."""
    loss, grads = ours.loss_and_gradients(batch)
    expected_loss, expected = theirs.loss_and_gradients(batch)
    differences = {"loss": abs(loss - expected_loss) / abs(expected_loss)}
    for name, gradient in expected.items():
        differences[f"gradient of {name}"] = float(
            np.linalg.norm(grads[name] - gradient) / np.linalg.norm(gradient))
    name, worst = max(differences.items(), key=lambda item: item[1])
    if not worst <= AGREEMENT[matmul(ours.model)]:
        raise ValueError(f"{theirs.name} and scratchnmt disagree: {name} by {worst:.1e}; nothing is timed")
    return worst
