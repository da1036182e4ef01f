"""What a save costs: its time beside the time of the steps between two saves.

    python tests/stress/cost.py
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from scratchnmt import NMT, checkpoint
from scratchnmt.data.vocab import WordVocabulary
from scratchnmt.files import run_folder
from scratchnmt.files.tensors import write_tensors
from scratchnmt.optim import Adam
from scratchnmt.training import TrainingOptions


def main(vocabulary: int, hidden: int, rounds: int) -> None:
    words = WordVocabulary(f"w{n}" for n in range(vocabulary - 4))
    model = NMT(vocabulary, vocabulary, hidden, hidden)
    optimizer = Adam(model.params)
    tensors = {"params": model.params.flat, "m": optimizer.m, "v": optimizer.v}
    with tempfile.TemporaryDirectory(dir=".") as folder:  # not in memory, where /tmp may be
        checkpoint.save_model(Path(folder, "run"), model, words, words)
        path, seconds, write = Path(folder, "run", run_folder.STATE), [], []
        for _ in range(rounds):
            began = time.perf_counter()
            write_tensors(path, tensors, {})
            seconds.append(time.perf_counter() - began)
            began = time.perf_counter()
            with open(Path(folder, "plain"), "wb") as file:  # the least that it could take
                for tensor in tensors.values():
                    file.write(memoryview(tensor))
                file.flush()
                os.fsync(file.fileno())
            write.append(time.perf_counter() - began)
        size = path.stat().st_size
    took, least, minutes = np.median(seconds), np.median(write), TrainingOptions().save_minutes
    print(f"{model.params.flat.size:,} weights, a state of {size / 1e6:.0f} MB: {1000 * took:.0f} ms, of which writing "
          f"and flushing the same bytes takes {1000 * least:.0f}; every {minutes:g} minutes that is "
          f"{took / minutes / 0.6:.3f} %; 1 % would be a save every {took / 0.01:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vocabulary", type=int, default=8000)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    main(**vars(parser.parse_args()))
