"""A task that a tiny model learns in seconds (reverse the words), and ways to interrupt its training."""

import contextlib
import io
import json
import os
import signal

import numpy as np

from scratchnmt.data.vocab import WordVocabulary
from scratchnmt.models.nmt import NMT
from scratchnmt.training import Progress, TrainingData, TrainingOptions, train

LETTERS = ["a", "b", "c", "d", "e", "f", "g", "h"]
VOCAB = WordVocabulary(LETTERS)
PER_EPOCH = 7  # batches of 16


class Killed(Exception):
    """What ends a run as a crash would: without a chance to save."""


class At(Progress):
    """Does something once a step is done."""

    def __init__(self, step, action):
        super().__init__(total_steps=None, stream=io.StringIO())
        self.at, self.action = step, action

    def update(self, step, *rest):
        super().update(step, *rest)
        if step == self.at:
            self.action()


def kill():
    raise Killed


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def pairs(count, seed, lengths=(3, 6)):
    rng = np.random.default_rng(seed)
    lines = [[LETTERS[i] for i in rng.integers(0, 8, rng.integers(*lengths))] for _ in range(count)]
    return [" ".join(line) for line in lines], [" ".join(line[::-1]) for line in lines]


def files(folder, count):
    """Text of `count` pairs to train on, as options of the command line."""
    for name, (src, tgt) in (("train", pairs(count, 0)), ("valid", pairs(10, 1))):
        (folder / f"{name}.src").write_text("\n".join(src) + "\n")
        (folder / f"{name}.tgt").write_text("\n".join(tgt) + "\n")
    return [f"--{part}-{side}={folder}/{part}.{side}" for part in ("train", "valid") for side in ("src", "tgt")]


def two_texts(folder):
    """The text of a run, "own", and another, "other"."""
    for name, count in (("own", 40), ("other", 30)):
        (folder / name).mkdir()
        files(folder / name, count)
    return folder


def of(text, which="own"):
    """The options that name the files of one of `two_texts`."""
    return [f"--{part}-{side}={text}/{which}/{part}.{side}" for part in ("train", "valid") for side in ("src", "tgt")]


def data():
    return TrainingData.from_text(pairs(PER_EPOCH * 16 - 3, 0), pairs(20, 1), VOCAB, VOCAB)


def model(**choices):
    return NMT(len(VOCAB), len(VOCAB), 8, 8, **{"dropout": 0.3, "seed": 5, "dtype": "float32", **choices})


def options(**changes):
    return TrainingOptions(**{"batch_size": 16, "pool": 100, "learning_rate": 0.01, "max_epochs": 3, **changes})


def run(folder, *, progress=None, resume=False, overwrite=False, choices=(), **changes):
    progress = progress or At(-1, kill)
    return train(model(**dict(choices)), data(), options(**changes), folder, resume=resume, overwrite=overwrite,
                 progress=progress)


def killed_and_resumed(run, folder, at, **options):
    """The essence of a run(folder, at=, resume=, ...) that is killed after a step and goes on from its last save."""
    with contextlib.suppress(Killed):
        run(folder, at=at, save_every=2, **options)
        raise AssertionError("it was not killed")
    run(folder, resume=True, save_every=2, **options)
    return essence(folder)


def by_parts_and_by_workers(run, folder, **options):
    """The essences of the same run by one process in two parts, and by two workers."""
    run(folder / "parts", accumulate=2, **options)
    run(folder / "workers", workers=2, **options)
    return essence(folder / "parts"), essence(folder / "workers")


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def essence(folder):
    """What must be the same however often a run was interrupted, and whoever computes: the weights' bytes, the metrics
    without times."""
    return ((folder / "model.safetensors").read_bytes(),
            [{name: value for name, value in record.items() if name not in ("seconds", "workers")}
             for record in metrics(folder)])
