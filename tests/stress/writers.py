"""Several processes write the same files at once, and others read them: no error, and never a damaged file.

    python tests/stress/writers.py --seconds 60

Each writer saves a tensor file, a vocabulary and a picture's worth of bytes again and again; each reader checks what is
there by its checksum.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from scratchnmt.data.vocab import WordVocabulary, load_vocabulary
from scratchnmt.errors import InputError
from scratchnmt.files.atomic import write_atomically
from scratchnmt.files.tensors import read_tensors, write_tensors

SIZE = 300_000  # bytes of each file


def write(folder: Path, number: int) -> None:
    write_tensors(folder / "t.safetensors", {"a": np.full(SIZE // 8, float(number))}, {"writer": number})
    WordVocabulary([f"w{number}x{word}" for word in range(SIZE // 10)]).save(folder / "words.json")
    write_atomically(folder / "bytes", bytes([number]) * SIZE)


def read(folder: Path, number: int) -> None:
    read_tensors(folder / "t.safetensors")
    if len(load_vocabulary(folder / "words.json")) != 4 + SIZE // 10:
        raise InputError("words.json is not what any of them wrote")
    data = (folder / "bytes").read_bytes()
    if data != data[:1] * SIZE:
        raise InputError("bytes is not what any of them wrote")


def repeat(work: Callable[[Path, int], None], folder: Path, number: int, seconds: float, results: Any) -> None:
    """Tell how often it was done, and what went wrong."""
    end, done, wrong = time.monotonic() + seconds, 0, []
    while time.monotonic() < end:
        try:
            work(folder, number)
        except (InputError, OSError) as error:
            wrong.append(str(error))
        done += 1
    results.put((work.__name__, done, wrong))


def main(seconds: float, each: int = 2) -> int:
    """How many saves and readings went wrong."""
    spawn = get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder, results = Path(name), spawn.Queue()
        write(folder, 0)
        workers = [spawn.Process(target=repeat, args=(work, folder, number, seconds, results))
                   for work in (write, read) for number in range(1, each + 1)]
        for worker in workers:
            worker.start()
        told = [results.get() for _ in workers]
        for worker in workers:
            worker.join()
        left = [path.name for path in folder.glob(".*")]
    wrong = [error for _, _, errors in told for error in errors] + [f"{name} was left" for name in left]
    counts = {kind: sum(done for work, done, _ in told if work == kind) for kind in ("write", "read")}
    print(*wrong[:5], sep="\n", end="\n" * bool(wrong))
    print(f"{counts['write']} rounds of writing, {counts['read']} of reading by {2 * each} processes: "
          f"{len(wrong)} wrong")
    return len(wrong)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    sys.exit(main(parser.parse_args().seconds) > 0)
