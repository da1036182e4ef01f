"""A million lines through `scratchnmt translate`, by a pipe and from a file: steady rate, bounded memory.

    python tests/stress/stream.py --lines 1000000
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from small_run import ROOT

from scratchnmt import NMT
from scratchnmt.checkpoint import save_model
from scratchnmt.data.toy import toy_corpus
from scratchnmt.data.vocab import WordVocabulary

ALLOWED = 0.05  # growth of memory after the first tenth
STEADY = 0.25  # of the rate, around the median of the tenths


def main(lines: int, by_file: bool) -> int:
    with tempfile.TemporaryDirectory() as folder:
        corpus = toy_corpus(train=500, valid=10, test=10)
        words = WordVocabulary.build(corpus.train.src, min_count=1)
        save_model(f"{folder}/model", NMT(len(words), len(words), 16, 16, seed=0), words, words)
        text = ("\n".join(corpus.train.src) + "\n").encode()
        source = Path(folder, "source")
        command = [sys.executable, "-m", "scratchnmt", "translate", "--model", f"{folder}/model", "--beam", "1",
                   "--max-length", "12", "--batch-size", "128"]
        if by_file:
            with open(source, "wb") as file:
                for _ in range(lines // 500):
                    file.write(text)
            command += ["--input", str(source)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder,
                                   env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"})
        if not by_file:
            threading.Thread(target=feed, args=(process.stdin, text, lines // 500)).start()
        return watch(process, lines)


def feed(pipe, text: bytes, times: int) -> None:
    for _ in range(times):
        pipe.write(text)
    pipe.close()


def watch(process: subprocess.Popen, lines: int) -> int:
    """Read the translations, and look at the process each tenth."""
    rates, megabytes, began = [], [], time.perf_counter()
    for count, _ in enumerate(process.stdout, start=1):
        if count % (lines // 10) == 0:
            now = time.perf_counter()
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
            rates.append(lines // 10 / (now - began))
            if pages:  # not if it has just ended
                megabytes.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
            print(f"{count:,} lines: {rates[-1]:,.0f} a second, {megabytes[-1]:.1f} MB", flush=True)
            began = now
    process.wait()
    middle = sorted(rates)[len(rates) // 2]
    growth = megabytes[-1] / megabytes[0] - 1
    print(f"{count:,} lines out, {100 * growth:+.1f} % memory after the first tenth (allowed: {100 * ALLOWED:g} %), "
          f"rate {min(rates) / middle:.2f} to {max(rates) / middle:.2f} of the median")
    return int(process.returncode or count != lines or growth > ALLOWED or min(rates) < (1 - STEADY) * middle)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--from-file", action="store_true", help="instead of by a pipe")
    options = parser.parse_args()
    sys.exit(main(options.lines, options.from_file))
