"""SIGKILL inside a save, at a drawn call that touches the disk: what was there must be readable, and the run go on.

    python tests/stress/saves.py --kills 100

Each call of `open`, `write`, `fsync`, `rename`, `link`, `chmod` and `unlink` on a file of the run is counted; the
process kills itself before the drawn one, or half-way through it if it writes.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

from kill import unreadable
from small_run import corpus, differences, finish, resume_arguments, start


def main(kills: int, seed: int = 0, epochs: int = 10) -> int:
    """The number of files that could not be read, and of runs that came out otherwise."""
    rng, done, wrong, where, runs = random.Random(seed), 0, 0, Counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        arguments = [*corpus(here / "corpus"), "--max-epochs", str(epochs), "--save-every", "4", "--valid-every", "20"]
        whole = here / "whole"
        finish(start(whole, arguments))
        while done < kills:
            out = here / f"out{runs}"
            lives = 0
            while True:
                at = rng.randrange(1, 120) if done < kills and lives < 12 else 0
                process = start(out, resume_arguments(out, arguments), (__file__, "--child", str(at)))
                _, error = process.communicate()
                if process.returncode == 0:
                    break
                if process.returncode != -signal.SIGKILL:
                    raise SystemExit(error.decode()[-2000:])
                done, lives = done + 1, lives + 1
                where[error.decode().splitlines()[-1]] += 1
                wrong += unreadable(out)
            off = differences(out, whole)
            wrong += bool(off)
            runs += 1
            print(f"run {runs}: {done} kills so far, " + (f"DIFFERENT: {', '.join(off)}" if off else "the same bytes"),
                  flush=True)
    print(*(f"{count:4} {name}" for name, count in where.most_common()), sep="\n")
    print(f"{done} kills inside a save, over {runs} runs; unreadable or different: {wrong}")
    return wrong


def child(at: int, arguments: list[str]) -> int:
    """The command line, killed at the at-th call that writes; 0: never."""
    import builtins

    import safetensors.numpy

    out = os.path.abspath(arguments[arguments.index("--out") + 1])
    calls = 0

    def due(name: str, path: object) -> bool:
        nonlocal calls
        path = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.path.abspath(os.fspath(path))
        if not path.startswith(out) or path.endswith((".png", ".lock")):
            return False
        calls += 1
        if calls == at:
            label = os.path.basename(path) if path != out else "the folder"
            digits = "".join(c for c in label if not c.isdigit()).replace("..", ".")
            print(f"{name} {digits}", file=sys.stderr, flush=True)
        return calls == at

    def killing(module: object, name: str) -> None:
        original = getattr(module, name)

        def call(path, *rest, **named):
            if due(name, path):
                os.kill(os.getpid(), signal.SIGKILL)
            return original(path, *rest, **named)

        setattr(module, name, call)

    for name in ("fsync", "replace", "link", "chmod", "unlink", "rename"):
        killing(os, name)
    opened, save_file = builtins.open, safetensors.numpy.save_file

    def half_written(tensors, path, metadata):
        if due("half of", path):
            save_file(tensors, path, metadata)
            os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        save_file(tensors, path, metadata)

    def half_opened(path, mode="r", *rest, **named):
        if "w" in mode and due("open", path):
            opened(path, mode, *rest, **named).close()  # it is there, and empty
            os.kill(os.getpid(), signal.SIGKILL)
        return opened(path, mode, *rest, **named)

    safetensors.numpy.save_file, builtins.open = half_written, half_opened
    from scratchnmt.cli import main as command_line

    return command_line(arguments)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        sys.exit(child(int(sys.argv[2]), sys.argv[3:]))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sys.exit(bool(main(options.kills, options.seed)))
