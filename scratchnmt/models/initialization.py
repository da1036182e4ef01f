"""Ways to start the weights, by name.

    uniform     every weight and bias from U(-0.1, 0.1)                    Luong et al. 2015; CS224N
    glorot      matrices from Glorot & Bengio 2010's uniform, biases zero but 1 for the forget gate
    orthogonal  the same, with orthogonal recurrent matrices per gate      Saxe et al. 2014

Gains of a layer normalization are 1, whichever it is.
The formulas at the end are those of scratchnmt.sequential too, which has Keras' choices of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..arrays import Array, array_module

if TYPE_CHECKING:
    from .cells import Cell


def initialize(params: Mapping[str, Array], init: str, seed: int, cell: Cell) -> None:
    """Fill `params`, of a model of such cells.  The numbers depend on the seed alone, not on dtype or device."""
    rng = np.random.default_rng(seed)
    for name, array in params.items():
        values = np.ones(array.shape) if name.endswith(".g") else INITIALIZERS[init](name, array.shape, rng, cell)
        array[...] = array_module(array).asarray(values)


def uniform(name: str, shape: tuple[int, ...], rng: np.random.Generator, cell: Cell) -> np.ndarray:
    """U(-0.1, 0.1), whatever the name."""
    return rng.uniform(-0.1, 0.1, shape)


def glorot(name: str, shape: tuple[int, ...], rng: np.random.Generator, cell: Cell) -> np.ndarray:
    """U(-l, l), l = sqrt(6 / (inputs + outputs)), each gate by itself (Glorot & Bengio 2010); biases as above."""
    kind = name.rpartition(".")[2]
    if kind == "b":
        return cell.first_bias(shape)
    if kind == "v":
        shape = (*shape, 1)
    gates = cell.weight_blocks if name.startswith(("encoder", "decoder")) else 1  # matrices side by side
    return glorot_uniform(shape, rng, gates).reshape(shape if kind != "v" else shape[:1])


def orthogonal(name: str, shape: tuple[int, ...], rng: np.random.Generator, cell: Cell) -> np.ndarray:
    """As `glorot`, but the recurrent matrix of each gate is orthogonal (Saxe et al. 2014)."""
    values = glorot(name, shape, rng, cell)
    if name.startswith(("encoder", "decoder")) and name.endswith(".Wh"):
        H = shape[-1] // cell.weight_blocks
        for block in values.reshape(-1, *shape[-2:]):
            for gate in range(cell.weight_blocks):
                block[:H, gate * H : (gate + 1) * H] = orthonormal((H, H), rng)
    return values


INITIALIZERS = {"uniform": uniform, "glorot": glorot, "orthogonal": orthogonal}


def glorot_uniform(shape: tuple[int, ...], rng: np.random.Generator, gates: int = 1) -> np.ndarray:
    """Uniform within sqrt(6 / (rows + columns)), where the columns are those of one of `gates` matrices."""
    limit = np.sqrt(6 / (shape[-2] + shape[-1] / gates))
    return rng.uniform(-limit, limit, shape)


def orthonormal(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A matrix whose rows or columns, whichever are fewer, are orthonormal."""
    rows, columns = shape
    q, r = np.linalg.qr(rng.standard_normal((max(shape), min(shape))))
    q *= np.sign(np.diag(r))  # or not all such matrices would be equally likely
    return q if rows >= columns else q.T


def lstm_bias(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros, but ones for the forget gate, which so starts open (Jozefowicz et al. 2015)."""
    bias = np.zeros(shape)
    bias.reshape(*shape[:-1], 4, -1)[..., 1, :] = 1
    return bias
