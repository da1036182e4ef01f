"""A batch as the model computes it: ids checked, lengths turned into rows, everything where it is needed.

`prepare_inputs` prepares a batch for one use, with no padded row.

A `Bucket` is for steps that are recorded and repeated: sizes rounded up, so that few different ones occur.
`fill` writes a batch into whole numbers of a bucket's `fields`, one vector that is copied to a GPU at once, and
`read_inputs` says how the model reads them there.  Every sentence then takes every step (see ops/packing), missing
ones are made up by empty ones, and of the target's rows only `target_rows` go to the vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import NamedTuple

import numpy as np

from ..arrays import Array, array_module, check_shapes, to_device
from ..errors import ArgumentError, IdError, InputError
from ..ops import packing
from ..ops.cross_entropy import PAD
from ..ops.packing import Packing

FINE, COARSE, FINE_UP_TO = 4, 8, 32  # lengths are rounded up to multiples of 4, above 32 of 8
SENTENCES = 8  # their number likewise
WORDS = 8  # target words likewise, to eighths of T * B
NO_TOKEN = -1  # among sorted ids: see kernels/embedding.cu


class Inputs(NamedTuple):
    src: Array  # (S, B) ids
    tgt: Array  # (T, B) ids of the words before each target
    src_packing: Packing
    tgt_packing: Packing
    mask: Array  # (S, B) True where there is a source token
    targets: Array  # (n,) ids to predict: of each packed row, or of `target_rows`
    target_rows: Array | None = None  # (n,)
    src_tokens: tuple[Array, Array] | None = None  # for the embedding's gradient: see kernels/embedding.py
    tgt_tokens: tuple[Array, Array] | None = None
    passes: int = 1  # of each sentence; two stand side by side


def prepare_inputs(src: Array, src_lengths: Array, tgt: Array, longest: int | None = None, passes: int = 1) -> Inputs:
    """Inputs of a batch, on the host; ValueError for lengths or padding that do not fit, sources above `longest`."""
    src, src_lengths, tgt, tgt_lengths = _on_host(src, src_lengths, tgt, passes)
    check_longest(src_lengths, longest)
    src_packing, tgt_packing = packing.pack(src_lengths, len(src)), packing.pack(tgt_lengths, len(tgt) - 1)
    mask = np.arange(len(src))[:, None] < src_lengths
    words = tgt[:-1]  # of step t, which predicts tgt[t + 1]
    return Inputs(src=src, tgt=words, src_packing=src_packing, tgt_packing=tgt_packing, mask=mask,
                  targets=tgt[1:].reshape(-1)[tgt_packing.rows], passes=passes)


def check_longest(src_lengths: Array, longest: int | None) -> None:
    """InputError if a source has more tokens than the model knows positions."""
    if longest is not None and len(src_lengths) and int(src_lengths.max()) > longest:
        raise InputError(f"a source of {int(src_lengths.max())} tokens, but score 'location' knows {longest} positions"
                         ": train with a larger max_source, or leave longer sentences out (max_length)")


def _on_host(src: Array, src_lengths: Array, tgt: Array, passes: int) -> tuple[np.ndarray, ...]:
    """src (S, B), src_lengths (B,), tgt (T+1, B), tgt_lengths (B,); ValueError for what does not fit.

    Each sentence is there `passes` times, side by side: so are its rows at each step, since those of the same length
    keep their order (see ops/packing.py).
    """
    src, src_lengths, tgt = (to_device(array, "cpu") for array in (src, src_lengths, tgt))
    check_shapes("NMT.forward", src=("S B", src), src_lengths=("B", src_lengths), tgt=("U B", tgt))
    is_word = tgt[1:] != PAD
    lengths = is_word.sum(axis=0)
    if not (is_word == (np.arange(len(is_word))[:, None] < lengths)).all():
        raise ArgumentError("NMT.forward: tgt has padding (0) before a word, expected it only after </s>")
    src, tgt = (np.repeat(array, passes, axis=1) for array in (src, tgt))
    return src, np.repeat(src_lengths, passes), tgt, np.repeat(lengths, passes)


class Bucket(NamedTuple):
    """The sizes that every shape of a step follows from."""

    S: int
    T: int
    B: int
    N: int  # rows of the target that go to the vocabulary
    passes: int = 1  # of each sentence, all of which are among B and N

    @classmethod
    def of(cls, src: np.ndarray, tgt: np.ndarray, passes: int = 1) -> Bucket:
        """The smallest bucket that holds so many times src (S, B) and tgt (T+1, B)."""
        S, T = (_up(n, FINE if n <= FINE_UP_TO else COARSE) for n in (len(src), len(tgt) - 1))
        B = _up(passes * src.shape[1], SENTENCES)
        N = _up(passes * int((tgt[1:] != PAD).sum()), T * B // WORDS)
        return cls(S=S, T=T, B=B, N=N, passes=passes)


def _up(n: int, step: int) -> int:
    return -(-n // step) * step


def fields(bucket: Bucket) -> dict[str, tuple[int, ...]]:
    """What a batch is made of in memory, name -> shape."""
    S, T, B, N = bucket.S, bucket.T, bucket.B, bucket.N
    tokens = {f"{side}_{what}": (size,) for side, size in (("src", S * B), ("tgt", T * B))
              for what in ("order", "sorted")}
    return {"src": (S, B), "tgt": (T, B), "src_lengths": (B,), "reversed_rows": (S * B,), "last": (B,),
            "targets": (N,), "target_rows": (N,), **tokens}


def views(vector: Array, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Arrays of these shapes that lie one behind the other in a vector."""
    arrays, start = {}, 0
    for name, shape in shapes.items():
        arrays[name] = vector[start : start + prod(shape)].reshape(shape)
        start += prod(shape)
    return arrays


