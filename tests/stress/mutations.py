"""Files of every kind that is read, what loading each gives, and ways to spoil them."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scratchnmt import checkpoint
from scratchnmt.data.text import read_lines, stream_lines
from scratchnmt.data.vocab import SentencePieceVocabulary, WordVocabulary, load_vocabulary
from scratchnmt.files import run_folder
from scratchnmt.files.run_folder import RunFolder
from scratchnmt.files.tensors import read_tensors, write_tensors
from scratchnmt.models.nmt import NMT
from scratchnmt.training import TrainingOptions
from scratchnmt.training.saving import State

TEXT = ["a dog runs in the park", "un chien court dans le parc", "e\u0301t\u00e9 \u2028 \u05e9\u05dc\u05d5\u05dd",
        ""] * 10
WORDS = [json.dumps(value).encode() for value in (
    10**9, -1, 0, 1e400, "../../etc/passwd", None, True, [], {}, "x" * 1000, [[]] * 100, "float64", "none", "NaN")]


class Target(NamedTuple):
    """A file, and what reading it gives, as something that can be compared."""

    path: Path
    load: Callable[[], Any]


def targets(folder: Path) -> dict[str, Target]:
    """Name -> target, of files that are written to the folder."""
    words = WordVocabulary.build(TEXT, min_count=1)
    pieces = SentencePieceVocabulary.train(TEXT, size=60)
    found = {}
    for kind, vocabulary in ("words", words), ("pieces", pieces):
        model = NMT(len(vocabulary), len(vocabulary), 4, 4, seed=1)
        run = folder / kind
        checkpoint.save_model(run, model, vocabulary, vocabulary)
        for path in sorted(run.iterdir()):
            found[f"{kind}: {path.name}"] = Target(path, lambda run=run: _model(run))
    for kind, suffix, vocabulary in ("words", "vocab.json", words), ("pieces", "spm", pieces):
        path = folder / f"alone.{suffix}"
        vocabulary.save(path)
        found[f"vocabulary alone: {kind}"] = Target(path, lambda path=path: _tokens(load_vocabulary(path)))
    found["first version: config.json"] = _first_version(folder / "first", words)
    state = folder / run_folder.STATE
    tensors = {name: model.params.flat for name in ("params", "m", "v")}
    history = [{"step": 7, "valid_ppl": 3.5, "valid_bleu": 12.25}]
    write_tensors(state, tensors, {"state": State(step=7, history=history).__dict__, "fixed": {"seed": 1}})
    found[f"state: {state.name}"] = Target(state, lambda: _state(state, model))
    # too long for its gzip file to be repeated as a whole, which would be another gzip file
    text = "\n".join([*TEXT, *(f"{n * n * n:x}" for n in range(1000, 1200))]).encode()
    for name, data in (("text", text), ("text.gz", gzip.compress(text, mtime=0)), ("text.xz", lzma.compress(text)),
                       ("text.bz2", bz2.compress(text))):
        path = folder / name
        path.write_bytes(data)
        found[name] = Target(path, lambda path=path: (read_lines(path), list(stream_lines(path))))
    return found | _of_other_programs(folder)


SEALED = ("words", "pieces", "state", "text.gz", "text.xz", "text.bz2", "sequential",
          "pytorch_model.bin")  # what is altered cannot be loaded


def _first_version(run: Path, vocabulary: WordVocabulary) -> Target:
    """A config without a checksum, as the first ones were, so that what is spoilt in it comes farther."""
    model = NMT(len(vocabulary), len(vocabulary), 4, 4, seed=1)
    checkpoint.save_model(run, model, vocabulary, vocabulary)
    path = run / run_folder.CONFIG
    content = json.loads(path.read_text())
    del content["sha256"]
    path.write_text(json.dumps(content, indent=1))
    write_tensors(run / run_folder.MODEL, model.params, {})
    return Target(path, lambda: _model(run))


def _model(run: Path) -> Any:
    model, src, tgt = checkpoint.load_model(run)
    training = TrainingOptions.from_dict(RunFolder(run).read().training)
    return model.config.to_dict(), model.params.flat.tobytes(), _tokens(src), _tokens(tgt), training


def _tokens(vocabulary: Any) -> Any:
    ids = [vocabulary.encode(line) for line in TEXT]
    return [vocabulary.token(i) for i in range(len(vocabulary))], ids, [vocabulary.decode(some) for some in ids]


def _state(path: Path, model: NMT) -> Any:
    shape = model.params.flat.shape
    tensors, info = read_tensors(path, {name: ("float32", shape) for name in ("params", "m", "v")})
    return {name: t.tobytes() for name, t in tensors.items()}, json.dumps(info)


def _of_other_programs(folder: Path) -> dict[str, Target]:
    """Files that are not of a run: a network's, and a state_dict of PyTorch if it is there to write one."""
    from scratchnmt.sequential import LSTM, Dense, Sequential, load_model

    network = Sequential([LSTM(3, input_shape=(5, 2)), Dense(4, activation="softmax")])
    network.save(folder / "network.safetensors")
    path = folder / "network.safetensors"
    found = {"sequential: network.safetensors": Target(path, lambda: _network(load_model(path)))}
    with suppress(ImportError):
        import h5py  # noqa: F401

        keras = folder / "network.h5"
        network.save(keras)
        found["keras: network.h5"] = Target(keras, lambda: _network(load_model(keras)))
    try:
        import torch
    except ImportError:
        return found
    from scratchnmt.interop.torch_file import read_state_dict

    pickled = folder / "pytorch_model.bin"
    torch.save({"a.weight": torch.arange(6.0).reshape(2, 3), "b.bias": torch.ones(4)}, pickled)
    read = lambda: sorted((name, np.asarray(array).tobytes())
                          for name, array in read_state_dict(pickled).tensors.items())
    return found | {"pytorch_model.bin": Target(pickled, read)}


def _network(network: Any) -> Any:
    return [(layer.name, str(layer.config())) for layer in network.layers], [w.tobytes() for w in network.get_weights()]


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Spoilt in one to eight ways."""
    found = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
        rng.choice(_WAYS)(found, rng)
    return bytes(found)


def _flip(data: bytearray, rng: random.Random) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _byte(data: bytearray, rng: random.Random) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice([0, 10, 34, 48, 57, 127, 128, 255, rng.randrange(256)])


def _cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _remove(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    del data[at : at + rng.randrange(1, 64)]


def _insert(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice([rng.randbytes(rng.randrange(1, 32)), b"[" * 5000, b"9" * 5000, rng.choice(WORDS)])


def _repeat(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = data[at : at + rng.randrange(1, 200)] * rng.choice([1, 2, 50])


def _swap(data: bytearray, rng: random.Random) -> None:
    """A value of the JSON for another one."""
    places = [i for i, byte in enumerate(data[:20_000]) if byte == ord(":")]
    if places:
        start = rng.choice(places) + 1
        end = next((i for i in range(start, len(data)) if data[i] in b",}\n"), len(data))
        data[start:end] = rng.choice(WORDS)


def _length(data: bytearray, rng: random.Random) -> None:
    """Eight bytes that may be a length."""
    at = rng.choice([0, rng.randrange(len(data) + 1)])
    data[at : at + 8] = rng.choice([0, 1, 2**31, 2**32, 2**40, 2**63, 2**64 - 1]).to_bytes(8, "little")


_WAYS = (_flip, _flip, _byte, _byte, _cut, _remove, _insert, _repeat, _swap, _length)
