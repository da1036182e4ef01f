"""A corpus larger than what may be in memory: encoded, and gone through once.

    python tests/stress/large.py --pairs 20000000

The sentences are those of the demo's grammar, drawn again and again.  What is encoded and read is a real corpus of as
many pairs; the memory limit is that of the whole process, workers included.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from scratchnmt.data.corpus import Epoch
from scratchnmt.data.encode import open_or_build
from scratchnmt.data.text import Text
from scratchnmt.data.toy import toy_corpus
from scratchnmt.data.vocab import WordVocabulary

LIMIT = 2000  # MB


def main(pairs: int, processes: int, folder: str | None) -> int:
    with tempfile.TemporaryDirectory(dir=folder) as name:
        here = Path(name)
        write(here, pairs)
        sizes = [os.path.getsize(here / side) / 1e6 for side in ("src", "tgt")]
        print(f"{pairs:,} pairs, {sizes[0]:,.0f} and {sizes[1]:,.0f} MB of text", flush=True)
        began = time.perf_counter()
        vocabs = [WordVocabulary.build(Text(here / side), min_count=1) for side in ("src", "tgt")]
        print(f"vocabularies: {time.perf_counter() - began:.0f} s", flush=True)
        began = time.perf_counter()
        corpus, _ = open_or_build(here / "corpus", str(here / "src"), str(here / "tgt"), *vocabs, processes=processes)
        took = time.perf_counter() - began
        disk = sum(path.stat().st_size for path in (here / "corpus").iterdir())
        print(f"encoded in {took:.0f} s: {pairs / took:,.0f} pairs a second by {processes} processes, "
              f"{pairs / took / processes:,.0f} each; {disk / 1e6:,.0f} MB, {disk / pairs:.0f} bytes a pair",
              flush=True)
        began = time.perf_counter()
        batches = Epoch(corpus, 64, "sentences", 100, [0, 1, 0])
        seen = np.zeros(len(corpus), bool)
        memory = []
        for count, indices in enumerate(batches, start=1):
            corpus.batch(indices)
            seen[indices] = True
            if count % (len(batches) // 10) == 0:
                memory.append(resident())
                print(f"{count * 64:,} pairs read, {memory[-1]:.0f} MB, {time.perf_counter() - began:.0f} s",
                      flush=True)
        took = time.perf_counter() - began
        most = max(peak(resource.RUSAGE_SELF), peak(resource.RUSAGE_CHILDREN))
        print(f"one pass in {took:.0f} s, {pairs / took:,.0f} pairs a second; every pair once: {bool(seen.all())}; "
              f"memory of the second half of the pass {max(memory[5:]) / max(memory[:5]) - 1:+.1%} of the first; "
              f"the most at any time {most:.0f} MB (allowed: {LIMIT})")
        return int(not seen.all() or most > LIMIT)


def write(folder: Path, pairs: int) -> None:
    corpus = toy_corpus(train=20_000, valid=10, test=10)
    for side in ("src", "tgt"):
        lines = [line.encode() + b"\n" for line in getattr(corpus.train, side)]
        draw = np.random.default_rng(1)
        with open(folder / side, "wb") as file:
            for start in range(0, pairs, 100_000):
                file.write(b"".join([lines[i] for i in draw.integers(0, len(lines), min(100_000, pairs - start))]))


def resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak(who: int) -> float:
    return resource.getrusage(who).ru_maxrss / 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=20_000_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--folder", help="where there is room for some gigabytes (default: the temporary folder)")
    sys.exit(main(**vars(parser.parse_args())))
