"""Ranks whose input comes late, or whose reader is slow, are not taken for hung; one that is stopped is.

    python tests/stress/waiting.py --seconds 30

Two ranks translate from a FIFO that nobody writes for so long, with a reader of their output that pauses as long; two
train with messages that nobody reads for so long; then one rank is stopped, and must be named and ended.  It needs
mpirun.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from small_run import ROOT

from scratchnmt import NMT
from scratchnmt.checkpoint import save_model
from scratchnmt.data.vocab import WordVocabulary

_SIZE_OF_A_PIPE = 1031  # F_SETPIPE_SZ, which Python 3.10 has no name for everywhere
LINES = 4000  # more than a pipe holds of translations
_RANK = """
import os, pathlib, sys
rank = os.environ.get("PMI_RANK") or os.environ.get("OMPI_COMM_WORLD_RANK") or "0"
pathlib.Path(f"rank{rank}").write_text(str(os.getpid()))
if sys.argv[1] == "train":
    os.dup2(os.open("messages", os.O_WRONLY), 2)
from scratchnmt.cli import main
sys.exit(main(sys.argv[1:]))
"""
TRANSLATE = ("translate --model model --beam 1 --max-length 12 --input fifo --read-ahead 500").split()
TRAIN = ("train --train-src text --train-tgt text --valid-src text --valid-tgt text --vocab word --embed-size 4 "
         "--hidden-size 4 --max-epochs 200 --patience 0 --valid-every 99 --log-every 1 --out run").split()


def start(folder: Path, words: list[str] = TRANSLATE) -> subprocess.Popen[bytes]:
    command = ["mpirun", "-n", "2", sys.executable, "-c", _RANK, *words]
    return subprocess.Popen(command, cwd=folder, bufsize=0, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"})


def late(folder: Path, seconds: float) -> int:
    """How many lines are missing when writer and reader both take their time."""
    process = start(folder)
    time.sleep(seconds)
    text = f"open('fifo', 'w').write('a b c d e f\\n' * {LINES})"
    writer = subprocess.Popen([sys.executable, "-c", text], cwd=folder)
    assert process.stdout is not None
    lines = 1 if process.stdout.readline() else 0
    time.sleep(seconds)
    out, error = process.communicate()
    writer.wait()
    lines += out.count(b"\n")
    print(f"{lines} of {LINES} lines after {seconds:g} seconds without input and {seconds:g} without a reader"
          + error.decode())
    return LINES - lines


def unread(folder: Path, seconds: float) -> int:
    """1 unless a training ends well that could not write its messages for so long."""
    (folder / "text").write_text("a b c\nc b a\n" * 20)
    os.mkfifo(folder / "messages")
    messages = os.open(folder / "messages", os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(messages, _SIZE_OF_A_PIPE, 4096)
    process = start(folder, TRAIN)
    while not select.select([messages], [], [], 1)[0] and process.poll() is None:
        pass
    time.sleep(seconds + 1)  # until the pipe is full
    os.set_blocking(messages, True)
    told = b""
    while part := os.read(messages, 4096):
        told += part
    os.close(messages)
    process.communicate()
    print(f"a training whose messages nobody read for {seconds:g} seconds ended with status {process.returncode}, "
          f"{told.count(b'step ')} lines")
    return int(process.returncode != 0)


def stopped(folder: Path) -> int:
    """1 unless a rank that is stopped is named, and all end."""
    process = start(folder)
    number = folder / "rank1"
    number.unlink(missing_ok=True)
    while not number.exists() or not has_watchdog(number.read_text()):
        time.sleep(0.1)
    time.sleep(1)
    os.kill(int(number.read_text()), signal.SIGSTOP)
    began = time.monotonic()
    _, error = process.communicate()
    told = "rank 1 of 2" in error.decode() and "hung" in error.decode()
    print(f"a rank that was stopped was {'' if told else 'NOT '}named after {time.monotonic() - began:.0f} seconds")
    return int(not told)


def has_watchdog(pid: str) -> bool:
    """Whether the process has started one, its only child."""
    return bool(pid) and any(path.read_text().strip() for path in Path(f"/proc/{pid}/task").glob("*/children"))


def main(seconds: float) -> int:
    """How much went wrong."""
    with tempfile.TemporaryDirectory() as name:
        folder, words = Path(name), WordVocabulary(list("abcdef"))
        save_model(folder / "model", NMT(len(words), len(words), 16, 16, seed=0), words, words)
        os.mkfifo(folder / "fifo")
        return late(folder, seconds) + unread(folder, seconds) + stopped(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    sys.exit(main(parser.parse_args().seconds) > 0)