def fill(into: Mapping[str, np.ndarray], bucket: Bucket, vocabularies: tuple[int, int], src: Array,
         src_lengths: Array, tgt: Array, longest: int | None = None) -> None:
    """Write a batch into the `views` of a vector of int64 on the host.

    vocabularies: the sizes of source and target.  ValueError for lengths or padding that do not fit, IndexError
    for ids outside a vocabulary.
    """
    S, T, B, N = bucket.S, bucket.T, bucket.B, bucket.N
    src, src_lengths, tgt, _ = _on_host(src, src_lengths, tgt, bucket.passes)
    packing.check_lengths(src_lengths, len(src))
    check_longest(src_lengths, longest)
    _check_ids("source", src, vocabularies[0])
    _check_ids("target", tgt, vocabularies[1])
    empty = B - src.shape[1]  # sentences that are not there: one source token, no target
    lengths = np.pad(src_lengths, (0, empty), constant_values=1)
    whole = packing.pack_whole(lengths, S)
    src = np.pad(src, ((0, S - len(src)), (0, empty)), constant_values=PAD)
    tgt = np.pad(tgt, ((0, T + 1 - len(tgt)), (0, empty)), constant_values=PAD)
    targets = tgt[1:].reshape(-1)
    rows = np.argsort(targets == PAD, kind="stable")[:N]  # the words, then as much padding as makes up N
    values = {"src": src, "tgt": tgt[:-1], "src_lengths": lengths, "reversed_rows": whole.reversed_rows,
              "last": whole.last, "targets": targets[rows], "target_rows": rows}
    for side, ids in ("src", src.reshape(-1)), ("tgt", tgt[:-1].reshape(-1)):
        ids = np.where(ids == PAD, NO_TOKEN, ids)  # its gradient is zero: thousands of rows need not be added up
        order = np.argsort(ids, kind="stable")
        values |= {f"{side}_order": order, f"{side}_sorted": ids[order]}
    for name, value in values.items():
        into[name][...] = value


def _check_ids(side: str, ids: np.ndarray, V: int) -> None:
    if not 0 <= int(ids.min()) <= int(ids.max()) < V:
        raise IdError(f"NMT: {side} ids run from {int(ids.min())} to {int(ids.max())}, "
                         f"expected 0 to V - 1 = {V - 1}")


def read_inputs(there: Mapping[str, Array], bucket: Bucket) -> Inputs:
    """Inputs from the `views` of a filled vector, wherever it lies; only arithmetic on it, no copy of the host's."""
    S, T, B = bucket.S, bucket.T, bucket.B
    xp = array_module(there["src"])
    padding_mask = xp.arange(S)[:, None] >= there["src_lengths"]
    src_packing = packing.whole(S, B, there["reversed_rows"], there["last"],
                                padding_mask.reshape(S * B, 1).astype("float32"))
    return Inputs(src=there["src"], tgt=there["tgt"], src_packing=src_packing, tgt_packing=packing.whole(T, B),
                  mask=~padding_mask, targets=there["targets"], target_rows=there["target_rows"],
                  src_tokens=(there["src_order"], there["src_sorted"]),
                  tgt_tokens=(there["tgt_order"], there["tgt_sorted"]), passes=bucket.passes)
